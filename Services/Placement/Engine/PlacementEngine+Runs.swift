import Messages

/// What agents say of runs, and what follows from it.
extension PlacementEngine {
    /// A report of another boot than the host's current one says nothing: fencing-service first gives that boot an incarnation.
    mutating func onReport(_ report: AgentVMs, _ turn: inout Turn) {
        guard let host = hosts[report.host], host.view.bootID == report.bootID else { return }
        if report.complete, !host.reported {
            hosts[report.host]?.reportedBoot = report.bootID
            retryNow(turn.now)
        }
        let listed = Dictionary(grouping: report.vms, by: \.vm)
        tellAliens(listed.keys.sorted().filter { vms[$0] == nil }.flatMap { listed[$0] ?? [] }, on: report.host, &turn)
        let concerned = vms.values.filter { listed[$0.definition.name] != nil || $0.run?.host == report.host || $0.sighting?.host == report.host }
        for name in concerned.map(\.definition.name).sorted() {
            let observations = listed[name] ?? []
            look(for: name, in: observations, of: host.view, complete: report.complete, &turn)
            guard var vm = vms[name], let run = vm.run, vm.end == nil, run.host == report.host, run.bootID == report.bootID else { continue }
            if let own = observations.first(where: { $0.attempt == run.attempt }) {
                vm.missingSince = nil
                vms[name] = vm
                apply(own, to: name, &turn)
            } else if report.complete, vm.missingSince == nil {
                vm.missingSince = turn.now
                vms[name] = vm
            }
        }
    }

    /// Guests that are not defined here are told once and left alone.
    private mutating func tellAliens(_ aliens: [VMObservation], on host: String, _ turn: inout Turn) {
        let running = aliens.filter(mayRun)
        for alien in running where hosts[host]?.aliens.contains(alien.vm) == false {
            turn.decide(
                alien.vm, "undefined guest seen", why: "\(host) \(alien.state.isAlive ? "runs" : "may run") a VM that is not defined here; nothing is done to it.",
                evidence: ["host": host, "attempt": "\(alien.attempt)", "observed": alien.evidence], see: ["host/\(host)"])
        }
        hosts[host]?.aliens = Set(running.map(\.vm)).sorted()
    }

    /// What a VM that is defined now may run there already.
    func sightingOfAlien(_ name: String, on host: String, _ now: Instant) -> Sighting? {
        guard policy.unknownMayRun == true, let host = hosts[host], host.aliens.contains(name), let bootID = host.view.bootID, !isProvenOver(host.view.name, host.view.incarnation) else { return nil }
        return Sighting(host: host.view.name, incarnation: host.view.incarnation, bootID: bootID, attempt: 0, since: now, isUnknown: true)
    }

    /// Whether something of it may live on the host that says this (I4).
    private func mayRun(_ seen: VMObservation) -> Bool {
        if seen.state.isAlive { return true }
        return policy.unknownMayRun == true && seen.state != .stopped && seen.leftElsewhere != true
    }

    /// Looks for runs that should not be: an attempt other than the current one, or the current one after its end.
    private mutating func look(for name: String, in observations: [VMObservation], of host: HostView, complete: Bool, _ turn: inout Turn) {
        guard var vm = vms[name], let bootID = host.bootID else { return }
        let stray = observations.first { seen in
            guard mayRun(seen) else { return false }
            // A guest of which no attempt is known may be the current one: that is missing in this report, and asked about.
            let isCurrent = vm.run.map { $0.host == host.name && $0.bootID == bootID && ($0.attempt == seen.attempt || seen.attempt == 0) } ?? false
            return !isCurrent || vm.end != nil
        }
        if let stray {
            guard vm.sighting?.host != host.name || vm.sighting?.attempt != stray.attempt else { return }
            vm.sighting = Sighting(host: host.name, incarnation: host.incarnation, bootID: bootID, attempt: stray.attempt, since: turn.now, isUnknown: stray.state.isAlive ? nil : true)
        } else if let old = vm.sighting, old.host == host.name, old.bootID == bootID, complete || observations.contains(where: { $0.attempt == old.attempt && $0.state == .stopped }) {
            vm.sighting = nil
        } else {
            return
        }
        vms[name] = vm
    }

    /// Whether this host's report of this boot is still missing: then it is to be submitted even if nothing in it changed.
    public func awaitsReport(of boot: String, on host: String) -> Bool {
        guard let known = hosts[host] else { return false }
        return known.view.bootID == boot && !known.reported
    }

