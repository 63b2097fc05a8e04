import LeaseFormat
import Messages

extension LeaseEngine {
    // MARK: Running jobs

    mutating func start(_ work: Job.Work) -> UInt64 {
        lastJob += 1
        jobs[lastJob] = Job(work)
        return lastJob
    }

    mutating func wakeJob(_ id: UInt64) -> Effects {
        guard let job = jobs[id], !job.isBusy, job.wakeAt ?? now <= now else { return [] }
        jobs[id]?.wakeAt = nil
        return switch job.work {
        case .acquire(let work): wakeAcquire(id, work)
        case .release(let work): stepRelease(id, work)
        case .take(let work): wakeTake(id, work)
        case .drop(let work): stepDrop(id, work)
        case .convert(let work): stepConvert(id, work)
        case .value(let work): stepValue(id, work)
        case .verify(let work): stepVerify(id, work)
        case .demand(let work): stepDemand(id, work)
        case .hear(let work): stepHear(id, work)
        case .create(let work): wakeCreate(id, work)
        case .remove(let work): wakeRemove(id, work)
        case .rebuild(let work): wakeRebuild(id, work)
        case .view(let work): stepView(id, work)
        case .inspect(let work): stepInspect(id, work)
        case .initialize(let work): stepInitialize(id, work)
        case .look: []
        case .repair(let work): stepRepair(id, work)
        case .backup(let work): stepBackup(id, work)
        case .void(let work): stepVoid(id, work)
        }
    }

    mutating func onJobResult(_ id: UInt64, _ result: IOResult) -> Effects {
        guard let job = jobs[id] else { return [] }
        jobs[id]?.isBusy = false
        return switch job.work {
        case .acquire(let work): onAcquireResult(id, work, result)
        case .release(let work): onReleaseResult(id, work, result)
        case .take(let work): onTakeResult(id, work, result)
        case .drop(let work): onDropResult(id, work, result)
        case .convert(let work): onConvertResult(id, work, result)
        case .value(let work): onValueResult(id, work, result)
        case .verify(let work): onVerifyResult(id, work, result)
        case .demand(let work): onDemandResult(id, work, result)
        case .hear(let work): onHearResult(id, work, result)
        case .create(let work): onCreateResult(id, work, result)
        case .remove(let work): onRemoveResult(id, work, result)
        case .rebuild(let work): onRebuildResult(id, work, result)
        case .view(let work): onViewResult(id, work, result)
        case .inspect(let work): onInspectResult(id, work, result)
        case .initialize(let work): onInitializeResult(id, work, result)
        case .look(let work): onLookResult(id, work, result)
        case .repair(let work): onRepairResult(id, work, result)
        case .backup(let work): onBackupResult(id, work, result)
        case .void(let work): onVoidResult(id, work, result)
        }
    }

    /// Submits the job's next I/O. `lease`: whose area a write changes.
    mutating func io(_ id: UInt64, _ operation: VolumeOperation, lockspace: String, lease: LeaseName? = nil, timeout: Duration? = nil) -> Effects {
        perform(id, .one(operation), lockspace: lockspace, writes: operation.isWrite ? lease : nil, timeout: timeout)
    }

    /// Submits a ballot or a release whole.
    mutating func run(_ id: UInt64, _ sequence: VolumeSequence) -> Effects {
        perform(id, .sequence(sequence), lockspace: sequence.lease.lockspace, writes: sequence.lease, timeout: nil)
    }

    private mutating func perform(_ id: UInt64, _ work: VolumeWork, lockspace: String, writes lease: LeaseName?, timeout: Duration?) -> Effects {
        guard var job = jobs[id] else { return [] }
        job.attempt += 1
        job.isBusy = true
        jobs[id] = job
        lastToken += 1
        let lane = idlestLane(lockspace)
        tokens[lastToken] = .job(id, attempt: job.attempt, lease: lease, lane: lane)
        let timeout = timeout ?? .seconds(memberships[lockspace]?.ioTimeout ?? 10)
        return [.perform(.io(VolumeRequest(token: lastToken, lane: lane, work: work, timeout: timeout)))]
    }

