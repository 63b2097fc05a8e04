import LeaseFormat
import Messages

/// Gives one lease back, turns an exclusive hold into a shared one, or takes back what an interrupted attempt may have left, on sanlock's sectors: the own block is marked
/// released before the leader is freed, and a leader that another host wrote for us is left to others, who see the mark.
///
/// | phase    | found                                              | next                          |
/// |----------|----------------------------------------------------|-------------------------------|
/// | reading  | own block belongs to our ownership or proposal, or says that we share it | marking  |
/// |          | nothing of ours                                    | done                          |
/// | marking  | written                                            | rereading                     |
/// | rereading | leader still ours and written by us               | freeing                       |
/// |          | anything else                                      | done                          |
/// | freeing  | written                                            | done                          |
struct Retraction: Hashable, Codable, Sendable {
    enum Step: Hashable, Codable, Sendable {
        case read(offset: Int, length: Int)
        case write(offset: Int, [UInt8])
        case done(String)
    }

    enum Phase: Hashable, Codable, Sendable { case reading, marking(LeaderRecord), rereading(LeaderRecord), freeing }

    let name: LeaseName
    let geometry: Geometry
    let hostID: Int
    let generation: UInt64
    /// The version to give back; `nil`: whatever is ours.
    let lver: UInt64?
    /// This host goes on sharing the lease.
    let keepsShare: Bool
    private(set) var phase = Phase.reading
    /// The own block says so.
    private(set) var hasMarked = false

    init(name: LeaseName, geometry: Geometry, hostID: Int, generation: UInt64, lver: UInt64?, keepsShare: Bool = false) {
        self.name = name
        self.geometry = geometry
        self.hostID = hostID
        self.generation = generation
        self.lver = lver
        self.keepsShare = keepsShare
    }

    mutating func begin() -> Step {
        phase = .reading
        return .read(offset: 0, length: geometry.blockOffset(host: hostID) + geometry.sectorSize)
    }

    mutating func onRead(_ bytes: [UInt8], at now: Instant) -> Step {
        guard let leader = try? LeaderRecord(bytes[...]), leader.kind == .paxos, leader.lockspace == name.lockspace, leader.name == name.resource else {
            return .done("the lease area is not readable as \(name.resource)")
        }
        switch phase {
        case .reading:
            let start = geometry.blockOffset(host: hostID)
            guard start + geometry.sectorSize <= bytes.count, var block = try? BallotBlock(bytes[start..<(start + geometry.sectorSize)]) else {
                return .done("the own block is not readable")
            }
            let owned = isOurs(leader) && block.lver == leader.lver
            let proposed = lver == nil && block.lver > leader.lver && block.bal != 0
            // A late write of another host has put an older leader over ours: who decides next meets our block.
            let buried = lver.map { block.lver == $0 && leader.lver < $0 && block.bal != 0 } ?? false
            let shares = !keepsShare && block.sharedGeneration != nil
            guard owned || proposed || buried || shares else { return .done("nothing of ours on disk") }
            block.isReleased = true
            block.sharedGeneration = keepsShare ? generation : nil
            phase = .marking(leader)
            return .write(offset: start, block.sector(geometry))
        case .rereading(let seen):
            guard isOurs(leader), leader.writeID == UInt64(hostID), leader.lver >= seen.lver else { return .done("marked released; the leader is not ours to write") }
            var free = leader
            free.timestamp = 0
            free.isShortHold = false
            free.writeID = UInt64(hostID)
            free.writeGeneration = generation
            free.writeTimestamp = Membership.seconds(now)
            phase = .freeing
            return .write(offset: 0, free.sector)
        case .marking, .freeing:
            return .done("unexpected answer")
        }
    }

    mutating func onWritten() -> Step {
        guard case .marking(let leader) = phase else { return .done(keepsShare ? "shared" : "released") }
        hasMarked = true
        phase = .rereading(leader)
        return .read(offset: 0, length: geometry.sectorSize)
    }

    private func isOurs(_ leader: LeaderRecord) -> Bool {
        leader.ownerID == UInt64(hostID) && leader.ownerGeneration == generation && !leader.isFree && (lver == nil || lver == leader.lver)
    }
}
