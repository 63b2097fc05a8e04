import Messages

/// What is seen of the guards, and what follows.
extension HostAgentEngine {
    mutating func onSighted(_ holder: Holder, _ sighting: GuardSighting) -> Effects {
        let subject = holder.subject
        guard let run = runs[subject], run.holder == holder, run.mayRun else { return [] }
        unseen.removeAll { $0 == holder.description }
        var effects: Effects = []
        switch sighting {
        case .acquiring:
            change(subject, .starting, "its guard has its locks and takes its leases")
            effects += repeatStop(run)
        case .running(let pid, let lver, let paused, let why):
            runs[subject]?.lver = lver
            change(subject, .running(pid: pid, paused: paused), why?.evidence ?? "its guard answers: process \(pid) \(paused ? "is paused" : "runs")")
            effects += onPause(subject, paused ? why : nil) + onRunning(subject) + repeatStop(run)
        case .ending(let why):
            change(subject, .ending, "its guard ends it: \(why)")
        case .ended(let exit, let why):
            effects += over(subject, "its guard reaped its group (\(exit)): \(why)", needsStorage: true)
        case .refused(let code, let message):
            let starters = run.starters
            runs[subject]?.starters = []
            effects += starters.map { .reply(to: $0, .refused(RequestError(code: code, message: "\(holder): \(message)"))) }
            effects += over(subject, "its guard started nothing (\(code)): \(message)", needsStorage: false)
        case .gone(let evidence):
            effects += over(subject, evidence, needsStorage: true)
        case .unclear(let evidence):
            change(subject, .unknown, evidence)
        }
        return effects + [publishedVMs] + initialized()
    }

    private mutating func onRunning(_ subject: String) -> Effects {
        guard let run = runs[subject], !run.starters.isEmpty else { return [] }
        runs[subject]?.starters = []
        let decision = Decision(run.holder.decisionSubject, "runs on \(identity?.host ?? "")", why: run.evidence, evidence: ["holder": run.holder.description])
        return [.decide(decision)] + run.starters.map { .reply(to: $0, report(of: run)) }
    }

    /// A stop that the guard could not hear before.
    private func repeatStop(_ run: Run) -> Effects { run.stop.map { [.perform(.stop(run.holder, why: $0))] } ?? [] }

    private mutating func change(_ subject: String, _ phase: Run.Phase, _ evidence: String) {
        runs[subject]?.phase = phase
        runs[subject]?.evidence = evidence
    }

    /// Nothing of the run is left on this host. If it may have written, its storage must answer before anybody hears that it is over (S4).
    mutating func over(_ subject: String, _ evidence: String, needsStorage: Bool) -> Effects {
        guard let run = runs[subject] else { return [] }
        bury(run.holder)
        let decision = Effect<AgentAction>.decide(Decision(
            run.holder.decisionSubject, "ended on \(identity?.host ?? "")", why: evidence, evidence: ["holder": run.holder.description]))
        let lost = failTasks(of: run.holder) + refuseResumers(subject, evidence)
        if needsStorage, !run.spec.places.isEmpty {
            change(subject, .quiescing, evidence)
            return [decision] + lost + [.perform(.quiesce(run.holder, run.spec.places))]
        }
        change(subject, .signing, evidence)
        return [decision] + lost + [.perform(.sign(run.holder, proof(of: run.holder, evidence)))]
    }

    private mutating func failTasks(of holder: Holder) -> Effects {
        guard holder.role == .spm else { return [] }
        let ids = tasks.filter { $0.value.pool == holder.name && $0.value.term == holder.attempt }.keys.sorted()
        for id in ids { tasks[id] = nil }
        return ids.map { .reply(to: $0, .refused(RequestError(AgentErrorCode.notSPM, "\(holder) ended before the task did; nothing half-made is published"))) }
    }

    mutating func onQuiesced(_ holder: Holder) -> Effects {
        guard let run = runs[holder.subject], run.holder == holder, run.phase == .quiescing else { return [] }
        let evidence = run.evidence + "; its storage answered afterwards"
        change(holder.subject, .signing, evidence)
        return [.perform(.sign(holder, proof(of: holder, evidence)))]
    }

    mutating func onSigned(_ holder: Holder, _ proof: SignedProof) -> Effects {
        var effects: Effects = []
        if let waiting = observers.removeValue(forKey: holder.description) {
            effects += waiting.map { .reply(to: $0, Self.stopped(holder, Self.notHere, proof)) }
        }
        guard let run = runs[holder.subject], run.holder == holder, run.phase == .signing else { return effects }
        runs[holder.subject]?.phase = .over
        runs[holder.subject]?.proof = proof
        runs[holder.subject]?.starters = []
        runs[holder.subject]?.enders = []
        effects += run.starters.map { .reply(to: $0, .refused(refusal(holder, holder.role == .vm ? AgentErrorCode.startFailed : .spmStartFailed, run.evidence))) }
        effects += run.enders.map { .reply(to: $0, Self.stopped(holder, run.evidence, proof, lver: run.lver)) }
        return effects + [publishedVMs]
    }

    func proof(of holder: Holder, _ evidence: String) -> Proof {
        Proof(
            id: "ended-\(identity?.host ?? "")-\(identity?.bootID ?? "")-\(holder)", kind: .ended, host: identity?.host ?? "", hostID: identity?.hostID ?? 0,
            holder: holder.proofName, attempt: holder.attempt, statement: evidence)
    }
}