    /// The one of a lockspace's lanes with the least to do.
    private func idlestLane(_ lockspace: String) -> Lane {
        var loads = [Int](repeating: 0, count: Lane.workSlots)
        for case .job(_, _, _, .work(lockspace, let slot)) in tokens.values { loads[slot] += 1 }
        return .work(lockspace: lockspace, slot: loads.firstIndex(of: loads.min() ?? 0) ?? 0)
    }

    /// Reads the index of a lockspace's lease volume.
    mutating func readIndex(_ id: UInt64, _ membership: Membership) -> Effects {
        let layout = DomainLayout(root: membership.record.path)
        let unit = membership.geometry.sectorSize
        let length = (LeaseIndex.length + unit - 1) / unit * unit
        return io(id, .read(path: layout.xleases, offset: LeaseIndex.offset(membership.geometry), length: length), lockspace: membership.record.lockspace)
    }

    func index(in result: IOResult, of lockspace: String) -> Result<LeaseIndex, RequestError> {
        guard case .data(let bytes) = result else { return .failure(Membership.error(result, "read the lease index of \(lockspace)")) }
        let geometry = memberships[lockspace]?.geometry ?? .standard
        do {
            return .success(try LeaseIndex(bytes[...], lockspace: lockspace, geometry: geometry))
        } catch IndexError.updating {
            return .failure(RequestError(LeaseErrorCode.indexUpdating, "an update of the lease index of \(lockspace) did not finish: rebuild it"))
        } catch {
            let file = memberships[lockspace]?.layout.xleases ?? "xleases"
            return .failure(RequestError(LeaseErrorCode.corrupt, "the lease index of \(lockspace) is not readable: \(error.sentence(file: file, geometry: geometry))"))
        }
    }

    /// Where a lease is, known without the index.
    func fixedOffset(_ name: LeaseName, _ membership: Membership) -> UInt64? {
        name.resource == DomainLayout.sdm ? UInt64(membership.geometry.alignment) : nil
    }

    func notFound(_ name: LeaseName) -> RequestError {
        RequestError(LeaseErrorCode.notFound, "there is no lease \(name.resource) in domain \(name.lockspace)")
    }

    // MARK: Acquire

    /// - Parameter again: an earlier life of this service had begun: what that won may be on disk.
    mutating func startAcquire(_ holder: Holder, again: Bool = false) -> Effects {
        guard let link = links[holder], let request = link.request, !jobs.values.contains(where: { $0.isAcquire(of: holder) }) else { return [] }
        links[holder]?.request = nil
        if host.sanlock != nil { return startTake(holder, request, waitUntil: link.waitUntil) }
        var work = AcquireWork(holder: holder, request: request, waitUntil: link.waitUntil)
        // A share that another guard left to this one is on disk, although this one wrote nothing.
        work.hasTouched = again || request.leases.contains { $0.mode == .shared }
        let id = start(.acquire(work))
        return nextLease(id, work)
    }

    /// Begins with the first lease that is not won yet, or ends.
    private mutating func nextLease(_ id: UInt64, _ work: AcquireWork) -> Effects {
        guard work.won.count < work.request.leases.count else { return finishAcquire(id, work) }
        var work = work
        let name = work.request.leases[work.won.count].name
        guard let membership = memberships[name.lockspace], membership.isJoined else {
            return failAcquire(id, work, RequestError(LeaseErrorCode.notJoined, "lockspace \(name.lockspace) is not joined any more"))
        }
        if let expected = work.request.generations[name.lockspace], expected != membership.record.generation {
            return failAcquire(id, work, mismatch(name.lockspace, expected: expected, is: membership.record.generation))
        }
        guard !unlanded.values.contains(name) else {
            return failAcquire(id, work, RequestError(LeaseErrorCode.io, "an earlier write to lease \(name.resource) has not ended yet; try again"))
        }
        if work.offset == nil, fixedOffset(name, membership) == nil, let place = places[name] {
            work.unconfirmed = place
            work.offset = LeaseIndex.leaseOffset(place, geometry: membership.geometry)
        }
        guard let offset = work.offset ?? fixedOffset(name, membership) else {
            jobs[id]?.work = .acquire(work)
            return readIndex(id, membership)
        }
        if work.request.leases[work.won.count].mode == .shared, let together = sharedHere(name, generation: membership.record.generation) {
            work.won.append(together)
            work.offset = nil
            work.unconfirmed = nil
            jobs[id]?.work = .acquire(work)
            return nextLease(id, work)
        }
        // A look reads less than a ballot that reads all slots, and serves every ballot of the next seconds.
        if !work.hasLooked, membership.slots.map({ now >= $0.until }) ?? true {
            work.hasLooked = true
            work.awaitsLook = true
            work.offset = offset
            jobs[id]?.work = .acquire(work)
            return lookIfOld(name.lockspace)
        }
        var acquisition = acquisition(name, work.request.leases[work.won.count].mode, membership, proofs: work.request.proofs, waitUntil: work.waitUntil)
        let step = acquisition.begin()
        work.offset = offset
        work.current = acquisition
        return lookIfOld(name.lockspace) + carryOut(step, id, work)
    }

