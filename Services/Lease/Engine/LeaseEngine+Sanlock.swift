import LeaseFormat
import Messages

/// All leases of one guard, which takes them itself from a sanlock daemon.
///
/// | phase      | stimulus                                  | next                                                                          |
/// |------------|-------------------------------------------|-------------------------------------------------------------------------------|
/// | placing    | index read                                | judging, once the place of every lease is known                               |
/// | judging    | an ``Acquisition`` would write            | the next lease; after the last one the guard is told to take them: asked      |
/// |            | it refuses                                | refused                                                                       |
/// | asked      | `taken`                                   | verifying                                                                     |
/// |            | `nottaken`                                | refused                                                                       |
/// | verifying  | the disk says that this host has them where the index still names them | the grant is noted                             |
/// |            | anything else                             | refused                                                                       |
///
/// The native engine's rules decide who may go on (S1, S4, S6); only then the daemon is asked, which has rules of its own and may still refuse.
struct TakeWork: Sendable {
    enum Phase: Sendable {
        case placing
        case judging(Acquisition?)
        case asked
        /// Whether the index of the lease in hand was read again.
        case verifying(isNamed: Bool)
    }

    let holder: Holder
    let request: GuardRequest
    let waitUntil: Instant?
    var phase = Phase.placing
    var offsets: [UInt64] = []
    var next = 0
    var won: [GuardLease] = []
    var cancelled: RequestError?
}

/// Follows a daemon that gives leases back.
struct DropWork: Sendable {
    let grant: Grant
    let began: Instant
    /// The storage has answered, and what the holder had sent has settled (S4): the guard was told to let go.
    var isDropping = false
    /// The lease in hand is one that is to be gone from the disk, not one whose storage is to answer.
    var isWatching = false
    var opens: [String: Instant] = [:]
    var index = 0
    var offset: UInt64?
}

extension LeaseEngine {
    static func notSupported(_ what: String) -> RequestError {
        RequestError(LeaseErrorCode.notSupported, "\(what) is not supported with engine: sanlock, where leases belong to guards that took them from the daemon")
    }

    mutating func onDaemonAnswered(_ token: IOToken, _ result: Int32) -> Effects {
        guard let owner = tokens.removeValue(forKey: token) else { return [] }
        switch owner {
        case .membership(let lockspace, let attempt):
            guard memberships[lockspace]?.attempt == attempt else { return [] }
            return withMembership(lockspace) { membership, now in membership.onDaemon(result, at: now) }
        case .job(let id, _, _, _):
            guard case .demand(let work)? = jobs[id]?.work else { return [] }
            jobs[id]?.isBusy = false
            guard result == 0 else {
                jobs[id] = nil
                return [.reply(to: work.id, .refused(SanlockCode.error(result, "lease \(work.demand.lease.resource) cannot be asked for")))]
            }
            return onDemandResult(id, work, .written)
        case .request(let id):
            return [.reply(to: id, result == 0 ? .done : .refused(SanlockCode.error(result, "the event cannot be sent")))]
        }
    }

    /// A question of a job or a request; those of memberships go their own way.
    mutating func ask(_ call: SanlockCall, as owner: TokenOwner) -> Effects {
        lastToken += 1
        tokens[lastToken] = owner
        if case .job(let id, _, _, _) = owner { jobs[id]?.isBusy = true }
        return [.perform(.daemon(SanlockRequest(token: lastToken, lane: "requests", call: call, timeout: .seconds(60))))]
    }

    // MARK: Take

    mutating func startTake(_ holder: Holder, _ request: GuardRequest, waitUntil: Instant?) -> Effects {
        let work = TakeWork(holder: holder, request: request, waitUntil: waitUntil)
        return place(start(.take(work)), work)
    }

    /// Why nothing more is done for a guard; `nil`: nothing speaks against it.
    private func obstacle(_ work: TakeWork, _ name: LeaseName) -> RequestError? {
        if let cancelled = work.cancelled { return cancelled }
        guard let membership = memberships[name.lockspace], let deadline = membership.deadline, now < deadline else {
            return RequestError(LeaseErrorCode.notJoined, "lockspace \(name.lockspace) is not joined any more")
        }
        guard let expected = work.request.generations[name.lockspace], expected != membership.record.generation else { return nil }
        return mismatch(name.lockspace, expected: expected, is: membership.record.generation)
    }

    private mutating func place(_ id: UInt64, _ work: TakeWork) -> Effects {
        var work = work
        while work.offsets.count < work.request.leases.count {
            let name = work.request.leases[work.offsets.count].name
            if let obstacle = obstacle(work, name) { return refuse(id, work, obstacle) }
            guard let membership = memberships[name.lockspace] else { return [] }
            guard let offset = fixedOffset(name, membership) else {
                jobs[id]?.work = .take(work)
                return readIndex(id, membership)
            }
            work.offsets.append(offset)
        }
        work.phase = .judging(nil)
        return judge(id, work)
    }

