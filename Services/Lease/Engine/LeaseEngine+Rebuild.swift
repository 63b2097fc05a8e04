import LeaseFormat
import Messages

extension LeaseEngine {
    mutating func onRebuild(_ id: RequestID, _ caller: Caller, _ body: IndexRebuildRequest, time: UInt64) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused = refused ?? refusal(of: body.lver) { return [.reply(to: id, .refused(refused))] }
        _ = start(.rebuild(RebuildWork(id: id, lockspace: body.lockspace, lver: body.lver ?? 0, time: time)))
        return effects
    }

    mutating func wakeRebuild(_ id: UInt64, _ work: RebuildWork) -> Effects {
        guard case .queued = work.phase, mayBegin(id, changing: work.lockspace) else { return [] }
        switch mayChange(work.lockspace, lver: work.lver) {
        case .failure(let error): return end(id, work.id, .refused(error))
        case .success(let (membership, _)):
            var work = work
            work.phase = .readingIndex
            jobs[id]?.work = .rebuild(work)
            return readIndex(id, membership)
        }
    }

    mutating func onRebuildResult(_ id: UInt64, _ work: RebuildWork, _ result: IOResult) -> Effects {
        switch mayChange(work.lockspace, lver: work.lver) {
        case .failure(let error): end(id, work.id, .refused(error))
        case .success(let (membership, notAfter)): continueRebuild(id, work, result, membership, notAfter)
        }
    }

    private mutating func continueRebuild(_ id: UInt64, _ work: RebuildWork, _ result: IOResult, _ membership: Membership, _ notAfter: Instant) -> Effects {
        var work = work
        switch work.phase {
        case .queued:
            return []
        case .readingIndex:
            guard case .data(let bytes) = result else { return end(id, work.id, .refused(Membership.error(result, "read the lease index of \(work.lockspace)"))) }
            do {
                work.index = try LeaseIndex(rebuilding: bytes[...], lockspace: work.lockspace, geometry: membership.geometry)
            } catch {
                return end(id, work.id, .refused(RequestError(
                    LeaseErrorCode.corrupt,
                    "the lease index of \(work.lockspace) cannot be rebuilt, only formatted: \(error.sentence(file: membership.layout.xleases, geometry: membership.geometry))")))
            }
            work.isDamaged = (try? LeaseIndex(bytes[...], lockspace: work.lockspace, geometry: membership.geometry)) == nil
            work.phase = .readingSlots
            return readSlot(id, work, membership, notAfter)
        case .readingSlots:
            switch result {
            case .data(let sector): work.found.append(IndexRebuild.Found(sector: sector[...]))
            // The volume ends here.
            case .missing: return compare(id, work, membership, notAfter)
            default: return end(id, work.id, .refused(Membership.error(result, "read the leases of \(work.lockspace)")))
            }
            return readSlot(id, work, membership, notAfter)
        case .looking:
            guard case .data(let area) = result else { return end(id, work.id, .refused(Membership.error(result, "read the leases of \(work.lockspace)"))) }
            work.inUse[work.doubtful.removeFirst()] = user(of: area, in: membership)
            return lookAtNext(id, work, membership, notAfter)
        case .writing:
            guard case .written = result else { return end(id, work.id, .refused(Membership.error(result, "rebuild the lease index of \(work.lockspace)"))) }
            work.writes.removeFirst()
            return writeNext(id, work, membership, notAfter)
        }
    }

    private mutating func read(_ id: UInt64, _ work: RebuildWork, slot: Int, length: Int, _ membership: Membership) -> Effects {
        jobs[id]?.work = .rebuild(work)
        let place = work.index?.leaseOffset(slot) ?? 0
        return io(id, .read(path: DomainLayout(root: membership.record.path).xleases, offset: place, length: length), lockspace: work.lockspace)
    }

    private mutating func readSlot(_ id: UInt64, _ work: RebuildWork, _ membership: Membership, _ notAfter: Instant) -> Effects {
        guard work.found.count < LeaseIndex.capacity else { return compare(id, work, membership, notAfter) }
        return read(id, work, slot: work.found.count, length: membership.geometry.sectorSize, membership)
    }

    /// Every slot was read: those whose lease would be overwritten are looked at closely.
    private mutating func compare(_ id: UInt64, _ work: RebuildWork, _ membership: Membership, _ notAfter: Instant) -> Effects {
        guard let index = work.index else { return [] }
        var work = work
        let wanted = IndexRebuild(of: index, capacity: work.found.count, found: { work.found[$0] }, accept: { _ in true })
        work.doubtful = wanted.steps.filter { $0.overwritesLease && work.found[$0.record] != .nothing }.map(\.record)
        work.phase = .looking
        return lookAtNext(id, work, membership, notAfter)
    }

    private mutating func lookAtNext(_ id: UInt64, _ work: RebuildWork, _ membership: Membership, _ notAfter: Instant) -> Effects {
        guard let slot = work.doubtful.first else { return plan(id, work, membership, notAfter) }
        return read(id, work, slot: slot, length: membership.geometry.alignment, membership)
    }

    private mutating func plan(_ id: UInt64, _ work: RebuildWork, _ membership: Membership, _ notAfter: Instant) -> Effects {
        guard let index = work.index else { return [] }
        var work = work
        let rebuild = IndexRebuild(
            of: index, capacity: work.found.count,
            found: { slot in work.inUse[slot] == nil ? work.found[slot] : work.found[slot].held },
            accept: { work.inUse[$0.record] == nil })
        for step in rebuild.steps {
            let resource = step.action.lease ?? ""
            for area in rebuild.writes(of: step) { work.writes += area.leaderLast(membership.geometry).map { ($0, resource) } }
        }
        if !rebuild.steps.isEmpty || work.isDamaged { work.writes += rebuild.index.replacing(time: work.time).map { ($0, "") } }
        work.report = IndexRebuildReport(
            lockspace: work.lockspace, leases: rebuild.index.leases.count, steps: rebuild.steps.map { "record \($0.record): \($0.sentence)" },
            refused: rebuild.refused.map { "record \($0.record): \(work.inUse[$0.record] ?? "somebody may use it")" })
        work.phase = .writing
        return writeNext(id, work, membership, notAfter)
    }

    /// Whenever this ends early, the index is readable or says that it is to be rebuilt.
    private mutating func writeNext(_ id: UInt64, _ work: RebuildWork, _ membership: Membership, _ notAfter: Instant) -> Effects {
        guard let (write, resource) = work.writes.first else {
            let done = Decision(
                "lockspace/\(work.lockspace)", "index rebuilt", why: "asked for by the SPM, SDM version \(work.lver)",
                evidence: ["leases": String(work.report.leases), "changed": String(work.report.steps.count), "left": String(work.report.refused.count)])
            return [.decide(done)] + end(id, work.id, .success(work.report))
        }
        jobs[id]?.work = .rebuild(work)
        return io(
            id, .write(path: DomainLayout(root: membership.record.path).xleases, offset: write.offset, bytes: write.bytes, notAfter: notAfter, create: false),
            lockspace: work.lockspace, lease: LeaseName(lockspace: work.lockspace, resource: resource))
    }
}

extension IndexRebuild.Found {
    /// The same lease as one that is held: shared holders are not in its leader.
    fileprivate var held: Self {
        guard case .lease(var leader) = self else { return self }
        leader.timestamp = max(leader.timestamp, 1)
        return .lease(leader)
    }
}