    func acquisition(
        _ name: LeaseName, _ mode: LeaseMode, isConversion: Bool = false, _ membership: Membership, proofs: [AcceptedProof] = [], waitUntil: Instant? = nil
    ) -> Acquisition {
        let slots = membership.slots
        return Acquisition(
            name: name, mode: mode, isConversion: isConversion, geometry: membership.geometry, hostID: host.hostID, generation: membership.record.generation, proofs: proofs,
            settle: host.settle, firing: host.firing, giveUpAt: now + .seconds(60), waitUntil: waitUntil, observed: membership.hosts, slots: slots?.highest,
            slotsUntil: slots?.until ?? now, promisedFiring: host.expiredOwners?[name.lockspace] == .watchdogPromised ? host.firing : nil)
    }

    private mutating func carryOut(_ step: Acquisition.Step, _ id: UInt64, _ work: AcquireWork) -> Effects {
        var work = work
        let name = work.request.leases[min(work.won.count, work.request.leases.count - 1)].name
        guard let membership = memberships[name.lockspace], let deadline = membership.deadline, now < deadline, work.cancelled == nil, let current = work.current,
            current.generation == membership.record.generation
        else {
            return failAcquire(id, work, work.cancelled ?? RequestError(LeaseErrorCode.lost, "lockspace \(name.lockspace) was lost during the ballot"))
        }
        switch step {
        case .read, .readOwner, .write:
            jobs[id]?.work = .acquire(work)
            return run(
                id,
                VolumeSequence(
                    current, step, of: name, place: work.unconfirmed, path: path(of: name, in: membership), base: work.offset ?? 0,
                    layout: DomainLayout(root: membership.record.path), notAfter: deadline))
        case .pause(let until):
            jobs[id]?.work = .acquire(work)
            jobs[id]?.wakeAt = until
            return []
        case .won(let lver):
            work.won.append(GuardLease(name: name, lver: lver, generation: membership.record.generation, mode: current.mode))
            work.current = nil
            work.offset = nil
            work.hasLooked = false
            jobs[id]?.work = .acquire(work)
            return took(name, lver, work.holder, current.opener) + nextLease(id, work)
        case .refused(let error):
            return failAcquire(id, work, error)
        }
    }

    private mutating func took(_ name: LeaseName, _ lver: UInt64, _ holder: Holder, _ opener: Acquisition.Opener?) -> Effects {
        memberships[name.lockspace]?.anomalies.took(name.resource)
        let see = [holder.role == .vm ? "vm/\(holder.name)" : "spm/\(holder.name)"]
        guard let opener else {
            return [.decide(Decision("lease/\(name.lockspace)/\(name.resource)", "taken", why: "\(holder), version \(lver)", see: see))]
        }
        return [
            .decide(Decision(
                "lease/\(name.lockspace)/\(name.resource)", "taken over",
                why: "host id \(opener.owner.ownerID) generation \(opener.owner.ownerGeneration) is proven gone (\(opener.proof.kind.rawValue)): \(opener.proof.statement)",
                evidence: ["proof": opener.proof.id, "owner": opener.proof.host, "lver": String(lver), "holder": holder.description],
                see: see + ["host/\(opener.proof.host)"])),
        ]
    }