    /// Begins with the next lease, or tells the guard.
    private mutating func judge(_ id: UInt64, _ work: TakeWork) -> Effects {
        guard work.next < work.request.leases.count else { return ask(id, work) }
        let lease = work.request.leases[work.next]
        guard let membership = memberships[lease.name.lockspace] else { return [] }
        var acquisition = acquisition(lease.name, lease.mode, membership, proofs: work.request.proofs, waitUntil: work.waitUntil)
        let step = acquisition.begin()
        return carryOut(step, of: acquisition, id, work)
    }

    private mutating func carryOut(_ step: Acquisition.Step, of acquisition: Acquisition, _ id: UInt64, _ work: TakeWork) -> Effects {
        var work = work
        let name = acquisition.name
        if let obstacle = obstacle(work, name) { return refuse(id, work, obstacle) }
        guard let membership = memberships[name.lockspace] else { return [] }
        work.phase = .judging(acquisition)
        jobs[id]?.work = .take(work)
        switch step {
        case .read(let offset, let length):
            return io(id, .read(path: path(of: name, in: membership), offset: work.offsets[work.next] + UInt64(offset), length: length), lockspace: name.lockspace)
        case .readOwner(let host):
            let geometry = membership.geometry
            return io(id, .read(path: membership.layout.ids, offset: geometry.deltaOffset(host: host), length: geometry.sectorSize), lockspace: name.lockspace)
        case .pause(let until):
            jobs[id]?.wakeAt = until
            return []
        case .refused(let error):
            return refuse(id, work, error)
        case .write, .won:
            // The ballot is the daemon's.
            work.next += 1
            return judge(id, work)
        }
    }

    private mutating func ask(_ id: UInt64, _ work: TakeWork) -> Effects {
        guard let sanlock = host.sanlock, let connection = links[work.holder]?.connection else { return refuse(id, work, RequestError(LeaseErrorCode.lost, "its guard is gone")) }
        var work = work
        work.phase = .asked
        work.next = 0
        jobs[id]?.work = .take(work)
        var fields = [("library", sanlock.library), ("run", sanlock.run)]
        for (lease, offset) in zip(work.request.leases, work.offsets) {
            let file = memberships[lease.name.lockspace].map { path(of: lease.name, in: $0) } ?? ""
            fields += [("lease", lease.request), ("place", "\(offset) \(file)")]
        }
        return [.perform(.tell(connection: connection, GuardMessage("take", fields)))]
    }

    /// A guard that came back while it was taking its leases: it may have been told, or have answered, when nobody heard.
    mutating func askAgain(_ holder: Holder) -> Effects {
        guard let connection = links[holder]?.connection, let (id, work) = asked(connection, holder) else { return [] }
        return ask(id, work)
    }

    private func asked(_ connection: UInt64, _ holder: Holder) -> (id: UInt64, work: TakeWork)? {
        for id in jobs.keys.sorted() {
            if case .take(let work)? = jobs[id]?.work, work.holder == holder, case .asked = work.phase, links[holder]?.connection == connection { return (id, work) }
        }
        return nil
    }

    mutating func onTaken(_ connection: UInt64, _ holder: Holder) -> Effects {
        guard let (id, asked) = asked(connection, holder) else { return [] }
        var work = asked
        work.phase = .verifying(isNamed: false)
        return verify(id, work)
    }

    mutating func onNotTaken(_ connection: UInt64, _ holder: Holder, _ result: Int32, _ why: String) -> Effects {
        guard let (id, asked) = asked(connection, holder) else { return [] }
        var work = asked
        // It has closed its connection: what the disk says of this host is then another process's, whose end this grant must not wait for.
        work.phase = .judging(nil)
        var error = SanlockCode.error(result, "\(work.request.leases.map(\.name.resource).joined(separator: ", ")) cannot be taken")
        if !why.isEmpty { error.message += ": \(why)" }
        return refuse(id, work, error)
    }

    /// What the daemon took is what the index still names, and this disk says so too.
    private mutating func verify(_ id: UInt64, _ work: TakeWork) -> Effects {
        var work = work
        while work.next < work.request.leases.count {
            let name = work.request.leases[work.next].name
            if let obstacle = obstacle(work, name) { return refuse(id, work, obstacle) }
            guard let membership = memberships[name.lockspace], case .verifying(let isNamed) = work.phase else { return [] }
            guard isNamed || fixedOffset(name, membership) != nil else {
                jobs[id]?.work = .take(work)
                return readIndex(id, membership)
            }
            work.phase = .verifying(isNamed: true)
            jobs[id]?.work = .take(work)
            return readOwnPart(id, of: name, at: work.offsets[work.next], membership)
        }
        jobs[id] = nil
        guard var grant = grants[work.holder] else { return [] }
        grant.leases = work.won
        grant.state = .granted
        return [.perform(.note(.grant(grant)))]
    }

