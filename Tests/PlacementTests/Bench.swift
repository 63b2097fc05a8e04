import Messages

@testable import PlacementEngine

/// Feeds an engine by hand and keeps what it wanted done.
struct Bench {
    var engine = PlacementEngine()
    var now = Instant(nanoseconds: 0)
    var actions: [PlacementEngine.Action] = []
    var events: [Event] = []
    var decisions: [Decision] = []
    var lastReply: Reply?

    /// Hosts named here are Up in incarnation 1 and have reported that nothing runs there.
    init(hosts: [String] = ["host1", "host2"], recoveryAllowed: Bool = true) {
        feed(.started(PlacementPolicy(), lineage: "j"))
        feed(.fencing(Self.snapshot(hosts.map { Self.host($0) }, recoveryAllowed: recoveryAllowed)))
        for host in hosts { feed(Self.report(host, [])) }
    }

    static func snapshot(_ hosts: [HostView], recoveryAllowed: Bool = true) -> FencingSnapshot {
        FencingSnapshot(hosts: hosts, cases: [], ha: HAState(enabled: true, hold: nil, recoveryAllowed: recoveryAllowed), signingKey: "")
    }

    static func host(
        _ name: String, _ status: HostStatus = .up, incarnation: UInt64 = 1, memory: Int? = 4096, generations: [String: UInt64]? = nil, proof: SignedProof? = nil
    ) -> HostView {
        HostView(
            name: name, id: 1, status: status, reason: "test", incarnation: Incarnation(incarnation), bootID: "\(name)-\(incarnation)",
            generations: generations ?? ["dom": incarnation], endpoints: HostEndpoints(agentRequests: name, agentEvents: "", leaseRequests: "", leaseEvents: ""),
            memoryMiB: memory, proof: proof)
    }

    static func report(_ host: String, incarnation: UInt64 = 1, complete: Bool = true, _ vms: [VMObservation]) -> PlacementEngine.Input {
        .report(AgentVMs(host: host, bootID: "\(host)-\(incarnation)", complete: complete, vms: vms))
    }

    static func vm(_ name: String, ha: Bool = true, leases: Bool = true, priority: Int = 50, memory: Int = 64, pin: [String] = [], disk: String? = nil) -> VMDefinition {
        VMDefinition(
            name: name, memoryMiB: memory, disks: [DiskDefinition(image: disk ?? "disk-\(name)", domain: "dom", size: 512)], ha: ha, leases: leases,
            priority: priority, pin: pin)
    }

    static func running(_ vm: String, _ attempt: UInt64) -> VMObservation {
        VMObservation(vm: vm, attempt: attempt, state: .running, evidence: "guard answers", pid: 7)
    }

    static func stopped(_ vm: String, _ attempt: UInt64, by host: String, proven: Bool = true) -> VMObservation {
        VMObservation(vm: vm, attempt: attempt, state: .stopped, evidence: "reaped", ended: proven ? World.ended(vm, attempt, host) : nil)
    }

    mutating func feed(_ input: PlacementEngine.Input) {
        for effect in engine.handle(input, at: now) {
            switch effect {
            case .perform(let action): actions.append(action)
            case .publish(let event): events.append(event)
            case .decide(let decision): decisions.append(decision)
            case .reply(_, let reply): lastReply = reply
            case .wake: break
            }
        }
    }

    mutating func pass(_ duration: Duration) {
        now = now + duration
        feed(.wake)
    }

    /// Defines a VM; every storage task succeeds.
    mutating func define(_ definition: VMDefinition) {
        feed(.define("define", definition))
        while engine.vms[definition.name]?.phase == .preparing, let id = engine.vms[definition.name]?.preparation?.id {
            feed(.prepared(vm: definition.name, id: id, nil))
        }
    }

    mutating func start(_ name: String, on host: String? = nil) { feed(.start("start", VMRequest(vm: name, host: host))) }

    /// The agent's answer to the outstanding start, stop or observation.
    mutating func answer(_ name: String, _ answer: AgentAnswer) {
        guard let id = engine.vms[name]?.startAsk ?? engine.vms[name]?.ask else { return }
        feed(.answered(vm: name, id: id, answer))
    }

    mutating func bringUp(_ definition: VMDefinition, on host: String? = nil) {
        define(definition)
        start(definition.name, on: host)
        answer(definition.name, .observed(Self.running(definition.name, engine.vms[definition.name]?.attempt ?? 0)))
    }

    /// Starts sent so far: VM, attempt and host.
    var starts: [String] {
        actions.compactMap { action in
            guard case .start(let target, let start, _) = action else { return nil }
            return "\(start.vm.name).\(start.attempt)@\(target.host)"
        }
    }

    func phase(_ name: String) -> VMRecord.Phase? { engine.vms[name]?.phase }

    var refusal: RequestError? {
        guard case .refused(let error) = lastReply else { return nil }
        return error
    }
}
