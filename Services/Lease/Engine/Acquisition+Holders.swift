import LeaseFormat
import Messages

/// Who may go on: who owns or shares the lease, and whether that is over.
extension Acquisition {
    /// How often a hold that is waited for is looked at again, and how long a hold that is about to be shared may take to become so.
    private static let look = Duration.milliseconds(500)
    private static let shortLook = Duration.milliseconds(50)
    private static let shortHoldLimit = Duration.seconds(8)

    private enum Verdict {
        case over(Proof?)
        case settling(until: Instant)
        /// Nothing proves that it is over; what its sector says.
        case holds(LeaderRecord)
        case unreadable(String)
    }

    mutating func onArea(_ bytes: [UInt8], at now: Instant) -> Step {
        let found: LeaderRecord
        var last: UInt64 = 0
        mbal = 0
        shares = []
        var start = 0
        do {
            if let leader { found = leader } else { found = try verifiedLeader(bytes) }
            for host in read(found.hosts, in: bytes) {
                start = geometry.blockOffset(host: host)
                let block = try block(of: host, in: bytes)
                mbal = max(mbal, block.mbal)
                last = max(last, block.lver)
                if host != hostID, let generation = block.sharedGeneration { shares.append(Tenure(hostID: host, generation: generation)) }
            }
        } catch {
            return refuse(.corrupt, sentence(error, at: start))
        }
        leader = found
        let (next, isBeyond) = found.lver.addingReportingOverflow(1)
        guard !isBeyond, last < .max else { return refuseNumbers() }
        version = max(next, last)
        let own = try? block(of: hostID, in: bytes)
        earlier = own.flatMap { $0.lver == version && $0.bal != 0 ? $0 : nil }
        let us = found.ownerID == UInt64(hostID) && found.ownerGeneration <= generation
        if found.isFree || us || hasGoneOn(found, in: bytes) { return checkShares(at: now) }
        guard found.ownerID >= 1, found.ownerID <= UInt64(geometry.maximumHosts) else { return refuse(.corrupt, "impossible owner \(found.ownerID)") }
        guard found.ownerID != UInt64(hostID) else {
            return refuse(.held, "it is recorded for a later generation of this host (\(found.ownerGeneration))", details: details(of: found))
        }
        phase = .checking(found)
        return .readOwner(Int(found.ownerID))
    }

    /// The owner's own block says that it is not the owner any more: it entered a later version, or it gave this one back. The latter only counts if somebody else wrote this
    /// leader, now or long ago: else the owner is about to free it.
    private func hasGoneOn(_ found: LeaderRecord, in bytes: [UInt8]) -> Bool {
        guard found.ownerID >= 1, found.ownerID <= found.hosts, let owner = try? block(of: Int(found.ownerID), in: bytes) else { return false }
        return owner.lver > found.lver || (owner.lver == found.lver && owner.isReleased && (found.writeID != found.ownerID || version - found.lver > 1))
    }

    mutating func onOwner(_ bytes: [UInt8], leader: LeaderRecord, at now: Instant) -> Step {
        let owner = Tenure(hostID: Int(leader.ownerID), generation: leader.ownerGeneration)
        switch verdict(on: owner, sector: bytes, at: now) {
        case .over(let proof):
            if let proof { opener = Opener(proof: proof, owner: leader) }
            return checkShares(at: now)
        case .settling(let until):
            return wait(until: until)
        case .unreadable(let why):
            return refuse(.corrupt, "the sector of its owner, host id \(leader.ownerID): \(why)", details: details(of: leader))
        case .holds(let sector):
            if mode == .shared, leader.isShortHold {
                if shortHold?.leader != leader { shortHold = ShortHold(leader: leader, since: now) }
                if let shortHold, now < shortHold.since + Self.shortHoldLimit { return wait(until: now + Self.shortLook) }
            }
            return held(by: owner, "held", sector, at: now)
        }
    }

    // MARK: Shares

    /// Before the lease can be owned, nobody may share it.
    func unchecked(_ shares: [Tenure]) -> Tenure? { mode == .exclusive ? shares.first { !goneShares.contains($0) } : nil }

    private mutating func checkShares(at now: Instant) -> Step {
        guard let share = unchecked(shares) else { return enterBallot(at: now) }
        phase = .checkingShare(share)
        return .readOwner(share.hostID)
    }

    mutating func onSharer(_ bytes: [UInt8], share: Tenure, at now: Instant) -> Step {
        switch verdict(on: share, sector: bytes, at: now) {
        case .over(let proof):
            goneShares.insert(share)
            if let proof, opener == nil, var owner = leader {
                owner.ownerID = UInt64(share.hostID)
                owner.ownerGeneration = share.generation
                opener = Opener(proof: proof, owner: owner)
            }
            return checkShares(at: now)
        case .settling(let until):
            return wait(until: until)
        case .unreadable(let why):
            return refuse(.corrupt, "the sector of host id \(share.hostID), which shares it: \(why)")
        case .holds(let sector):
            return held(by: share, "shared", sector, at: now)
        }
    }

