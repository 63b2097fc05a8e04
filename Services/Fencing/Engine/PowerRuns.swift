import Messages

/// Runs of the fence agent: one at a time per host, and no destructive one while an outcome is open (S18).
extension FencingEngine {
    mutating func run(_ action: FenceAction, on name: String) {
        guard let host = hosts[name], let device = host.fenceDevice else { return }
        let others = host.levelDevices.dropFirst().map { host.definition.fence[$0] }
        precondition(host.run == nil, "two fence commands at once: \(host)")
        precondition(!action.isDestructive || host.unresolved == nil, "a fence command while the last outcome is open: \(host)")
        let deadline = policy.agentTimeout
        let proxy = proxy(for: host)
        let level = policy.rules >= 1 && host.levels.count > 1 ? host.level ?? 0 : nil
        update(name) {
            let number = $0.nextNumber()
            $0.run = FenceRun(
                id: "\(name)-run-\(number)", host: name, action: action, device: device, others: others.isEmpty ? nil : others, deadline: deadline, proxy: proxy,
                number: host.needsProxy ? number : nil, level: level)
            $0.retryAt = nil
        }
        note(runBegan: name)
        if let run = hosts[name]?.run { perform(.fence(run)) }
    }

    /// Why a run that was decided on is not to begin any more; `nil`: it may. Asked when its turn comes: its decision may have waited for a slow journal meanwhile, and an `off` that silence
    /// was the reason for hits nobody who is heard again (S11), nor what else speaks against it by now. It then ends as ``FencingInput/fenceEnded(_:)`` all the same.
    public func obstacle(to run: FenceRun) -> String? {
        if !run.proxied.isEmpty, let why = proxyObstacle(run) { return why }
        guard run.action == .off, let host = hosts[run.host], host.run?.id == run.id, host.command == nil, let open = host.fenceCase, open.incarnation == host.incarnation,
            open.cause != .operatorAsked
        else { return nil }
        if open.cause == .silent, host.liveness == .heard { return "\(run.host) was heard again before it was sent" }
        if open.cause == .shutDown { return "\(run.host) said goodbye before it was sent" }
        return powerHold ?? (open.proven ? nil : holdOfAnswering(host, open))
    }

    mutating func onFenceEnded(_ result: FenceResult) {
        guard let host = hosts[result.host], let run = host.run, run.id == result.run else { return }
        let before = host.power
        note(runEnded: run, result)
        if result.isOwed == true { noteOwed(run) }
        noteProxy(run, result)
        update(host.name) {
            $0.run = nil
            $0.note(run, result)
            if run.action.isDestructive {
                $0.unresolved = run.action
                $0.power = .unknown
                $0.lastOutput = result.outcome.text
            } else {
                $0.power = result.outcome.powerState
                if $0.power != .unknown { $0.unresolved = nil }
            }
        }
        let detail = run.action.isDestructive ? result.outcome.text : (result.outcome.text.isEmpty ? hosts[host.name]?.lastOutput ?? "" : result.outcome.text)
        if !run.action.isDestructive, let power = hosts[host.name]?.power, power != before || host.command != nil {
            publish("power.state", host.name, PowerStateEvent(host: host.name, state: power, detail: result.outcome.text))
        }
        if host.command?.verb == .rehearse {
            continueRehearsal(run, result)
        } else if host.command != nil {
            continueCommand(host.name, detail)
        } else if let open = host.fenceCase {
            if run.action.isDestructive {
                let confirming: FenceCase.Step = run.action == .off ? .confirmingOff : .confirmingOn
                step(host.name, open.step == .off || open.step == .on ? confirming : .checking, "the agent ended\(detail.isEmpty ? "" : " (\(detail))"); its own status decides")
                self.run(.status, on: host.name)
            } else {
                onPowerRead(host.name, detail)
            }
        } else if run.action.isDestructive {
            self.run(.status, on: host.name)
        }
    }

    // MARK: Operator's commands

