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
    private lazy var runner = FenceRunner(in: self)

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
        runner.started()
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
        case .identify(let question): identify(question)
        case .askAcceptance(let question): askAcceptance(question)
        case .askProxy(let question): ask(question)
        case .softRestart(let restart): softRestart(restart)
        case .saveShutdown(let name, let request):
            guard let host = world.host(name) else { return }
            let caller = caller
            ask(host.agent, target: engine.view(of: name)?.bootID, timeout: .seconds(60), { .saveShutdown($0, caller) }) { [self] in
                guard let error = $0.error, !error.isUnknownOutcome else { return }
                submit(.savingAnswered(SavingAnswer(host: name, request: request, refusal: error.description)))
            }
        case .callOffShutdown(let name):
            guard let host = world.host(name) else { return }
            let caller = caller
            ask(host.agent, target: engine.view(of: name)?.bootID, timeout: Self.patience, { .saveCalledOff($0, caller) }) { _ in }
        case .readSectors(let question): readSectors(question)
        case .orderWatchdog(let name, let order):
            guard let host = world.host(name) else { return }
            let caller = caller
            ask(host.agent, timeout: Self.patience, { .watchdogOrder($0, caller, order) }) { _ in }
        case .sign(let proof): after(.milliseconds(1)) { [self] in submit(.proofSigned(world.keys.sign(proof, with: managers.signingKey))) }
        }
    }

    // MARK: Heartbeats

    private func listen(_ watch: HostWatch) {
        let isAnew = monitor.watch(watch, at: now)
        setMonitorTimer()
        guard isAnew, let host = world.host(watch.host) else { return }
        listening.removeValue(forKey: watch.host)?.close()
        listening[watch.host] = Subscription(of: host.agent, by: self, topics: ["agent.heartbeat", "agent.vms"]) { [self] event in hear(event, of: watch.host) }
    }

    private func hear(_ event: Event, of host: String) {
        if let heartbeat = event.body as? AgentHeartbeat, event.type == "agent.heartbeat" {
            let isClones = world.others(of: host).contains { $0.isClone && $0.machine.hasBooted(heartbeat.bootID) }
            if managers.areObeyed, !isClones, host == heartbeat.host { noteGoodbye(heartbeat) }
            if managers.areObeyed, !isClones { world.note(.hostHeard(host: host, boot: heartbeat.bootID)) }
            for input in monitor.onHeartbeat(heartbeat, of: host, at: now) { submit(input) }
            setMonitorTimer()
            if !greetings.hasGreeted(host, bootID: heartbeat.bootID), let view = engine.view(of: host) { greet(greetings.greet(view)) }
        } else if let vms = event.body as? AgentVMs {
            for input in monitor.onVMs(vms, of: host) { submit(input) }
        }
    }

    /// Hosts that said goodbye to this service, and the boot; known for so long that its journal has it.
    private(set) var goodbyes: [String: String] = [:]

    private func noteGoodbye(_ heartbeat: AgentHeartbeat) {
        guard heartbeat.leaving == .over else {
            if goodbyes[heartbeat.host] == heartbeat.bootID { goodbyes[heartbeat.host] = nil }
            return
        }
        after(.seconds(10)) { [self] in
            if world.host(heartbeat.host)?.agent.engine.heartbeat.leaving != nil { goodbyes[heartbeat.host] = heartbeat.bootID }
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

    func hearDump(from address: String) {
        for input in monitor.onDumpMessage(from: address, at: now) { submit(input) }
        setMonitorTimer()
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
        if run.action != .status {
            managers.powerCommanded(run.host, isOff: run.action == .off)
            if let number = run.number { sent["\(run.host) \(number)"] = Instant(nanoseconds: world.now) }
        }
        var parts: [FencePart?] = run.devices.map { _ in nil }
        var owed = false
        func ended(_ positions: [Int], _ some: [FencePart], isOwed: Bool = false) {
            for (position, part) in zip(positions, some) { parts[position] = part }
            owed = owed || isOwed
            let all = parts.compactMap { $0 }
            if all.count == parts.count { submit(.fenceEnded(FenceResult(run, all, isOwed: owed))) }
        }
        let proxied = run.proxied
        let own = run.devices.indices.filter { !proxied.contains($0) }
        if !own.isEmpty { runner.run(run.action, on: own.map { run.devices[$0] }, of: host, deadline: run.deadline) { ended(own, $0) } }
        if !proxied.isEmpty { fence(run, by: run.proxy ?? "") { ended(proxied, $0, isOwed: $1) } }
    }

    /// When each destructive run that goes through a proxy was sent.
    private var sent: [String: Instant] = [:]

    /// A proxy begins what it was told then.
    func proxyBegan(_ run: FenceProxyRun) {
        guard run.action.isDestructive, let at = sent["\(run.host) \(run.number)"] else { return }
        world.note(.deviceCommanded(host: run.host, run.action == .off ? .off : .on, sent: at))
    }

    private func fence(_ run: FenceRun, by name: String, ended: @escaping ([FencePart], Bool) -> Void) {
        guard let proxy = world.host(name) else { return }
        let began = clock
        let boot = engine.view(of: name)?.bootID
        let caller = caller
        ask(proxy.agent, target: boot, timeout: Self.patience, { .fencePrepare($0, caller, run.prepare) }) { [self] in
            switch run.prepared($0.typed(FenceTicket.self), after: clock - began) {
            case .ended(let parts): ended(parts, false)
            case .run(let order):
                ask(proxy.agent, target: boot, timeout: order.deadline + Self.patience, { .fenceRun($0, caller, order) }) { [self] in
                    let (parts, isOwed) = run.ran($0.typed(FenceProxyResult.self), after: clock - began)
                    ended(parts, isOwed)
                }
            }
        }
    }

    /// By ssh: the machine runs and is reached, and its agent is started anew.
    private func softRestart(_ restart: SoftRestart) {
        guard let host = world.host(restart.host) else { return }
        let began = clock
        func end(_ outcome: FenceOutcome) { submit(.softRestarted(SoftRestartResult(restart, outcome, took: clock - began))) }
        let isReached = !world.network.isCut(machine.name, host.machine.name) && !world.network.isCut(host.machine.name, machine.name)
        guard host.machine.isRunning, isReached else { return after(min(restart.deadline, .seconds(10))) { end(.failed("ssh: no route to host")) } }
        after(.seconds(1)) { [self] in
            world.tell(name, "soft restart of \(host.name)")
            host.agent.unfreeze()
            host.agent.kill()
            end(.succeeded)
        }
    }

    private func ask(_ question: ProxyQuestion) {
        guard let proxy = world.host(question.proxy) else { return }
        let caller = caller
        ask(proxy.agent, target: engine.view(of: question.proxy)?.bootID, timeout: Self.patience, { .fencePrepare($0, caller, FencePrepare(host: question.host, number: question.number)) }) { [self] in
            submit(.proxyTold(ProxyAnswer(question, $0.typed(FenceTicket.self))))
        }
    }

    private func identify(_ question: IdentityQuestion) {
        guard let host = world.host(question.host) else { return }
        func identified(_ reply: Result<FenceIdentity, RequestError>) { submit(.identified(Identification(question, reply))) }
        if let name = question.proxy {
            guard let proxy = world.host(name) else { return }
            let (caller, identify) = (caller, FenceIdentify(host: question.host, device: question.device))
            return ask(proxy.agent, target: engine.view(of: name)?.bootID, timeout: .seconds(20), { .fenceIdentify($0, caller, identify) }) { identified($0.typed(FenceIdentity.self)) }
        }
        let device = host.device(at: question.device.address)
        after(device.identityTakes) { identified(.success(device.identity)) }
    }

    // MARK: Other hosts

    private static let patience = FenceRun.proxyPatience

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
