import LeaseFormat
import Messages

/// One attempt to own or share one lease: sanlock's Disk Paxos on the sectors of its area.
///
/// | phase      | what was read or written                    | next                                                                        |
/// |------------|---------------------------------------------|-----------------------------------------------------------------------------|
/// | reading    | area: leader free, or ours                  | the shares, if exclusive; then phase one                                    |
/// |            | area: owned by another                      | checking                                                                    |
/// |            | area: blocks of versions that the leader does not know, and nobody who still holds the leader's: a late write put it back | as free, in the ballot of the last of them |
/// | checking   | owner's sector free or of a later generation: its leases are void | settling since that was first seen (S4), then as free |
/// |            | a proof covers that owner and generation    | settling, then as free (S1)                                                 |
/// |            | expired, and an operator vouches for its watchdog | settling, then as free (S6)                                           |
/// |            | anything else                               | refused, or waiting, then reading                                           |
/// | checking a share | the sector of a host whose block says that it shares: as for an owner | the next one; then phase one                       |
/// | phase one  | own block {mbal}; area                      | a higher ballot or version: retry; a share not checked: reading; else phase two with the highest proposal seen, or us |
/// | phase two  | own block {mbal, bal, value}; area          | a higher ballot or version: retry; else commit                              |
/// | commit     | leader                                      | value is us: settling in; a dead contender's value: reading again, the proof is checked against *that* owner; what an earlier attempt of ours proposed and gave back: reading again |
/// | pausing    | its turn has come; leader                   | decided for us by another: settling in; version moved: reading again; else phase one with a higher ballot |
/// | settling in, exclusive | shares whose holders are gone are cleared from their blocks; a share of our own from ours | won           |
/// | settling in, shared | own block {released, shared}; leader: freed if we wrote it | won                                               |
///
/// Only a proof replaces the liveness check, never the ballot: whoever else also believes that the owner is gone meets us in the blocks.
/// A share is entered in its holder's block before the leader is freed, so whoever finds the leader free finds all shares in the blocks of its first phase.
struct Acquisition: Hashable, Codable, Sendable {
    enum Step: Hashable, Codable, Sendable {
        case read(offset: Int, length: Int)
        case readOwner(Int)
        case write(offset: Int, [UInt8])
        case pause(until: Instant)
        case won(lver: UInt64)
        case refused(RequestError)
    }

    enum Phase: Hashable, Codable, Sendable {
        case reading
        case checking(LeaderRecord)
        case checkingShare(Tenure)
        /// Until what is over has settled, or until a hold may have ended.
        case settling(until: Instant)
        case phaseOne
        case phaseTwo
        case committing(LeaderRecord)
        case pausing(until: Instant)
        case rechecking
        /// The block of a share whose holder is gone, read once more and then written without it.
        case clearing(Tenure)
        /// Our own share, ended by our owning the lease, or begun.
        case unsharing
        case sharing
        case freeing
    }

    /// A host in one generation of its membership.
    struct Tenure: Hashable, Codable, Sendable {
        var hostID: Int
        var generation: UInt64
    }

    struct Opener: Hashable, Codable, Sendable {
        var proof: Proof
        var owner: LeaderRecord
    }

    let name: LeaseName
    let mode: LeaseMode
    /// This host shares the lease now, and goes on if it is refused.
    let isConversion: Bool
    let geometry: Geometry
    let hostID: Int
    let generation: UInt64
    let proofs: [AcceptedProof]
    let settle: Duration
    let firing: Duration
    let giveUpAt: Instant
    /// Until when a hold of another host is waited for.
    let waitUntil: Instant?
    /// Highest host id whose block can say anything, as long as `slotsUntil` has not passed: whoever joins after that was seen takes no lease before.
    private var slots: Int
    private let slotsUntil: Instant
    /// The lockspace's other hosts as this one saw them so far.
    let observed: [Int: HostObservation]
    /// sanlock's F, where an operator vouches that a watchdog resets every silent host within 8 x its io_timeout and this; `nil`: nobody does (S6).
    let promisedFiring: Duration?

    /// For what people are told.
    var place: Place?
    var phase = Phase.reading
    var leader: LeaderRecord?
    /// The version that this ballot decides.
    var version: UInt64 = 0
    var block = BallotBlock()
    /// What this host proposed for that version before.
    var earlier: BallotBlock?
    var mbal: UInt64 = 0
    var retries = 0
    var lostTo: LeaderRecord?
    /// When a membership was first seen to be over.
    var voidSeen: [Tenure: Instant] = [:]
    /// The short hold that is waited for, and since when.
    var shortHold: ShortHold?
    /// Who shares the lease besides us, by the last read of the area.
    var shares: [Tenure] = []
    /// Those of them who are certainly gone.
    var goneShares: Set<Tenure> = []
    /// The proof that opened it, if one did.
    var opener: Opener?
    /// When the phase of the ballot under way began.
    var phaseBegan = Instant(nanoseconds: 0)

    /// Where the lease's area begins, and the lockspace's file.
    struct Place: Hashable, Codable, Sendable {
        var path: String
        var base: UInt64
        var ids: String
    }

    struct ShortHold: Hashable, Codable, Sendable {
        var leader: LeaderRecord
        var since: Instant
    }