    private mutating func wakeAcquire(_ id: UInt64, _ work: AcquireWork) -> Effects {
        if let cancelled = work.cancelled { return failAcquire(id, work, cancelled) }
        var work = work
        if work.awaitsLook {
            guard !isLooking(work.request.leases[work.won.count].name.lockspace) else { return [] }
            work.awaitsLook = false
            return nextLease(id, work)
        }
        let hasSettled = if case .settling? = work.current?.phase { true } else { false }
        guard let step = work.current?.onWake(at: now) else { return [] }
        // It begins anew, after a time in which the lease may have been removed and made elsewhere.
        if hasSettled { work.unconfirmed = places[work.request.leases[work.won.count].name] }
        return carryOut(step, id, work)
    }

    private mutating func onAcquireResult(_ id: UInt64, _ work: AcquireWork, _ result: IOResult) -> Effects {
        var work = work
        if work.current != nil { work.hasTouched = work.hasTouched || result.mayHaveWritten }
        if let cancelled = work.cancelled { return failAcquire(id, work, cancelled) }
        guard work.current != nil else {
            let name = work.request.leases[work.won.count].name
            switch index(in: result, of: name.lockspace) {
            case .failure(let error): return failAcquire(id, work, error)
            case .success(let index):
                guard let slot = index.lookup(name.resource) else { return failAcquire(id, work, notFound(name)) }
                places[name] = slot
                work.offset = index.leaseOffset(slot)
                return nextLease(id, work)
            }
        }
        if case .sequence(let sequence) = result, case .moved = sequence.end {
            places[sequence.lease] = nil
            work.offset = nil
            work.unconfirmed = nil
            work.current = nil
            return nextLease(id, work)
        }
        work.unconfirmed = nil
        guard case .sequence(let sequence) = result, let acquisition = sequence.acquisition, case .acquisition(let step) = sequence.end else {
            return failAcquire(id, work, Membership.error(result, "take lease \(work.request.leases[work.won.count].name.resource)"))
        }
        work.current = acquisition
        return carryOut(step, id, work)
    }

    private mutating func finishAcquire(_ id: UInt64, _ work: AcquireWork) -> Effects {
        if let cancelled = work.cancelled { return failAcquire(id, work, cancelled) }
        guard var grant = grants[work.holder] else { return [] }
        jobs[id] = nil
        grant.leases = work.won
        grant.state = .granted
        guard let deadline = deadline(of: grant), now < deadline else {
            return failAcquire(id, work, RequestError(LeaseErrorCode.lost, "a membership was lost while the leases were taken"))
        }
        return [.perform(.note(.grant(grant)))]
    }

    /// None is kept: the guard is told, and what may be on disk is taken back.
    private mutating func failAcquire(_ id: UInt64, _ work: AcquireWork, _ error: RequestError) -> Effects {
        jobs[id] = nil
        if work.won.count < work.request.leases.count {
            let lease = work.request.leases[work.won.count].name
            memberships[lease.lockspace]?.anomalies.refused(lease.resource, error, at: now)
        }
        guard let grant = grants[work.holder] else { return [] }
        let told: Effects = links.removeValue(forKey: work.holder)?.connection.map { [refusal($0, error)] } ?? []
        guard work.hasTouched else {
            grants[work.holder]?.state = .releasing
            return told + [.perform(.note(.ended(work.holder)))]
        }
        return told + giveBack(grant, why: error.message)
    }

    // MARK: Release

    /// - Returns: its job, if there was none.
    @discardableResult mutating func startRelease(_ grant: Grant) -> UInt64? {
        guard !jobs.values.contains(where: { $0.isRelease(of: grant.holder) }) else { return nil }
        return start(host.sanlock == nil ? .release(ReleaseWork(grant: grant, began: now)) : .drop(DropWork(grant: grant, began: now)))
    }