    mutating func onAnswered(_ name: String, _ id: RequestID, _ answer: AgentAnswer, _ turn: inout Turn) {
        if vms[name]?.resuming?.id == id { return onResumeAnswered(name, answer, &turn) }
        guard var vm = vms[name], let run = vm.run else { return }
        let isStart = vm.startAsk == id
        guard isStart || vm.ask == id else { return }
        if isStart {
            vm.startAsk = nil
        } else {
            vm.ask = nil
            // What it can say it says by itself when that changes.
            vm.nextAsk = turn.now + policy.observeEvery * (vm.phase == .unknown && hosts[run.host]?.view.toolstack != nil ? 10 : 1)
        }
        vms[name] = vm
        guard vm.end == nil else { return }
        switch answer {
        case .observed(let observation):
            guard observation.vm == name, observation.attempt == run.attempt else { return }
            vms[name]?.missingSince = nil
            apply(observation, to: name, &turn)
        case .failed(let error) where isStart:
            onStartFailed(name, error, &turn)
        case .failed(let error):
            if vm.phase == .unknown { vms[name]?.reason = "\(run.host) did not say what became of attempt \(run.attempt): \(error)" }
        }
    }

    private mutating func onStartFailed(_ name: String, _ error: RequestError, _ turn: inout Turn) {
        switch StartRefusal(error) {
        case .nothingRemains:
            finish(name, .neverStarted(error), &turn)
        case .tryAgain:
            finish(name, .neverStarted(error), &turn)
            guard let host = vms[name]?.run?.host, vms[name]?.phase == .waiting else { return }
            vms[name]?.round.tried[host] = nil
            vms[name]?.round.retryAt = turn.now + .seconds(1)
        case .unknown:
            markUnknown(name, "the start was answered with \(error)", &turn)
        }
    }

    /// One tri-state observation of the current run (I4).
    mutating func apply(_ seen: VMObservation, to name: String, _ turn: inout Turn) {
        guard let vm = vms[name], let run = vm.run, vm.end == nil else { return }
        switch seen.state {
        case .running, .paused:
            seenRunning(name, seen, &turn)
        case .starting:
            break
        case .stopped:
            if let ended = seen.ended, ended.proof.covers(holder: name, attempt: run.attempt), ended.proof.host == run.host {
                vms[name]?.leftWithHost = seen.hostLeaves
                finish(name, .ended(HeldProof(signed: ended, receivedAt: turn.now)), &turn)
            } else if vm.phase != .stopping {
                markUnknown(name, "\(run.host) says that it stopped (\(seen.evidence)), but has not proven that nothing of it reaches its disks any more", &turn)
            }
        case .unknown:
            if vm.phase == .up || vm.phase == .starting && vm.startAsk == nil { markUnknown(name, "\(run.host) does not know whether it runs: \(seen.evidence)", &turn) }
        }
    }

    private mutating func seenRunning(_ name: String, _ seen: VMObservation, _ turn: inout Turn) {
        guard var vm = vms[name], let run = vm.run else { return }
        vm.pid = seen.pid ?? vm.pid
        let wasPaused = vm.paused
        vm.paused = seen.state == .paused
        guard vm.phase == .starting || vm.phase == .unknown else {
            if vm.phase == .up, vm.paused || wasPaused { tellPause(&vm, seen, wasPaused, &turn) }
            if vm.phase == .up { tellMonitor(&vm, seen, &turn) }
            vms[name] = vm
            return
        }
        let recovered = vm.round.recovering
        let isNew = vm.upSince == nil
        vm.phase = .up
        vm.upSince = vm.upSince ?? turn.now
        vm.round.tried = [:]
        vm.round.byUser = false
        vm.round.only = nil
        vm.round.retryAt = nil
        vm.round.recovering = false
        vm.reason = isNew ? "runs on \(run.host)" : "\(run.host) says again that it runs"
        vm.isMute = nil
        tellMonitor(&vm, seen, &turn)
        vms[name] = vm
        turn.decide(name, "up on \(run.host)", why: "The agent of \(run.host) says that attempt \(run.attempt) runs: \(seen.evidence).", evidence: runEvidence(vm), see: hostLink(vm))
        if recovered && isNew { turn.publish("vm.recovered", view(vm)) }
    }

    private func tellPause(_ vm: inout VMRecord, _ seen: VMObservation, _ wasPaused: Bool, _ turn: inout Turn) {
        guard let host = vm.run?.host else { return }
        vm.reason = (vm.paused ? "paused on \(host): " : "no longer paused, on \(host): ") + seen.evidence
        guard vm.paused != wasPaused else { return }
        turn.decide(
            vm.definition.name, vm.paused ? "paused on \(host)" : "no longer paused on \(host)", why: "The agent of \(host) says so: \(seen.evidence).", evidence: runEvidence(vm),
            see: hostLink(vm))
    }

