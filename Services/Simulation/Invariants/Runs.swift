import Messages

/// Every live run, and the last run of every VM and of every pool's SPM role.
struct Runs: Sendable {
    /// A VM, or the SPM role of a pool: what has attempts.
    struct Subject: Hashable, Sendable {
        var role: Holder.Role
        var name: String
        init(_ holder: Holder) {
            role = holder.role
            name = holder.name
        }
    }

    struct Boot: Hashable, Sendable {
        var host: String
        var boot: String
    }

    /// The last run that began.
    struct Began: Sendable {
        var run: Run
        var fact: Fact
        var lver: UInt64
        /// Those that it began with.
        var leases: [GuardLease]
        /// An `ended` proof, or the agent's final word, says that it is over.
        var isCovered: Bool
    }

    struct History: Sendable {
        /// The newest attempt whose start was sent.
        var sent: Run?
        var sentFact: Fact?
        var last: Began?
        /// Live runs; more than one only when the promise is broken already.
        var live: [Run] = []
        /// The highest attempt that is known to be over by itself.
        var coveredAttempt: UInt64?
        /// The highest lease version that a worker began with.
        var lver: UInt64 = 0
    }

    private(set) var histories: [Subject: History] = [:]
    private var live: [Boot: Set<Run>] = [:]
    private var boots: [String: [String]] = [:]
    private var numbers: [Boot: Incarnation] = [:]
    private var proofs: [String: [Proof]] = [:]
    /// `leaseExpired` proofs about each host; a newer one covers what older ones covered.
    private var expired: [String: Proof] = [:]
    private(set) var liveCount = 0

    // MARK: Boots

    mutating func number(_ host: String, _ boot: String, _ incarnation: Incarnation) { numbers[Boot(host: host, boot: boot)] = incarnation }

    /// The runs that end with it.
    mutating func endBoot(_ host: String, _ boot: String) -> Set<Run> {
        let ended = live.removeValue(forKey: Boot(host: host, boot: boot)) ?? []
        boots[host]?.removeAll { $0 == boot }
        liveCount -= ended.count
        for run in ended { histories[Subject(run.holder)]?.live.removeAll { $0 == run } }
        return ended
    }

    // MARK: Runs

    func history(of holder: Holder) -> History { histories[Subject(holder)] ?? History() }

    mutating func sent(_ run: Run, _ incarnation: Incarnation, _ fact: Fact) {
        number(run.host, run.boot, incarnation)
        var history = history(of: run.holder)
        if run.holder.attempt >= history.sent?.holder.attempt ?? 0 {
            history.sent = run
            history.sentFact = fact
        }
        histories[Subject(run.holder)] = history
    }

    mutating func began(_ run: Run, leases: [GuardLease], _ fact: Fact) {
        let lver = leases.first?.lver ?? 0
        var history = history(of: run.holder)
        let isCovered = history.coveredAttempt.map { run.holder.attempt > 0 && $0 == run.holder.attempt } ?? false
        if run.holder.attempt >= history.last?.run.holder.attempt ?? 0 { history.last = Began(run: run, fact: fact, lver: lver, leases: leases, isCovered: isCovered) }
        history.lver = max(history.lver, lver)
        let boot = Boot(host: run.host, boot: run.boot)
        if live[boot, default: []].insert(run).inserted {
            history.live.append(run)
            liveCount += 1
            if boots[run.host]?.contains(run.boot) != true { boots[run.host, default: []].append(run.boot) }
        }
        histories[Subject(run.holder)] = history
    }

    mutating func end(_ run: Run) {
        let boot = Boot(host: run.host, boot: run.boot)
        guard live[boot]?.remove(run) != nil else { return }
        liveCount -= 1
        if live[boot]?.isEmpty == true {
            live[boot] = nil
            boots[run.host]?.removeAll { $0 == run.boot }
        }
        histories[Subject(run.holder)]?.live.removeAll { $0 == run }
    }

    /// Of those that live on a host, the first.
    func live(on host: String) -> Run? {
        (boots[host] ?? []).flatMap { live[Boot(host: host, boot: $0)] ?? [] }.min { "\($0)" < "\($1)" }
    }

    func isLive(_ run: Run) -> Bool { live[Boot(host: run.host, boot: run.boot)]?.contains(run) ?? false }

    // MARK: What is proven

    /// This attempt is over, by an `ended` proof or its agent's final word.
    mutating func cover(_ holder: Holder) {
        var history = history(of: holder)
        history.coveredAttempt = max(history.coveredAttempt ?? 0, holder.attempt)
        if history.last?.run.holder.attempt == holder.attempt { history.last?.isCovered = true }
        histories[Subject(holder)] = history
    }

    mutating func take(_ proof: Proof, _ judgement: inout Judgement) {
        if let holder = proof.endedHolder {
            if let alive = history(of: holder).live.first(where: { $0.holder == holder && $0.host == proof.host }) {
                judgement.violation(.I3, "proof \(proof.id) says that \(alive) is over, and it lives", earlier: history(of: holder).last?.fact)
            }
            return cover(holder)
        }
        if proof.kind == .leaseExpired { expired[proof.host] = proof }
        guard let incarnations = proof.incarnations else { return }
        for boot in boots[proof.host] ?? [] {
            let key = Boot(host: proof.host, boot: boot)
            guard let number = numbers[key], number <= incarnations else { continue }
            for run in (live[key] ?? []).sorted(by: { "\($0)" < "\($1)" }) {
                judgement.violation(.I3, "proof \(proof.id) (\(proof.kind.rawValue)) says that \(run) is over, and it lives", earlier: history(of: run.holder).last?.fact)
            }
        }
        // Newer proofs cover what older ones covered; a few are kept for the day that one is revoked.
        proofs[proof.host] = ((proofs[proof.host] ?? []) + [proof]).suffix(4)
    }

    mutating func revoke(_ proof: Proof) { proofs[proof.host]?.removeAll { $0.id == proof.id } }

    /// Whether it is known to be over: by a proof, or by its agent's final word.
    func isProvenOver(_ began: Began) -> Bool { began.isCovered || proofCovering(began.run) != nil || hasExpired(began) }

    /// Every lease that it began with is proven to have expired: its guard, or else its host's watchdog, has ended it.
    private func hasExpired(_ began: Began) -> Bool {
        guard let proof = expired[began.run.host], !began.leases.isEmpty else { return false }
        return began.leases.allSatisfy { proof.generations[$0.name.lockspace] ?? 0 >= $0.generation }
    }

    /// The proof about its host's life that covers this run.
    func proofCovering(_ run: Run) -> Proof? {
        guard let number = numbers[Boot(host: run.host, boot: run.boot)] else { return nil }
        return proofs[run.host]?.last { $0.covers(host: run.host, incarnation: number) }
    }
}

extension Proof {
    /// What an `ended` proof is about: a VM's name, or `spm/<pool>`.
    var endedHolder: Holder? {
        guard kind == .ended, let holder, let attempt else { return nil }
        let prefix = "spm/"
        return holder.hasPrefix(prefix)
            ? Holder(role: .spm, name: String(holder.dropFirst(prefix.count)), attempt: attempt) : Holder(role: .vm, name: holder, attempt: attempt)
    }
}
