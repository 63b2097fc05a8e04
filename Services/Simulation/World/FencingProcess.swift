import Invariants
import FencingEngine
import HostAgentEngine
import LeaseEngine
import Messages
import ServiceCore

/// fencing-service: its engine and failure detectors, the hosts it listens to and the BMCs that it commands.
final class FencingProcess: ServiceProcess<FencingEngine> {
    private var monitor = LivenessMonitor(policy: FencingPolicy())
    private var monitorTimer: (at: Instant, number: Int)?
    private var timers = 0
    private var listening: [String: Subscription] = [:]
    private var networkIsUp: Bool?
    /// flock of each host's fence runs: a run that lingers keeps the next one waiting (S18).
    private var lingering: [String: Int] = [:]

    private unowned(unsafe) let managers: ManagerSet

    init(of managers: ManagerSet) {
        self.managers = managers
        super.init(.fencingService, of: managers)
    }

    override func started() {
        monitor = LivenessMonitor(policy: world.scenario.policy.fencing)
        monitorTimer = nil
        listening = [:]
        networkIsUp = nil
        // Fence runs live in a PID namespace that ends with the service.
        lingering = [:]
        managers.fencingStarted()
        submit(.started(FencingStart(policy: world.scenario.policy.fencing, signingKey: managers.signingKey)))
        checkNetwork()
        guard world.scenario.policy.fencing.graceSPM > .zero else { return }
        _ = Subscription(of: managers.spm, by: self, topics: ["pool.status"]) { [self] event in
            monitor.onPool(event.body as? PoolView)
        }
    }

    override func dismantle() {
        super.dismantle()
        listening = [:]
    }

    override func published(_ event: Event) { managers.fencing(event) }

    override func greeted(_ host: String, refusal: String?) {
        managers.greeted(host, isRefused: refusal != nil)
        submit(.greeted(host: host, refusal: refusal))
    }

    override func perform(_ action: FencingAction) {
        switch action {
        case .watch(let watch):
            if let view = engine.view(of: watch.host) { greetings.note(view) }
            listen(watch)
        case .unwatch(let host):
            monitor.unwatch(host)
            greet(greetings.forget(host))
            listening.removeValue(forKey: host)?.close()
        case .fence(let run): fence(run)
        case .identify(let host, _, _): identify(host)
        case .askAcceptance(let question): askAcceptance(question)
        case .readSectors(let question): readSectors(question)
        case .sign(let proof): after(.milliseconds(1)) { [self] in submit(.proofSigned(world.keys.sign(proof, with: managers.signingKey))) }
        }
    }

    // MARK: Heartbeats

    private func listen(_ watch: HostWatch) {
        guard monitor.watch(watch, at: now), let host = world.host(watch.host) else { return }
        listening.removeValue(forKey: watch.host)?.close()
        listening[watch.host] = Subscription(of: host.agent, by: self, topics: ["agent.heartbeat", "agent.vms"]) { [self] event in hear(event, of: watch.host) }
        setMonitorTimer()
    }

    private func hear(_ event: Event, of host: String) {
        if let heartbeat = event.body as? AgentHeartbeat, event.type == "agent.heartbeat" {
            let isClones = world.others(of: host).contains { $0.isClone && $0.machine.hasBooted(heartbeat.bootID) }
            if managers.areObeyed, !isClones { world.note(.hostHeard(host: host, boot: heartbeat.bootID)) }
            for input in monitor.onHeartbeat(heartbeat, of: host, at: now) { submit(input) }
            setMonitorTimer()
            if !greetings.hasGreeted(host, bootID: heartbeat.bootID), let view = engine.view(of: host) { greet(greetings.greet(view)) }
        } else if let vms = event.body as? AgentVMs {
            monitor.onVMs(vms, of: host)
        }
    }

    private func setMonitorTimer() {
        guard let next = monitor.nextWake else { return }
        if let monitorTimer, next >= monitorTimer.at { return }
        timers += 1
        let number = timers
        monitorTimer = (next, number)
        after(max(.zero, next - now)) { [self] in
            guard monitorTimer?.number == number else { return }
            monitorTimer = nil
            for input in monitor.onWake(at: now) { submit(input) }
            setMonitorTimer()
        }
    }

    private func checkNetwork() {
        let isUp = !world.network.isIsolated(machine.name, among: world.machineNames)
        if isUp != networkIsUp {
            networkIsUp = isUp
            submit(.network(ok: isUp, detail: isUp ? "" : "bond0 has no carrier"))
        }
        after(.milliseconds(500)) { [self] in checkNetwork() }
    }

    // MARK: Fence devices

    private func fence(_ run: FenceRun) {
        guard let host = world.host(run.host) else { return }
        if let obstacle = engine.obstacle(to: run) {
            return after(.zero) { [self] in submit(.fenceEnded(FenceResult(run: run.id, host: run.host, outcome: .failed(obstacle)))) }
        }
        world.tell(name, "fence \(run.action.rawValue) \(run.host)")
        if run.action != .status { managers.powerCommanded(run.host, isOff: run.action == .off) }
        guard lingering[run.host] ?? 0 == 0 else {
            return after(run.deadline) { [self] in
                submit(.fenceEnded(FenceResult(run: run.id, host: run.host, outcome: .timedOut("an earlier run of the agent still lingers"))))
            }
        }
        var isOver = false
        lingering[run.host, default: 0] += 1
        func end(_ outcome: FenceOutcome) {
            guard !isOver else { return }
            isOver = true
            lingering[run.host, default: 1] -= 1
            submit(.fenceEnded(FenceResult(run: run.id, host: run.host, outcome: outcome)))
        }
        // The command has to reach the device, which is on the manager's side of the network.
        let life = life
        host.bmc.run(run.action) { [self] outcome in self.run(life) { end(outcome) } }
        after(run.deadline) { end(.timedOut("killed after \(Int(run.deadline.seconds)) s")) }
    }

    private func identify(_ name: String) {
        guard let host = world.host(name) else { return }
        after(.milliseconds(100)) { [self] in
            let bmc = host.bmc
            if bmc.fault == .isDead || bmc.fault == .hangs {
                return submit(.identified(Identification(host: name, guid: nil, unsupported: false, detail: "no answer")))
            }
            submit(.identified(Identification(host: name, guid: bmc.guid, unsupported: bmc.guid == nil, detail: "")))
        }
    }

    // MARK: Other hosts

    private static let patience = Duration.seconds(3)

    private func askAcceptance(_ question: AcceptanceQuestion) {
        guard let voter = world.host(question.voter) else { return }
        let caller = caller
        ask(voter.agent, timeout: Self.patience, { .fenceAccept($0, caller, FenceAccept(host: question.host, caseID: question.caseID)) }) { [self] in
            submit(.acceptance(AcceptanceAnswer(question, $0)))
        }
    }

    private func readSectors(_ question: SectorQuestion) {
        guard let reader = world.host(question.reader) else { return }
        ask(reader.leases, timeout: Self.patience, { .inspect($0, LockspaceRequest(lockspace: nil)) }) { [self] in
            submit(.sectorsRead(SectorAnswer(question, $0.typed(LockspaceList.self))))
        }
    }
}
