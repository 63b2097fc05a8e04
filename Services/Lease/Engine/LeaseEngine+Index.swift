import LeaseFormat
import Messages

extension LeaseEngine {
    // MARK: Who may change an index

    /// How long this host may act as SPM of this term (S12); `nil` if it is not.
    private func spmDeadline(_ lver: UInt64) -> Instant? {
        let terms = sortedGrants.filter { grant in
            grant.state == .granted && grant.holder.role == .spm && grant.leases.contains { $0.name.resource == DomainLayout.sdm && $0.lver == lver }
        }
        return terms.compactMap(deadline(of:)).filter { now < $0 }.max()
    }

    /// Until when a change of a lockspace's index may write.
    func mayChange(_ lockspace: String, lver: UInt64) -> Result<(membership: Membership, notAfter: Instant), RequestError> {
        guard let spm = spmDeadline(lver) else { return .failure(notSPM(lver)) }
        guard let membership = memberships[lockspace], membership.isJoined, let deadline = membership.deadline, now < deadline else {
            return .failure(RequestError(LeaseErrorCode.notJoined, "this host has not joined lockspace \(lockspace)"))
        }
        return .success((membership, min(spm, deadline)))
    }

    private func notSPM(_ lver: UInt64?) -> RequestError {
        RequestError(LeaseErrorCode.notSPM, "this host does not hold SDM with version \(lver.map(String.init) ?? "(none given)")")
    }

