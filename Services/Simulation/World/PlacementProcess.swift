import FencingEngine
import HostAgentEngine
import Messages
import PlacementEngine
import ServiceCore
import SPMEngine

/// placement-service: its engine, what it hears of fencing-service and agents, and the commands it sends.
final class PlacementProcess: ServiceProcess<PlacementEngine> {
    private var followed: [String: Subscription] = [:]
    private var follower = ClusterFollower()

    private unowned(unsafe) let managers: ManagerSet

    init(of managers: ManagerSet) {
        self.managers = managers
        super.init(.placementService, of: managers)
    }

    override func started() {
        followed = [:]
        follower = ClusterFollower()
        submit(.started(world.scenario.policy.placement, lineage: epoch))
        for host in engine.hostViews { follow(host.name) }
        _ = Subscription(
            of: managers.fencing, by: self, topics: ["host.", "ha."],
            onSnapshot: { [self] state in if let snapshot = state as? FencingSnapshot { take(snapshot) } }, onEvent: { [self] in take($0) })
        followPool()
    }

    private func followPool() {
        guard world.scenario.policy.placement.saving != nil else { return }
        _ = Subscription(of: managers.spm, by: self, topics: ["pool.status"]) { [self] event in
            if let pool = event.body as? PoolView { submit(.pool(pool)) }
        }
    }

    private func power(_ id: RequestID, _ host: String, _ input: (RequestID) -> FencingInput) {
        ask(managers.fencing, id: id, timeout: .seconds(300), input) { [self] in submit(.powered(host: host, id: id, $0.error)) }
    }

    override func dismantle() {
        super.dismantle()
        followed = [:]
    }

    override func published(_ event: Event) { if managers.areObeyed { world.observer.placement(event) } }

    // MARK: fencing-service

    private func take(_ snapshot: FencingSnapshot) {
        submit(follower.take(snapshot, verified))
        for name in followed.keys.sorted() where !snapshot.hosts.contains(where: { $0.name == name }) { forget(name) }
        for host in snapshot.hosts {
            follow(host.name)
            greet(greetings.greet(host))
        }
        submitAwaited()
    }

    private func take(_ event: Event) {
        guard let known = try? RegistryEvent(event.type, event) else { return }
        if let input = follower.take(known, verified) { submit(input) }
        switch known {
        case .host(let host):
            follow(host.name)
            greet(greetings.greet(host))
            submitAwaited()
        case .removed(let name): forget(name)
        default: break
        }
    }

    private func verified(_ proof: SignedProof, from sender: String?) -> SignedProof? { managers.verified(proof, from: sender) }

    // MARK: Agents

    private func follow(_ name: String) {
        guard followed[name] == nil, let host = world.host(name) else { return }
        followed[name] = Subscription(
            of: host.agent, by: self, topics: ["agent.vms"],
            onSnapshot: { [self] state in if let state = state as? AgentSnapshot { hear(state.vms) } },
            onEvent: { [self] event in if let vms = event.body as? AgentVMs { hear(vms) } })
    }

    private func forget(_ name: String) {
        followed.removeValue(forKey: name)?.close()
        follower.forget(name)
        greet(greetings.forget(name))
    }

    private func hear(_ report: AgentVMs) {
        if let input = follower.take(report, for: engine, verified) { submit(input) }
    }

    private func submitAwaited() {
        for input in follower.awaited(by: engine, verified) { submit(input) }
    }

    // MARK: Commands

    override func perform(_ action: PlacementEngine.Action) {
        let caller = caller
        switch action {
        case .createVolume(let vm, let volume, let id):
            ask(managers.spm, id: id, timeout: .seconds(60), { .createVolume($0, volume) }) { [self] in submit(.prepared(vm: vm, id: id, $0.error)) }
        case .createLease(let vm, let lease, let id):
            ask(managers.spm, id: id, timeout: .seconds(60), { .createLease($0, LeaseRequest(lease: lease)) }) { [self] in submit(.prepared(vm: vm, id: id, $0.error)) }
        case .start(let target, let start, let id):
            if managers.areObeyed { world.startSent(start, to: target) }
            command(start.vm.name, id, target, .seconds(60)) { .vmStart($0, caller, start) }
        case .stop(let target, let attempt, let id): command(attempt.vm, id, target, .seconds(10)) { .vmStop($0, caller, attempt) }
        case .observe(let target, let attempt, let id): command(attempt.vm, id, target, .seconds(10)) { .vmObserve($0, caller, attempt) }
        case .powerDown(let request, let id): power(id, request.host) { .powerSave($0, request) }
        case .powerUp(var request, let id):
            request.automatic = true
            power(id, request.host) { .power($0, .on, request) }
        case .resume(let target, let attempt, let id): command(attempt.vm, id, target, .seconds(30)) { .vmResume($0, caller, attempt) }
        }
    }

    private func command(_ vm: String, _ id: RequestID, _ target: AgentTarget, _ timeout: Duration, _ input: (RequestID) -> AgentInput) {
        guard let host = world.host(target.host) else { return }
        ask(host.agent, id: id, target: target.bootID, timeout: timeout, input) { [self] result in
            submit(.answered(vm: vm, id: id, AgentAnswer(result.typed(VMObservation.self)) { managers.verified($0, from: target.host) }))
        }
    }
}
