public import Messages

/// What an agent tells about itself and its host.
extension HostAgentEngine {
    public var publicState: any Encodable & Sendable {
        AgentSnapshot(heartbeat: heartbeat, vms: vms, storage: storage, spm: spm, signingKey: identity?.signingKey ?? "")
    }

    public var heartbeat: AgentHeartbeat {
        AgentHeartbeat(
            host: identity?.host ?? "", hostID: identity?.hostID ?? 0, bootID: identity?.bootID ?? "", hardwareID: identity?.hardwareID ?? "", sequence: pulse, startedAt: startedAt,
            initializing: isInitializing, watchdogArmed: watchdogArmed ?? false && watchdogOrder?.disarm != true, lockspaces: lockspaces, unreapedGuards: unreapedGuards, unprovenRuns: unprovenRuns,
            memoryFreeMiB: memoryFreeMiB, leaving: goingAway, leavesToSave: departure?.saves, watchdogOrder: watchdogOrder, toolstack: toolstack)
    }

    public var vms: AgentVMs {
        let observations = runs.keys.sorted().compactMap { subject -> VMObservation? in
            runs[subject].flatMap { $0.holder.role == .vm ? observation(of: $0) : nil }
        }
        return AgentVMs(host: identity?.host ?? "", bootID: identity?.bootID ?? "", complete: !isInitializing, vms: observations + strays.map { Self.observation(of: $0, attempt: 0) }, busyWith: notIdle.map { [$0] } ?? [])
    }

    public var storage: AgentStorage {
        let known = domains.keys.sorted().map { domain in
            var probe = probes[domain]
                ?? DomainProbe(domain: domain, path: domains[domain] ?? "", ok: nil, latency: nil, detail: "no probe has answered yet", lockspace: nil)
            probe.lockspace = lockspaces.first { $0.lockspace == domain }?.state
            return probe
        }
        return AgentStorage(host: identity?.host ?? "", bootID: identity?.bootID ?? "", domains: known)
    }

    /// Status of the newest SPM term known here, by pool name.
    public var spm: SPMRoleStatus? {
        let subject = runs.keys.sorted().first { runs[$0]?.holder.role == .spm && runs[$0]?.mayRun == true } ?? runs.keys.sorted().first { runs[$0]?.holder.role == .spm }
        return subject.flatMap { runs[$0] }.map(Self.roleStatus)
    }

    /// Guards that are not reaped although a lockspace of theirs is lost (S13).
    var unreapedGuards: [String] {
        let lost = lockspaces.filter { $0.state == .lost }.map(\.lockspace)
        guard !lost.isEmpty else { return [] }
        return runs.values.filter { run in run.mayRun && run.spec.leases.contains { lost.contains($0.lockspace) } }.map(\.holder.description).sorted()
    }

    /// Runs whose guard is reaped, whose lockspace is not joined any more and whose storage has not answered since (S4); `nil` for none.
    var unprovenRuns: [String]? {
        let joined = lockspaces.filter { $0.state == .joined }.map(\.lockspace)
        let found = runs.values.filter { run in run.phase == .quiescing && run.spec.leases.contains { !joined.contains($0.lockspace) } }
        return found.isEmpty ? nil : found.map(\.holder.description).sorted()
    }

    mutating func onPulse(_ sequence: UInt64, _ memoryFreeMiB: Int) -> Effects {
        pulse = sequence
        self.memoryFreeMiB = memoryFreeMiB
        guard let identity else { return [] }
        var effects: Effects = [.publish(Event("agent.heartbeat", subject: identity.host, body: heartbeat))]
        if sequence % 5 == 0 { effects += [publishedVMs, publishedStorage] }
        if sequence % 5 == 0, !strays.isEmpty { effects.append(.perform(.scan)) }
        return effects
    }

    mutating func onWatchdog(_ covers: Bool, _ why: String) -> Effects {
        guard covers != (watchdogArmed ?? false) else { return [] }
        watchdogArmed = covers
        return [.decide(Decision("host/\(identity?.host ?? "")", covers ? "watchdog armed" : "watchdog not armed", why: why))]
    }

    /// S6: whoever ordered it concludes nothing from this host's watchdog any more, whatever was on its way.
    mutating func onWatchdogOrder(_ id: RequestID, _ order: WatchdogOrder) -> Effects {
        if order == watchdogOrder { return [.reply(to: id, .done)] }
        guard order.serial > watchdogOrder?.serial ?? 0 else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "order \(order.serial) about the watchdog is not newer than \(watchdogOrder?.serial ?? 0), which was obeyed")))]
        }
        let isNews = order.disarm != (watchdogOrder?.disarm ?? false)
        watchdogOrder = order
        // What the keeper said before was said of another order.
        if order.disarm { watchdogArmed = nil }
        guard isNews else { return [.reply(to: id, .done)] }
        let decision = order.disarm
            ? Decision("host/\(identity?.host ?? "")", "watchdog released", why: "fencing-service counts no lease of this host as covered while automatic recovery is off or held: it is disarmed, whatever is held")
            : Decision("host/\(identity?.host ?? "")", "watchdog wanted again", why: "automatic recovery is on again: it is armed while leases are held")
        return [.decide(decision), .perform(.releaseWatchdog(order.disarm)), .reply(to: id, .done)]
    }

    var publishedVMs: Effect<AgentAction> { .publish(Event("agent.vms", subject: identity?.host, body: vms)) }
    var publishedStorage: Effect<AgentAction> { .publish(Event("agent.storage", subject: identity?.host, body: storage)) }

    func report(of run: Run) -> Reply { run.holder.role == .vm ? .success(observation(of: run)) : .success(Self.roleStatus(run)) }

    static func stopped(_ holder: Holder, _ evidence: String, _ proof: SignedProof, lver: UInt64 = 0) -> Reply {
        switch holder.role {
        case .vm: .success(VMObservation(vm: holder.name, attempt: holder.attempt, state: .stopped, evidence: evidence, ended: proof))
        case .spm: .success(SPMRoleStatus(pool: holder.name, role: .free, term: holder.attempt, lver: lver, evidence: evidence, ended: proof))
        }
    }

    func observation(of run: Run) -> VMObservation {
        var seen = VMObservation(
            vm: run.holder.name, attempt: run.holder.attempt, state: run.state, evidence: run.evidence, pid: run.pid, ended: run.proof, hostLeaves: run.endsWithHost,
            isMute: run.mayRun ? run.isMute : nil, leftElsewhere: run.leftOn == nil ? nil : true)
        if let toolstack, seen.state == .running || seen.state == .paused {
            seen.state = .unknown
            seen.evidence = "\(toolstack.sentence); of this guest is known: \(run.evidence)"
        }
        return seen
    }

    /// A guest that runs here without a record says nothing of any attempt: it may be that one or another.
    static func observation(of stray: ScannedGuest, attempt: UInt64) -> VMObservation {
        VMObservation(vm: stray.vm, attempt: attempt, state: .unknown, evidence: stray.evidence, pid: stray.pid)
    }

    static func roleStatus(_ run: Run) -> SPMRoleStatus {
        let role: SPMRole =
            switch run.phase {
            case .starting: .contend
            case .running: .spm
            case .ending, .unknown: .unknown
            case .quiescing, .signing, .over: .free
            }
        return SPMRoleStatus(pool: run.holder.name, role: role, term: run.holder.attempt, lver: run.lver, evidence: run.evidence, ended: run.proof)
    }
}
