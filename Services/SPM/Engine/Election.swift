import Messages

/// Elections: when one may begin, and who is chosen.
extension SPMCoordinator {
    /// Everything a pool does by itself: looks whether its term is proven over, asks what is due, elects.
    mutating func advance(pool name: String, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard var pool = pools[name] else { return }
        if fresh, let term = pool.term, let proof = proof(of: term, pool) {
            end(&pool, "\(proof.kind.rawValue) proof \(proof.id): \(proof.statement)", refused: nil, evidence: ["proof": proof.id], at: now, &effects)
        }
        if pool.term != nil {
            leaveIfHostLeaves(&pool, at: now, &effects)
            askIfDue(&pool, at: now, &effects)
        } else {
            elect(&pool, at: now, &effects)
        }
        show(&pool, at: now, &effects)
        pools[name] = pool
    }

    /// The hosts that may serve now, best first: the preferred one, then priority, least recently used, name.
    func candidates(for pool: Pool) -> [SPMHost] {
        hosts.values
            .filter { $0.unfit(master: pool.master) == nil && pool.refusals[$0.name] == nil }
            .sorted { a, b in
                let preferred = (a.name == pool.preferred, b.name == pool.preferred)
                if preferred.0 != preferred.1 { return preferred.0 }
                if a.priority != b.priority { return a.priority > b.priority }
                let used = (pool.used[a.name] ?? 0, pool.used[b.name] ?? 0)
                if used.0 != used.1 { return used.0 < used.1 }
                return a.name < b.name
            }
    }

    /// Whether an election may begin; otherwise what it waits for.
    func obstacle(to pool: Pool, at now: Instant) -> String? {
        guard fresh, let recovery else { return "has just started and waits for the host registry of fencing-service" }
        if pool.trigger == .recovery, !recovery.recoveryAllowed {
            return recovery.hold.map { "an operator holds recovery: \($0)" } ?? (recovery.enabled ? "recovery is held" : "HA is disabled")
        }
        if let notBefore = pool.notBefore, now < notBefore { return pool.backoffReason }
        return nil
    }

    mutating func elect(_ pool: inout Pool, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard obstacle(to: pool, at: now) == nil else { return }
        if pool.notBefore != nil {
            pool.notBefore = nil
            pool.refusals = [:]
        }
        var ranked = candidates(for: pool)
        if ranked.isEmpty, !pool.refusals.isEmpty {
            let refusals = pool.refusals.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; ")
            backOff(&pool, pool.failedRounds, "every fit host refused (\(refusals)); tries again in", at: now)
            pool.failedRounds += 1
            effects.append(.decide(Decision("spm/\(pool.name)", "election failed", why: pool.backoffReason)))
            return
        }
        guard let host = ranked.first, let bootID = host.bootID else { return }
        ranked.removeFirst()
        pool.lastTerm += 1
        pool.used[host.name] = pool.lastTerm
        let preferred = pool.preferred == host.name
        pool.preferred = nil
        pool.term = Term(
            number: pool.lastTerm, host: host.name, hostID: host.id, incarnation: host.incarnation, bootID: bootID, generations: host.generations, askAt: now)
        let start = SPMStart(
            pool: pool.name, domain: pool.master, term: pool.lastTerm, generations: host.generations, proofs: proofsToSend(pool, at: now))
        effects.append(
            .decide(
                Decision(
                    "spm/\(pool.name)", "elects \(host.name) in term \(pool.lastTerm)",
                    why: preferred
                        ? "an operator asked for it" : "Up, joined to the master domain, SPM priority \(host.priority), least recently used of that priority",
                    evidence: [
                        "incarnation": host.incarnation.description, "generation": host.generations[pool.master].map(String.init) ?? "",
                        "others": ranked.map(\.name).joined(separator: " "), "proofs": start.proofs.map(\.proof.id).joined(separator: " "),
                    ],
                    see: ["host/\(host.name)"])))
        effects.append(.perform(.start(RoleAsk(.start, pool: pool.name, term: pool.lastTerm, host: host.name, bootID: bootID), start)))
    }

