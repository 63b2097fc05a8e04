import Messages

/// What is done next, asked after every input: storage work, questions to agents, and starts in the order of priority.
extension PlacementEngine {
    mutating func proceed(_ turn: inout Turn) {
        // Most VMs run, and nothing is to be done about them.
        let names = vms.values.filter { !$0.isWell }.map(\.definition.name).sorted()
        proceedPreparations(names, &turn)
        proceedDoubts(names, &turn)
        proceedQuestions(names, &turn)
        proceedSightings(names, &turn)
        proceedStarts(&turn)
        proceedSaving(&turn)
    }

    /// Observes runs whose state is not known and repeats stops, each question under a new id; a run that was only refused an answer is asked again later.
    private mutating func proceedQuestions(_ names: [String], _ turn: inout Turn) {
        for name in names {
            guard var vm = vms[name], let run = vm.run, vm.end == nil, vm.ask == nil, canAsk(vm), let host = hosts[run.host] else { continue }
            switch vm.phase {
            case .stopping: break
            case .unknown where vm.startAsk == nil: break
            case .up:
                guard let missingSince = vm.missingSince else { continue }
                let judged = missingSince + policy.doubt
                guard judged <= turn.now else {
                    turn.wake(at: judged)
                    continue
                }
            default: continue
            }
            if let nextAsk = vm.nextAsk, nextAsk > turn.now {
                turn.wake(at: nextAsk)
                continue
            }
            let isStop = vm.phase == .stopping
            let id = nextID(isStop ? "stop" : "observe", &vm)
            vm.ask = id
            vms[name] = vm
            let target = AgentTarget(host: run.host, bootID: run.bootID, endpoint: host.view.endpoints.agentRequests, key: host.view.key)
            let attempt = VMAttempt(vm: name, attempt: run.attempt)
            turn.perform(isStop ? .stop(target, attempt, id: id) : .observe(target, attempt, id: id))
        }
    }

    /// A run that should be over and is still reported after the time of doubt is an alarm; such a VM is not started.
    private mutating func proceedSightings(_ names: [String], _ turn: inout Turn) {
        for name in names {
            guard let sighting = vms[name]?.sighting, !sighting.alarmed else { continue }
            let judged = sighting.since + policy.doubt
            guard judged <= turn.now else {
                turn.wake(at: judged)
                continue
            }
            vms[name]?.sighting?.alarmed = true
            turn.decide(
                name, "alarm: it runs where it should not",
                why: "\(sighting.host) reports attempt \(sighting.attempt) as \(sighting.state) although it is not the current run or was proven over; the VM is not started while that lasts.",
                evidence: ["host": sighting.host, "attempt": "\(sighting.attempt)", "boot": sighting.bootID, "incarnation": "\(sighting.incarnation)"],
                see: ["host/\(sighting.host)"])
        }
    }

    /// Starts what waits, highest priority first.
    private mutating func proceedStarts(_ turn: inout Turn) {
        let waiting = vms.values.filter { $0.phase == .waiting }.sorted {
            ($1.definition.priority, $0.definition.name) < ($0.definition.priority, $1.definition.name)
        }
        guard !waiting.isEmpty else { return }
        var starting = Dictionary(grouping: vms.values.filter { $0.phase == .starting }.compactMap { $0.run?.host }) { $0 }.mapValues(\.count)
        let up = hosts.values.filter { $0.view.status == .up }.map(\.view.name)
        for name in waiting.map(\.definition.name) {
            guard let vm = vms[name], vm.isOver else { continue }
            switch obstacle(to: vm, &turn) {
            case .pause: continue
            case .told(let reason):
                say(name, reason, &turn)
                continue
            case nil: break
            }
            let limit = vm.round.byUser ? .max : policy.startsPerHost ?? .max
            func hasRoom(_ host: String) -> Bool { starting[host] ?? 0 < limit }
            // Asked first, for it is asked of everybody that waits, at every answer.
            guard up.isEmpty || up.contains(where: hasRoom) else {
                say(name, Self.waitsForItsTurn, &turn)
                continue
            }
            var reasons = reasons(for: vm)
            if !reasons.candidates.isEmpty {
                guard !gathers(vm, &turn) else {
                    say(name, "waits for the other hosts, which have not joined yet", &turn)
                    continue
                }
                reasons.candidates.removeAll { !hasRoom($0) }
                guard let host = reasons.candidates.first else {
                    say(name, Self.waitsForItsTurn, &turn)
                    continue
                }
                starting[host, default: 0] += 1
                launch(name, reasons, why: vm.round.byUser ? "An operator asked for it" : "It is HA and its last run is proven over", &turn)
            } else if !vm.definition.ha {
                fail(name, reasons, &turn)
            } else if vm.round.tried.isEmpty {
                vms[name]?.round.hadNoHost = true
                say(name, "no host can take it" + summary(reasons), &turn)
            } else {
                endRound(name, reasons, &turn)
            }
        }
    }

