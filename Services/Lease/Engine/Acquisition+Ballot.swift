import LeaseFormat
import Messages

/// The ballot, and what follows when it was decided for us.
extension Acquisition {
    mutating func enterBallot(at now: Instant) -> Step {
        guard mbal == 0 || raise(above: mbal) else { return refuseNumbers() }
        if mbal == 0 { mbal = UInt64(hostID) }
        return beginPhaseOne(at: now)
    }

    /// Takes this host's next ballot number above another; `false` if there is none. Only a damaged block can say so.
    private mutating func raise(above other: UInt64) -> Bool {
        let stride = UInt64(geometry.maximumHosts)
        let (next, isBeyond) = (other - other % stride).addingReportingOverflow(stride + UInt64(hostID))
        if !isBeyond { mbal = next }
        return !isBeyond
    }

    func refuseNumbers() -> Step { refuse(.corrupt, "its version or ballot number has no successor", details: details(of: leader)) }

    private mutating func beginPhaseOne(at now: Instant) -> Step {
        block = BallotBlock(mbal: mbal, lver: version)
        if let earlier {
            // Others may count on it: neither the proposal nor that it was given back is forgotten.
            block.bal = earlier.bal
            block.owner = earlier.owner
            block.ownerGeneration = earlier.ownerGeneration
            block.ownerTimestamp = earlier.ownerTimestamp
            block.isReleased = earlier.isReleased
        }
        if isConversion { block.sharedGeneration = generation }
        phaseBegan = now
        phase = .phaseOne
        return writeBlock()
    }

    /// What the blocks of a ballot say.
    private struct Survey {
        var highest: BallotBlock?
        /// A ballot number that ends this attempt.
        var outbid: UInt64?
        /// Hosts that are in this ballot or beyond it.
        var rivals: [Int] = []
        var shares: [Tenure] = []
    }

    /// Unreadable blocks and those of older versions don't count.
    private func survey(_ bytes: [UInt8]) -> Survey {
        var survey = Survey(highest: block.bal != 0 ? block : nil)
        for host in read(leader?.hosts ?? 1, in: bytes) {
            let seen = try? block(of: host, in: bytes)
            if host == hostID {
                if seen != block { survey.outbid = max(survey.outbid ?? 0, 0) }
                continue
            }
            guard let seen else { continue }
            if let generation = seen.sharedGeneration { survey.shares.append(Tenure(hostID: host, generation: generation)) }
            guard seen.lver >= block.lver else { continue }
            if seen.lver > block.lver || seen.mbal > block.mbal { survey.outbid = max(survey.outbid ?? 0, seen.mbal) }
            if !seen.isReleased { survey.rivals.append(host) }
            if seen.lver == block.lver, seen.owner != 0, seen.bal > survey.highest?.bal ?? 0 { survey.highest = seen }
        }
        return survey
    }

    mutating func onPhaseOne(_ bytes: [UInt8], at now: Instant) -> Step {
        let survey = survey(bytes)
        if let outbid = survey.outbid { return retry(after: outbid, among: survey.rivals, at: now) }
        guard isUnchanged(bytes), unchecked(survey.shares) == nil else { return begin() }
        shares = survey.shares
        block.bal = block.mbal
        block.owner = survey.highest?.owner ?? UInt64(hostID)
        block.ownerGeneration = survey.highest?.ownerGeneration ?? generation
        block.ownerTimestamp = survey.highest?.ownerTimestamp ?? Membership.seconds(now)
        phaseBegan = now
        phase = .phaseTwo
        return writeBlock()
    }

    /// The area still is this lease's, with the leader that this ballot is about: a removed lease's slot may be another's by now.
    private func isUnchanged(_ bytes: [UInt8]) -> Bool {
        guard let found = try? verifiedLeader(bytes) else { return false }
        return found == leader
    }

