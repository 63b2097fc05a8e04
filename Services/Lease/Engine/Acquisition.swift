import LeaseFormat
import Messages

/// A proof that was verified, with what is known of its age.
public struct AcceptedProof: Codable, Hashable, Sendable {
    public var proof: Proof
    /// Age when it was received, as far as its sender knew.
    public var age: Duration
    public var receivedAt: Instant

    public init(proof: Proof, age: Duration, receivedAt: Instant) {
        self.proof = proof
        self.age = age
        self.receivedAt = receivedAt
    }
}

/// One attempt to own one lease: sanlock's Disk Paxos on the sectors of its area, exclusive only.
///
/// | phase      | what was read or written                    | next                                                                        |
/// |------------|---------------------------------------------|-----------------------------------------------------------------------------|
/// | reading    | area: leader free, or ours                  | phase one                                                                   |
/// |            | area: owned by another                      | checking                                                                    |
/// | checking   | owner's sector free or of a later generation: its leases are void | settling since that was first seen (S4), then phase one |
/// |            | a proof covers that owner and generation    | settling, then phase one (S1)                                               |
/// |            | expired, and an operator vouches for its watchdog | settling, then phase one (S6)                                         |
/// |            | anything else                               | refused                                                                     |
/// | phase one  | own block {mbal}; area                      | a higher ballot or version: retry; else phase two with the highest proposal seen, or us |
/// | phase two  | own block {mbal, bal, value}; area          | a higher ballot or version: retry; else commit                              |
/// | commit     | leader                                      | value is us: won; a dead contender's value: reading again, the proof is checked against *that* owner |
/// | pausing    | 0 to 1 s over; leader                       | decided for us by another: won; version moved: reading again; else phase one with a higher ballot |
///
/// Only a proof replaces the liveness check, never the ballot: whoever else also believes that the owner is gone meets us in the blocks.
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
        case settling(until: Instant)
        case phaseOne
        case phaseTwo
        case committing(LeaderRecord)
        case pausing(until: Instant)
        case rechecking
    }

    let name: LeaseName
    let geometry: Geometry
    let hostID: Int
    let generation: UInt64
    let proofs: [AcceptedProof]
    let settle: Duration
    private let giveUpAt: Instant
    /// Highest host id whose block can say anything, as long as `slotsUntil` has not passed: whoever joins after that was seen takes no lease before.
    private var slots: Int
    private let slotsUntil: Instant
    /// The lockspace's other hosts as this one saw them so far.
    private let observed: [Int: HostObservation]
    /// sanlock's F, where an operator vouches that a watchdog resets every silent host within 8 x its io_timeout and this; `nil`: nobody does (S6).
    private let promisedFiring: Duration?

    private(set) var phase = Phase.reading
    private var leader: LeaderRecord?
    private var block = BallotBlock()
    private var mbal: UInt64 = 0
    private var retries = 0
    private var lostTo: LeaderRecord?
    /// The record whose owner's membership was seen to be over, and when that was first seen.
    private var voidSeen: VoidSeen?
    /// The proof that opened it, if one did.
    private(set) var opener: Opener?

    private struct VoidSeen: Hashable, Codable, Sendable {
        var leader: LeaderRecord
        var at: Instant
    }

    struct Opener: Hashable, Codable, Sendable {
        var proof: Proof
        var owner: LeaderRecord
    }

    /// - Parameters:
    ///   - slots: the highest host id that was ever used in the lockspace, as a look at all of it told; `nil`: unknown.
    ///   - slotsUntil: before a host that had not joined at that look can have joined, which takes 2 x io_timeout.
    init(
        name: LeaseName, geometry: Geometry, hostID: Int, generation: UInt64, proofs: [AcceptedProof], settle: Duration, giveUpAt: Instant, observed: [Int: HostObservation] = [:],
        slots: Int? = nil, slotsUntil: Instant = Instant(nanoseconds: .max), promisedFiring: Duration? = nil
    ) {
        self.name = name
        self.geometry = geometry
        self.hostID = hostID
        self.generation = generation
        self.proofs = proofs
        self.settle = settle
        self.giveUpAt = giveUpAt
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
        case .phaseOne:
            switch survey(bytes) {
            case .outbid(let mbal): retry(after: mbal, at: now)
            case .clear(let highest): propose(highest, at: now)
            }
        case .phaseTwo:
            switch survey(bytes) {
            case .outbid(let mbal): retry(after: mbal, at: now)
            case .clear: commit(at: now)
            }
        case .rechecking: onLeaderAgain(bytes, at: now)
        case .settling, .committing, .pausing: refuse(.corrupt, "unexpected answer")
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
            return .won(lver: committed.lver)
        default:
            return refuse(.corrupt, "unexpected answer")
        }
    }

    // MARK: Who may go on

    private mutating func onArea(_ bytes: [UInt8], at now: Instant) -> Step {
        let found: LeaderRecord
        var highest: UInt64 = 0
        do {
            found = try verifiedLeader(bytes)
            for host in read(found.hosts, in: bytes) {
                highest = max(highest, try block(of: host, in: bytes).mbal)
            }
        } catch {
            return refuse(.corrupt, error.sentence)
        }
        leader = found
        mbal = highest
        let us = found.ownerID == UInt64(hostID) && found.ownerGeneration <= generation
        if found.isFree || us || isGivenBack(found, in: bytes) { return enterBallot() }
        guard found.ownerID >= 1, found.ownerID <= UInt64(geometry.maximumHosts) else { return refuse(.corrupt, "impossible owner \(found.ownerID)") }
        guard found.ownerID != UInt64(hostID) else {
            return refuse(.held, "it is recorded for a later generation of this host (\(found.ownerGeneration))", owner: found)
        }
        phase = .checking(found)
        return .readOwner(Int(found.ownerID))
    }

    /// Decided for an owner by somebody else, and that owner marked in its own block that it gave this very version back.
    private func isGivenBack(_ found: LeaderRecord, in bytes: [UInt8]) -> Bool {
        guard found.writeID != found.ownerID, found.ownerID >= 1, found.ownerID <= found.hosts,
            let owner = try? block(of: Int(found.ownerID), in: bytes)
        else { return false }
        return owner.isReleased && owner.lver == found.lver
    }

    private mutating func onOwner(_ bytes: [UInt8], leader: LeaderRecord, at now: Instant) -> Step {
        let owner: LeaderRecord
        do {
            owner = try LeaderRecord(bytes[...])
        } catch {
            return refuse(.corrupt, "the sector of its owner, host id \(leader.ownerID): \(error.sentence)", owner: leader)
        }
        guard owner.kind == .delta, owner.lockspace == name.lockspace else { return refuse(.corrupt, "the owner's sector is of another lockspace", owner: leader) }
        let covering = proofs.filter { $0.proof.covers(lockspace: name.lockspace, hostID: Int(leader.ownerID), generation: leader.ownerGeneration) }
        let best = covering.min { opensAt($0) < opensAt($1) }
        if owner.isFree || owner.ownerID != leader.ownerID || owner.ownerGeneration > leader.ownerGeneration {
            // That it is void proves nothing of its last writes: they may still be under way, as after a proof.
            let earlier = observed[Int(leader.ownerID)].flatMap { $0.isOfSameLife(owner) ? $0.lifeSeen : nil }
            let seen = voidSeen.flatMap { $0.leader == leader ? $0.at : nil } ?? earlier ?? now
            voidSeen = VoidSeen(leader: leader, at: seen)
            let opens = min(seen + settle, best.map(opensAt) ?? seen + settle)
            return now >= opens ? enterBallot() : settle(until: opens)
        }
        guard let proof = best else {
            if let opens = expiry(of: owner, leader, at: now).map({ $0 + settle }) { return now >= opens ? enterBallot() : settle(until: opens) }
            let code: LeaseErrorCode = lostTo == nil ? .held : .lostBallot
            return refuse(code, "it is held by \(owner.name), host id \(leader.ownerID), generation \(leader.ownerGeneration), and nothing proves that its holder is gone", owner: leader, named: owner.name)
        }
        let opens = opensAt(proof)
        guard now >= opens else { return settle(until: opens) }
        opener = Opener(proof: proof.proof, owner: leader)
        return enterBallot()
    }

    /// When the owner was due to be reset by its watchdog, if it is watched and has said nothing for all of that time; its own io_timeout counts.
    private func expiry(of owner: LeaderRecord, _ leader: LeaderRecord, at now: Instant) -> Instant? {
        guard let promisedFiring, let seen = observed[Int(leader.ownerID)], seen.record == owner, owner.ownerGeneration == leader.ownerGeneration,
            seen.state(firing: promisedFiring, at: now) == .dead
        else { return nil }
        return seen.unchangedSince + .seconds(8 * Int64(max(owner.ioTimeout, 1))) + promisedFiring
    }

    private mutating func settle(until opens: Instant) -> Step {
        phase = .settling(until: opens)
        return .pause(until: opens)
    }

    /// When the writes of what the proof says is dead have settled (S4); from the receipt on, for the sender may not know the whole age.
    private func opensAt(_ accepted: AcceptedProof) -> Instant {
        accepted.receivedAt + max(.zero, settle - accepted.age)
    }

    // MARK: The ballot

    private mutating func enterBallot() -> Step {
        guard mbal == 0 || raise(above: mbal) else { return refuseNumbers() }
        if mbal == 0 { mbal = UInt64(hostID) }
        return phaseOne()
    }

    /// Takes this host's next ballot number above another; `false` if there is none. Only a damaged block can say so.
    private mutating func raise(above other: UInt64) -> Bool {
        let stride = UInt64(geometry.maximumHosts)
        let (next, isBeyond) = (other - other % stride).addingReportingOverflow(stride + UInt64(hostID))
        if !isBeyond { mbal = next }
        return !isBeyond
    }

    private func refuseNumbers() -> Step { refuse(.corrupt, "its version or ballot number has no successor", owner: leader) }

    private mutating func phaseOne() -> Step {
        guard let leader else { return begin() }
        let (version, isBeyond) = leader.lver.addingReportingOverflow(1)
        guard !isBeyond else { return refuseNumbers() }
        block = BallotBlock(mbal: mbal, lver: version)
        phase = .phaseOne
        return writeBlock()
    }

    private enum Survey {
        case clear(highest: BallotBlock?)
        case outbid(by: UInt64)
    }

    /// What the blocks of this version say. Unreadable ones and those of older versions don't count.
    private func survey(_ bytes: [UInt8]) -> Survey {
        var highest: BallotBlock?
        for host in read(leader?.hosts ?? 1, in: bytes) {
            let seen = try? block(of: host, in: bytes)
            if host == hostID {
                guard seen == block else { return .outbid(by: 0) }
                continue
            }
            guard let seen, seen.lver >= block.lver else { continue }
            guard seen.lver == block.lver, seen.mbal <= block.mbal else { return .outbid(by: seen.mbal) }
            if seen.owner != 0, seen.bal > highest?.bal ?? 0 { highest = seen }
        }
        return .clear(highest: highest)
    }

    private mutating func propose(_ proposal: BallotBlock?, at now: Instant) -> Step {
        block.bal = block.mbal
        block.owner = proposal?.owner ?? UInt64(hostID)
        block.ownerGeneration = proposal?.ownerGeneration ?? generation
        block.ownerTimestamp = proposal?.ownerTimestamp ?? Membership.seconds(now)
        phase = .phaseTwo
        return writeBlock()
    }

    private mutating func commit(at now: Instant) -> Step {
        guard var new = leader else { return begin() }
        new.lver = block.lver
        new.ownerID = block.owner
        new.ownerGeneration = block.ownerGeneration
        new.timestamp = block.ownerTimestamp
        new.writeID = UInt64(hostID)
        new.writeGeneration = generation
        new.writeTimestamp = Membership.seconds(now)
        new.isShortHold = false
        phase = .committing(new)
        return .write(offset: 0, new.sector)
    }

    /// Somebody entered a higher ballot: a pause between 0 and 1 s, of its own for each host and try, lets one of us finish.
    private mutating func retry(after seen: UInt64, at now: Instant) -> Step {
        retries += 1
        guard now < giveUpAt else { return refuse(.lostBallot, "other hosts kept entering the ballot", owner: leader) }
        guard raise(above: max(mbal, seen)) else { return refuseNumbers() }
        var hash = UInt64(hostID) &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(retries) &* 0xBF58_476D_1CE4_E5B9 ^ UInt64(bitPattern: now.nanoseconds)
        hash = (hash ^ (hash >> 30)) &* 0x94D0_49BB_1331_11EB
        let until = now + .milliseconds(Int64((hash >> 33) % 1000))
        phase = .pausing(until: until)
        return .pause(until: until)
    }

    private mutating func onLeaderAgain(_ bytes: [UInt8], at now: Instant) -> Step {
        let found: LeaderRecord
        do {
            found = try verifiedLeader(bytes)
        } catch {
            return refuse(.corrupt, error.sentence)
        }
        guard let leader, found == leader else {
            if found.lver == block.lver, !found.isFree, found.ownerID == UInt64(hostID), found.ownerGeneration == generation {
                return .won(lver: found.lver)
            }
            lostTo = found
            return begin()
        }
        return phaseOne()
    }

    // MARK: Sectors

    private func verifiedLeader(_ bytes: [UInt8]) throws(FormatError) -> LeaderRecord {
        let found = try LeaderRecord(bytes[...])
        try found.verify(.paxos, lockspace: name.lockspace, name: name.resource, geometry: geometry)
        guard found.hosts >= UInt64(hostID) else { throw FormatError(.hosts, at: 16, expected: "at least \(hostID), the id of this host", found: "\(found.hosts)") }
        return found
    }

    private func block(of host: Int, in bytes: [UInt8]) throws(FormatError) -> BallotBlock {
        let start = geometry.blockOffset(host: host)
        guard start + geometry.sectorSize <= bytes.count else {
            throw FormatError(.length, at: 0, expected: "\(start + geometry.sectorSize) bytes of the area", found: "\(bytes.count) bytes")
        }
        return try BallotBlock(bytes[start..<(start + geometry.sectorSize)])
    }

    /// Leader, request and the blocks of hosts 1...`slots`, in pages.
    private func readArea() -> Step {
        let page = 4096
        return .read(offset: 0, length: ((slots + 2) * geometry.sectorSize + page - 1) / page * page)
    }

    /// The hosts of 1...`hosts` whose blocks were read.
    private func read(_ hosts: UInt64, in bytes: [UInt8]) -> ClosedRange<Int> {
        1...max(1, min(Int(clamping: hosts), bytes.count / geometry.sectorSize - 2))
    }

    /// What was read of the blocks may not be all that counts: a host with a higher id may have joined since, or is named by the leader.
    private func isTooShort(_ bytes: [UInt8], at now: Instant) -> Bool {
        guard bytes.count < (geometry.maximumHosts + 2) * geometry.sectorSize else { return false }
        return now >= slotsUntil || max(leader?.ownerID ?? 0, leader?.writeID ?? 0) > UInt64(bytes.count / geometry.sectorSize - 2)
    }
    private func writeBlock() -> Step { .write(offset: geometry.blockOffset(host: hostID), block.sector(geometry)) }

    private func refuse(_ code: LeaseErrorCode, _ why: String, owner: LeaderRecord? = nil, named: String? = nil) -> Step {
        var details = owner.map { ["ownerID": String($0.ownerID), "ownerGeneration": String($0.ownerGeneration), "lver": String($0.lver)] }
        if let named { details?["owner"] = named }
        return .refused(RequestError(code, "lease \(name.lockspace)/\(name.resource): \(why)", details: details))
    }
}
