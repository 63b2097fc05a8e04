import LeaseFormat
import Messages

/// What stands in an area of a volume, as far as a writer must know it.
struct AreaSurvey: Hashable {
    enum Content: Hashable {
        /// Zeros, or behind the end of the file.
        case nothing
        case lockspace(String)
        /// The rest of an initialisation that did not finish.
        case unfinishedLockspace(String)
        case lease(lockspace: String, resource: String)
        case removedLease(lockspace: String, resource: String)
        case index
        case other
    }

    var content: Content
    /// Who uses it, in sentences.
    var users: [String] = []
    /// What could not be read.
    var unreadable: [String] = []

    /// Reads this area, and what belongs to it: as much as the lockspace or lease that is found says, and everything else up to `length`.
    init(of volume: DirectVolume, at offset: UInt64, _ length: Int) throws(RequestError) {
        var bytes = try volume.readWhatIsThere(offset, length)
        let area = Self.geometry(bytes)?.alignment ?? length
        if area > length { bytes = try volume.readWhatIsThere(offset, area) }
        self.init(area < bytes.count ? Array(bytes.prefix(area)) : bytes)
        if area < min(length, bytes.count) {
            let rest = try AreaSurvey(of: volume, at: offset + UInt64(area), length - area)
            if content == .nothing { content = rest.content }
            users += rest.users
            unreadable += rest.unreadable
        }
    }

    /// - Parameter bytes: the area, as much of it as is there.
    init(_ bytes: [UInt8]) {
        guard bytes.contains(where: { $0 != 0 }) else {
            content = .nothing
            return
        }
        if let record = try? LeaderRecord(bytes[...]) {
            switch record.kind {
            case .delta:
                content = .lockspace(record.lockspace)
                surveyHosts(bytes, record)
            case .paxos where record.name.isEmpty, .cleared:
                content = .removedLease(lockspace: record.lockspace, resource: record.name)
            case .paxos:
                content = .lease(lockspace: record.lockspace, resource: record.name)
                surveyBlocks(bytes, record)
            }
        } else if Self.isIndex(bytes) {
            content = .index
        } else if bytes.prefix(4).allSatisfy({ $0 == 0 }), let second = Self.secondHost(bytes) {
            content = .unfinishedLockspace(second.lockspace)
            surveyHosts(bytes, second, from: 2)
        } else {
            content = .other
            surveySectors(bytes)
        }
    }

    /// In a sentence; `nil` for nothing.
    var description: String? {
        switch content {
        case .nothing: nil
        case .lockspace(let name): "the lockspace \(name)"
        case .unfinishedLockspace(let name): "the lockspace \(name), whose initialisation did not finish"
        case .lease(let lockspace, let resource): "the lease \(resource) of lockspace \(lockspace)"
        case .removedLease: "the rest of a removed lease"
        case .index: "an index of leases"
        case .other: "data of another kind"
        }
    }

    private static func secondHost(_ bytes: [UInt8]) -> LeaderRecord? {
        for sector in [512, 4096] where bytes.count >= 2 * sector {
            if let record = try? LeaderRecord(bytes[sector...]), record.kind == .delta { return record }
        }
        return nil
    }

    /// What a lease, or the first host's sector that can be read, says of the area.
    private static func geometry(_ bytes: [UInt8]) -> Geometry? {
        if let first = try? LeaderRecord(bytes[...]) { return first.geometry }
        return hostSectors(bytes).lazy.compactMap { try? LeaderRecord(bytes[$0...]).geometry }.first
    }

    /// Where a sector begins as that of a host in a lockspace.
    private static func hostSectors(_ bytes: [UInt8]) -> [Int] {
        stride(from: 0, to: bytes.count, by: 512).filter { bytes[$0...].starts(with: [0x10, 0x20, 0x21, 0x12]) }
    }

    /// An area whose beginning is of no known kind, or damaged: hosts may use the rest of it all the same.
    private mutating func surveySectors(_ bytes: [UInt8]) {
        if bytes.starts(with: [0x10, 0x20, 0x15, 0x06]) { unreadable.append("who holds the lease there: its leader is damaged") }
        for start in Self.hostSectors(bytes) {
            do {
                let record = try LeaderRecord(bytes[start...])
                if !record.isFree { users.append("host id \(record.ownerID) (\(record.name), generation \(record.ownerGeneration)) of lockspace \(record.lockspace) has not given its id back") }
            } catch {
                unreadable.append("the sector of a host at \(start) of the area: \(error.sentence)")
            }
        }
    }

    private static func isIndex(_ bytes: [UInt8]) -> Bool {
        bytes.starts(with: [0x12, 0x15, 0x20, 0x16]) || bytes.starts(with: [0x18, 0x20, 0x04, 0x01])
    }

    private mutating func surveyHosts(_ bytes: [UInt8], _ first: LeaderRecord, from lowest: Int = 1) {
        let sector = first.geometry.sectorSize
        for host in lowest...first.geometry.maximumHosts {
            let start = Int(first.geometry.deltaOffset(host: host))
            guard start + sector <= bytes.count else {
                unreadable.append("host ids above \(host - 1) were not read: the volume ends before them")
                break
            }
            do {
                let record = try LeaderRecord(bytes[start..<(start + sector)])
                if !record.isFree { users.append("host id \(host) (\(record.name), generation \(record.ownerGeneration)) has not given its id back") }
            } catch {
                unreadable.append("the sector of host id \(host): \(error.sentence)")
            }
        }
    }

    private mutating func surveyBlocks(_ bytes: [UInt8], _ leader: LeaderRecord) {
        if !leader.isFree { users.append("host id \(leader.ownerID), generation \(leader.ownerGeneration), holds it, version \(leader.lver)") }
        let sector = leader.geometry.sectorSize
        for host in 1...leader.geometry.maximumHosts {
            let start = leader.geometry.blockOffset(host: host)
            guard start + sector <= bytes.count else {
                unreadable.append("host ids above \(host - 1) were not read: the volume ends before them")
                break
            }
            do {
                let block = try BallotBlock(bytes[start..<(start + sector)])
                if let generation = block.sharedGeneration { users.append("host id \(host), generation \(generation), holds it shared") }
            } catch {
                unreadable.append("the block of host id \(host): \(error.sentence)")
            }
        }
    }
}

extension DirectVolume {
    /// What stands there.
    /// - Throws: `RequestError` `lockspace.in-use` if somebody uses it.
    func requireUnused(_ offset: UInt64, _ length: Int, to action: String) throws(RequestError) -> AreaSurvey {
        let found = try AreaSurvey(of: self, at: offset, length)
        guard found.users.isEmpty else { throw found.inUse(action) }
        return found
    }

    /// A confirmation takes time: what was looked at before it is looked at again, right before it is overwritten.
    func requireStill(_ before: AreaSurvey, _ offset: UInt64, _ length: Int, to action: String) throws(RequestError) {
        guard try requireUnused(offset, length, to: action).content == before.content else {
            throw OperatorError.volumeInUse.error("refused to \(action): what stands there changed meanwhile; nothing was written")
        }
    }
}
