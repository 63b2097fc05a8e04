import Messages

/// start, stop and observe.
extension HostAgentEngine {
    static let notHere = "nothing of this attempt is on this host, and its tombstone keeps it so"

    mutating func onVMStart(_ id: RequestID, _ start: VMStart, _ input: AgentInput) -> Effects {
        let vm = start.vm
        let holder = Holder(role: .vm, name: vm.name, attempt: start.attempt)
        var places: [StoragePlace] = []
        var volumes: [String] = []
        for disk in vm.disks {
            guard let path = domains[disk.domain] else {
                return refuse(id, holder, AgentErrorCode.notConnected, "domain \(disk.domain) of disk \(disk.image) is not connected on this host")
            }
            volumes.append(DomainLayout(root: path).volume(image: disk.image))
            let place = StoragePlace(domain: disk.domain, path: path)
            if !disk.readOnly, !places.contains(place) { places.append(place) }
        }
        let writable = vm.disks.filter { !$0.readOnly }
        let leases = vm.leases ? writable.map { LeaseName(lockspace: $0.domain, resource: $0.image) }.sorted() : []
        let shared = writable.filter(\.isShareable).map { LeaseName(lockspace: $0.domain, resource: $0.image) }.sorted()
        let spec = GuardSpec(
            holder: holder, leases: leases, shared: shared.isEmpty ? nil : shared, diskLocks: writable.map(\.image).sorted(), generations: start.generations, proofs: start.proofs,
            payload: .guest(vm, volumes: volumes), places: places.sorted { $0.domain < $1.domain })
        return onStart(id, spec, input)
    }

    mutating func onSPMStart(_ id: RequestID, _ start: SPMStart, _ input: AgentInput) -> Effects {
        let holder = Holder(role: .spm, name: start.pool, attempt: start.term)
        guard let path = domains[start.domain] else {
            return refuse(id, holder, AgentErrorCode.notConnected, "master domain \(start.domain) is not connected on this host")
        }
        let master = StoragePlace(domain: start.domain, path: path)
        let spec = GuardSpec(
            holder: holder, leases: [LeaseName(lockspace: start.domain, resource: DomainLayout.sdm)], diskLocks: [], generations: start.generations,
            proofs: start.proofs, payload: .worker(pool: start.pool, master: master), places: [master])
        return onStart(id, spec, input)
    }

    private mutating func onStart(_ id: RequestID, _ spec: GuardSpec, _ input: AgentInput) -> Effects {
        let holder = spec.holder
        let stale = holder.role == .vm ? AgentErrorCode.attemptStale : AgentErrorCode.termStale
        guard !isInitializing else {
            deferred.append(input)
            return []
        }
        if let run = runs[holder.subject], run.holder == holder, run.mayRun, run.stop == nil { return onStartAgain(id, run) }
        guard holder.attempt > tombstones[holder.subject] ?? 0 else {
            return [.reply(to: id, .refused(RequestError(stale, "\(holder) was superseded or observed stopped: it never starts here")))]
        }
        guard departure == nil else { return refuse(id, holder, AgentErrorCode.startFailed, "this host shuts down") }
        if let run = runs[holder.subject], run.phase != .over {
            guard holder.attempt > run.holder.attempt else {
                return [.reply(to: id, .refused(RequestError(stale, "\(run.holder) came after \(holder)")))]
            }
            return refuse(id, holder, AgentErrorCode.stillHere, "\(run.holder) is not over on this host: \(run.evidence)")
        }
        if let toolstack, holder.role == .vm { return refuse(id, holder, AgentErrorCode.toolstackDown, toolstack.sentence) }
        if let stray = stray(of: holder) {
            return refuse(id, holder, AgentErrorCode.stillHere, stray.evidence)
        }
        if let wait = unsettled(spec) {
            return refuse(id, holder, LeaseErrorCode.settling, "its disks have no leases and what proves an earlier run over is too young: they are free in \(wait.seconds) s")
        }
        tombstones[holder.subject] = max(tombstones[holder.subject] ?? 0, holder.attempt - 1)
        runs[holder.subject] = Run(spec: spec, evidence: "its guard is being started", starters: [id])
        return [
            .decide(Decision(
                holder.decisionSubject, "guard started on \(identity?.host ?? "")", why: "attempt \(holder.attempt) was ordered and nothing of an earlier one is here",
                evidence: ["holder": holder.description, "leases": spec.leases.map(\.resource).joined(separator: " ")])),
            .perform(.spawn(spec)), publishedVMs,
        ]
    }