    // MARK: Life

    private mutating func verdict(on holder: Tenure, sector bytes: [UInt8], at now: Instant) -> Verdict {
        let sector: LeaderRecord
        do {
            sector = try LeaderRecord(bytes[...])
        } catch {
            return .unreadable(place.map { error.sentence(file: $0.ids, start: geometry.deltaOffset(host: holder.hostID)) } ?? error.sentence)
        }
        guard sector.kind == .delta, sector.lockspace == name.lockspace else { return .unreadable("it is of another lockspace") }
        let covering = proofs.filter { $0.proof.covers(lockspace: name.lockspace, hostID: holder.hostID, generation: holder.generation) && !isContradicted($0.proof, at: now) }
        let best = covering.min { opensAt($0) < opensAt($1) }
        if sector.isFree || sector.ownerID != UInt64(holder.hostID) || sector.ownerGeneration > holder.generation {
            // That it is void proves nothing of its last writes: they may still be under way, as after a proof.
            let earlier = observed[holder.hostID].flatMap { $0.isOfSameLife(sector) ? $0.lifeSeen : nil }
            let seen = voidSeen[holder] ?? earlier ?? now
            voidSeen[holder] = seen
            let opens = min(seen + settle, best.map(opensAt) ?? seen + settle)
            return now >= opens ? .over(nil) : .settling(until: opens)
        }
        if let best {
            let opens = opensAt(best)
            return now >= opens ? .over(best.proof) : .settling(until: opens)
        }
        guard let opens = expiry(of: holder, sector, at: now).map({ $0 + settle }) else { return .holds(sector) }
        return now >= opens ? .over(nil) : .settling(until: opens)
    }

    /// Whom this host itself sees alive has not let its leases expire, whatever another host read (S6).
    private func isContradicted(_ proof: Proof, at now: Instant) -> Bool {
        guard proof.kind == .leaseExpired, let seen = observed[proof.hostID] else { return false }
        return seen.state(firing: firing, at: now) == .live
    }

    /// When the holder was due to be reset by its watchdog, if it is watched and has said nothing for all of that time; its own io_timeout counts.
    private func expiry(of holder: Tenure, _ sector: LeaderRecord, at now: Instant) -> Instant? {
        guard let promisedFiring, let seen = observed[holder.hostID], seen.record == sector, sector.ownerGeneration == holder.generation,
            seen.state(firing: promisedFiring, at: now) == .dead
        else { return nil }
        return seen.unchangedSince + .seconds(8 * Int64(max(sector.ioTimeout, 1))) + promisedFiring
    }

    private mutating func wait(until: Instant) -> Step {
        phase = .settling(until: until)
        return .pause(until: until)
    }

    /// When the writes of what the proof says is dead have settled (S4); from the receipt on, for the sender may not know the whole age.
    private func opensAt(_ accepted: AcceptedProof) -> Instant {
        accepted.receivedAt + max(.zero, settle - accepted.age)
    }

    /// Waits, or is refused with everything that is known of the holder.
    private mutating func held(by holder: Tenure, _ how: String, _ sector: LeaderRecord, at now: Instant) -> Step {
        if let waitUntil, now < waitUntil { return wait(until: min(waitUntil, now + Self.look)) }
        let seen = observed[holder.hostID].map { seen in
            var seen = seen
            seen.see(sector, at: now)
            return seen
        } ?? HostObservation(record: sector, firstSeen: now)
        let age = (now - seen.unchangedSince).milliseconds / 1000
        let state = seen.state(firing: firing, at: now)
        let last = seen.lastChange == nil ? "unchanged for \(age) s" : "last seen \(age) s ago"
        var details = details(of: leader)
        details["owner"] = sector.name
        details["ownerID"] = String(holder.hostID)
        details["ownerGeneration"] = String(holder.generation)
        details["lastSeen"] = String(age)
        details["state"] = state.rawValue
        let why = "it is \(how) by host \(holder.hostID), \(sector.name), generation \(holder.generation), \(last) (\(state.rawValue)), and nothing proves that it is gone"
        return refuse(lostTo == nil ? .held : .lostBallot, why, details: details)
    }

    func details(of leader: LeaderRecord?) -> [String: String] {
        guard let leader else { return [:] }
        return ["ownerID": String(leader.ownerID), "ownerGeneration": String(leader.ownerGeneration), "lver": String(leader.lver)]
    }
}
