import LeaseFormat
import Messages

/// Reads everything that a lockspace uses: its host ids, SDM, the index of leases and each lease; of an unreadable index every slot that there is.
struct LockspaceReader: Sendable {
    typealias Volume = LockspaceImage.Volume

    enum Step: Sendable {
        case read(Volume, UInt64, Int)
        case done
        case refused(RequestError)
    }

    private enum Phase: Sendable {
        case ids
        /// The alignments at which SDM may be, when no host id's sector tells.
        case probing([Int])
        /// The alignments at which the index of another lockspace may be, when SDM does not tell either.
        case probingIndex([Int])
        case restOfIds, sdm, index
        /// Slots still to be read.
        case leases([Int])
        /// From this slot on, until the volume ends: which of them hold a lease.
        case scanning(Int, found: [Int])
    }

    private(set) var image: LockspaceImage
    private(set) var geometry: Geometry?
    /// Of the backup that shall be restored: for volumes that are blank, or on the way.
    private let fallback: Geometry?
    private var phase = Phase.ids
    /// Whose SDM was found, if not this one's.
    private var stranger: String?

    /// Host ids of every geometry but 2000 of 4096 bytes.
    static let commonLength = 2000 * 512
    static let alignments = [1, 2, 4, 8].map { $0 << 20 }

    init(lockspace: String, fallback: Geometry? = nil) {
        image = LockspaceImage(lockspace: lockspace)
        self.fallback = fallback
    }

    func begin() -> Step { .read(.ids, 0, Self.commonLength) }

    /// - Parameter bytes: `nil` if the volume is missing or ends before.
    mutating func onRead(_ bytes: [UInt8]?) -> Step {
        switch phase {
        case .ids:
            guard bytes != nil || fallback != nil else { return refuse("there is no volume of host ids") }
            if let bytes { image.add(.ids, 0, bytes) }
            return afterIds()
        case .probing(let alignments):
            let alignment = alignments[0]
            if let bytes, let leader = try? LeaderRecord(bytes[...]), leader.kind == .paxos, leader.lockspace == image.lockspace, leader.geometry.alignment == alignment {
                return found(leader.geometry)
            }
            stranger = stranger ?? self.stranger(in: bytes, of: .leases)
            return probe(Array(alignments.dropFirst()))
        case .probingIndex(let alignments):
            stranger = stranger ?? self.stranger(in: bytes, of: .xleases)
            return probeIndex(Array(alignments.dropFirst()))
        case .restOfIds:
            if let bytes { image.add(.ids, UInt64(Self.commonLength), bytes) }
            return readSDM()
        case .sdm:
            if let bytes, let geometry { image.add(.leases, UInt64(geometry.alignment), bytes) }
            phase = .index
            return .read(.xleases, UInt64(geometry?.alignment ?? 0), LeaseIndex.length)
        case .index:
            if let bytes, let geometry { image.add(.xleases, UInt64(geometry.alignment), bytes) }
            guard let bytes, let index = try? LeaseIndex(bytes[...], lockspace: image.lockspace, geometry: geometry ?? .standard) else {
                return scan(0, [])
            }
            return next(index.leases.map(\.index))
        case .leases(let slots):
            if let bytes, let slot = slots.first { image.add(.xleases, offset(slot), bytes) }
            return next(Array(slots.dropFirst()))
        case .scanning(let slot, let found):
            guard let bytes else { return next(found) }
            let leader = try? LeaderRecord(bytes[...])
            return scan(slot + 1, found + (leader?.kind == .paxos && leader?.lockspace == image.lockspace ? [slot] : []))
        }
    }

    private mutating func afterIds() -> Step {
        let first = image.read(.ids, 0, LockspaceImage.unit)
        if fallback == nil, let marker = ReinitializationMarker(first[...]), marker.lockspace == image.lockspace { return .refused(marker.error) }
        do throws(RequestError) {
            guard let geometry = try LockspaceContents.geometry(in: image) else { return probe(Self.alignments) }
            return found(geometry)
        } catch {
            return .refused(error)
        }
    }

    private mutating func probe(_ alignments: [Int]) -> Step {
        guard let next = alignments.first else { return probeIndex(fallback == nil ? [] : Self.alignments) }
        phase = .probing(alignments)
        return .read(.leases, UInt64(next), Geometry.probeLength)
    }

    /// Volumes without host ids are taken for a blank lockspace only if nothing else on them is another one's.
    private mutating func probeIndex(_ alignments: [Int]) -> Step {
        if let stranger { return refuse("it has no host ids, but records of lockspace \(stranger)") }
        guard let next = alignments.first else {
            let first = image.read(.ids, 0, LockspaceImage.unit)
            let isOurs = ReinitializationMarker(first[...])?.lockspace == image.lockspace || !image.extents.contains { $0.volume == .ids }
            guard let fallback, isOurs else { return refuse("neither a host id's sector nor SDM says that this is it") }
            return found(fallback)
        }
        phase = .probingIndex(alignments)
        return .read(.xleases, UInt64(next), Geometry.probeLength)
    }

    private func stranger(in bytes: [UInt8]?, of volume: Volume) -> String? {
        bytes.flatMap { volume.lockspace(named: $0) }.flatMap { $0 == image.lockspace ? nil : $0 }
    }

    private mutating func found(_ geometry: Geometry) -> Step {
        self.geometry = geometry
        let length = geometry.maximumHosts * geometry.sectorSize
        guard length > Self.commonLength else { return readSDM() }
        phase = .restOfIds
        return .read(.ids, UInt64(Self.commonLength), length - Self.commonLength)
    }

    private mutating func readSDM() -> Step {
        phase = .sdm
        return .read(.leases, UInt64(geometry?.alignment ?? 0), geometry?.alignment ?? 0)
    }

    private mutating func next(_ slots: [Int]) -> Step {
        guard let slot = slots.first else { return .done }
        phase = .leases(slots)
        return .read(.xleases, offset(slot), geometry?.alignment ?? 0)
    }

    private mutating func scan(_ slot: Int, _ found: [Int]) -> Step {
        guard slot < LeaseIndex.capacity else { return next(found) }
        phase = .scanning(slot, found: found)
        return .read(.xleases, offset(slot), 4096)
    }

    private func offset(_ slot: Int) -> UInt64 { UInt64((3 + slot) * (geometry?.alignment ?? 0)) }

    private func refuse(_ why: String) -> Step {
        .refused(RequestError(LockspaceErrorCode.notThis, "nothing is written to what cannot be recognised as lockspace \(image.lockspace): \(why)"))
    }
}

extension LockspaceImage.Volume {
    /// The lockspace that the beginning of a record of this volume names: of a host id, of SDM, of the index. `nil`: it is none.
    func lockspace(named bytes: [UInt8]) -> String? {
        switch self {
        case .ids, .leases: (try? LeaderRecord(bytes[...]))?.lockspace
        case .xleases: (try? LeaseIndex(rebuilding: (bytes + [UInt8](repeating: 0, count: max(0, LeaseIndex.length - bytes.count)))[...]))?.lockspace
        }
    }
}
