@testable import FencingEngine
import Messages

/// What comes of runs of fence agents: its own, and those that go through proxies.
extension World {
    func fence(_ run: FenceRun) {
        let name = run.host
        if let other = runs[name] { violations.append("\(run.id) beside \(other.id)") }
        if run.action.isDestructive, let open = openOutcome[name] { violations.append("\(run.action) while the outcome of \(open) is open") }
        if run.action == .on, statusOffSince[name] == nil, !operatorActs.contains(name) { violations.append("on of \(name) without an own status off") }
        runs[name] = run
        if run.action.isDestructive {
            openOutcome[name] = run.action
            statusOffSince[name] = nil
        }
        guard let machine = machines[name] else { return }
        if run.action == .off { offs[name, default: 0] += 1 }
        if run.action == .on { ons[name, default: 0] += 1 }
        if let obstacle = engine.obstacle(to: run) { return deliver(.fenceEnded(FenceResult(run: run.id, host: name, outcome: .failed(obstacle))), after: .milliseconds(1)) }
        if !run.proxied.isEmpty, let proxy = run.proxy { return fence(run, by: proxy, machine) }
        let parts = run.devices.map { FenceResult.Part(outcome: outcome(of: run, at: $0, machine), took: machine.latency) }
        deliver(.fenceEnded(FenceResult(run, parts)), after: machine.latency)
    }


    func fence(_ run: FenceRun, by proxy: String, _ machine: Machine) {
        proxied.append((proxy, run.action))
        if freezesInACommand == proxy, run.action.isDestructive {
            freezesInACommand = nil
            machines[proxy]?.frozen = true
            begun.append((proxy, run))
            return deliver(.fenceEnded(FenceResult(run, run.devices.map { _ in FencePart(outcome: .timedOut("no answer"), took: run.deadline) }, isOwed: true)), after: run.deadline)
        }
        guard reachable(proxy) else {
            guard case .ended(let parts) = run.prepared(.failure(RequestError(RequestErrorCode.unknownOutcome, "")), after: .seconds(3)) else { return }
            return deliver(.fenceEnded(FenceResult(run, parts)), after: .seconds(3))
        }
        let reaches = machines[proxy]?.reachesNoDevice == false
        let parts = run.devices.map { FencePart(outcome: reaches ? outcome(of: run, at: $0, machine) : .failed("no route to host"), took: machine.latency) }
        deliver(.fenceEnded(FenceResult(run, parts)), after: machine.latency)
    }

    func thawProxies() {
        for (proxy, run) in begun where machines[proxy]?.frozen != true {
            begun.removeAll { $0.run.id == run.id }
            guard machines[proxy]?.powered == true, let machine = machines[run.host] else { continue }
            if machine.powered, engine.hosts[run.host]?.status == .up { violations.append("a late \(run.action) of \(proxy) hits \(run.host), which is Up") }
            if ons[run.host, default: 0] > 0, run.action == .off { violations.append("a late off of \(proxy) comes after \(run.host) was switched on") }
            _ = outcome(of: run, at: run.device, machine)
        }
    }

    func outcome(of run: FenceRun, at device: FenceDevice, _ machine: Machine) -> FenceOutcome {
        let bmc = device.address == "pair" ? machine.pair : device.address == "outlet" ? machine.outlet : machine.bmc
        if machine.outletIsOff, device.address != "outlet" { return .failed("Unable to connect to the BMC") }
        switch (bmc ?? .works, run.action) {
        case (.works, .status) where device.address == "outlet": return machine.outletIsOff ? .readsOff : .succeeded
        case (.another(let isOff), let action):
            if action != .status { machines[run.host]?.outlet = .another(isOff: action == .off) }
            return action == .status && isOff ? .readsOff : .succeeded
        case (.dead, _): return .failed("Unable to obtain correct plug status")
        case (.lies, let action): return action == .status ? .readsOff : .succeeded
        case (_, .status): return machine.powered && !machine.suppliesOff.contains(device.address) ? .succeeded : .readsOff
        case (.works, let action):
            acts.append((now + halfOf(machine.latency), run.host, action, device.address))
            return .succeeded
        case (.stuck, .off): return .failed("Timed out waiting to power OFF")
        case (.stuck, .on): return .succeeded
        }
    }

    func halfOf(_ duration: Duration) -> Duration { Duration(nanoseconds: duration.nanoseconds / 2) }

    func actOfBMCs() {
        let due = acts.filter { $0.at <= now }
        acts.removeAll { $0.at <= now }
        for act in due {
            // Of two supplies either one keeps it running.
            if machines[act.host]?.pair != nil, act.device != "outlet" {
                if act.action == .off { machines[act.host]?.suppliesOff.insert(act.device) } else { machines[act.host]?.suppliesOff.remove(act.device) }
                if act.action == .off, machines[act.host]?.suppliesOff.count ?? 0 < 2 { continue }
            }
            if act.device == "outlet" { machines[act.host]?.outletIsOff = act.action == .off }
            if act.device == "outlet", act.action == .on, machines[act.host]?.waitsForItsBMC == true { continue }
            if act.action == .off { crash(act.host) } else if machines[act.host]?.outletIsOff != true { powerOn(act.host) }
        }
    }

    /// As the shell does when the run's turn has come.
    func sendWaitingOff() {
        guard let run = waitingOff else { return }
        waitingOff = nil
        guard let obstacle = engine.obstacle(to: run) else { return fence(run) }
        submit(.fenceEnded(FenceResult(run: run.id, host: run.host, outcome: .failed(obstacle))))
    }
}
