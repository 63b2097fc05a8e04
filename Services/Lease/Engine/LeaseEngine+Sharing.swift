import LeaseFormat
import Messages

/// One lease of a grant that is held in one way and is to be held in the other.
struct ConvertWork: Sendable {
    let connection: UInt64
    let holder: Holder
    let name: LeaseName
    let mode: LeaseMode
    var offset: UInt64?
    var current: Acquisition?
    /// It was not converted, and what that left is being taken back.
    var refused: RequestError?
    /// Something was written, or may have been.
    var hasTouched = false
    var isNoting = false
}

/// Leases that several guards share, here and on other hosts.
///
/// On disk a host shares a lease once, however many of its guards do: the first of them enters it, the last one takes it back.
extension LeaseEngine {
    /// What another guard on this host shares already, as it would be granted.
    func sharedHere(_ name: LeaseName, generation: UInt64) -> GuardLease? {
        sortedGrants.lazy.filter { $0.state == .granted && !isConverting($0.holder) }.flatMap(\.leases).first { $0.name == name && $0.mode == .shared && $0.generation == generation }
    }

    private func others(with name: LeaseName, than holder: Holder) -> [Grant] {
        sorted(grants.values.filter { grant in
            grant.holder != holder && grant.leases.contains { $0.mode == .shared && $0.name == name } && passedOn[name]?.contains(grant.holder) != true
        })
    }

    /// Leaves a lease to others on this host who share it, if there are any.
    mutating func passOn(_ name: LeaseName, from holder: Holder) -> Bool {
        guard !others(with: name, than: holder).isEmpty else { return false }
        passedOn[name, default: []].insert(holder)
        return true
    }

    // MARK: Convert

    func isConverting(_ holder: Holder) -> Bool {
        jobs.values.contains { if case .convert(let work) = $0.work { work.holder == holder } else { false } }
    }

    mutating func onConvert(_ connection: UInt64, _ holder: Holder, _ lease: GuardLease) -> Effects {
        let name = lease.name
        if host.sanlock != nil { return [unchanged(connection, Self.notSupported("converting a lease"))] }
        guard let grant = grants[holder], grant.state == .granted, links[holder]?.connection == connection, let held = grant.leases.first(where: { $0.name == name }) else {
            return [unchanged(connection, RequestError(LeaseErrorCode.lost, "\(holder) does not hold lease \(name.resource)"))]
        }
        guard !isConverting(holder) else { return [unchanged(connection, RequestError(RequestErrorCode.conflict, "\(holder) is converting a lease already"))] }
        if held.mode == lease.mode, lease.mode == .exclusive { return finishConvert(grant, connection) }
        if lease.mode == .exclusive, let other = others(with: name, than: holder).first {
            return [unchanged(connection, RequestError(
                LeaseErrorCode.heldHere, "\(other.holder) on this host shares lease \(name.resource)", details: ["holder": other.holder.description]))]
        }
        let work = ConvertWork(connection: connection, holder: holder, name: name, mode: lease.mode)
        let id = start(.convert(work))
        // Who shares has stopped writing before it asks: from now on nothing here counts on owning it.
        return lease.mode == .shared && held.mode == .exclusive ? note(id, work, GuardLease(name: name, lver: held.lver, generation: held.generation, mode: .shared)) : stepConvert(id, work)
    }

    private mutating func note(_ id: UInt64, _ work: ConvertWork, _ lease: GuardLease) -> Effects {
        guard var grant = grants[work.holder], grant.state == .granted, let index = grant.leases.firstIndex(where: { $0.name == lease.name }) else { return end(id) }
        var work = work
        work.isNoting = true
        work.current = nil
        jobs[id]?.work = .convert(work)
        grant.leases[index] = lease
        return [.perform(.note(.grant(grant)))]
    }

    /// A grant was noted that a conversion changed; `nil`: none did.
    mutating func converted(_ grant: Grant) -> Effects? {
        for id in jobs.keys.sorted() {
            guard case .convert(var work)? = jobs[id]?.work, work.holder == grant.holder, work.isNoting else { continue }
            work.isNoting = false
            guard work.mode == .shared else { return end(id) + finishConvert(grant, work.connection) }
            jobs[id]?.work = .convert(work)
            return stepConvert(id, work)
        }
        return nil
    }