    /// Takes the next lease in hand; those whose membership is over are void already and are not written.
    private mutating func stepRelease(_ id: UInt64, _ work: ReleaseWork) -> Effects {
        var work = work
        while work.index < work.grant.leases.count {
            let lease = work.grant.leases[work.index]
            guard let membership = memberships[lease.name.lockspace] else {
                work.index += 1
                continue
            }
            if (membership.mayAdopt && !membership.isJoined) || isConverting(work.grant.holder) { return pause(id, .release(work)) }
            guard membership.isJoined, lease.lver == 0 || lease.generation == membership.record.generation else {
                work.index += 1
                work.offset = nil
                continue
            }
            guard !passOn(lease.name, from: work.grant.holder) else {
                work.index += 1
                work.offset = nil
                continue
            }
            guard !unlanded.values.contains(lease.name), !isWritten(lease.name, except: id) else { return pause(id, .release(work)) }
            // What this host holds, or tried to take, is where it was found: nobody can have moved it.
            let place = places[lease.name].map { LeaseIndex.leaseOffset($0, geometry: membership.geometry) }
            guard let offset = work.offset ?? fixedOffset(lease.name, membership) ?? place else {
                jobs[id]?.work = .release(work)
                return readIndex(id, membership)
            }
            let opens = work.opens[lease.name.lockspace]
            if let opens, now < opens { return pause(id, .release(work), until: opens) }
            guard let deadline = membership.deadline, now < deadline else { return pause(id, .release(work)) }
            var retraction = Retraction(
                name: lease.name, geometry: membership.geometry, hostID: host.hostID, generation: membership.record.generation,
                lver: lease.lver == 0 || lease.mode == .shared ? nil : lease.lver)
            let step = retraction.begin()
            work.offset = offset
            jobs[id]?.work = .release(work)
            // Without a version nothing ever ran with it. That its storage answers now does not end earlier trouble (S4).
            let promptUntil = opens == nil && lease.lver > 0 ? work.began + (mayStillLand(membership) ? .milliseconds(-1) : Membership.promptly) : nil
            return run(
                id,
                VolumeSequence(
                    retraction, step, of: lease.name, path: path(of: lease.name, in: membership), base: offset, layout: DomainLayout(root: membership.record.path),
                    notAfter: deadline, promptUntil: promptUntil))
        }
        jobs[id] = nil
        return [.perform(.note(.ended(work.grant.holder)))]
    }

    private mutating func onReleaseResult(_ id: UInt64, _ work: ReleaseWork, _ result: IOResult) -> Effects {
        var work = work
        let name = work.grant.leases[work.index].name
        guard work.offset != nil else {
            switch index(in: result, of: name.lockspace) {
            case .failure: return pause(id, .release(work))
            case .success(let index):
                if let slot = index.lookup(name.resource) { work.offset = index.leaseOffset(slot) } else { work.index += 1 }
                return stepRelease(id, work)
            }
        }
        guard case .sequence(let sequence) = result, let end = sequence.end else { return pause(id, .release(work)) }
        switch end {
        case .retraction:
            work.opens[name.lockspace] = work.opens[name.lockspace] ?? now
            work.index += 1
            work.offset = nil
            return stepRelease(id, work)
        case .late:
            // Killed is not quiesced (S4): what a holder had sent when its storage did not answer may land a while after that answers again, and until then frees nothing.
            let opens = now + host.settle
            work.opens[name.lockspace] = opens
            return pause(id, .release(work), until: opens)
        case .failed, .acquisition, .moved:
            return pause(id, .release(work))
        }
    }

    /// What a holder had sent may land a while after its storage has answered: that may have been in trouble as it ended, by what the last renewals met or the one under way meets,
    /// or because nobody here watched them (S4).
    func mayStillLand(_ membership: Membership) -> Bool { host.settle > .zero && (now < began + host.settle || membership.isTroubled(within: host.settle, at: now)) }

    /// Something that only the holder of this lease may write is under way, or may still land: its value, or for SDM the indexes.
    func isWritten(_ name: LeaseName, except id: UInt64) -> Bool {
        tokens.values.contains { owner in
            guard case .job(let other, _, let lease?, _) = owner, other != id else { return false }
            if lease == name { return true }
            return name.resource == DomainLayout.sdm && (jobs[other].map(\.changesIndex) ?? true)
        }
    }

    /// Tries again in a second: what was begun on disk must be ended, or the membership be lost.
    mutating func pause(_ id: UInt64, _ work: Job.Work, until: Instant? = nil) -> Effects {
        jobs[id]?.work = work
        jobs[id]?.wakeAt = until ?? now + .seconds(1)
        return []
    }
}