    /// After the failure of many at once: what starts all of them at once is another failure.
    private static let waitsForItsTurn = "waits for its turn: each host that can take it starts others now"

    private enum Obstacle {
        /// It passes by itself, soon.
        case pause
        /// Worth telling.
        case told(String)
    }

    /// What keeps a waiting VM from being started now.
    private func obstacle(to vm: VMRecord, _ turn: inout Turn) -> Obstacle? {
        if let retryAt = vm.round.retryAt, retryAt > turn.now {
            turn.wake(at: retryAt)
            return .pause
        }
        guard synced else { return .pause }
        if turn.now < settleUntil, hosts.values.contains(where: { $0.view.status == .up && !$0.reported }) {
            turn.wake(at: settleUntil)
            return .pause
        }
        guard !vm.round.byUser else { return nil }
        if policy.waitsForHost == true, vm.leftWithHost == true, let run = vm.run, let host = hosts[run.host], host.view.incarnation == run.incarnation {
            return .told("waits for \(run.host), which shuts down, to come back (recovery.waitsForHost); vm start starts it elsewhere")
        }
        guard recoveryAllowed else { return .told("automatic recovery is held; see bulwark ha status") }
        let patience = (vm.round.since ?? turn.now) + policy.priorityBlocking
        let first = vms.values.contains {
            $0.definition.ha && $0.definition.priority > vm.definition.priority && ($0.phase == .starting || $0.phase == .waiting)
        }
        guard first, turn.now < patience else { return nil }
        turn.wake(at: patience)
        return .pause
    }

    /// After a failure of all hosts they come back one after the other: the first of them is not to get everything.
    private mutating func gathers(_ vm: VMRecord, _ turn: inout Turn) -> Bool {
        guard vm.round.hadNoHost == true, !vm.round.byUser, policy.startsPerHost != nil,
            hosts.values.contains(where: { host in
                host.view.status == .up && (vm.definition.pin.isEmpty || vm.definition.pin.contains(host.view.name)) && vm.lockspaces.contains { host.view.generations[$0] == nil }
            })
        else { return false }
        let until = vm.round.gathersUntil ?? turn.now + policy.settle
        vms[vm.definition.name]?.round.gathersUntil = until
        turn.wake(at: until)
        return turn.now < until
    }

    /// Changes the shown reason, once.
    private mutating func say(_ name: String, _ reason: String, _ turn: inout Turn) {
        guard vms[name]?.reason != reason else { return }
        vms[name]?.reason = reason
        turn.decide(name, "waits", why: reason, see: vms[name].map(hostLink) ?? [])
    }

    /// Every host was tried: an HA VM begins anew after a pause, for ever.
    private mutating func endRound(_ name: String, _ reasons: PlacementReasons, _ turn: inout Turn) {
        guard var vm = vms[name] else { return }
        vm.round.failures += 1
        let pause = policy.pause(afterFailures: vm.round.failures)
        vm.round.retryAt = turn.now + pause
        vm.round.byUser = false
        vm.round.only = nil
        vm.round.tried = [:]
        vm.reason = "no host could start it; next try in \(pause.milliseconds / 1000) s" + summary(reasons)
        vms[name] = vm
        turn.decide(name, "no host could start it", why: "Each host was tried or is not fit; it is tried again after \(pause.milliseconds / 1000) s.", evidence: reasons.rejected)
        turn.wake(at: turn.now + pause)
    }

    private mutating func fail(_ name: String, _ reasons: PlacementReasons, _ turn: inout Turn) {
        guard var vm = vms[name] else { return }
        vm.phase = .failed
        vm.wanted = false
        vm.round = Round()
        vm.reason = "no host could start it" + summary(reasons)
        vms[name] = vm
        turn.decide(name, "start failed", why: "No host could start it and it is not HA.", evidence: reasons.rejected)
        turn.publish("vm.failed", view(vm))
    }