    /// Nothing follows from it: its guard says that it runs.
    private func tellMonitor(_ vm: inout VMRecord, _ seen: VMObservation, _ turn: inout Turn) {
        guard let host = vm.run?.host, vm.isMute != seen.isMute else { return }
        vm.isMute = seen.isMute
        let isMute = seen.isMute == true
        vm.reason = isMute ? "runs on \(host), as its guard says; its QEMU does not answer (QMP): it can be stopped, and nothing else" : "runs on \(host), and its QEMU answers again"
        turn.decide(
            vm.definition.name, isMute ? "out of control on \(host)" : "controlled again on \(host)", why: "The agent of \(host) says so: \(seen.evidence).", evidence: runEvidence(vm),
            see: hostLink(vm))
    }

    /// I4: it may run, or not; nothing is started until that is known.
    mutating func markUnknown(_ name: String, _ why: String, _ turn: inout Turn) {
        guard var vm = vms[name], let run = vm.run else { return }
        if vm.phase == .stopping { return }
        let isNew = vm.phase != .unknown
        vm.phase = .unknown
        vm.reason = why
        vm.paused = false
        vms[name] = vm
        guard isNew else { return }
        var evidence = runEvidence(vm)
        if let fenceCase = hosts[run.host]?.view.fenceCase { evidence["case"] = fenceCase.id }
        turn.decide(name, "unknown", why: "\(why); nothing is started until this run is proven over.", evidence: evidence, see: hostLink(vm))
    }

    /// The run is over; the only place where that is recorded.
    mutating func finish(_ name: String, _ end: RunEnd, _ turn: inout Turn) {
        guard var vm = vms[name], let run = vm.run, vm.end == nil else { return }
        let wasUp = vm.upSince != nil
        if let upSince = vm.upSince, turn.now - upSince >= policy.stableAfter { vm.round.failures = 0 }
        vm.end = end
        vm.paused = false
        vm.isMute = nil
        vm.pid = nil
        vm.ask = nil
        vm.startAsk = nil
        vm.nextAsk = nil
        vm.missingSince = nil
        let isOut = vm.phase == .stopping || !vm.wanted
        switch end {
        case .neverStarted(let error): vm.round.tried[run.host] = error.description
        case .ended where !wasUp: vm.round.tried[run.host] = "it was ended before it ran"
        case .hostProven where !wasUp: vm.round.tried[run.host] = "the host failed"
        case .ended: vm.round.failures += isOut || vm.leftWithHost == true ? 0 : 1
        case .hostProven: break
        }
        let why =
            switch end {
            case .neverStarted(let error): "\(run.host) refused it and nothing of it remains: \(error)"
            case .ended(let held): "\(run.host) proved that attempt \(run.attempt) ended: \(held.signed.proof.statement)"
            case .hostProven(let held): "\(run.host) is proven to be over: \(held.signed.proof.statement)"
            }
        if isOut {
            vm.phase = .down
            vm.round = Round()
            vm.reason = "an operator stopped it"
        } else if !wasUp || vm.definition.ha {
            vm.phase = .waiting
            vm.round.since = vm.round.since ?? turn.now
            if wasUp {
                vm.round.recovering = true
                vm.round.since = turn.now
                if case .ended = end, vm.leftWithHost != true { vm.round.retryAt = turn.now + policy.pause(afterFailures: vm.round.failures - 1) }
            }
            vm.reason = "waits to be started again: \(why)"
        } else {
            vm.phase = .down
            vm.reason = "\(why); it is not HA"
        }
        vms[name] = vm
        let what = if case .neverStarted = end { "start refused by \(run.host)" } else { "run \(run.attempt) is over" }
        turn.decide(name, what, why: why, evidence: endEvidence(vm), see: hostLink(vm))
        refuseResumers(name, RequestError(PlacementErrorCode.badState, "\(name) cannot go on: \(why)"), &turn)
        if !isOut { turn.publish("vm.failed", view(vm)) }
    }

    // MARK: Words for decisions

    /// The agent of the boot that the current run belongs to can be asked.
    func canAsk(_ vm: VMRecord) -> Bool {
        guard let run = vm.run, let host = hosts[run.host] else { return false }
        return synced && host.answers && host.view.bootID == run.bootID
    }

    func hostLink(_ vm: VMRecord) -> [String] { vm.run.map { ["host/\($0.host)"] } ?? [] }

    func runEvidence(_ vm: VMRecord) -> [String: String] {
        guard let run = vm.run else { return [:] }
        return ["attempt": "\(run.attempt)", "boot": run.bootID, "host": run.host, "incarnation": "\(run.incarnation)"]
    }

    func endEvidence(_ vm: VMRecord) -> [String: String] {
        var evidence = runEvidence(vm)
        switch vm.end {
        case .neverStarted(let error): evidence["code"] = error.code
        case .ended(let held), .hostProven(let held):
            evidence["proof"] = held.signed.proof.id
            evidence["proofKind"] = held.signed.proof.kind.rawValue
            evidence["case"] = held.signed.proof.caseID
        case nil: break
        }
        return evidence
    }
}