    /// Leader and blocks up to this host's own.
    private mutating func readOwnPart(_ id: UInt64, of name: LeaseName, at offset: UInt64, _ membership: Membership) -> Effects {
        let page = 4096
        let length = ((host.hostID + 2) * membership.geometry.sectorSize + page - 1) / page * page
        return io(id, .read(path: path(of: name, in: membership), offset: offset, length: length), lockspace: name.lockspace)
    }

    /// The version that this host owns or shares by what was read; `nil`: neither.
    private func held(_ name: LeaseName, _ mode: LeaseMode, _ bytes: [UInt8], _ membership: Membership) throws(FormatError) -> UInt64? {
        let leader = try LeaderRecord(bytes[...])
        try leader.verify(.paxos, lockspace: name.lockspace, name: name.resource, geometry: membership.geometry)
        let generation = membership.record.generation
        if mode == .exclusive { return !leader.isFree && leader.ownerID == UInt64(host.hostID) && leader.ownerGeneration == generation ? leader.lver : nil }
        let start = leader.geometry.blockOffset(host: host.hostID)
        return try BallotBlock(bytes[start..<(start + leader.geometry.sectorSize)]).sharedGeneration == generation ? leader.lver : nil
    }

    mutating func wakeTake(_ id: UInt64, _ work: TakeWork) -> Effects {
        if let cancelled = work.cancelled { return refuse(id, work, cancelled) }
        guard case .judging(var acquisition?) = work.phase, let step = acquisition.onWake(at: now) else { return [] }
        return carryOut(step, of: acquisition, id, work)
    }

    mutating func onTakeResult(_ id: UInt64, _ work: TakeWork, _ result: IOResult) -> Effects {
        var work = work
        if let cancelled = work.cancelled { return refuse(id, work, cancelled) }
        switch work.phase {
        case .placing:
            let name = work.request.leases[work.offsets.count].name
            switch index(in: result, of: name.lockspace) {
            case .failure(let error): return refuse(id, work, error)
            case .success(let index):
                guard let slot = index.lookup(name.resource) else { return refuse(id, work, notFound(name)) }
                places[name] = slot
                work.offsets.append(index.leaseOffset(slot))
                return place(id, work)
            }
        case .judging(var acquisition?):
            guard case .data(let bytes) = result else { return refuse(id, work, Membership.error(result, "read lease \(acquisition.name.resource)")) }
            let step = acquisition.onRead(bytes, at: now)
            return carryOut(step, of: acquisition, id, work)
        case .verifying(let isNamed):
            let lease = work.request.leases[work.next]
            guard let membership = memberships[lease.name.lockspace] else { return [] }
            guard isNamed || fixedOffset(lease.name, membership) != nil else {
                switch index(in: result, of: lease.name.lockspace) {
                case .failure(let error): return refuse(id, work, error)
                case .success(let index):
                    guard let slot = index.lookup(lease.name.resource), index.leaseOffset(slot) == work.offsets[work.next] else { return refuse(id, work, notFound(lease.name)) }
                    work.phase = .verifying(isNamed: true)
                    return verify(id, work)
                }
            }
            guard case .data(let bytes) = result else { return refuse(id, work, Membership.error(result, "read lease \(lease.name.resource)")) }
            do {
                guard let lver = try held(lease.name, lease.mode, bytes, membership) else {
                    return refuse(id, work, RequestError(
                        LeaseErrorCode.corrupt, "sanlock says that lease \(lease.name.resource) was taken, but \(path(of: lease.name, in: membership)) does not say so as this host reads it"))
                }
                work.won.append(GuardLease(name: lease.name, lver: lver, generation: membership.record.generation, mode: lease.mode))
                memberships[lease.name.lockspace]?.anomalies.took(lease.name.resource)
                work.next += 1
                work.phase = .verifying(isNamed: false)
                let see = [work.holder.role == .vm ? "vm/\(work.holder.name)" : "spm/\(work.holder.name)"]
                return [.decide(Decision("lease/\(lease.name.lockspace)/\(lease.name.resource)", "taken", why: "\(work.holder), version \(lver), through sanlock", see: see))] + verify(id, work)
            } catch {
                return refuse(id, work, RequestError(LeaseErrorCode.corrupt, error.sentence(file: path(of: lease.name, in: membership), start: work.offsets[work.next])))
            }
        case .judging, .asked:
            return []
        }
    }