    /// The refusal of a request to change an index, before anything is read.
    func refusal(of lver: UInt64?, lease: LeaseName? = nil) -> RequestError? {
        if let resource = lease?.resource, !Names.isStorable(resource) || !resource.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) || resource == DomainLayout.sdm {
            return RequestError(RequestErrorCode.invalid, "a lease is named by 1 to 48 printable characters, and not SDM")
        }
        guard let lver, spmDeadline(lver) != nil else { return notSPM(lver) }
        return nil
    }

    /// One change of an index at a time, and none while an abandoned write may still land.
    func mayBegin(_ id: UInt64, changing lockspace: String) -> Bool {
        let isFirst = !jobs.contains { $0.key < id && $0.value.changedIndex == lockspace }
        return isFirst && !unlanded.values.contains { $0.lockspace == lockspace }
    }

    mutating func end(_ id: UInt64, _ request: RequestID, _ reply: Reply) -> Effects {
        jobs[id] = nil
        return [.reply(to: request, reply)]
    }

    // MARK: Who uses a slot

    /// Why the lease in a slot must stay; `nil` if nobody can use it.
    func user(of area: [UInt8], in membership: Membership) -> String? {
        switch IndexRebuild.Found(sector: area[...]) {
        case .nothing: return nil
        case .unreadable(let error): return error.sentence
        case .lease(let leader):
            let lockspace = membership.record.lockspace
            guard leader.lockspace == lockspace else { return leader.isFree ? nil : "it is a lease of lockspace \(leader.lockspace) and not free" }
            let name = LeaseName(lockspace: lockspace, resource: leader.name)
            if !leader.isFree, mayUse(name, leader.ownerID, leader.ownerGeneration, membership) { return "host id \(leader.ownerID), generation \(leader.ownerGeneration), holds it" }
            let shared = BallotBlock.sharedHolders(in: area[...], geometry: leader.geometry).first { mayUse(name, UInt64($0.host), $0.generation, membership) }
            return shared.map { "host id \($0.host), generation \($0.generation), holds it shared" }
        }
    }

    /// Only a membership that is over, and whose last writes have settled (S4), uses nothing any more; of our own, the grants tell.
    private func mayUse(_ name: LeaseName, _ id: UInt64, _ generation: UInt64, _ membership: Membership) -> Bool {
        if id == UInt64(host.hostID) {
            let ours = membership.record.generation
            return generation > ours || (generation == ours && grants.values.contains { $0.leases.contains { $0.name == name } })
        }
        guard let seen = membership.hosts[Int(clamping: id)] else { return true }
        let isOver = seen.record.isFree || seen.record.ownerGeneration > generation
        return !isOver || now < seen.lifeSeen + host.settle
    }

    // MARK: Create

    mutating func onCreate(_ id: RequestID, _ caller: Caller, _ body: LeaseRequest) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused = refused ?? refusal(of: body.lver, lease: body.lease) { return [.reply(to: id, .refused(refused))] }
        _ = start(.create(CreateWork(id: id, name: body.lease, lver: body.lver ?? 0)))
        return effects
    }

    mutating func wakeCreate(_ id: UInt64, _ work: CreateWork) -> Effects {
        guard case .queued = work.phase, mayBegin(id, changing: work.name.lockspace) else { return [] }
        switch mayChange(work.name.lockspace, lver: work.lver) {
        case .failure(let error): return end(id, work.id, .refused(error))
        case .success(let (membership, _)):
            var work = work
            work.phase = .readingIndex
            jobs[id]?.work = .create(work)
            return readIndex(id, membership)
        }
    }

    mutating func onCreateResult(_ id: UInt64, _ work: CreateWork, _ result: IOResult) -> Effects {
        switch mayChange(work.name.lockspace, lver: work.lver) {
        case .failure(let error): end(id, work.id, .refused(error))
        case .success(let (membership, notAfter)): continueCreate(id, work, result, membership, notAfter)
        }
    }

    private mutating func continueCreate(_ id: UInt64, _ work: CreateWork, _ result: IOResult, _ membership: Membership, _ notAfter: Instant) -> Effects {
        let path = DomainLayout(root: membership.record.path).xleases
        func write(_ offset: UInt64, _ bytes: [UInt8]) -> VolumeOperation { .write(path: path, offset: offset, bytes: bytes, notAfter: notAfter, create: false) }
        var work = work
        switch work.phase {
        case .queued:
            return []
        case .readingIndex:
            switch index(in: result, of: work.name.lockspace) {
            case .failure(let error): return end(id, work.id, .refused(error))
            case .success(let index):
                if let slot = index.lookup(work.name.resource) { return end(id, work.id, .success(created(work.name, path, index.leaseOffset(slot)))) }
                return look(id, work, index, membership)
            }
        case .looking(let index, let slot):
            switch result {
            case .data(let area):
                if let user = user(of: area, in: membership) {
                    guard case .free = index.record(slot) else {
                        return end(id, work.id, .refused(RequestError(LeaseErrorCode.corrupt, "the making of lease \(work.name.resource) was begun in slot \(slot), but \(user)")))
                    }
                    work.passed.insert(slot)
                    return look(id, work, index, membership)
                }
            case .missing: break
            default: return end(id, work.id, .refused(Membership.error(result, "look at the place of lease \(work.name.resource)")))
            }
            work.phase = .writingResource(index, slot)
            jobs[id]?.work = .create(work)
            let image = Images.resource(work.name.resource, lockspace: work.name.lockspace, geometry: membership.geometry)
            return io(id, write(index.leaseOffset(slot), image), lockspace: work.name.lockspace, lease: work.name)
        case .writingResource(var index, let slot):
            guard case .written = result else { return end(id, work.id, .refused(Membership.error(result, "write lease \(work.name.resource)"))) }
            let (offset, block) = index.enter(work.name.resource, at: slot)
            work.phase = .writingRecord(slot)
            jobs[id]?.work = .create(work)
            return io(id, write(offset, block), lockspace: work.name.lockspace, lease: work.name)
        case .writingRecord(let slot):
            guard case .written = result else { return end(id, work.id, .refused(Membership.error(result, "enter lease \(work.name.resource)"))) }
            let view = created(work.name, path, UInt64((3 + slot) * membership.geometry.alignment))
            return [.decide(Decision("lease/\(work.name.lockspace)/\(work.name.resource)", "created", why: "asked for by the SPM, SDM version \(work.lver)"))]
                + end(id, work.id, .success(view))
        }
    }

    /// Reads the area of the next free slot: what a record lost by damage named there must not be overwritten while somebody uses it.
    private mutating func look(_ id: UInt64, _ work: CreateWork, _ index: LeaseIndex, _ membership: Membership) -> Effects {
        var work = work
        let slot: Int
        do {
            var open = index
            for slot in work.passed.sorted() { _ = open.enter("passed-\(slot)", at: slot) }
            slot = try open.slot(for: work.name.resource)
        } catch {
            let code: LeaseErrorCode = error == .noSpace ? .noSpace : .corrupt
            return end(id, work.id, .refused(RequestError(code, "the lease index of \(work.name.lockspace): \(error.sentence(file: membership.layout.xleases, geometry: membership.geometry))")))
        }
        work.phase = .looking(index, slot)
        jobs[id]?.work = .create(work)
        let area = VolumeOperation.read(
            path: DomainLayout(root: membership.record.path).xleases, offset: index.leaseOffset(slot), length: membership.geometry.alignment)
        return io(id, area, lockspace: work.name.lockspace)
    }

    private func created(_ name: LeaseName, _ path: String, _ offset: UInt64) -> LeaseView {
        LeaseView(lease: name, path: path, offset: offset, status: .free, lver: 0)
    }
}