    mutating func onPower(_ id: RequestID, _ verb: PowerVerb, _ request: HostRequest) {
        guard let host = known(id, request.host) else { return }
        if host.command?.request == id { return }
        guard host.fenceDevice != nil else { return refuse(id, FencingErrorCode.noDevice, "\(host.name) has no fence device") }
        if host.command?.verb == .rehearse {
            cutShortRehearsal(of: host.name, "power \(verb.rawValue) was asked for")
            return refuse(id, FencingErrorCode.busy, "a rehearsal of \(host.name) ends with the run that is under way; ask again in a moment")
        }
        guard host.run == nil, host.command == nil else { return refuse(id, FencingErrorCode.busy, "a fence command of \(host.name) runs; ask again when it has ended") }
        if request.automatic == true {
            if let why = powerHold { return refuse(id, FencingErrorCode.held, why) }
            guard verb == .on, host.saving?.stage == .off else { return refuse(id, RequestErrorCode.conflict, "\(host.name) was not powered down to save power") }
        }
        if verb != .status {
            if request.now != true, let last = host.commandedAt, now - last < policy.powerQuiet {
                let left = (policy.powerQuiet - (now - last)).milliseconds / 1000 + 1
                return refuse(
                    id, FencingErrorCode.busy,
                    "\(host.name) had a power command \((now - last).milliseconds / 1000) s ago and is given \(policy.powerQuiet.milliseconds / 1000) s to settle: ask again in \(left) s, or at once with --now")
            }
            if let open = host.unresolved {
                return refuse(id, FencingErrorCode.busy, "the outcome of the last \(open.rawValue) of \(host.name) is open; power status resolves it")
            }
            if verb != .off, let why = host.owedText { return refuse(id, FencingErrorCode.busy, why) }
            if host.deviceIsForeign { return refuse(id, FencingErrorCode.held, "the fence device of \(host.name) belongs to another machine") }
            if let open = host.fenceCase, !open.proven, open.cause != .shutDown, !open.isMereIntent, verb != .off {
                return refuse(id, RequestErrorCode.conflict, "fence case \(open.id) of \(host.name) is open (\(open.step.rawValue)): it switches the host on itself once its life is proven over")
            }
            decide(host.name, "power \(verb.rawValue)", why: request.reason ?? "an operator asked for it", host.fenceCase)
        }
        update(host.name) {
            $0.command = PowerCommand(request: id, verb: verb, steps: verb.steps)
            if verb == .off {
                $0.keptOff = true
                if $0.saving?.stage == .off { $0.saving = nil }
            }
            if verb == .on || verb == .cycle {
                $0.keptOff = false
                $0.reboots = nil
                $0.vainOffs = nil
            }
            $0.fenceCase?.readers = []
            $0.fenceCase?.voters = []
        }
        run(verb.steps[0], on: host.name)
    }

    private mutating func continueCommand(_ name: String, _ detail: String) {
        guard let host = hosts[name], var command = host.command, let done = command.steps.first else { return }
        command.steps.removeFirst()
        let power = host.power
        // Within a cycle: on only after a confirmed off.
        if done == .status, command.steps.first == .on, power != .off { command.steps = [] }
        if let next = command.steps.first {
            update(name) { $0.command = command }
            return run(next, on: name)
        }
        let now = now
        update(name) {
            $0.command = nil
            if command.verb != .status { $0.commandedAt = now }
            if command.verb == .off, power == .on { $0.keptOff = false }
        }
        let wanted: PowerState? = switch command.verb {
        case .status, .rehearse: power == .unknown ? .on : nil
        case .off, .save: .off
        case .on, .cycle: .on
        }
        if command.verb == .save { endSaving(name) }
        if wanted == nil || wanted == power {
            reply(command.request, .success(PowerStateEvent(host: name, state: power, detail: detail)))
        } else {
            refuse(
                command.request, FencingErrorCode.agentFailed,
                "\(name) reads \(power.rawValue) after power \(command.verb.rawValue)\(detail.isEmpty ? "" : ": \(detail)")")
        }
        checkPower(name)
    }

    mutating func onFenceNow(_ id: RequestID, _ request: HostRequest) {
        guard let host = known(id, request.host) else { return }
        guard host.hasLife else { return refuse(id, RequestErrorCode.conflict, "\(host.name) was never heard: there is no life to prove over") }
        guard host.fenceDevice != nil else { return refuse(id, FencingErrorCode.noDevice, "\(host.name) has no fence device") }
        // No off would ever be sent, and the host would not be Up again for all that it answers.
        if host.deviceIsForeign { return refuse(id, FencingErrorCode.held, Self.foreignDevice) }
        if let open = host.fenceCase {
            if !open.proven, open.incarnation == host.incarnation { updateCase(host.name) { $0.cause = .operatorAsked } }
            if open.step.isWaiting { checkPower(host.name) }
        } else {
            openCase(host.name, .operatorAsked, request.reason ?? "an operator asked for it")
        }
        reply(id, .success(hosts[host.name]?.fenceCase?.view(of: host.name)))
    }
}

extension PowerVerb {
    var steps: [FenceAction] {
        switch self {
        case .status: [.status]
        case .off: [.off, .status]
        case .on: [.on, .status]
        case .cycle: [.off, .status, .on, .status]
        case .rehearse: []
        case .save: [.off, .status]
        }
    }
}

extension FenceOutcome {
    /// Of a status.
    var powerState: PowerState {
        switch self {
        case .succeeded: .on
        case .readsOff: .off
        case .failed, .timedOut: .unknown
        }
    }

    var text: String {
        switch self {
        case .succeeded, .readsOff: ""
        case .failed(let text): text
        case .timedOut(let text): "killed at its deadline: \(text)"
        }
    }
}