    /// How long the proofs must still age before a guest may write to disks that no lease-service guards; `nil`: they have settled (S4).
    ///
    /// A proof's age is what its first copy carried and the time since then: neither a forwarder that adds nothing nor a later copy without that proof changes it.
    private mutating func unsettled(_ spec: GuardSpec) -> Duration? {
        guard let settle = identity?.settle, spec.leases.isEmpty, !spec.places.isEmpty else { return nil }
        let vm = spec.holder.name
        for signed in spec.proofs {
            let opens = now + max(.zero, settle - max(.zero, signed.age))
            settling[vm, default: [:]][signed.proof.id] = min(settling[vm]?[signed.proof.id] ?? opens, opens)
        }
        guard let last = settling[vm]?.values.max(), now < last else {
            settling[vm] = nil
            return nil
        }
        return last - now
    }

    private mutating func onStartAgain(_ id: RequestID, _ run: Run) -> Effects {
        if case .running = run.phase { return [.reply(to: id, report(of: run))] }
        runs[run.holder.subject]?.starters.append(id)
        return []
    }

    /// Refuses a start; its tombstone keeps a late copy of it from ever running.
    func refusal(_ holder: Holder, _ code: some RawRepresentable<String>, _ why: String) -> RequestError { RequestError(code, "\(holder): \(why)") }

    private mutating func refuse(_ id: RequestID, _ holder: Holder, _ code: some RawRepresentable<String>, _ why: String) -> Effects {
        // An attempt that is still running here is no less running because its start came twice.
        if runs[holder.subject]?.holder != holder { bury(holder) }
        return [
            .reply(to: id, .refused(refusal(holder, code, why))),
            .decide(Decision(holder.decisionSubject, "start refused on \(identity?.host ?? "")", why: why, evidence: ["holder": holder.description, "code": code.rawValue])),
        ]
    }

    mutating func bury(_ holder: Holder) {
        tombstones[holder.subject] = max(tombstones[holder.subject] ?? 0, holder.attempt)
    }

    func holder(of term: SPMTerm) -> Holder {
        Holder(role: .spm, name: term.pool, attempt: term.term ?? runs["spm:\(term.pool)"]?.holder.attempt ?? 0)
    }

    mutating func onStop(_ id: RequestID, _ holder: Holder) -> Effects {
        guard let run = runs[holder.subject], run.holder == holder, run.phase != .over else { return onObserve(id, holder) }
        runs[holder.subject]?.enders.append(id)
        return run.mayRun ? endRun(holder.subject, "stopped on request") : []
    }

    mutating func endRun(_ subject: String, _ why: String) -> Effects {
        guard let run = runs[subject] else { return [] }
        bury(run.holder)
        runs[subject]?.stop = why
        return [
            .decide(Decision(run.holder.decisionSubject, "guard told to end it", why: why, evidence: ["holder": run.holder.description])),
            .perform(.stop(run.holder, why: why)),
        ]
    }

    /// Answers what is known; of an attempt without a record, only after it can never come (S7) and every process was looked at.
    mutating func onObserve(_ id: RequestID, _ holder: Holder) -> Effects {
        if let run = runs[holder.subject], run.holder == holder { return [.reply(to: id, report(of: run))] }
        if holder.role == .spm, holder.attempt == 0 {
            return [.reply(to: id, .success(SPMRoleStatus(pool: holder.name, role: .free, term: 0, lver: 0, evidence: "no term of this pool is known here")))]
        }
        bury(holder)
        observers[holder.description, default: []].append(id)
        return [.perform(.scan)]
    }

    // MARK: Storage tasks

    mutating func onTask(_ id: RequestID, _ task: TaskRun) -> Effects {
        guard let run = runs["spm:\(task.pool)"], case .running = run.phase, run.stop == nil, run.holder.attempt == task.term, run.lver == task.lver else {
            let now = runs["spm:\(task.pool)"].map { "\($0.holder) with lease version \($0.lver), \($0.state.rawValue)" } ?? "nothing"
            return [
                .reply(to: id, .refused(RequestError(
                    AgentErrorCode.notSPM, "this host does not serve pool \(task.pool) in term \(task.term) with lease version \(task.lver); here: \(now)")))
            ]
        }
        if case .volumeCreate(let domain, _, _, _) = task.work, domains[domain] == nil {
            return [.reply(to: id, .refused(RequestError(AgentErrorCode.notConnected, "domain \(domain) is not connected on this host")))]
        }
        tasks[id] = task
        return [.perform(.task(id, task, path: path(for: task.work)))]
    }

    func path(for work: TaskWork) -> String? { if case .volumeCreate(let domain, _, _, _) = work { domains[domain] } else { nil } }

    mutating func onTaskDone(_ id: RequestID, _ result: TaskResult?, _ error: RequestError?) -> Effects {
        guard tasks.removeValue(forKey: id) != nil else { return [] }
        if let result { return [.reply(to: id, .success(result))] }
        return [.reply(to: id, .refused(error ?? RequestError(AgentErrorCode.taskFailed, "the worker gave no reason")))]
    }
}