    /// Whether the job was one that takes leases for this holder, and ends now.
    mutating func cancelTake(_ id: UInt64, of holder: Holder, _ error: RequestError) -> Bool {
        guard case .take(var work)? = jobs[id]?.work, work.holder == holder else { return false }
        work.cancelled = work.cancelled ?? error
        jobs[id]?.work = .take(work)
        jobs[id]?.wakeAt = nil
        return true
    }

    /// The guard is told, and closes its connection to the daemon; what that leaves is watched.
    private mutating func refuse(_ id: UInt64, _ work: TakeWork, _ error: RequestError) -> Effects {
        jobs[id] = nil
        if work.next < work.request.leases.count {
            let lease = work.request.leases[work.next].name
            memberships[lease.lockspace]?.anomalies.refused(lease.resource, error, at: now)
        }
        guard let grant = grants[work.holder] else { return [] }
        let told: Effects = links.removeValue(forKey: work.holder)?.connection.map { [refusal($0, error)] } ?? []
        switch work.phase {
        case .placing, .judging:
            grants[work.holder]?.state = .releasing
            return told + [.perform(.note(.ended(work.holder)))]
        case .asked, .verifying:
            return told + giveBack(grant, why: error.message)
        }
    }

    // MARK: Drop

    mutating func stepDrop(_ id: UInt64, _ work: DropWork) -> Effects {
        var work = work
        if let opens = work.opens.values.max(), now < opens { return pause(id, .drop(work), until: opens) }
        // While nobody is connected nobody can wait, and the daemon may release at any time. A guard that comes back waits (S4): it may only have been cut off, or this service begun anew.
        let isWatching = work.isDropping || links[work.grant.holder]?.connection == nil
        if isWatching != work.isWatching {
            work.isWatching = isWatching
            work.index = 0
            work.offset = nil
        }
        while work.index < work.grant.leases.count {
            let lease = work.grant.leases[work.index]
            guard let membership = memberships[lease.name.lockspace] else {
                work.index += 1
                continue
            }
            if membership.mayAdopt, !membership.isJoined { return pause(id, .drop(work)) }
            let isOver = !membership.isJoined || (lease.lver > 0 && lease.generation != membership.record.generation)
            guard !isOver, !(isWatching && passOn(lease.name, from: work.grant.holder)) else {
                work.index += 1
                work.offset = nil
                continue
            }
            let place = places[lease.name].map { LeaseIndex.leaseOffset($0, geometry: membership.geometry) }
            guard let offset = work.offset ?? fixedOffset(lease.name, membership) ?? place else {
                jobs[id]?.work = .drop(work)
                return readIndex(id, membership)
            }
            work.offset = offset
            jobs[id]?.work = .drop(work)
            return readOwnPart(id, of: lease.name, at: offset, membership)
        }
        guard isWatching else { return letGo(id, work) }
        jobs[id] = nil
        return [.perform(.note(.ended(work.grant.holder)))]
    }

    mutating func onDropResult(_ id: UInt64, _ work: DropWork, _ result: IOResult) -> Effects {
        var work = work
        let lease = work.grant.leases[work.index]
        guard work.offset != nil else {
            switch index(in: result, of: lease.name.lockspace) {
            case .failure: return pause(id, .drop(work))
            case .success(let index):
                if let slot = index.lookup(lease.name.resource) { work.offset = index.leaseOffset(slot) } else { work.index += 1 }
                return stepDrop(id, work)
            }
        }
        guard case .data(let bytes) = result, let membership = memberships[lease.name.lockspace] else { return pause(id, .drop(work)) }
        guard work.isWatching else {
            // Killed is not quiesced (S4): what the holder had sent while its storage did not answer may land a while after that answers again.
            if work.opens[lease.name.lockspace] == nil, lease.lver > 0, now > work.began + Membership.promptly || mayStillLand(membership) {
                let opens = now + host.settle
                work.opens[lease.name.lockspace] = opens
                return pause(id, .drop(work), until: opens)
            }
            work.index += 1
            work.offset = nil
            return stepDrop(id, work)
        }
        guard ((try? held(lease.name, lease.mode, bytes, membership)) ?? nil) == nil else {
            return (work.isDropping ? tellDrop(work.grant.holder) : []) + pause(id, .drop(work), until: now + .milliseconds(250))
        }
        work.index += 1
        work.offset = nil
        return stepDrop(id, work)
    }

    private mutating func letGo(_ id: UInt64, _ work: DropWork) -> Effects {
        var work = work
        work.isDropping = true
        work.index = 0
        return tellDrop(work.grant.holder) + pause(id, .drop(work), until: now + .milliseconds(20))
    }

    private func tellDrop(_ holder: Holder) -> Effects {
        links[holder]?.connection.map { [.perform(.tell(connection: $0, GuardMessage("drop")))] } ?? []
    }
}