    /// A proof about its host that says that the term is over.
    func proof(of term: Term, _ pool: Pool) -> Proof? {
        [proofs[term.host], leaseProofs?[term.host]].compactMap { $0?.signed.proof }.first { term.isOver(by: $0, pool: pool.name, master: pool.master) }
    }

    /// Every proof known, with its age: one of them opens the lease that the last holder left.
    func proofsToSend(_ pool: Pool, at now: Instant) -> [SignedProof] {
        let known = [proofs, leaseProofs ?? [:]].flatMap { held in held.keys.sorted().compactMap { held[$0]?.aged(at: now) } }
        return known + (pool.ended.map { [$0.aged(at: now)] } ?? [])
    }

    /// Waits `backoff` doubled `step` times, at most the limit.
    func backOff(_ pool: inout Pool, _ step: Int, _ why: String, at now: Instant) {
        var wait = policy.backoff
        for _ in 0..<min(step, 16) where wait < policy.backoffLimit { wait = wait * 2 }
        wait = min(wait, policy.backoffLimit)
        pool.notBefore = now + wait
        pool.backoffReason = "\(why) \(wait.milliseconds) ms"
    }

    /// The role leaves a host that goes to maintenance or is not operational, if somebody else can take it.
    mutating func leaveIfHostLeaves(_ pool: inout Pool, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard fresh, let term = pool.term, term.phase == .serving, let host = hosts[term.host], host.isLeaving, host.bootID == term.bootID else { return }
        guard !candidates(for: pool).isEmpty else { return }
        let byOperator = host.status != .nonOperational
        guard byOperator || recovery?.recoveryAllowed == true else { return }
        stop(&pool, "\(term.host) is \(host.status.rawValue)", trigger: byOperator ? .requested : .recovery, at: now, &effects)
    }

    /// Moves the term to stopping; ``askIfDue(_:at:_:)`` sends the command.
    mutating func stop(_ pool: inout Pool, _ why: String, trigger: Pool.Trigger, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard let term = pool.term, term.phase != .stopping else { return }
        pool.term?.phase = .stopping
        pool.term?.askAt = now
        pool.term?.missed = 0
        pool.trigger = trigger
        effects.append(
            .decide(Decision("spm/\(pool.name)", "stops term \(term.number) on \(term.host)", why: why, see: ["host/\(term.host)"])))
    }

    /// Sends the next question about the term: one at a time.
    mutating func askIfDue(_ pool: inout Pool, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard let term = pool.term, !term.inFlight, term.askAt <= now, hosts[term.host] != nil else { return }
        pool.term?.inFlight = true
        let kind: RoleAsk.Kind = term.phase == .stopping ? .stop : .status
        effects.append(.perform(.ask(RoleAsk(kind, pool: pool.name, term: term.number, host: term.host, bootID: term.bootID))))
    }

    /// An operator's `spm.select`, `.move` or `.stop`.
    mutating func onMove(_ id: RequestID, _ request: PoolRequest, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard var pool = pool(named: request.pool) else {
            let text = request.pool.map { "there is no pool \($0)" } ?? "name the pool: there are \(pools.count)"
            effects.append(.reply(to: id, .refused(RequestError(SPMErrorCode.poolNotFound, text))))
            return
        }
        if let wanted = request.host {
            guard let unfit = hosts[wanted].map({ $0.unfit(master: pool.master) }) ?? "is not registered" else {
                pool.preferred = wanted
                return requestElection(id, &pool, at: now, &effects)
            }
            effects.append(.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "\(wanted) cannot become SPM: it \(unfit)"))))
            return
        }
        requestElection(id, &pool, at: now, &effects)
    }

    private mutating func requestElection(_ id: RequestID, _ pool: inout Pool, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        let serving = pool.term.flatMap { $0.phase == .serving ? $0.host : nil }
        if let serving, serving == pool.preferred {
            pool.preferred = nil
        } else {
            pool.trigger = .requested
            pool.refusals = [:]
            pool.notBefore = nil
            stop(&pool, "an operator asked for it", trigger: .requested, at: now, &effects)
        }
        pools[pool.name] = pool
        effects.append(.reply(to: id, .success(pool.view)))
    }
}