    /// Sends the next attempt to the best host. All that identifies the run is in the state before the command leaves (S9).
    mutating func launch(_ name: String, _ reasons: PlacementReasons, why: String, _ turn: inout Turn) {
        guard var vm = vms[name], vm.isOver, let best = reasons.candidates.first, let host = hosts[best], let bootID = host.view.bootID else { return }
        let earlier: SignedProof? = if case .ended(let held) = vm.end { held.aged(at: turn.now) } else { nil }
        let lastEnd = endEvidence(vm)
        let links = hostLink(vm)
        vm.setRunAside()
        vm.attempt += 1
        let generations = host.view.generations.filter { vm.lockspaces.contains($0.key) }
        vm.run = VMRun(attempt: vm.attempt, host: best, incarnation: host.view.incarnation, bootID: bootID, generations: generations, leased: vm.definition.leases && generations.count == vm.lockspaces.count ? true : nil)
        vm.end = nil
        vm.leftWithHost = nil
        vm.phase = .starting
        vm.placedAt = turn.now
        vm.upSince = nil
        vm.missingSince = nil
        vm.ask = nil
        vm.nextAsk = nil
        vm.round.retryAt = nil
        vm.round.hadNoHost = nil
        vm.round.gathersUntil = nil
        vm.reason = "starting on \(best)"
        let id = "\(lineage).start.\(name).\(vm.attempt)"
        vm.startAsk = id
        vms[name] = vm
        var evidence = runEvidence(vm)
        evidence["candidates"] = reasons.candidates.joined(separator: " ")
        for (rejected, reason) in reasons.rejected { evidence["not \(rejected)"] = reason }
        for key in ["proof", "proofKind", "case"] { evidence[key] = lastEnd[key] }
        turn.decide(
            name, "start on \(best)", why: "\(why); of the hosts that can take it \(best) has the fewest VMs.", evidence: evidence,
            see: Set(links + hostLink(vm)).sorted())
        turn.publish("vm.placed", view(vm))
        let known = [proofs, leaseProofs ?? [:]].flatMap { held in held.keys.sorted().compactMap { held[$0]?.aged(at: turn.now) } }
        turn.perform(
            .start(
                AgentTarget(host: best, bootID: bootID, endpoint: host.view.endpoints.agentRequests, key: host.view.key),
                VMStart(vm: vm.definition, attempt: vm.attempt, generations: generations, proofs: known + (earlier.map { [$0] } ?? [])), id: id))
    }

    // MARK: Filters and the weight

    /// Every host with the first filter that rejects it, and the others, fewest VMs first, then by name.
    func reasons(for vm: VMRecord) -> PlacementReasons {
        var rejected: [String: String] = [:]
        var candidates: [(count: Int, host: String)] = []
        for name in hosts.keys.sorted() {
            guard let host = hosts[name] else { continue }
            let here = vms.values.filter { $0.run?.host == name && $0.end == nil }
            if let reason = rejection(of: host, for: vm, here: here) {
                rejected[name] = reason
            } else {
                candidates.append((here.count, name))
            }
        }
        return PlacementReasons(rejected: rejected, candidates: candidates.sorted { $0 < $1 }.map(\.host))
    }

    private func rejection(of host: HostRecord, for vm: VMRecord, here: [VMRecord]) -> String? {
        let view = host.view
        guard synced else { return "fencing-service has not told about it since placement-service started" }
        guard view.status == .up, view.bootID != nil else { return "is \(view.status.rawValue): \(view.reason)" }
        if let toolstack = view.toolstack { return toolstack.sentence }
        if isBeingPoweredDown(view) { return "it is powered down to save power" }
        guard host.reported else { return "its agent has not reported all that runs there yet" }
        if let only = vm.round.only, only != view.name { return "the start was asked for on \(only) only" }
        guard vm.definition.pin.isEmpty || vm.definition.pin.contains(view.name) else { return "the VM is pinned to \(vm.definition.pin.joined(separator: ", "))" }
        if let refusal = vm.round.tried[view.name] { return "tried in this round: \(refusal)" }
        if isProvenOver(view.name, view.incarnation) { return "its incarnation \(view.incarnation) was proven over" }
        if let free = view.memoryMiB {
            // The reported free memory knows nothing of what was placed since.
            let placedSince = here.filter { ($0.placedAt ?? host.seenAt) > host.seenAt || $0.phase == .starting }.map(\.definition.memoryMiB).reduce(0, +)
            guard free - placedSince >= vm.definition.memoryMiB else { return "\(max(0, free - placedSince)) MiB of memory are free, it needs \(vm.definition.memoryMiB)" }
        }
        for disk in vm.definition.disks {
            // A host has one writer of a disk at a time (S3).
            if let other = here.first(where: { $0.definition.name != vm.definition.name && $0.definition.disks.contains { $0.isShared(with: disk) } }) {
                return "\(other.definition.name), with which it shares disk \(disk.image), runs there"
            }
        }
        for lockspace in vm.lockspaces where view.generations[lockspace] == nil { return "has not joined lockspace \(lockspace)" }
        return nil
    }

    func summary(_ reasons: PlacementReasons) -> String {
        guard !reasons.rejected.isEmpty else { return ": no host is known" }
        return ": " + reasons.rejected.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: "; ")
    }
}
