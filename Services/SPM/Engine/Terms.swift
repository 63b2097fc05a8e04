import Messages

/// What agents answer about a term, and how a term ends.
extension SPMCoordinator {
    mutating func onAnswer(_ ask: RoleAsk, _ answer: RoleAnswer, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard var pool = pools[ask.pool], let term = pool.term, term.number == ask.term else { return }
        pool.term?.inFlight = false
        pool.term?.askAt = now + policy.retry
        switch answer {
        case .status(let status): onStatus(&pool, term, ask, status, at: now, &effects)
        case .refused(let error): onRefused(&pool, term, ask, error, at: now, &effects)
        case .unanswered: onUnhelpful(&pool, "gives no answer", at: now, &effects)
        }
        pools[pool.name] = pool
    }

    private mutating func onStatus(
        _ pool: inout Pool, _ term: Term, _ ask: RoleAsk, _ status: SPMRoleStatus, at now: Instant, _ effects: inout [Effect<SPMAction>]
    ) {
        guard status.pool == pool.name else { return onUnhelpful(&pool, "answers about pool \(status.pool)", at: now, &effects) }
        switch status.role {
        case .spm where status.term == term.number && term.phase == .stopping:
            onUnhelpful(&pool, "has not ended the role yet (\(status.evidence))", at: now, &effects)
        case .spm where status.term == term.number:
            serve(&pool, term, status, at: now, &effects)
        case .spm:
            onUnhelpful(&pool, "says that it serves term \(status.term)", at: now, &effects)
        case .contend:
            onUnhelpful(&pool, "still takes the role (\(status.evidence))", at: now, &effects)
        case .unknown:
            onUnhelpful(&pool, "does not know (\(status.evidence))", at: now, &effects)
        case .free:
            let proven = status.ended.map { term.isOver(by: $0.proof, pool: pool.name, master: pool.master) } ?? false
            guard ask.kind == .stop || proven else {  // its guard may be gone while its storage has not answered yet (S4), or its start may still be on the way
                let trigger = term.electedAt == nil ? pool.trigger : .recovery
                return stop(&pool, "\(term.host) is Free without a proof that term \(term.number) ended (\(status.evidence))", trigger: trigger, at: now, &effects)
            }
            if proven, let ended = status.ended { pool.ended = HeldProof(signed: ended, since: now) }
            end(&pool, "\(term.host) says that nothing of it remains: \(status.evidence)", refused: status.evidence, at: now, &effects)
        }
    }

    private mutating func onRefused(
        _ pool: inout Pool, _ term: Term, _ ask: RoleAsk, _ error: RequestError, at now: Instant, _ effects: inout [Effect<SPMAction>]
    ) {
        // Another boot, or a term that the agent has closed, says nothing about this one: an earlier copy may have had its effect.
        let open: Set<String> = [
            RequestErrorCode.wrongTarget.rawValue, RequestErrorCode.idReused.rawValue, RequestErrorCode.unknownOutcome.rawValue, AgentErrorCode.termStale.rawValue,
        ]
        switch ask.kind {
        case .start where !open.contains(error.code):
            end(&pool, "\(term.host) refused it, nothing of it remains: \(error)", refused: error.message, at: now, &effects)
        case .stop where error.code == AgentErrorCode.notSPM.rawValue:
            end(&pool, "\(term.host) says that it does not serve it: \(error)", refused: error.message, at: now, &effects)
        case .status where error.code == AgentErrorCode.notSPM.rawValue:
            stop(&pool, "\(term.host) says that it does not serve: \(error)", trigger: term.electedAt == nil ? pool.trigger : .recovery, at: now, &effects)
        default:
            onUnhelpful(&pool, "answers \(error)", at: now, &effects)
        }
    }

    /// Nothing was learned: never a reason to elect somebody else (I4).
    private mutating func onUnhelpful(_ pool: inout Pool, _ what: String, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard var term = pool.term else { return }
        term.missed += 1
        term.detail = what
        let wasServing = term.phase == .serving
        if term.phase == .starting || (wasServing && term.missed >= policy.missed) {
            term.phase = .asking
            effects.append(
                .decide(
                    Decision(
                        "spm/\(pool.name)", "asks \(term.host) about term \(term.number) until it answers",
                        why: "\(term.host) \(what); the term is not over, so nobody else is elected", see: ["host/\(term.host)"])))
        }
        pool.term = term
    }

