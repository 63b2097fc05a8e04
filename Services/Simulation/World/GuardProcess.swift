import GuardEngine
import HostAgentEngine
import Invariants
import Messages

/// vm-guard: the real engine between its locks, its lease-service, its payload and the agent.
final class GuardProcess: Process, LeaseClient {
    let spec: GuardSpec
    unowned(unsafe) let host: HostMachine
    private var engine: GuardEngine
    private var heldLocks: [String] = []
    private var connection: UInt64?
    private var timer = 0
    private(set) var payload: Payload?
    /// The agent's end of the control socket.
    weak var watcher: GuardObserver?

    init(_ spec: GuardSpec, on host: HostMachine) {
        self.spec = spec
        self.host = host
        let vm: VMDefinition? = if case .guest(let vm, _) = spec.payload { vm } else { nil }
        let plan = GuardPlan(
            holder: spec.holder, vmLock: Self.lock(of: spec.holder), diskLocks: spec.diskLocks.map(Self.diskLock), leases: spec.requests,
            generations: spec.generations.keys.sorted().map { "\($0)|\(spec.generations[$0] ?? 0)" }, proofs: spec.proofs.isEmpty ? nil : "proofs",
            onLeaseLoss: vm?.onLeaseLoss ?? .kill, pauseBefore: vm?.pauseBefore)
        engine = GuardEngine(plan)
        super.init("guard@\(spec.holder.name)", on: host.machine, startsAtBoot: false)
        host.add(self)
    }

    static func lock(of holder: Holder) -> String { "\(holder.role.rawValue)-\(holder.name).lock" }
    static func diskLock(_ image: String) -> String { "disk-\(image).lock" }

    var holder: Holder { spec.holder }
    var state: GuardEngine.State { engine.state }
    var isListening: Bool { isAlive && engine.state != .locking }
    /// The whole run of the engine, its deadline by this machine's clock.
    var deadline: Instant? { engine.deadline }

    // MARK: Life

    override func begin() { handle(.begin(unlocked: nil)) }

    /// Its locks go with it, but for what its payload has inherited; that is killed with it.
    override func end() {
        for lock in heldLocks { host.dropLock(lock) }
        heldLocks = []
        disconnect()
        host.remove(self)
        payload?.kill(.killed)
        watcher?.guardClosed()
    }

    private func handle(_ input: GuardInput) {
        guard isAlive else { return }
        let actions = engine.handle(input, at: clock)
        arm()
        for action in actions { if isAlive { perform(action) } }
    }

    private func arm() {
        guard let wake = engine.nextWake else { return }
        timer += 1
        let armed = timer
        after(max(.zero, wake - clock)) { [self] in if timer == armed { handle(.tick) } }
    }

    private func perform(_ action: GuardAction) {
        switch action {
        case .takeLock(let path):
            if host.takeLock(path) {
                heldLocks.append(path)
                handle(.lockTaken(path))
            } else {
                handle(.lockHeld(path))
            }
        case .lookForSpec: handle(.specSeen(isThere: host.specifications.contains(spec.holder)))
        case .listen: handle(.listening(failure: nil))
        case .connectToLeaseService: connect()
        case .send(let message): connection.map { host.leases.hear(message, on: $0, proofs: spec.proofs) }
        case .startPayload(let deadline, _): start(deadline)
        // The simulated hosts' engine is the native one.
        case .takeFromSanlock, .dropSanlock: break
        case .killGroup: payload?.kill(cause)
        case .pauseGroup: payload?.pause()
        case .resumeGroup(let deadline): if clock < deadline { payload?.resume() }
        case .closeDiskLocks:
            for lock in heldLocks where lock.hasPrefix("disk-") { host.dropLock(lock) }
            heldLocks.removeAll { $0.hasPrefix("disk-") }
        case .tell(let message), .answer(_, let message): watcher?.hear(message)
        case .finish(let result, let isOurs):
            if isOurs || host.guards.allSatisfy({ $0 === self || $0.spec.holder != spec.holder }) { host.results[spec.holder] = result }
            vanish()
            machine.remove(self)
        case .log: break
        }
    }

    /// Why it ends its group, by what it says itself.
    private var cause: EndCause {
        let why = engine.status["message"] ?? ""
        if why.contains("deadline") { return .deadline }
        if why.contains("leases are lost") || why.contains("does not take this run back") || why.contains("could not be verified since") { return .leaseLost }
        if why.contains("I/O error") { return .ioError }
        if why.contains("this host shuts down"), world.op.shutdownsAsked.contains(machine.bootID) { return .hostShutdown }
        return .command
    }

    // MARK: lease-service

    private func connect() {
        connection = host.leases.connect(self)
        after(.milliseconds(0)) { [self] in handle(connection != nil ? .leaseConnected : .leaseBroken(why: "connection refused")) }
    }

    private func disconnect() {
        if let connection { host.leases.disconnect(connection) }
        connection = nil
    }

    func hear(_ message: GuardMessage, on connection: UInt64) {
        let life = life
        after(.zero) { [self] in run(life) { [self] in if self.connection == connection { handle(.leaseMessage(message)) } } }
    }

    func leaseServiceGone() {
        connection = nil
        after(.zero) { [self] in handle(.leaseBroken(why: "closed")) }
    }

    // MARK: Agent

    func hearAgent(_ message: GuardMessage) { after(.zero) { [self] in handle(.agentMessage(client: 1, message)) } }

    // MARK: Payload

    private func start(_ deadline: Instant?) {
        guard host.startsToFail == 0 || spec.holder.role == .spm else {
            host.startsToFail -= 1
            return after(.milliseconds(50)) { [self] in handle(.payloadNotStarted(why: "the hypervisor refuses: cannot allocate memory")) }
        }
        let payload = Payload(of: self, deadline: deadline)
        self.payload = payload
        payload.start(isSlow: host.startsAreSlow && spec.holder.role == .vm)
        handle(.payloadStarted(pid: payload.pid))
    }

    func payloadBegan() { handle(.payloadBegan) }
    func payloadNotBegun(_ why: String) { handle(.payloadNotBegun(why: why)) }

    func payloadExited(_ why: String) {
        payload = nil
        handle(.payloadExited(why))
    }

    /// What it would answer now.
    var status: GuardMessage { engine.status }
    var grantedLeases: [GuardLease] { engine.granted }

    override func freeze() {
        super.freeze()
        watcher?.guardFroze()
    }
}
