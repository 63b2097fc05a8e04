import LeaseFormat
import Messages

/// What the sectors of a lockspace say, readable or not.
struct LockspaceContents: Sendable {
    enum Slot: Hashable, Sendable {
        case record(LeaderRecord)
        /// Being written anew.
        case marked(ReinitializationMarker)
        case unreadable(String)
    }

    struct Lease: Sendable {
        var resource: String
        /// Its record in the index; `nil`: SDM.
        var slot: Int?
        /// `nil`: unreadable, for the reason told by ``problem``.
        var leader: LeaderRecord?
        var problem: String?
        /// The highest version that any of its sectors names.
        var lver: UInt64
        /// Shared holds: host id and generation.
        var shared: [Int: UInt64] = [:]
        /// The highest generation of each host id that its sectors name.
        var generations: [Int: UInt64] = [:]
    }

    let lockspace: String
    let geometry: Geometry
    /// The largest that any readable sector records.
    private(set) var ioTimeout: UInt16 = 0
    /// Without those that nobody ever used.
    private(set) var slots: [Int: Slot] = [:]
    private(set) var leases: [Lease] = []
    /// `nil`: the index can be read.
    private(set) var indexProblem: String?

    /// The geometry that its host ids tell, or SDM; `nil` if none of them can be read.
    /// - Throws: `lockspace.not-this-one` if it is another lockspace.
    static func geometry(in image: LockspaceImage) throws(RequestError) -> Geometry? {
        let area = image.read(.ids, 0, LockspaceReader.commonLength)
        for position in stride(from: 0, to: area.count, by: LockspaceImage.unit) {
            guard let record = try? LeaderRecord(area[position..<(position + LockspaceImage.unit)]), record.kind == .delta else { continue }
            guard record.lockspace == image.lockspace else {
                throw RequestError(LockspaceErrorCode.notThis, "the volume of host ids is lockspace \(record.lockspace), not \(image.lockspace); nothing was written")
            }
            return record.geometry
        }
        let leaders = [1, 2, 4, 8].map { image.read(.leases, UInt64($0 << 20), LockspaceImage.unit) }
        return leaders.lazy.compactMap { try? LeaderRecord($0[...]) }.first { $0.kind == .paxos && $0.lockspace == image.lockspace }?.geometry
    }

    init(_ image: LockspaceImage, geometry: Geometry) {
        lockspace = image.lockspace
        self.geometry = geometry
        readSlots(image)
        readLeases(image)
    }

    private mutating func readSlots(_ image: LockspaceImage) {
        let size = geometry.sectorSize
        let area = image.read(.ids, 0, geometry.maximumHosts * size)
        for id in 1...geometry.maximumHosts {
            let slot = slot(of: area[((id - 1) * size)..<(id * size)])
            if case .record(let record) = slot {
                ioTimeout = max(ioTimeout, record.ioTimeout)
                if record.ownerID == 0, record.isFree { continue }
            }
            slots[id] = slot
        }
    }

    private func slot(of sector: ArraySlice<UInt8>) -> Slot {
        if let marker = ReinitializationMarker(sector) { return .marked(marker) }
        do throws(FormatError) {
            let record = try LeaderRecord(sector)
            guard record.kind == .delta else { return .unreadable("it is the record of a lease") }
            guard record.lockspace == lockspace else { return .unreadable("it belongs to lockspace \(record.lockspace)") }
            guard record.geometry == geometry else { return .unreadable("its sector or alignment size is another") }
            return .record(record)
        } catch {
            return .unreadable(sector.contains { $0 != 0 } ? error.sentence : "it is zero")
        }
    }

    private mutating func readLeases(_ image: LockspaceImage) {
        let unit = geometry.alignment
        leases = [lease(DomainLayout.sdm, nil, image.read(.leases, UInt64(unit), unit))]
        let index: LeaseIndex
        do {
            index = try LeaseIndex(image.read(.xleases, LeaseIndex.offset(geometry), LeaseIndex.length)[...], lockspace: lockspace, geometry: geometry)
        } catch {
            indexProblem = "the index of leases cannot be read (\(error.sentence)); its names are taken from the leases themselves"
            let slots = Set(image.extents.filter { $0.volume == .xleases }.map { Int($0.offset) / unit - 3 }.filter { (0..<LeaseIndex.capacity).contains($0) })
            for slot in slots.sorted() {
                let area = image.read(.xleases, UInt64((3 + slot) * unit), unit)
                guard let leader = try? LeaderRecord(area[...]), leader.kind == .paxos, leader.lockspace == lockspace, leader.geometry == geometry else { continue }
                leases.append(lease(leader.name, slot, area))
            }
            return
        }
        for entry in index.leases { leases.append(lease(entry.name, entry.index, image.read(.xleases, index.leaseOffset(entry.index), unit))) }
    }

    private func lease(_ resource: String, _ slot: Int?, _ area: [UInt8]) -> Lease {
        var lease = Lease(resource: resource, slot: slot, lver: 0)
        do throws(FormatError) {
            let leader = try LeaderRecord(area[...])
            if leader.kind == .paxos, leader.lockspace == lockspace, leader.name == resource, leader.geometry == geometry {
                lease.leader = leader
                lease.lver = leader.lver
                lease.generations[Int(clamping: leader.ownerID)] = leader.ownerGeneration
            } else {
                lease.problem = "it is \(leader.name) of \(leader.lockspace)"
            }
        } catch {
            lease.problem = area.contains { $0 != 0 } ? error.sentence : "it is zero"
        }
        for host in 1...geometry.maximumHosts {
            let start = geometry.blockOffset(host: host)
            guard start + geometry.sectorSize <= area.count else { break }
            guard let block = try? BallotBlock(area[start..<(start + geometry.sectorSize)]) else { continue }
            // A version or ballot without a successor is a damaged one.
            if block.lver < .max / 2 { lease.lver = max(lease.lver, block.lver) }
            if block.owner > 0, block.owner <= UInt64(geometry.maximumHosts) {
                lease.generations[Int(block.owner)] = max(lease.generations[Int(block.owner)] ?? 0, block.ownerGeneration)
            }
            if let generation = block.sharedGeneration { lease.shared[host] = generation }
        }
        return lease
    }

    /// The highest generation that anything says of a host id: a life must never be called as an earlier one was, or proofs about that would cover it.
    func generation(of hostID: Int) -> UInt64 {
        var highest: UInt64 = 0
        if case .record(let record)? = slots[hostID] { highest = record.ownerGeneration }
        for lease in leases { highest = max(highest, lease.generations[hostID] ?? 0, lease.shared[hostID] ?? 0) }
        return highest
    }

    func name(of hostID: Int) -> String {
        if case .record(let record)? = slots[hostID] { record.name } else { "" }
    }

    func place(of lease: Lease) -> String {
        lease.slot.map { "xleases:\((3 + $0) * geometry.alignment)" } ?? "leases:\(geometry.alignment)"
    }
}