    /// - Parameters:
    ///   - isConversion: this host shares the lease now, which its block goes on saying until it owns it.
    ///   - waitUntil: until when it waits for a hold of another host to end, instead of being refused at once.
    ///   - slots: the highest host id that was ever used in the lockspace, as a look at all of it told; `nil`: unknown.
    ///   - slotsUntil: before a host that had not joined at that look can have joined, which takes 2 x io_timeout.
    init(
        name: LeaseName, mode: LeaseMode = .exclusive, isConversion: Bool = false, geometry: Geometry, hostID: Int, generation: UInt64, proofs: [AcceptedProof], settle: Duration,
        firing: Duration = .seconds(60), giveUpAt: Instant, waitUntil: Instant? = nil, observed: [Int: HostObservation] = [:], slots: Int? = nil,
        slotsUntil: Instant = Instant(nanoseconds: .max), promisedFiring: Duration? = nil
    ) {
        self.name = name
        self.mode = mode
        self.isConversion = isConversion
        self.geometry = geometry
        self.hostID = hostID
        self.generation = generation
        self.proofs = proofs
        self.settle = settle
        self.firing = firing
        self.giveUpAt = max(giveUpAt, waitUntil ?? giveUpAt)
        self.waitUntil = waitUntil
        self.observed = observed
        self.slots = min(max(slots ?? geometry.maximumHosts, hostID), geometry.maximumHosts)
        self.slotsUntil = slotsUntil
        self.promisedFiring = promisedFiring
    }

    var wakeAt: Instant? {
        switch phase {
        case .settling(let until), .pausing(let until): until
        default: nil
        }
    }

    mutating func begin() -> Step {
        phase = .reading
        return readArea()
    }

    mutating func onWake(at now: Instant) -> Step? {
        switch phase {
        case .settling(let until) where now >= until:
            // The owner may have come back meanwhile, or another may have taken it.
            return begin()
        case .pausing(let until) where now >= until:
            phase = .rechecking
            return .read(offset: 0, length: geometry.sectorSize)
        default:
            return nil
        }
    }

    mutating func onRead(_ bytes: [UInt8], at now: Instant) -> Step {
        switch phase {
        case .reading, .phaseOne, .phaseTwo:
            if case .reading = phase { leader = try? verifiedLeader(bytes) }
            if isTooShort(bytes, at: now) {
                slots = geometry.maximumHosts
                return readArea()
            }
        default: break
        }
        return switch phase {
        case .reading: onArea(bytes, at: now)
        case .checking(let leader): onOwner(bytes, leader: leader, at: now)
        case .checkingShare(let share): onSharer(bytes, share: share, at: now)
        case .phaseOne: onPhaseOne(bytes, at: now)
        case .phaseTwo: onPhaseTwo(bytes, at: now)
        case .rechecking: onLeaderAgain(bytes, at: now)
        case .clearing(let share): onSharersBlock(bytes, share: share, at: now)
        case .sharing: onShared(bytes, at: now)
        case .settling, .committing, .pausing, .unsharing, .freeing: refuse(.corrupt, "unexpected answer")
        }
    }

    mutating func onWritten(at now: Instant) -> Step {
        switch phase {
        case .phaseOne, .phaseTwo:
            return readArea()
        case .committing(let committed):
            guard committed.ownerID == UInt64(hostID), committed.ownerGeneration == generation else {
                // We decided for a contender that did not live to see it: its ownership needs a proof of its own.
                return begin()
            }
            return onDecided()
        case .clearing(let share):
            shares.removeAll { $0 == share }
            return settleIn()
        case .sharing:
            return .read(offset: 0, length: geometry.sectorSize)
        case .unsharing, .freeing:
            return .won(lver: version)
        default:
            return refuse(.corrupt, "unexpected answer")
        }
    }

    // MARK: Sectors

    func verifiedLeader(_ bytes: [UInt8]) throws(FormatError) -> LeaderRecord {
        let found = try LeaderRecord(bytes[...])
        try found.verify(.paxos, lockspace: name.lockspace, name: name.resource, geometry: geometry)
        guard found.hosts >= UInt64(hostID) else { throw FormatError(.hosts, at: 16, expected: "at least \(hostID), the id of this host", found: "\(found.hosts)") }
        return found
    }

    func block(of host: Int, in bytes: [UInt8]) throws(FormatError) -> BallotBlock {
        let start = geometry.blockOffset(host: host)
        guard start + geometry.sectorSize <= bytes.count else {
            throw FormatError(.length, at: 0, expected: "\(start + geometry.sectorSize) bytes of the area", found: "\(bytes.count) bytes")
        }
        let block = try BallotBlock(bytes[start..<(start + geometry.sectorSize)])
        try block.verify(host: host)
        return block
    }

    /// Leader, request and the blocks of hosts 1...`slots`, in pages.
    func readArea() -> Step {
        let page = 4096
        return .read(offset: 0, length: ((slots + 2) * geometry.sectorSize + page - 1) / page * page)
    }

    /// The hosts of 1...`hosts` whose blocks were read.
    func read(_ hosts: UInt64, in bytes: [UInt8]) -> ClosedRange<Int> {
        1...max(1, min(Int(clamping: hosts), bytes.count / geometry.sectorSize - 2))
    }

    /// What was read of the blocks may not be all that counts: a host with a higher id may have joined since, or is named by the leader.
    private func isTooShort(_ bytes: [UInt8], at now: Instant) -> Bool {
        guard bytes.count < (geometry.maximumHosts + 2) * geometry.sectorSize else { return false }
        return now >= slotsUntil || max(leader?.ownerID ?? 0, leader?.writeID ?? 0) > UInt64(bytes.count / geometry.sectorSize - 2)
    }

    func writeBlock() -> Step { .write(offset: geometry.blockOffset(host: hostID), block.sector(geometry)) }

    /// Of a record of the lease's area.
    func sentence(_ error: FormatError, at start: Int) -> String { place.map { error.sentence(file: $0.path, start: $0.base + UInt64(start)) } ?? error.sentence }

    func refuse(_ code: LeaseErrorCode, _ why: String, details: [String: String]? = nil) -> Step {
        .refused(RequestError(code, "lease \(name.lockspace)/\(name.resource): \(why)", details: details))
    }
}
