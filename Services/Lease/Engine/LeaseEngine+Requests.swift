import LeaseFormat
import Messages

extension LeaseEngine {
    /// The refusal of a command from a manager that this host does not obey (S16), and the pins to keep.
    mutating func pinned(_ caller: Caller) -> (refusal: RequestError?, effects: Effects) {
        let before = pins
        if let refusal = pins.refusal(of: caller) { return (refusal, []) }
        return (nil, pins == before ? [] : [.perform(.note(.pins(pins)))])
    }

    mutating func onPin(_ id: RequestID, _ pin: ManagerPin) -> Effects {
        do throws(RequestError) {
            return [.decide(Decision(repin: pin, instead: try pins.replace(pin), on: host.name)), .reply(to: id, .done)]
        } catch {
            return [.reply(to: id, .refused(error))]
        }
    }

    // MARK: Lockspaces

    mutating func onJoin(_ id: RequestID, _ caller: Caller, _ body: LockspaceJoin) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused { return [.reply(to: id, .refused(refused))] }
        guard Names.isStorable(body.lockspace), body.path.hasPrefix("/") else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.invalid, "a lockspace has a name of at most 48 bytes and an absolute path")))]
        }
        if let closed = closure(body.lockspace) { return [.reply(to: id, .refused(closed))] }
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
        guard let membership = memberships[lockspace], membership.wantsLook(at: now), !isLooking(lockspace) else { return [] }
        let id = start(.look(LookWork(lockspace: lockspace, submitted: now)))
        return io(id, readWhole(membership), lockspace: lockspace)
    }

    func isLooking(_ lockspace: String) -> Bool { jobs.values.contains { if case .look(let work) = $0.work { work.lockspace == lockspace } else { false } } }

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
            work.views.append(view(of: membership, withRenewals: true))
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
        let looks = [InitializeLook(volume: .ids, offset: 0)]
            + LockspaceReader.alignments.flatMap { at in [LockspaceImage.Volume.leases, .xleases].map { InitializeLook(volume: $0, offset: UInt64(at)) } }
        _ = start(.initialize(InitializeWork(id: id, lockspace: body.lockspace, layout: layout, writes: writes, looks: looks)))
        return effects
    }

    mutating func stepInitialize(_ id: UInt64, _ work: InitializeWork) -> Effects {
        guard let next = work.writes.first else {
            jobs[id] = nil
            return [.reply(to: work.id, .done)]
        }
        if let look = work.looks.first {
            return io(id, .read(path: look.volume.path(in: work.layout), offset: look.offset, length: Geometry.probeLength), lockspace: work.lockspace, timeout: .seconds(30))
        }
        return io(id, next, lockspace: work.lockspace, lease: .everything(of: work.lockspace), timeout: .seconds(30))
    }

    mutating func onInitializeResult(_ id: UInt64, _ work: InitializeWork, _ result: IOResult) -> Effects {
        var work = work
        func refuse(_ error: RequestError) -> Effects {
            jobs[id] = nil
            return [.reply(to: work.id, .refused(error))]
        }
        switch (work.looks.first, result) {
        case (nil, .written):
            work.writes.removeFirst()
        case (.some, .missing):
            work.looks.removeFirst()
        case (let look?, .data(let bytes)) where look.volume != .ids:
            if let found = look.volume.lockspace(named: bytes), found != work.lockspace {
                return refuse(RequestError(
                    RequestErrorCode.exists, "\(look.volume.path(in: work.layout)) holds records of lockspace \(found), whose host ids are not there; nothing was written"))
            }
            work.looks.removeFirst()
        case (.some, .data(let bytes)):
            // Only a committed lockspace has its magic; anything else is the rest of an initialisation that did not finish.
            if let found = try? LeaderRecord(bytes[...]) {
                return refuse(RequestError(RequestErrorCode.exists, "there is the lockspace \(found.lockspace) already"))
            }
            guard bytes.prefix(4).allSatisfy({ $0 == 0 }) else {
                return refuse(RequestError(RequestErrorCode.exists, "the file holds something that is not a lockspace; move it away first"))
            }
            work.looks.removeFirst()
        default:
            return refuse(Membership.error(result, "initialise lockspace \(work.lockspace)"))
        }
        jobs[id]?.work = .initialize(work)
        return stepInitialize(id, work)
    }
}
