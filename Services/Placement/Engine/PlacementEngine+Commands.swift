import Messages

/// What operators ask for. Every command answers at once; progress is in `vm.status`.
extension PlacementEngine {
    /// Starts it now, or says why no host takes it. A start that is under way already is a success.
    mutating func onStart(_ request: VMRequest, _ turn: inout Turn) -> Result<VMView, RequestError> {
        var vm: VMRecord
        do throws(RequestError) { vm = try find(request.vm) } catch { return .failure(error) }
        let name = request.vm
        switch vm.phase {
        case .up, .starting:
            return .success(view(vm))
        case .preparing, .stopping:
            return .failure(RequestError(PlacementErrorCode.badState, "\(name) is \(view(vm).status.rawValue): \(vm.reason)"))
        case .unknown:
            return .failure(notProven(vm, "it cannot be started"))
        case .failed where vm.preparation != nil:
            return .failure(RequestError(PlacementErrorCode.badState, "\(name) has no disks: \(vm.reason)"))
        case .down, .failed, .waiting:
            break
        }
        guard vm.isOver else { return .failure(notProven(vm, "it cannot be started")) }
        vm.round = Round(byUser: true, only: request.host, failures: 0, retryAt: nil, since: turn.now, recovering: vm.round.recovering && vm.phase == .waiting)
        let reasons = reasons(for: vm)
        guard !reasons.candidates.isEmpty else {
            return .failure(RequestError(PlacementErrorCode.noHost, "no host can take \(name)" + summary(reasons) + (wake(for: vm, turn.now) ?? ""), details: reasons.rejected))
        }
        vm.wanted = true
        vm.phase = .waiting
        vms[name] = vm
        launch(name, reasons, why: "An operator asked for it", &turn)
        return .success(view(vms[name] ?? vm))
    }

    /// It is not wanted any more. Where it runs, or may run, its agent is told until the run is proven over.
    mutating func onStop(_ name: String, _ turn: inout Turn) -> Result<VMView, RequestError> {
        var vm: VMRecord
        do throws(RequestError) { vm = try find(name) } catch { return .failure(error) }
        switch vm.phase {
        case .preparing:
            return .failure(RequestError(PlacementErrorCode.badState, "\(name) is locked: \(vm.reason)"))
        case .stopping:
            break
        case .down, .failed:
            vm.wanted = false
        case .waiting:
            vm.wanted = false
            vm.phase = .down
            vm.round = Round()
            vm.reason = "an operator stopped it"
            turn.decide(name, "stopped", why: "An operator does not want it any more; nothing of it runs.", evidence: endEvidence(vm))
        case .starting, .up, .unknown:
            vm.wanted = false
            vm.phase = .stopping
            vm.round = Round()
            vm.ask = nil
            vm.nextAsk = nil
            vm.reason = "an operator stops it" + (canAsk(vm) ? "" : "; \(vm.run?.host ?? "its host") does not answer now, and what it did is not proven over")
            turn.decide(name, "stop", why: "An operator asked for it.", evidence: runEvidence(vm), see: hostLink(vm))
        }
        vms[name] = vm
        return .success(view(vm))
    }

    /// Takes it for stopped, if it is proven to be: an operator's word enters as a proof, by `host.confirm-off` (I3).
    mutating func onResetPowerState(_ name: String, _ turn: inout Turn) -> Result<VMView, RequestError> {
        var vm: VMRecord
        do throws(RequestError) { vm = try find(name) } catch { return .failure(error) }
        guard vm.phase != .preparing else { return .failure(RequestError(PlacementErrorCode.badState, "\(name) is locked: \(vm.reason)")) }
        if let refusal = refusalUnlessOver(vm, "its power state cannot be reset") { return .failure(refusal) }
        guard vm.preparation == nil else { return .success(view(vm)) }
        vm.phase = .down
        vm.wanted = false
        vm.round = Round()
        vm.reason = "an operator reset its power state"
        vms[name] = vm
        turn.decide(name, "power state reset", why: "An operator asked for it and its last run is proven over.", evidence: endEvidence(vm), see: hostLink(vm))
        return .success(view(vm))
    }

    /// Why each host could or could not take a VM now.
    /// - Throws: ``RequestError`` `vm.not-found`.
    public func explainPlacement(of name: String) throws(RequestError) -> PlacementReasons {
        reasons(for: try find(name))
    }

    /// For what may be done only to a VM of which nothing runs: one that is known to run is to be stopped, one in doubt to be proven over.
    func refusalUnlessOver(_ vm: VMRecord, _ consequence: String) -> RequestError? {
        guard !vm.isOver else { return nil }
        guard vm.phase == .up || vm.phase == .starting, let run = vm.run else { return notProven(vm, consequence) }
        let name = vm.definition.name
        return RequestError(
            PlacementErrorCode.badState, "\(name) is \(view(vm).status.rawValue) on \(run.host), so \(consequence); stop it first: bulwark vm stop \(name)",
            details: ["host": run.host, "attempt": "\(run.attempt)"])
    }

    func notProven(_ vm: VMRecord, _ consequence: String) -> RequestError {
        let name = vm.definition.name
        if let sighting = vm.sighting {
            return RequestError(
                PlacementErrorCode.notProven, "\(name): \(sighting.host) reports its attempt \(sighting.attempt) as \(sighting.state), which should be over; \(consequence)",
                details: ["host": sighting.host, "attempt": "\(sighting.attempt)"])
        }
        guard let run = vm.run else { return RequestError(PlacementErrorCode.notProven, "\(name): \(consequence)") }
        return RequestError(
            PlacementErrorCode.notProven,
            "\(name): its run \(run.attempt) on \(run.host) is not proven over, so \(consequence); wait until \(run.host) answers or is fenced, or vouch that it is off: bulwark host confirm-off \(run.host)",
            details: ["host": run.host, "incarnation": "\(run.incarnation)", "attempt": "\(run.attempt)"])
    }
}
