import Messages

/// Owns the virtual machines: what is defined, what is wanted, where each last ran and whether that run is over.
///
/// One VM, by phase (public status in brackets):
///
/// | phase                 | stimulus                                                   | next                                   |
/// |-----------------------|------------------------------------------------------------|----------------------------------------|
/// | preparing [locked]    | volumes and leases exist                                   | down                                   |
/// |                       | a storage task failed / no SPM serves                      | failed / asked again                   |
/// | down, failed [error]  | `vm.start`, a host passes every filter                     | starting                               |
/// | waiting [down]        | allowed, its turn, a host passes every filter              | starting (attempt + 1)                 |
/// |                       | every host was tried: HA / not HA                          | waiting, later / failed                |
/// | down, failed, waiting | the proof that alone ended its last or an earlier run is   | unknown                                |
/// |                       | revoked                                                    |                                        |
/// | starting              | agent says running                                         | up                                     |
/// |                       | refused with nothing left                                  | waiting (next host)                    |
/// |                       | no answer, any other error, host silent                    | unknown                                |
/// | up [up, paused]       | host silent or in a new life, stopped without proof        | unknown                                |
/// |                       | run proven over: HA and wanted / else                      | waiting / down                         |
/// | unknown               | agent says running                                         | up                                     |
/// |                       | run proven over: HA, or its start was not finished / else  | waiting / down                         |
/// | stopping              | run proven over                                            | down                                   |
///
/// A run is *over* only when its own start was refused with nothing left, an `ended` proof names its attempt, or a proof covers its host's incarnation (I3).
/// Nothing else, above all no silence, leads out of `unknown` (I4). Each attempt's host, incarnation, boot and generations are state before the command leaves (S9).
public struct PlacementEngine: Engine, Equatable {
    public enum Input: EngineInput {
        /// First input after each start of the process. Nothing is acted on until fencing-service's snapshot and the hosts' reports were heard (I5).
        case started(PlacementPolicy, lineage: String)
        case wake
        case define(RequestID, VMDefinition)
        case remove(RequestID, VMRequest)
        case start(RequestID, VMRequest)
        case stop(RequestID, VMRequest)
        case resetPowerState(RequestID, VMRequest)
        /// Lets a VM go on that its hypervisor has paused.
        case resume(RequestID, VMRequest)
        /// fencing-service's snapshot; its proofs verified, the unacceptable ones stripped.
        case fencing(FencingSnapshot)
        case host(HostView)
        case hostRemoved(String)
        case proof(SignedProof)
        case proofRevoked(host: String)
        case ha(HAState)
        /// An agent's report; its `ended` proofs verified, the unacceptable ones stripped.
        case report(AgentVMs)
        /// What came of ``Action/start(_:VMStart:id:)``, ``Action/stop(_:VMAttempt:id:)``, ``Action/observe(_:VMAttempt:id:)`` or ``Action/resume(_:VMAttempt:id:)``.
        case answered(vm: String, id: RequestID, AgentAnswer)
        /// What came of ``Action/createVolume(vm:_:id:)`` or ``Action/createLease(vm:_:id:)``: `nil` for success.
        case prepared(vm: String, id: RequestID, RequestError?)
        /// What spm-coordinator says of its pool; only while power is saved.
        case pool(PoolView)
        /// What came of ``Action/powerDown(_:id:)`` or ``Action/powerUp(_:id:)``: `nil` for success.
        case powered(host: String, id: RequestID, RequestError?)
    }

    public enum Action: Sendable {
        /// To spm-coordinator: `volume.create`.
        case createVolume(vm: String, VolumeCreate, id: RequestID)
        /// To spm-coordinator: `lease.create`.
        case createLease(vm: String, LeaseName, id: RequestID)
        /// To an agent: `vm.start`.
        case start(AgentTarget, VMStart, id: RequestID)
        /// To an agent: `vm.stop`.
        case stop(AgentTarget, VMAttempt, id: RequestID)
        /// To an agent: `vm.observe`.
        case observe(AgentTarget, VMAttempt, id: RequestID)
        /// To an agent: `vm.resume`.
        case resume(AgentTarget, VMAttempt, id: RequestID)
        /// To fencing-service: `power.save`.
        case powerDown(HostRequest, id: RequestID)
        /// To fencing-service: `power.on`.
        case powerUp(HostRequest, id: RequestID)
    }

    var policy = PlacementPolicy()
    /// Prefix of every request id, so that another journal never reuses one.
    var lineage = ""
    var vms: [String: VMRecord] = [:]
    /// Removed VMs, by name.
    var retired: [String: RetiredVM] = [:]
    var hosts: [String: HostRecord] = [:]
    /// The newest proof about each host, kept when the host is forgotten.
    var proofs: [String: HeldProof] = [:]
    /// The newest `leaseExpired` proof about each host; `nil`: there never was any.
    var leaseProofs: [String: HeldProof]?
    var recoveryAllowed = false
    /// fencing-service's snapshot was received since the start of this process.
    var synced = false
    /// Until then, automatic starts wait for the reports of all Up hosts.
    var settleUntil = Instant(nanoseconds: 0)
    /// `nil`: power was never saved.
    var saving: PowerSavingMemory?

    public init() {}

