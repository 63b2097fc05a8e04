import LeaseFormat
import Messages

/// Asks the holders of a lease for it: the request record in its area, then their bits in our sector.
struct DemandWork: Sendable {
    let id: RequestID
    let demand: LeaseDemand
    var offset: UInt64?
    /// Whom to call, once the record is written.
    var holders: [Int] = []
    var lver: UInt64 = 0
}

/// Reads the request records of the leases held here, because another host set our bit.
struct HearWork: Sendable {
    let lockspace: String
    let by: Int
    var targets: [(name: LeaseName, offset: UInt64)] = []
    var hasIndex = false
}

extension LeaseEngine {
    // MARK: Asking

    mutating func onDemand(_ id: RequestID, _ caller: Caller, _ body: LeaseDemand) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused { return [.reply(to: id, .refused(refused))] }
        guard memberships[body.lease.lockspace]?.isJoined == true else {
            return effects + [.reply(to: id, .refused(RequestError(LeaseErrorCode.notJoined, "this host has not joined lockspace \(body.lease.lockspace)")))]
        }
        _ = start(.demand(DemandWork(id: id, demand: body)))
        return effects
    }

    mutating func stepDemand(_ id: UInt64, _ work: DemandWork) -> Effects {
        let name = work.demand.lease
        guard let membership = memberships[name.lockspace], membership.isJoined else { return end(id, work, RequestError(LeaseErrorCode.notJoined, "lockspace \(name.lockspace) was lost")) }
        var work = work
        guard let offset = work.offset ?? fixedOffset(name, membership) else { return readIndex(id, membership) }
        work.offset = offset
        jobs[id]?.work = .demand(work)
        let length = (membership.geometry.maximumHosts + 2) * membership.geometry.sectorSize
        return io(id, .read(path: path(of: name, in: membership), offset: offset, length: length), lockspace: name.lockspace)
    }

    mutating func onDemandResult(_ id: UInt64, _ work: DemandWork, _ result: IOResult) -> Effects {
        var work = work
        let name = work.demand.lease
        guard let membership = memberships[name.lockspace], let deadline = membership.deadline else {
            return end(id, work, RequestError(LeaseErrorCode.notJoined, "lockspace \(name.lockspace) was lost"))
        }
        guard let offset = work.offset else {
            switch index(in: result, of: name.lockspace) {
            case .failure(let error): return end(id, work, error)
            case .success(let index):
                guard let slot = index.lookup(name.resource) else { return end(id, work, notFound(name)) }
                work.offset = index.leaseOffset(slot)
                return stepDemand(id, work)
            }
        }
        switch result {
        case .data(let bytes):
            let leader: LeaderRecord
            do {
                leader = try LeaderRecord(bytes[...])
                guard leader.kind == .paxos, leader.lockspace == name.lockspace, leader.name == name.resource, leader.geometry == membership.geometry else {
                    return end(id, work, RequestError(LeaseErrorCode.corrupt, "its place holds \(leader.name) of lockspace \(leader.lockspace)"))
                }
            } catch {
                return end(id, work, RequestError(LeaseErrorCode.corrupt, "lease \(name.resource): \(error.sentence(file: path(of: name, in: membership), start: offset))"))
            }
            work.holders = Self.holders(of: leader, in: bytes)
            guard !work.holders.isEmpty else { return end(id, work, RequestError(LeaseErrorCode.notHeld, "nobody holds lease \(name.resource), version \(leader.lver)")) }
            let (next, isBeyond) = leader.lver.addingReportingOverflow(1)
            work.lver = work.demand.lver ?? next
            guard !isBeyond, work.lver > leader.lver else {
                return end(id, work, RequestError(
                    LeaseErrorCode.stale, "version \(work.lver) of lease \(name.resource) was asked for, it has version \(leader.lver)", details: ["lver": String(leader.lver)]))
            }
            jobs[id]?.work = .demand(work)
            if host.sanlock != nil {
                let file = path(of: name, in: membership)
                return ask(.request(name, path: file, offset: offset, lver: work.lver, work.demand.mode), as: .job(id, attempt: 0, lease: nil, lane: .renewal(lockspace: name.lockspace)))
            }
            let record = RequestRecord(lver: work.lver, mode: work.demand.mode == .force ? .force : .graceful)
            return io(
                id,
                .write(
                    path: path(of: name, in: membership), offset: offset + UInt64(membership.geometry.sectorSize), bytes: record.sector(membership.geometry), notAfter: deadline,
                    create: false), lockspace: name.lockspace, lease: name)
        case .written:
            if host.sanlock == nil { memberships[name.lockspace]?.call(work.holders, at: now) }
            let record = RequestRecord(lver: work.lver, mode: work.demand.mode == .force ? .force : .graceful)
            let mine = work.holders.contains(host.hostID) ? hear(name, record, by: host.name) : []
            jobs[id] = nil
            let names = work.holders.map { "host \($0)" }.joined(separator: ", ")
            return mine + [
                .decide(Decision("lease/\(name.lockspace)/\(name.resource)", "asked for", why: "\(work.demand.mode.rawValue), version \(work.lver), of \(names)")),
                .reply(to: work.id, .done),
            ]
        default:
            return end(id, work, Membership.error(result, "ask for lease \(name.resource)"))
        }
    }

    /// Who owns or shares a lease, by its area.
    static func holders(of leader: LeaderRecord, in area: [UInt8]) -> [Int] {
        let unit = leader.geometry.sectorSize
        let sharers = (1...leader.geometry.maximumHosts).filter { host in
            let start = leader.geometry.blockOffset(host: host)
            guard start + unit <= area.count, let block = try? BallotBlock(area[start..<(start + unit)]) else { return false }
            return block.sharedGeneration != nil
        }
        let owner = Int(clamping: leader.ownerID)
        return leader.isFree || sharers.contains(owner) ? sharers : [owner] + sharers
    }

    private mutating func end(_ id: UInt64, _ work: DemandWork, _ error: RequestError) -> Effects {
        jobs[id] = nil
        return [.reply(to: work.id, .refused(error))]
    }

    // MARK: Being asked

    private func held(in lockspace: String) -> [GuardLease] {
        sortedGrants.filter { $0.state == .granted }.flatMap(\.leases).filter { $0.name.lockspace == lockspace }
    }

    mutating func onAsked(_ lockspace: String, by host: Int) -> Effects {
        let isHearing = jobs.values.contains { if case .hear(let work) = $0.work { work.lockspace == lockspace } else { false } }
        guard !isHearing, !held(in: lockspace).isEmpty else { return [] }
        _ = start(.hear(HearWork(lockspace: lockspace, by: host)))
        return []
    }

    mutating func stepHear(_ id: UInt64, _ work: HearWork) -> Effects {
        var work = work
        guard let membership = memberships[work.lockspace], membership.isJoined else {
            jobs[id] = nil
            return []
        }
        let names = Set(held(in: work.lockspace).map(\.name)).sorted()
        if !work.hasIndex {
            guard names.allSatisfy({ fixedOffset($0, membership) != nil }) else { return readIndex(id, membership) }
            work.hasIndex = true
            work.targets = names.compactMap { name in fixedOffset(name, membership).map { (name, $0) } }
        }
        jobs[id]?.work = .hear(work)
        guard let target = work.targets.first else {
            jobs[id] = nil
            return []
        }
        let unit = membership.geometry.sectorSize
        return io(id, .read(path: path(of: target.name, in: membership), offset: target.offset + UInt64(unit), length: unit), lockspace: work.lockspace)
    }

    mutating func onHearResult(_ id: UInt64, _ work: HearWork, _ result: IOResult) -> Effects {
        var work = work
        guard work.hasIndex else {
            guard let membership = memberships[work.lockspace], case .success(let index) = index(in: result, of: work.lockspace) else {
                jobs[id] = nil
                return []
            }
            work.hasIndex = true
            work.targets = Set(held(in: work.lockspace).map(\.name)).sorted().compactMap { name in
                (fixedOffset(name, membership) ?? index.lookup(name.resource).map(index.leaseOffset)).map { (name, $0) }
            }
            return stepHear(id, work)
        }
        let name = work.targets.removeFirst().name
        var effects = Effects()
        if case .data(let bytes) = result, let record = try? RequestRecord(bytes[...]), record.mode != .none {
            effects = hear(name, record, by: memberships[work.lockspace]?.hosts[work.by]?.record.name ?? "host \(work.by)")
        }
        return effects + stepHear(id, work)
    }

    /// Tells the guards that hold a lease who asks for it, once; not if they hold the version that is asked for.
    private mutating func hear(_ name: LeaseName, _ record: RequestRecord, by: String) -> Effects {
        let lver = record.lver
        let mode: LeaseDemand.Mode = record.mode == .force ? .force : .graceful
        let holders = sortedGrants.filter { grant in grant.state == .granted && grant.leases.contains { $0.name == name && $0.lver < lver } }
        guard !holders.isEmpty, demanded[name] != record else { return [] }
        demanded[name] = record
        return holders.flatMap { grant -> Effects in
            let body = LeaseDemanded(lease: name, mode: mode, lver: lver, holder: grant.holder.description, by: by)
            let message = GuardMessage("requested", [("lease", "\(name.lockspace)|\(name.resource)"), ("mode", mode.rawValue), ("by", by), ("lver", String(lver))])
            return [
                .publish(Event("lease.requested", subject: name.resource, body: body)),
                .decide(Decision("lease/\(name.lockspace)/\(name.resource)", "requested", why: "\(by) asks \(grant.holder) for it (\(mode.rawValue)), version \(lver)")),
            ] + (links[grant.holder]?.connection.map { [.perform(.tell(connection: $0, message))] } ?? [])
        }
    }

    // MARK: Events of hosts

    mutating func onNotify(_ id: RequestID, _ caller: Caller, _ body: LockspaceNotice) -> Effects {
        let (refused, effects) = pinned(caller)
        if let refused { return [.reply(to: id, .refused(refused))] }
        guard var membership = memberships[body.lockspace], membership.isJoined else {
            return effects + [.reply(to: id, .refused(RequestError(LeaseErrorCode.notJoined, "this host has not joined lockspace \(body.lockspace)")))]
        }
        guard (1...membership.geometry.maximumHosts).contains(body.hostID), body.hostID != host.hostID else {
            return effects + [.reply(to: id, .refused(RequestError(RequestErrorCode.invalid, "an event is for another host of the lockspace, 1 to \(membership.geometry.maximumHosts)")))]
        }
        if host.sanlock != nil { return effects + ask(.sendEvent(body), as: .request(id)) }
        guard membership.send(HostEvent(generation: body.generation, event: body.event, data: body.data), to: body.hostID, at: now) else {
            return effects + [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "another event of this host is still on its way; try again in a minute")))]
        }
        memberships[body.lockspace] = membership
        return effects + [.reply(to: id, .done)]
    }

    func onHostEvent(_ lockspace: String, from host: Int, _ event: HostEvent) -> Effects {
        let name = memberships[lockspace]?.hosts[host]?.record.name ?? ""
        let body = LockspaceHostEvent(lockspace: lockspace, from: host, name: name, event: event.event, data: event.data)
        return [.publish(Event("lockspace.event", subject: lockspace, body: body))]
    }

    // MARK: Slow renewals

    func warn(of sample: RenewalSample, in membership: Membership) -> Effects {
        guard sample.ok, sample.isLate else { return [] }
        return [.decide(Decision(
            "lockspace/\(membership.record.lockspace)", "renewed late",
            why: "a renewal took \(sample.latency.milliseconds / 1000) s; from \(2 * membership.ioTimeout) s on it is late, and after \(8 * membership.ioTimeout) s all leases are lost. "
                + "Look at the storage at \(membership.record.path)"))]
    }
}