    /// The host serves: a new election succeeded, or a living owner is adopted.
    private mutating func serve(_ pool: inout Pool, _ before: Term, _ status: SPMRoleStatus, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        var term = before
        term.inFlight = false
        term.phase = .serving
        term.lver = status.lver
        term.missed = 0
        term.detail = ""
        term.askAt = now + policy.check
        if term.electedAt == nil { term.electedAt = now }
        pool.term = term
        pool.refusals = [:]
        pool.failedRounds = 0
        guard before.phase != .serving else { return }
        let adopted = before.electedAt != nil
        effects.append(
            .decide(
                Decision(
                    "spm/\(pool.name)", adopted ? "\(term.host) still serves" : "\(term.host) is SPM", why: status.evidence,
                    evidence: ["term": String(term.number), "lver": String(term.lver)], see: ["host/\(term.host)"])))
        guard !adopted else { return }
        show(&pool, at: now, &effects)
        effects.append(.publish(Event("spm.elected", subject: pool.name, body: pool.view)))
    }

    /// The term is over. The only place where a pool becomes free for another.
    mutating func end(
        _ pool: inout Pool, _ why: String, refused: String?, evidence: [String: String] = [:], at now: Instant, _ effects: inout [Effect<SPMAction>]
    ) {
        guard let term = pool.term else { return }
        pool.term = nil
        effects.append(
            .decide(
                Decision(
                    "spm/\(pool.name)", "term \(term.number) on \(term.host) is over", why: why, evidence: evidence, see: ["host/\(term.host)"])))
        for id in tasks.keys where tasks[id]?.pool == pool.name && tasks[id]?.sentIn == term.number { tasks[id]?.sentIn = nil }
        guard let electedAt = term.electedAt else {
            if let refused, term.phase != .stopping { pool.refusals[term.host] = refused }
            return
        }
        if term.phase != .stopping { pool.trigger = .recovery }
        // A role that ended by itself is stopped, too, when nothing proved its end at once: it flapped all the same.
        if pool.trigger == .recovery {
            if now - electedAt < policy.shortTerm {
                backOff(&pool, pool.shortTerms, "the last term ended within \(policy.shortTerm.milliseconds) ms; elects again in", at: now)
                pool.shortTerms += 1
            } else {
                pool.shortTerms = 0
            }
        }
        show(&pool, at: now, &effects)
        var lost = pool.view
        lost.spm = term.host
        lost.incarnation = term.incarnation
        lost.reason = why
        effects.append(.publish(Event("spm.lost", subject: pool.name, body: lost)))
    }

    /// Publishes the pool if it looks different from what was last shown, and says why it waits.
    func show(_ pool: inout Pool, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        let (status, reason) = outlook(pool, at: now)
        let term = pool.term
        let view = PoolView(
            pool: pool.name, master: pool.master, status: status, spm: term?.host, incarnation: term?.incarnation, term: pool.lastTerm,
            lver: term?.lver ?? 0, reason: reason)
        guard view != pool.view else { return }
        let waits = status == .nonResponsive && (pool.view.status != status || pool.view.reason != reason)
        pool.view = view
        effects.append(.publish(Event("pool.status", subject: pool.name, body: view)))
        if waits {
            effects.append(.decide(Decision("spm/\(pool.name)", "waits", why: reason, see: term.map { ["host/\($0.host)"] } ?? [])))
        }
    }

    /// Status and one sentence for it.
    private func outlook(_ pool: Pool, at now: Instant) -> (PoolStatus, String) {
        guard let term = pool.term else {
            if let obstacle = obstacle(to: pool, at: now) { return (.nonResponsive, obstacle) }
            let why = hosts.keys.sorted().compactMap { name in hosts[name]?.unfit(master: pool.master).map { "\(name) \($0)" } }
            return (.nonResponsive, "no host can serve: " + (why.isEmpty ? "none is registered" : why.joined(separator: "; ")))
        }
        let until = "waits until it answers or incarnation \(term.incarnation) is proven over"
        if let host = hosts[term.host] {
            let fence = host.fenceCase.map { " (fence case \($0))" } ?? ""
            if host.isSilent { return (.nonResponsive, "\(term.host), SPM in term \(term.number), is \(host.status.rawValue): \(until)\(fence)") }
            if let bootID = host.bootID, bootID != term.bootID {
                return (.nonResponsive, "\(term.host) booted anew; waits for the proof that its incarnation \(term.incarnation) is over\(fence)")
            }
        }
        switch term.phase {
        case .serving: return (.up, "\(term.host) serves in term \(term.number)")
        case .starting: return (.contend, "\(term.host) takes the role in term \(term.number)")
        case .stopping where term.missed < policy.missed: return (.contend, "\(term.host) gives up the role of term \(term.number)")
        case .asking where term.missed < policy.missed: return (.contend, "asks \(term.host) whether it serves term \(term.number)")
        case .stopping, .asking: return (.nonResponsive, "\(term.host) \(term.detail) about term \(term.number): \(until)")
        }
    }
}