    mutating func onPhaseTwo(_ bytes: [UInt8], at now: Instant) -> Step {
        let survey = survey(bytes)
        if let outbid = survey.outbid { return retry(after: outbid, among: survey.rivals, at: now) }
        guard var new = leader, isUnchanged(bytes) else { return begin() }
        new.lver = block.lver
        new.ownerID = block.owner
        new.ownerGeneration = block.ownerGeneration
        new.timestamp = block.ownerTimestamp
        new.writeID = UInt64(hostID)
        new.writeGeneration = generation
        new.writeTimestamp = Membership.seconds(now)
        new.isShortHold = mode == .shared
        phase = .committing(new)
        return .write(offset: 0, new.sector)
    }

    /// Somebody entered a higher ballot. Those who are in it go on one after the other, each when the one before it can be done: first the host whose id follows that of the
    /// last owner. Hosts that don't know of each other may choose the same moment; then they see each other.
    private mutating func retry(after seen: UInt64, among rivals: [Int], at now: Instant) -> Step {
        retries += 1
        if block.bal != 0 { earlier = block }
        guard now < giveUpAt else { return refuse(.lostBallot, "other hosts kept entering the ballot", details: details(of: leader)) }
        guard raise(above: max(mbal, seen)) else { return refuseNumbers() }
        let count = geometry.maximumHosts
        let owner = Int(clamping: leader?.ownerID ?? 0)
        func turn(_ host: Int) -> Int { (host - min(owner, count) - 1 + count) % count }
        let before = rivals.count { turn($0) < turn(hostID) }
        let ballot = min(max((now - phaseBegan).milliseconds * 3, 10), 200)
        let until = now + .milliseconds(min(ballot * Int64(before + 1), 1000))
        phase = .pausing(until: until)
        return .pause(until: until)
    }

    mutating func onLeaderAgain(_ bytes: [UInt8], at now: Instant) -> Step {
        let found: LeaderRecord
        do {
            found = try verifiedLeader(bytes)
        } catch {
            return refuse(.corrupt, sentence(error, at: 0))
        }
        guard let leader, found == leader else {
            if found.lver == version, !found.isFree, found.ownerID == UInt64(hostID), found.ownerGeneration == generation { return onDecided() }
            lostTo = found
            return begin()
        }
        return beginPhaseOne(at: now)
    }

    // MARK: Decided for us

    /// What an earlier attempt gave back counts as free for others, who may have gone on: it is not taken again.
    mutating func onDecided() -> Step { block.isReleased ? begin() : settleIn() }

    /// What remains to be written before the lease is ours.
    mutating func settleIn() -> Step {
        guard mode == .exclusive else {
            block.isReleased = true
            block.sharedGeneration = generation
            phase = .sharing
            return writeBlock()
        }
        if let share = shares.first {
            phase = .clearing(share)
            return .read(offset: geometry.blockOffset(host: share.hostID), length: geometry.sectorSize)
        }
        guard block.sharedGeneration != nil else { return .won(lver: version) }
        block.sharedGeneration = nil
        phase = .unsharing
        return writeBlock()
    }

    /// A share whose holder is gone ends with our ownership. The rest of its block stays: a ballot number that was seen is not taken back.
    mutating func onSharersBlock(_ bytes: [UInt8], share: Tenure, at now: Instant) -> Step {
        guard goneShares.contains(share), var theirs = try? BallotBlock(bytes[...]), theirs.sharedGeneration == share.generation else {
            shares.removeAll { $0 == share }
            return settleIn()
        }
        theirs.sharedGeneration = nil
        return .write(offset: geometry.blockOffset(host: share.hostID), theirs.sector(geometry))
    }

    /// Our share is on disk. A leader that another host wrote for us is left to others, who see our mark.
    mutating func onShared(_ bytes: [UInt8], at now: Instant) -> Step {
        guard var free = try? verifiedLeader(bytes), !free.isFree, free.lver == version, free.ownerID == UInt64(hostID), free.ownerGeneration == generation,
            free.writeID == UInt64(hostID)
        else { return .won(lver: version) }
        free.timestamp = 0
        free.isShortHold = false
        free.writeGeneration = generation
        free.writeTimestamp = Membership.seconds(now)
        phase = .freeing
        return .write(offset: 0, free.sector)
    }
}