    mutating func stepConvert(_ id: UInt64, _ work: ConvertWork) -> Effects {
        guard !work.isNoting else { return [] }
        var work = work
        guard let grant = grants[work.holder], grant.state == .granted, let held = grant.leases.first(where: { $0.name == work.name }),
            let membership = memberships[work.name.lockspace], let deadline = membership.deadline, now < deadline, held.generation == membership.record.generation
        else { return end(id) }
        guard !unlanded.values.contains(work.name), !isWritten(work.name, except: id) else { return pause(id, .convert(work)) }
        guard let offset = work.offset ?? fixedOffset(work.name, membership) else { return readIndex(id, membership) }
        work.offset = offset
        let layout = DomainLayout(root: membership.record.path)
        let path = path(of: work.name, in: membership)
        if work.mode == .exclusive, work.refused == nil {
            let step: Acquisition.Step?
            if work.current == nil {
                var acquisition = acquisition(work.name, .exclusive, isConversion: true, membership)
                step = acquisition.begin()
                work.current = acquisition
            } else {
                step = work.current?.onWake(at: now)
            }
            jobs[id]?.work = .convert(work)
            guard let step, let current = work.current else { return [] }
            return lookIfOld(work.name.lockspace)
                + run(id, VolumeSequence(current, step, of: work.name, path: path, base: offset, layout: layout, notAfter: deadline))
        }
        var retraction = Retraction(
            name: work.name, geometry: membership.geometry, hostID: host.hostID, generation: membership.record.generation, lver: work.refused == nil ? held.lver : nil,
            keepsShare: true)
        let step = retraction.begin()
        jobs[id]?.work = .convert(work)
        return run(id, VolumeSequence(retraction, step, of: work.name, path: path, base: offset, layout: layout, notAfter: deadline, promptUntil: nil))
    }

    mutating func onConvertResult(_ id: UInt64, _ work: ConvertWork, _ result: IOResult) -> Effects {
        var work = work
        guard work.offset != nil else {
            switch index(in: result, of: work.name.lockspace) {
            case .failure(let error): return end(id) + [unchanged(work.connection, error)]
            case .success(let index):
                guard let slot = index.lookup(work.name.resource) else { return end(id) + [unchanged(work.connection, notFound(work.name))] }
                work.offset = index.leaseOffset(slot)
                return stepConvert(id, work)
            }
        }
        work.hasTouched = work.hasTouched || result.mayHaveWritten
        guard case .sequence(let sequence) = result, let end = sequence.end else {
            if work.mode == .exclusive { work.refused = work.refused ?? Membership.error(result, "convert lease \(work.name.resource)") }
            return pause(id, .convert(work))
        }
        switch end {
        case .acquisition(.won(let lver)):
            guard let membership = memberships[work.name.lockspace] else { return self.end(id) }
            return note(id, work, GuardLease(name: work.name, lver: lver, generation: membership.record.generation))
        case .acquisition(.pause(let until)):
            if let acquisition = sequence.acquisition { work.current = acquisition }
            return pause(id, .convert(work), until: until)
        case .acquisition(.refused(let error)):
            work.refused = error
            guard work.hasTouched else { return self.end(id) + [unchanged(work.connection, error)] }
            return stepConvert(id, work)
        case .retraction:
            guard work.refused == nil else { return self.end(id) + (work.refused.map { [unchanged(work.connection, $0)] } ?? []) }
            return self.end(id) + (grants[work.holder].map { finishConvert($0, work.connection) } ?? [])
        case .failed(let error):
            if work.mode == .exclusive { work.refused = work.refused ?? error }
            return pause(id, .convert(work))
        case .late, .acquisition, .moved:
            return pause(id, .convert(work))
        }
    }

    private mutating func end(_ id: UInt64) -> Effects {
        jobs[id] = nil
        return []
    }

    private func finishConvert(_ grant: Grant, _ connection: UInt64) -> Effects {
        guard links[grant.holder]?.connection == connection, let deadline = deadline(of: grant), now < deadline else { return [] }
        return [granted(grant, connection, deadline, as: "converted")]
    }

    private func unchanged(_ connection: UInt64, _ error: RequestError) -> Effect<LeaseAction> {
        .perform(.tell(connection: connection, GuardMessage("unchanged", [("code", error.code), ("message", error.message)])))
    }
}
