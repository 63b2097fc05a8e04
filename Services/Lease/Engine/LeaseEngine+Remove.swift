import LeaseFormat
import Messages

extension LeaseEngine {
    mutating func onRemove(_ id: RequestID, _ caller: Caller, _ body: LeaseRequest) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused = refused ?? refusal(of: body.lver, lease: body.lease) { return [.reply(to: id, .refused(refused))] }
        if host.sanlock != nil { return effects + [.reply(to: id, .refused(Self.notSupported("lease.remove, which takes the lease first,")))] }
        _ = start(.remove(RemoveWork(id: id, name: body.lease, lver: body.lver ?? 0)))
        return effects
    }

    mutating func wakeRemove(_ id: UInt64, _ work: RemoveWork) -> Effects {
        var work = work
        switch work.phase {
        case .queued:
            guard mayBegin(id, changing: work.name.lockspace) else { return [] }
            switch mayChange(work.name.lockspace, lver: work.lver) {
            case .failure(let error): return fail(id, work, error)
            case .success(let (membership, _)):
                work.phase = .readingIndex
                jobs[id]?.work = .remove(work)
                return readIndex(id, membership)
            }
        case .acquiring(var acquisition):
            guard let step = acquisition.onWake(at: now) else { return [] }
            return carryOut(step, of: acquisition, id, work)
        case .readingIndex, .intending, .writingRecord, .blanking:
            return []
        }
    }

    /// The intention is durable: the ballot begins. What it leaves is given back whenever this process ends before it is done.
    mutating func beginRemoval(of grant: Grant) -> Effects? {
        for id in jobs.keys.sorted() {
            guard case .remove(let work)? = jobs[id]?.work, work.holder == grant.holder else { continue }
            guard case .intending = work.phase else { return [] }
            guard let membership = memberships[work.name.lockspace] else { return fail(id, work, notFound(work.name)) }
            let slots = membership.slots
            var acquisition = Acquisition(
                name: work.name, geometry: membership.geometry, hostID: host.hostID, generation: membership.record.generation, proofs: [], settle: host.settle,
                giveUpAt: now + .seconds(60), observed: membership.hosts, slots: slots?.highest, slotsUntil: slots?.until ?? now)
            let step = acquisition.begin()
            return carryOut(step, of: acquisition, id, work)
        }
        return nil
    }

    private mutating func carryOut(_ step: Acquisition.Step, of acquisition: Acquisition, _ id: UInt64, _ work: RemoveWork) -> Effects {
        switch mayChange(work.name.lockspace, lver: work.lver) {
        case .failure(let error): return fail(id, work, error)
        case .success(let (membership, notAfter)):
            guard acquisition.generation == membership.record.generation else {
                return fail(id, work, RequestError(LeaseErrorCode.lost, "lockspace \(work.name.lockspace) was lost during the ballot"))
            }
            var work = work
            work.phase = .acquiring(acquisition)
            let layout = DomainLayout(root: membership.record.path)
            switch step {
            case .read, .readOwner, .write:
                jobs[id]?.work = .remove(work)
                let base = work.index?.leaseOffset(work.slot) ?? 0
                return run(id, VolumeSequence(acquisition, step, of: work.name, path: layout.xleases, base: base, layout: layout, notAfter: notAfter))
            case .pause(let until):
                jobs[id]?.work = .remove(work)
                jobs[id]?.wakeAt = until
                return []
            case .refused(let error):
                return fail(id, work, error)
            case .won:
                guard let (offset, block) = work.index?.remove(at: work.slot) else { return fail(id, work, notFound(work.name)) }
                work.phase = .writingRecord
                jobs[id]?.work = .remove(work)
                return io(
                    id, .write(path: layout.xleases, offset: offset, bytes: block, notAfter: notAfter, create: false), lockspace: work.name.lockspace, lease: work.name)
            }
        }
    }

    mutating func onRemoveResult(_ id: UInt64, _ work: RemoveWork, _ result: IOResult) -> Effects {
        var work = work
        if case .acquiring = work.phase { work.hasTouched = work.hasTouched || result.mayHaveWritten }
        // The record is gone: what becomes of the slot changes nothing any more.
        if case .blanking = work.phase { return finish(id, work) }
        switch mayChange(work.name.lockspace, lver: work.lver) {
        case .failure(let error): return fail(id, work, error)
        case .success(let (membership, notAfter)):
            switch work.phase {
            case .queued, .intending, .blanking:
                return []
            case .readingIndex:
                switch index(in: result, of: work.name.lockspace) {
                case .failure(let error): return fail(id, work, error)
                case .success(let index): return intend(id, work, index)
                }
            case .acquiring:
                guard case .sequence(let sequence) = result, let acquisition = sequence.acquisition, case .acquisition(let step) = sequence.end else {
                    return fail(id, work, Membership.error(result, "take lease \(work.name.resource)"))
                }
                return carryOut(step, of: acquisition, id, work)
            case .writingRecord:
                guard case .written = result, let index = work.index else { return fail(id, work, Membership.error(result, "clear the record of lease \(work.name.resource)")) }
                work.phase = .blanking
                jobs[id]?.work = .remove(work)
                let blank = VolumeOperation.write(
                    path: DomainLayout(root: membership.record.path).xleases, offset: index.leaseOffset(work.slot), bytes: Images.blank(geometry: membership.geometry),
                    notAfter: notAfter, create: false)
                return io(id, blank, lockspace: work.name.lockspace, lease: work.name)
            }
        }
    }

    private mutating func intend(_ id: UInt64, _ work: RemoveWork, _ index: LeaseIndex) -> Effects {
        guard let slot = index.lookup(work.name.resource) else { return end(id, work.id, .done) }
        if let grant = sortedGrants.first(where: { $0.leases.contains { $0.name == work.name } }) {
            return fail(id, work, RequestError(
                LeaseErrorCode.heldHere, "\(grant.holder) on this host has lease \(work.name.resource)", details: ["holder": grant.holder.description]))
        }
        var work = work
        work.index = index
        work.slot = slot
        work.phase = .intending
        jobs[id]?.work = .remove(work)
        let grant = Grant(holder: work.holder, bootID: host.bootID, lock: "", diskLocks: [], leases: [GuardLease(name: work.name)], state: .releasing)
        grants[work.holder] = grant
        return [.perform(.note(.grant(grant)))]
    }

    private mutating func finish(_ id: UInt64, _ work: RemoveWork) -> Effects {
        [
            .decide(Decision("lease/\(work.name.lockspace)/\(work.name.resource)", "removed", why: "asked for by the SPM, SDM version \(work.lver); nobody held it")),
            .perform(.note(.ended(work.holder))),
        ] + end(id, work.id, .done)
    }

    /// Nothing is removed; what the ballot may have left is given back.
    private mutating func fail(_ id: UInt64, _ work: RemoveWork, _ error: RequestError) -> Effects {
        let reply = end(id, work.id, .refused(error))
        guard let grant = grants[work.holder] else { return reply }
        switch work.phase {
        case .queued, .readingIndex: return reply
        case .intending, .acquiring, .writingRecord, .blanking:
            guard work.hasTouched else { return reply + [.perform(.note(.ended(work.holder)))] }
            startRelease(grant)
            return reply
        }
    }
}