    public mutating func handle(_ input: Input, at now: Instant) -> [Effect<Action>] {
        var turn = Turn(now: now)
        let before = self
        switch input {
        case .started(let policy, let lineage): onStarted(policy, lineage, &turn)
        case .wake: break
        case .define(let id, let definition): turn.reply(id, onDefine(definition, &turn))
        case .remove(let id, let request): turn.reply(id, onRemove(request.vm, &turn))
        case .start(let id, let request): turn.reply(id, onStart(request, &turn))
        case .stop(let id, let request): turn.reply(id, onStop(request.vm, &turn))
        case .resetPowerState(let id, let request): turn.reply(id, onResetPowerState(request.vm, &turn))
        case .resume(let id, let request): onResume(id, request.vm, &turn)
        case .fencing(let snapshot): onFencing(snapshot, &turn)
        case .host(let host): onHost(host, &turn)
        case .hostRemoved(let host): onHostRemoved(host, &turn)
        case .proof(let proof): onProof(proof, &turn)
        case .proofRevoked(let host): onProofRevoked(host)
        case .ha(let state): onHA(state)
        case .report(let report): onReport(report, &turn)
        case .answered(let vm, let id, let answer): onAnswered(vm, id, answer, &turn)
        case .prepared(let vm, let id, let error): onPrepared(vm, id, error, &turn)
        case .pool(let pool): onPool(pool, now)
        case .powered(let host, let id, let error): onPowered(host, id, error, &turn)
        }
        proceed(&turn)
        publishChanges(since: before, &turn)
        return turn.effects
    }

    /// A view follows from its record alone, but for a VM that is being stopped: whether its agent can be asked is seen in it, too.
    private func publishChanges(since before: PlacementEngine, _ turn: inout Turn) {
        // Dictionaries of which none was written to are equal at once.
        let isSame = vms == before.vms
        let changed = vms.values.filter { $0.phase == .stopping || (!isSame && $0 != before.vms[$0.definition.name]) }
        for vm in changed.sorted(by: { $0.definition.name < $1.definition.name }) {
            let after = view(vm)
            if after != before.vms[vm.definition.name].map({ before.view($0) }) { turn.publish("vm.status", after) }
        }
    }

    /// Everything that was outstanding is forgotten but the runs themselves: a start without an answer becomes `unknown` and is observed, never sent again (I5, I7).
    private mutating func onStarted(_ policy: PlacementPolicy, _ lineage: String, _ turn: inout Turn) {
        self.policy = policy
        self.lineage = lineage
        synced = false
        recoveryAllowed = false
        settleUntil = turn.now + policy.settle
        forgetAsked()
        for name in hosts.keys { hosts[name]?.reportedBoot = nil }
        for name in vms.keys.sorted() {
            guard var vm = vms[name] else { continue }
            let wasStarting = vm.phase == .starting
            vm.ask = nil
            vm.startAsk = nil
            vm.nextAsk = nil
            vm.missingSince = nil
            vm.preparation?.asked = false
            vms[name] = vm
            refuseResumers(name, RequestError(RequestErrorCode.unknownOutcome, "placement-service restarted while \(name) was asked to go on; see bulwark vm show \(name)"), &turn)
            if wasStarting { markUnknown(name, "placement-service restarted while the start was outstanding", &turn) }
        }
    }

    public var publicState: any Encodable & Sendable { list }

    /// Every VM with its definition, by name.
    public var list: VMList {
        VMList(vms: vms.values.sorted { $0.definition.name < $1.definition.name }.map { view($0, withDefinition: true) })
    }

    /// - Throws: ``RequestError`` `vm.not-found`.
    public func show(_ name: String) throws(RequestError) -> VMView {
        view(try find(name), withDefinition: true)
    }

    func find(_ name: String) throws(RequestError) -> VMRecord {
        guard let vm = vms[name] else { throw RequestError(PlacementErrorCode.notFound, "no VM is called \(name); see bulwark vm list") }
        return vm
    }

    func view(_ vm: VMRecord, withDefinition: Bool = false) -> VMView {
        let status: VMStatus =
            switch vm.phase {
            case .preparing: .locked
            case .down, .waiting: .down
            case .failed: .error
            case .starting: .starting
            case .up: vm.paused ? .paused : .up
            case .unknown: .unknown
            case .stopping: canAsk(vm) ? .stopping : .unknown
            }
        let runsHere = status == .up || status == .paused || status == .stopping
        return VMView(
            name: vm.definition.name, status: status, host: runsHere ? vm.run?.host : nil, wanted: vm.wanted, ha: vm.definition.ha,
            priority: vm.definition.priority, attempt: vm.attempt, run: vm.run, pid: status == .up || status == .paused ? vm.pid : nil,
            reason: vm.reason, definition: withDefinition ? vm.definition : nil)
    }
}

/// What one input has led to so far.
struct Turn {
    let now: Instant
    var effects: [Effect<PlacementEngine.Action>] = []

    init(now: Instant) { self.now = now }

    mutating func reply(_ id: RequestID, _ result: Result<VMView, RequestError>) {
        switch result {
        case .success(let view): effects.append(.reply(to: id, .success(view)))
        case .failure(let error): effects.append(.reply(to: id, .refused(error)))
        }
    }

    mutating func publish(_ type: String, _ view: VMView) { effects.append(.publish(Event(type, subject: view.name, body: view))) }

    mutating func decide(_ vm: String, _ what: String, why: String, evidence: [String: String] = [:], see: [String] = []) {
        effects.append(.decide(Decision("vm/\(vm)", what, why: why, evidence: evidence, see: see)))
    }

    mutating func decide(host: String, _ what: String, why: String) { effects.append(.decide(Decision("host/\(host)", what, why: why))) }

    mutating func perform(_ action: PlacementEngine.Action) { effects.append(.perform(action)) }

    /// Asks for a call at this time; times that have come already are dealt with in this turn.
    mutating func wake(at time: Instant) {
        if time > now { effects.append(.wake(at: time)) }
    }
}
