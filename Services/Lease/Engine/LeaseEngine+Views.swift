import LeaseFormat
import Messages

extension LeaseEngine {
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
        let highest = max(membership.hosts.keys.max() ?? 0, host.hostID)
        return io(id, .read(path: path(of: name, in: membership), offset: offset, length: (highest + 2) * membership.geometry.sectorSize), lockspace: name.lockspace)
    }

    mutating func onViewResult(_ id: UInt64, _ work: ViewWork, _ result: IOResult) -> Effects {
        var work = work
        if work.isReadingIndex {
            let lockspace = work.lockspaces.removeFirst()
            if let only = work.only {
                switch index(in: result, of: lockspace) {
                case .failure(let error): return refuse(id, work, error)
                case .success(let index):
                    guard let slot = index.lookup(only.resource) else { return refuse(id, work, notFound(only)) }
                    work.targets = [(only, index.leaseOffset(slot))]
                }
            } else if let membership = memberships[lockspace] {
                list(result, of: membership, &work)
            }
        } else {
            let (name, offset) = work.targets[work.next]
            work.next += 1
            if let view = view(of: name, offset, result) {
                work.views.append(view)
            } else if work.only != nil {
                return refuse(id, work, Membership.error(result, "read lease \(name.resource)"))
            } else if let membership = memberships[name.lockspace] {
                work.problems.append(problem(of: name, path(of: name, in: membership), offset, result))
            }
        }
        return stepView(id, work)
    }

    /// What an index says, also one that cannot be used: nothing of it is hidden.
    private func list(_ result: IOResult, of membership: Membership, _ work: inout ViewWork) {
        let lockspace = membership.record.lockspace
        let path = DomainLayout(root: membership.record.path).xleases
        let place = LeaseIndex.offset(membership.geometry)
        func problem(_ state: LeaseProblem.State, _ reason: String, _ resource: String? = nil, at offset: UInt64) {
            work.problems.append(LeaseProblem(lockspace: lockspace, resource: resource, path: path, offset: offset, state: state, reason: reason))
        }
        let sdm = LeaseName(lockspace: lockspace, resource: DomainLayout.sdm)
        work.targets += fixedOffset(sdm, membership).map { [(sdm, $0)] } ?? []
        guard case .data(let bytes) = result else { return problem(.unread, Membership.error(result, "read the index").message, at: place) }
        let index: LeaseIndex
        do {
            index = try LeaseIndex(rebuilding: bytes[...], lockspace: lockspace, geometry: membership.geometry)
        } catch {
            return problem(.corrupt, error.sentence, at: place)
        }
        if index.isUpdating { problem(.updating, IndexError.updating.sentence, at: place) }
        for record in 0..<LeaseIndex.capacity {
            switch index.record(record) {
            case .free: break
            case .lease(let name): work.targets.append((LeaseName(lockspace: lockspace, resource: name), index.leaseOffset(record)))
            case .unfinished(let name): problem(.updating, "its making or removal did not finish", name, at: index.leaseOffset(record))
            case .unreadable(let error): problem(.corrupt, "its record: \(error.sentence)", at: index.leaseOffset(record))
            }
        }
    }

    private func problem(of name: LeaseName, _ path: String, _ offset: UInt64, _ result: IOResult) -> LeaseProblem {
        let (state, reason): (LeaseProblem.State, String) = switch result {
        case .data(let sector):
            switch IndexRebuild.Found(sector: sector[...]) {
            case .nothing: (.corrupt, "its place holds no lease")
            case .lease(let leader): (.corrupt, "its place holds lease \(leader.name) of lockspace \(leader.lockspace)")
            case .unreadable(let error): (.corrupt, error.sentence)
            }
        case .missing(let reason): (.corrupt, reason)
        default: (.unread, Membership.error(result, "read it").message)
        }
        return LeaseProblem(lockspace: name.lockspace, resource: name.resource, path: path, offset: offset, state: state, reason: reason)
    }

    /// A lease as its leader and its blocks say; held by an owner whose id was given up or taken anew since, it is free.
    private func view(of name: LeaseName, _ offset: UInt64, _ result: IOResult) -> LeaseView? {
        guard case .data(let bytes) = result, let leader = try? LeaderRecord(bytes[...]), leader.name == name.resource, let membership = memberships[name.lockspace] else {
            return nil
        }
        let owner = membership.hosts[Int(clamping: leader.ownerID)]?.record
        let isVoid = owner.map { $0.isFree || $0.ownerGeneration > leader.ownerGeneration } ?? false
        let holder = sortedGrants.first { $0.leases.contains { $0.name == name } }?.holder.description
        let sharers = sharers(of: leader, in: bytes, membership)
        let status: LeaseStatus = sharers.isEmpty ? (leader.isFree || isVoid ? .free : .exclusive) : .shared
        return LeaseView(
            lease: name, path: path(of: name, in: membership), offset: offset, status: status,
            ownerID: leader.ownerID == 0 ? nil : Int(clamping: leader.ownerID), ownerName: owner?.name,
            ownerGeneration: leader.ownerID == 0 ? nil : leader.ownerGeneration, lver: leader.lver, holder: status == .free ? nil : holder,
            sharers: sharers.isEmpty ? nil : sharers)
    }

    /// Hosts that share a lease in the life that their sectors tell.
    private func sharers(of leader: LeaderRecord, in area: [UInt8], _ membership: Membership) -> [LeaseView.Sharer] {
        let unit = leader.geometry.sectorSize
        return membership.hosts.keys.sorted().compactMap { id in
            let start = leader.geometry.blockOffset(host: id)
            guard let seen = membership.hosts[id], start + unit <= area.count, let block = try? BallotBlock(area[start..<(start + unit)]),
                block.sharedGeneration == seen.record.ownerGeneration, !seen.record.isFree
            else { return nil }
            return LeaseView.Sharer(hostID: id, name: seen.record.name, generation: seen.record.ownerGeneration, state: seen.state(firing: host.firing, at: now))
        }
    }

    private mutating func end(_ id: UInt64, _ work: ViewWork) -> Effects {
        jobs[id] = nil
        guard work.only != nil else { return [.reply(to: work.id, .success(LeaseList(leases: work.views, problems: work.problems)))] }
        guard let view = work.views.first else { return [.reply(to: work.id, .refused(RequestError(LeaseErrorCode.notFound, "no such lease")))] }
        return [.reply(to: work.id, .success(view))]
    }

    private mutating func refuse(_ id: UInt64, _ work: ViewWork, _ error: RequestError) -> Effects {
        jobs[id] = nil
        return [.reply(to: work.id, .refused(error))]
    }
}
