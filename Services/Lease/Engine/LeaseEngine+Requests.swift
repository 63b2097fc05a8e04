import LeaseFormat
import Messages

extension LeaseEngine {
    /// The refusal of a command from a manager that this host does not obey (S16), and the pins to keep.
    private mutating func pinned(_ caller: Caller) -> (refusal: RequestError?, effects: Effects) {
        let before = pins
        if let refusal = pins.refusal(of: caller) { return (refusal, []) }
        return (nil, pins == before ? [] : [.perform(.note(.pins(pins)))])
    }

    // MARK: Lockspaces

    mutating func onJoin(_ id: RequestID, _ caller: Caller, _ body: LockspaceJoin) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused { return [.reply(to: id, .refused(refused))] }
        guard Names.isStorable(body.lockspace), body.path.hasPrefix("/") else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.invalid, "a lockspace has a name of at most 48 bytes and an absolute path")))]
        }
        if let membership = memberships[body.lockspace] {
            if membership.isJoined, membership.record.path == body.path, membership.record.wanted {
                return effects + [.reply(to: id, .success(view(of: membership)))]
            }
            guard membership.record.path == body.path || membership.isOut else {
                return effects + [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "lockspace \(body.lockspace) is in use at \(membership.record.path)")))]
            }
            memberships[body.lockspace]?.want(at: body.path)
        } else {
            let record = MembershipRecord(lockspace: body.lockspace, path: body.path, hardwareID: "", bootID: "")
            memberships[body.lockspace] = Membership(record: record, host: host)
        }
        joinWaiters[body.lockspace, default: []].append(id)
        return effects
    }

    mutating func onLeave(_ id: RequestID, _ caller: Caller, _ body: LockspaceRequest) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused { return [.reply(to: id, .refused(refused))] }
        guard let lockspace = body.lockspace else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.invalid, "lockspace.leave names its lockspace")))]
        }
        guard let membership = memberships[lockspace], membership.record.wanted else { return effects + [.reply(to: id, .done)] }
        if let grant = sortedGrants.first(where: { $0.leases.contains { $0.name.lockspace == lockspace } }) {
            return effects + [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "\(grant.holder) holds leases of \(lockspace); stop it first")))]
        }
        leaveWaiters[lockspace, default: []].append(id)
        return effects + withMembership(lockspace) { membership, now in membership.leave(at: now) }
    }

    mutating func onInspect(_ id: RequestID, _ body: LockspaceRequest) -> Effects {
        if let lockspace = body.lockspace, memberships[lockspace] == nil {
            return [.reply(to: id, .refused(RequestError(LeaseErrorCode.notJoined, "this host does not know lockspace \(lockspace)")))]
        }
        _ = start(.inspect(InspectWork(id: id, lockspaces: body.lockspace.map { [$0] } ?? memberships.keys.sorted())))
        return []
    }

    mutating func stepInspect(_ id: UInt64, _ work: InspectWork) -> Effects {
        guard let lockspace = work.lockspaces.first, let membership = memberships[lockspace] else {
            jobs[id] = nil
            return [.reply(to: work.id, .success(LockspaceList(lockspaces: work.views)))]
        }
        var work = work
        work.submitted = now
        jobs[id]?.work = .inspect(work)
        return io(id, readWhole(membership), lockspace: lockspace)
    }

    /// All sectors of a lockspace.
    private func readWhole(_ membership: Membership) -> VolumeOperation {
        .read(path: DomainLayout(root: membership.record.path).ids, offset: 0, length: membership.geometry.maximumHosts * membership.geometry.sectorSize)
    }

    /// Looks at the whole lockspace before what is known of it is too old for ballots that read used slots only.
    mutating func lookIfOld(_ lockspace: String) -> Effects {
        guard let membership = memberships[lockspace], membership.wantsLook(at: now) else { return [] }
        let isLooking = jobs.values.contains { if case .look(let work) = $0.work { work.lockspace == lockspace } else { false } }
        guard !isLooking else { return [] }
        let id = start(.look(LookWork(lockspace: lockspace, submitted: now)))
        return io(id, readWhole(membership), lockspace: lockspace)
    }

    mutating func onLookResult(_ id: UInt64, _ work: LookWork, _ result: IOResult) -> Effects {
        jobs[id] = nil
        if case .data(let area) = result { memberships[work.lockspace]?.observe(area, readAt: work.submitted, at: now) }
        return []
    }

    mutating func onInspectResult(_ id: UInt64, _ work: InspectWork, _ result: IOResult) -> Effects {
        var work = work
        let lockspace = work.lockspaces.removeFirst()
        if case .data(let area) = result, var membership = memberships[lockspace], let submitted = work.submitted {
            membership.observe(area, readAt: submitted, at: now)
            memberships[lockspace] = membership
            work.views.append(view(of: membership))
        }
        jobs[id]?.work = .inspect(work)
        return stepInspect(id, work)
    }

    mutating func onInitialize(_ id: RequestID, _ caller: Caller, _ body: LockspaceInitialize, time: UInt64) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused { return [.reply(to: id, .refused(refused))] }
        guard Names.isStorable(body.lockspace), body.path.hasPrefix("/"), (1...600).contains(body.ioTimeout) else {
            return [.reply(to: id, .refused(RequestError(
                RequestErrorCode.invalid, "a lockspace has a name of at most 48 bytes, an absolute path and an ioTimeout of 1 to 600 seconds")))]
        }
        let layout = DomainLayout(root: body.path)
        let geometry = Geometry.standard
        let notAfter = now + .seconds(120)
        func write(_ path: String, _ offset: UInt64, _ bytes: [UInt8]) -> VolumeOperation {
            .write(path: path, offset: offset, bytes: bytes, notAfter: notAfter, create: true)
        }
        let slot = UInt64(geometry.alignment)
        let ioTimeout = UInt16(body.ioTimeout)
        let writes = [
            write(layout.xleases, slot, LeaseIndex(lockspace: body.lockspace, time: time, updating: true).image),
            write(layout.xleases, slot, LeaseIndex(lockspace: body.lockspace, time: time).header),
            write(layout.leases, slot, Images.resource(DomainLayout.sdm, lockspace: body.lockspace)),
            write(layout.ids, 0, Images.uncommitted(lockspace: body.lockspace, ioTimeout: ioTimeout)),
            write(layout.ids, 0, LeaderRecord(lockspace: body.lockspace, ioTimeout: ioTimeout).sector),
        ]
        _ = start(.initialize(InitializeWork(id: id, lockspace: body.lockspace, writes: writes)))
        return effects
    }

    mutating func stepInitialize(_ id: UInt64, _ work: InitializeWork) -> Effects {
        guard let next = work.writes.first else {
            jobs[id] = nil
            return [.reply(to: work.id, .done)]
        }
        guard work.hasLooked else {
            guard case .write(let path, _, _, _, _) = work.writes[work.writes.count - 1] else { return [] }
            return io(id, .read(path: path, offset: 0, length: Geometry.probeLength), lockspace: work.lockspace, timeout: .seconds(30))
        }
        return io(id, next, lockspace: work.lockspace, timeout: .seconds(30))
    }

    mutating func onInitializeResult(_ id: UInt64, _ work: InitializeWork, _ result: IOResult) -> Effects {
        var work = work
        func refuse(_ error: RequestError) -> Effects {
            jobs[id] = nil
            return [.reply(to: work.id, .refused(error))]
        }
        switch result {
        case .written where work.hasLooked:
            work.writes.removeFirst()
        case .missing where !work.hasLooked:
            work.hasLooked = true
        case .data(let bytes) where !work.hasLooked:
            // Only a committed lockspace has its magic; anything else is the rest of an initialisation that did not finish.
            if let found = try? LeaderRecord(bytes[...]) {
                return refuse(RequestError(RequestErrorCode.exists, "there is the lockspace \(found.lockspace) already"))
            }
            guard bytes.prefix(4).allSatisfy({ $0 == 0 }) else {
                return refuse(RequestError(RequestErrorCode.exists, "the file holds something that is not a lockspace; move it away first"))
            }
            work.hasLooked = true
        default:
            return refuse(Membership.error(result, "initialise lockspace \(work.lockspace)"))
        }
        jobs[id]?.work = .initialize(work)
        return stepInitialize(id, work)
    }

    // MARK: Leases

    mutating func onCreate(_ id: RequestID, _ caller: Caller, _ body: LeaseRequest) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused { return [.reply(to: id, .refused(refused))] }
        guard Names.isStorable(body.lease.resource), body.lease.resource.utf8.allSatisfy({ $0 > 32 && $0 < 127 }), body.lease.resource != DomainLayout.sdm else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.invalid, "a lease is named by 1 to 48 printable characters, and not SDM")))]
        }
        guard let lver = body.lver, spmDeadline(lver) != nil else { return [.reply(to: id, .refused(notSPM(body.lver)))] }
        _ = start(.create(CreateWork(id: id, name: body.lease, lver: lver)))
        return effects
    }

    /// How long this host may act as SPM of this term (S12); `nil` if it is not.
    private func spmDeadline(_ lver: UInt64) -> Instant? {
        let terms = sortedGrants.filter { grant in
            grant.state == .granted && grant.holder.role == .spm && grant.leases.contains { $0.name.resource == DomainLayout.sdm && $0.lver == lver }
        }
        return terms.compactMap(deadline(of:)).filter { now < $0 }.max()
    }

    private func notSPM(_ lver: UInt64?) -> RequestError {
        RequestError(LeaseErrorCode.notSPM, "this host does not hold SDM with version \(lver.map(String.init) ?? "(none given)")")
    }

    mutating func wakeCreate(_ id: UInt64, _ work: CreateWork) -> Effects {
        guard case .queued = work.phase else { return [] }
        let others = jobs.keys.sorted().prefix { $0 < id }.contains {
            if case .create(let other)? = jobs[$0]?.work { other.name.lockspace == work.name.lockspace } else { false }
        }
        // One change of an index at a time, and none while an abandoned one may still land.
        guard !others, !unlanded.values.contains(where: { $0.lockspace == work.name.lockspace }) else { return [] }
        guard let membership = memberships[work.name.lockspace], membership.isJoined else {
            return end(id, work, .refused(RequestError(LeaseErrorCode.notJoined, "this host has not joined lockspace \(work.name.lockspace)")))
        }
        var work = work
        work.phase = .readingIndex
        jobs[id]?.work = .create(work)
        return readIndex(id, membership)
    }

    mutating func onCreateResult(_ id: UInt64, _ work: CreateWork, _ result: IOResult) -> Effects {
        guard let deadline = spmDeadline(work.lver) else { return end(id, work, .refused(notSPM(work.lver))) }
        guard let membership = memberships[work.name.lockspace] else { return end(id, work, .refused(notFound(work.name))) }
        let path = DomainLayout(root: membership.record.path).xleases
        var work = work
        switch work.phase {
        case .queued:
            return []
        case .readingIndex:
            switch index(in: result, of: work.name.lockspace) {
            case .failure(let error): return end(id, work, .refused(error))
            case .success(let index):
                if let slot = index.lookup(work.name.resource) { return end(id, work, .success(created(work.name, path, index.leaseOffset(slot)))) }
                guard let slot = try? index.slot(for: work.name.resource) else {
                    return end(id, work, .refused(RequestError(LeaseErrorCode.noSpace, "the lease index of \(work.name.lockspace) is full")))
                }
                work.phase = .writingResource(index, slot)
                jobs[id]?.work = .create(work)
                let image = Images.resource(work.name.resource, lockspace: work.name.lockspace, geometry: membership.geometry)
                return io(
                    id, .write(path: path, offset: index.leaseOffset(slot), bytes: image, notAfter: deadline, create: false),
                    lockspace: work.name.lockspace, lease: work.name)
            }
        case .writingResource(var index, let slot):
            guard case .written = result else { return end(id, work, .refused(Membership.error(result, "write lease \(work.name.resource)"))) }
            let (offset, block) = index.enter(work.name.resource, at: slot)
            work.phase = .writingRecord(slot)
            jobs[id]?.work = .create(work)
            return io(
                id, .write(path: path, offset: offset, bytes: block, notAfter: deadline, create: false), lockspace: work.name.lockspace, lease: work.name)
        case .writingRecord(let slot):
            guard case .written = result else { return end(id, work, .refused(Membership.error(result, "enter lease \(work.name.resource)"))) }
            let view = created(work.name, path, UInt64((3 + slot) * membership.geometry.alignment))
            return [.decide(Decision("lease/\(work.name.lockspace)/\(work.name.resource)", "created", why: "asked for by the SPM, SDM version \(work.lver)"))]
                + end(id, work, .success(view))
        }
    }

    private func created(_ name: LeaseName, _ path: String, _ offset: UInt64) -> LeaseView {
        LeaseView(lease: name, path: path, offset: offset, status: .free, lver: 0)
    }

    private mutating func end(_ id: UInt64, _ work: CreateWork, _ reply: Reply) -> Effects {
        jobs[id] = nil
        return [.reply(to: work.id, reply)]
    }

    mutating func onLookup(_ id: RequestID, _ body: LeaseRequest) -> Effects {
        guard memberships[body.lease.lockspace] != nil else {
            return [.reply(to: id, .refused(RequestError(LeaseErrorCode.notJoined, "this host does not know lockspace \(body.lease.lockspace)")))]
        }
        _ = start(.view(ViewWork(id: id, only: body.lease, lockspaces: [body.lease.lockspace])))
        return []
    }

    mutating func onList(_ id: RequestID, _ body: LockspaceRequest) -> Effects {
        if let lockspace = body.lockspace, memberships[lockspace] == nil {
            return [.reply(to: id, .refused(RequestError(LeaseErrorCode.notJoined, "this host does not know lockspace \(lockspace)")))]
        }
        _ = start(.view(ViewWork(id: id, only: nil, lockspaces: body.lockspace.map { [$0] } ?? memberships.keys.sorted())))
        return []
    }

    mutating func stepView(_ id: UInt64, _ work: ViewWork) -> Effects {
        var work = work
        while let lockspace = work.lockspaces.first {
            guard let membership = memberships[lockspace] else {
                work.lockspaces.removeFirst()
                continue
            }
            if let only = work.only, let offset = fixedOffset(only, membership) {
                work.targets.append((only, offset))
                work.lockspaces = []
                continue
            }
            work.isReadingIndex = true
            jobs[id]?.work = .view(work)
            return readIndex(id, membership)
        }
        work.isReadingIndex = false
        guard work.next < work.targets.count else { return end(id, work) }
        let (name, offset) = work.targets[work.next]
        jobs[id]?.work = .view(work)
        guard let membership = memberships[name.lockspace] else { return end(id, work) }
        return io(id, .read(path: path(of: name, in: membership), offset: offset, length: membership.geometry.sectorSize), lockspace: name.lockspace)
    }

    mutating func onViewResult(_ id: UInt64, _ work: ViewWork, _ result: IOResult) -> Effects {
        var work = work
        if work.isReadingIndex {
            let lockspace = work.lockspaces.removeFirst()
            switch index(in: result, of: lockspace) {
            case .failure(let error): return refuse(id, work, error)
            case .success(let index):
                if let only = work.only {
                    guard let slot = index.lookup(only.resource) else { return refuse(id, work, notFound(only)) }
                    work.targets = [(only, index.leaseOffset(slot))]
                } else {
                    if let membership = memberships[lockspace] {
                        let sdm = LeaseName(lockspace: lockspace, resource: DomainLayout.sdm)
                        work.targets += fixedOffset(sdm, membership).map { [(sdm, $0)] } ?? []
                    }
                    work.targets += index.leases.map { (LeaseName(lockspace: lockspace, resource: $0.name), index.leaseOffset($0.index)) }
                }
            }
        } else {
            let (name, offset) = work.targets[work.next]
            work.next += 1
            if let view = view(of: name, offset, result) {
                work.views.append(view)
            } else if work.only != nil {
                return refuse(id, work, Membership.error(result, "read lease \(name.resource)"))
            }
        }
        return stepView(id, work)
    }

    /// A lease as its leader says; held by an owner whose id was given up or taken anew since, it is free.
    private func view(of name: LeaseName, _ offset: UInt64, _ result: IOResult) -> LeaseView? {
        guard case .data(let bytes) = result, let leader = try? LeaderRecord(bytes[...]), leader.name == name.resource, let membership = memberships[name.lockspace] else {
            return nil
        }
        let owner = membership.hosts[Int(clamping: leader.ownerID)]?.record
        let isVoid = owner.map { $0.isFree || $0.ownerGeneration > leader.ownerGeneration } ?? false
        let holder = sortedGrants.first { $0.leases.contains { $0.name == name } }?.holder.description
        let status: LeaseStatus = leader.isFree || isVoid ? .free : .exclusive
        return LeaseView(
            lease: name, path: path(of: name, in: membership), offset: offset, status: status,
            ownerID: leader.ownerID == 0 ? nil : Int(clamping: leader.ownerID), ownerName: owner?.name,
            ownerGeneration: leader.ownerID == 0 ? nil : leader.ownerGeneration, lver: leader.lver, holder: status == .free ? nil : holder)
    }

    private mutating func end(_ id: UInt64, _ work: ViewWork) -> Effects {
        jobs[id] = nil
        guard work.only != nil else { return [.reply(to: work.id, .success(LeaseList(leases: work.views)))] }
        guard let view = work.views.first else { return [.reply(to: work.id, .refused(RequestError(LeaseErrorCode.notFound, "no such lease")))] }
        return [.reply(to: work.id, .success(view))]
    }

    private mutating func refuse(_ id: UInt64, _ work: ViewWork, _ error: RequestError) -> Effects {
        jobs[id] = nil
        return [.reply(to: work.id, .refused(error))]
    }
}
