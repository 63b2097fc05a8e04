import HostAgentEngine
import Invariants
import LeaseEngine
import Messages

/// host-agent of one host: its engine, and the pure halves of its keepers around a simulated machine.
final class AgentProcess: ServiceProcess<HostAgentEngine> {
    unowned(unsafe) let host: HostMachine
    private var memberships = MembershipFollower()
    private var storage = StorageWatch(probeInterval: .seconds(2))
    private var heartbeats = Heartbeats(every: .seconds(1))
    private var seen: [AgentLockspace]?
    private var storageTimer = 0
    private var observers: [Holder: GuardObserver] = [:]
    var watchdog: Watchdog?
    var watchdogTimer = 0
    var watchdogHasLooked = false
    var toolstack: Toolstack?
    var toolstackTimer = 0
    private lazy var runner = FenceRunner(in: self)
    private var isScanning = false
    /// VMs and pools whose guards are being started.
    private var spawning: [String] = []

    init(on host: HostMachine) {
        self.host = host
        super.init(source: "\(host.name)/host-agent", name: "host-agent@\(host.machine.name)", on: host.machine)
    }

    override var target: String? { machine.bootID }
    override var isEnrolled: Bool { world.keys.isEnrolled(host) }

    // MARK: Life

    override func started() {
        let policy = world.scenario.policy
        memberships = MembershipFollower()
        storage = StorageWatch(probeInterval: policy.probe)
        heartbeats = Heartbeats(every: policy.fencing.heartbeat)
        seen = nil
        observers = [:]
        isScanning = false
        spawning = []
        runner.started()
        submit(.started(AgentIdentity(
            host: host.name, hostID: host.id, bootID: machine.bootID, hardwareID: host.hardwareID, signingKey: host.signingKey, settle: policy.settle)))
        startWatchdog()
        startToolstack()
        followMemberships(.wake)
        beat()
    }

    /// What guards with leases would answer now: those that are connected and can.
    var answers: [(Holder, GuardMessage)] {
        observers.keys.sorted().compactMap { holder in observers[holder]?.answer.map { (holder, $0) } }
    }

    override func end() {
        super.end()
        for observer in observers.values.sorted(by: { $0.spec.holder.description < $1.spec.holder.description }) { observer.close() }
        observers = [:]
    }

    override func dismantle() {
        super.dismantle()
        observers = [:]
    }

    private func beat() {
        if let sequence = heartbeats.beat(isInitializing: engine.isInitializing, hasMemberships: memberships.hasAnswered, at: clock) {
            submit(.pulse(sequence: sequence, memoryFreeMiB: host.freeMemoryMiB))
        }
        after(max(.milliseconds(1), heartbeats.nextWake - clock)) { [self] in beat() }
    }

    // MARK: Memberships

    private func followMemberships(_ input: MembershipFollower.Input) {
        for step in memberships.handle(input, at: clock) {
            switch step {
            case .ask(let timeout):
                let leases = host.leases
                // Within one machine a snapshot is asked for every second: without the network's detours.
                guard leases.isAlive, !leases.isFrozen else {
                    after(timeout) { [self] in followMemberships(.answered(nil)) }
                    continue
                }
                after(.milliseconds(1)) { [self] in
                    var isAnswered = false
                    let asked = life
                    func answer(_ snapshot: LeaseSnapshot?) {
                        guard !isAnswered, life == asked else { return }
                        isAnswered = true
                        followMemberships(.answered(snapshot))
                    }
                    leases.isRunning ? leases.whenDurable { answer(leases.snapshot) } : answer(nil)
                    // It may die before what it knows is durable.
                    if !isAnswered { after(timeout) { answer(nil) } }
                }
            case .tell(let lockspaces):
                // The engine is told only what it does not know: hearing the same each second changes nothing.
                guard lockspaces != seen || lockspaces == nil else { continue }
                seen = lockspaces
                watchStorage(.memberships(lockspaces))
                submit(.lockspaces(lockspaces ?? []))
            case .watchdog(let view): feedWatchdog(.leaseService(view))
            }
        }
        if let wake = memberships.nextWake { after(max(.milliseconds(1), wake - clock)) { [self] in followMemberships(.wake) } }
    }

    // MARK: Actions

    override func perform(_ action: AgentAction) {
        switch action {
        case .spawn(let spec): spawn(spec)
        case .watch(let spec): observe(spec)
        case .stop(let holder, let why): observers[holder]?.stop(why)
        case .resume(let holder, let asked): observers[holder]?.resume(asked: asked)
        case .scan: scan()
        case .quiesce(let holder, let places): watchStorage(.quiesce(holder, places))
        case .keep(let place): watchStorage(.keep(place))
        case .drop(let place): watchStorage(.drop(place))
        case .create(let id, let create): watchStorage(.create(id, create))
        case .releaseWatchdog(let isReleased):
            if isReleased { host.watchdogIsReleased = true }
            feedWatchdog(.released(isReleased))
        case .restartToolstack: restartToolstack()
        case .sign(let holder, let proof):
            after(.milliseconds(1)) { [self] in
                world.note(.proofMade(proof))
                submit(.signed(holder, world.keys.sign(proof, with: host.signingKey)))
            }
        case .fence(let id, let run):
            guard let other = world.host(run.host) else { return }
            runner.run(run.action, on: run.devices, of: other, deadline: run.deadline, begun: { world.fencing.proxyBegan(run) }) { [self] in
                submit(.fenceRan(id, FenceProxyResult(parts: $0)))
            }
        case .identify(let id, let device):
            // Whose it is tells its address.
            guard let other = world.hosts.first(where: { $0.fenceDevices.contains { $0.address == device.address } }) else { return }
            after(.milliseconds(100)) { [self] in submit(.fenceIdentified(id, other.device(at: device.address).identity)) }
        case .task(let id, let task, let path): work(id, WorkerTask(task: task, path: path))
        }
    }

    private func work(_ id: RequestID, _ task: WorkerTask) {
        guard let worker = host.worker, worker.isAlive else {
            after(.seconds(600)) { [self] in submit(.taskDone(id, nil, RequestError(RequestErrorCode.unknownOutcome, "the worker does not answer"))) }
            return
        }
        let life = life
        worker.after(.milliseconds(1)) {
            worker.receive(id, task) { [self] reply in
                run(life) { [self] in
                    switch reply {
                    case .success(let body): submit(.taskDone(id, body as? TaskResult, nil))
                    case .refused(let error): submit(.taskDone(id, nil, error))
                    }
                }
            }
        }
    }

    // MARK: Storage

    private func watchStorage(_ input: StorageWatch.Input) {
        for step in storage.handle(input, at: clock) { carryOut(step) }
        guard let wake = storage.nextWake else { return }
        storageTimer += 1
        let armed = storageTimer
        after(max(.milliseconds(1), wake - clock)) { [self] in if storageTimer == armed { watchStorage(.wake) } }
    }

    private func carryOut(_ step: StorageWatch.Step) {
        switch step {
        case .probe(let number, let place, let deadline): probe(number, place, deadline)
        case .join(let number, let join, let timeout):
            ask(host.leases, timeout: timeout, { .join($0, Self.local, join) }) { [self] _ in watchStorage(.joinAnswered(number, domain: join.lockspace)) }
        case .leave(let number, let domain, let timeout):
            ask(host.leases, timeout: timeout, { .leave($0, Self.local, LockspaceRequest(lockspace: domain)) }) { [self] in
                watchStorage(.leaveAnswered(number, domain: domain, $0.error))
            }
        case .prepare(let id, let create):
            onStorage(create.domain, { [self] in
                let isThere = world.storage.exists(DomainLayout(root: create.path).metadata)
                watchStorage(.prepared(id, isThere ? .isThere : .prepared))
            }, failed: { [self] in watchStorage(.prepared(id, .failed(RequestError(DomainErrorCode.createFailed, "an input/output error")))) })
        case .initialize(let id, let request, let timeout):
            ask(host.leases, timeout: timeout, { .initialize($0, Self.local, request, time: 1) }) { [self] in watchStorage(.initialized(id, $0.error)) }
        case .publish(let id, let create):
            onStorage(create.domain, { [self] in
                world.storage.put(DomainLayout(root: create.path).metadata, 0, [1])
                watchStorage(.published(id, nil))
            }, failed: { [self] in watchStorage(.published(id, RequestError(DomainErrorCode.createFailed, "an input/output error"))) })
        case .tell(let input): submit(input)
        }
    }

    private static let local = Caller(role: .operator_)

    /// A child process that touches storage; while the path hangs it does not come back.
    private func onStorage(_ domain: String, _ work: @escaping () -> Void, failed: @escaping () -> Void) {
        let life = life
        after(Duration(nanoseconds: world.random.between(500_000, 5_000_000))) { [self] in
            world.storage.whenPathAnswers(host.machine.name, domain, { [self] in
                let fails = world.storage.path(of: host.machine.name, to: domain) == .fails
                run(life, fails ? failed : work)
            })
        }
    }

    private func probe(_ number: UInt64, _ place: StoragePlace, _ deadline: Duration) {
        let began = clock
        var isOver = false
        func end(_ end: ProbeEnd) {
            guard !isOver else { return }
            isOver = true
            watchStorage(.probed(number, domain: place.domain, end, took: clock - began))
        }
        let path = world.storage.path(of: host.machine.name, to: place.domain)
        guard path != .hangs else {
            after(deadline) { end(.timedOut) }
            let life = life
            return world.storage.whenPathAnswers(host.machine.name, place.domain, { [self] in run(life) { end(.exited(0, output: "")) } })
        }
        after(Duration(nanoseconds: world.random.between(2_000_000, 8_000_000))) { [self] in
            switch world.storage.path(of: host.machine.name, to: place.domain) {
            case .fails: end(.exited(1, output: "an input/output error"))
            case .hangs: after(deadline) { end(.timedOut) }
            case .works, .slow: end(world.storage.exists(DomainLayout(root: place.path).metadata) ? .exited(0, output: "") : .exited(1, output: "no metadata"))
            }
        }
    }

    // MARK: Guards

    private func spawn(_ spec: GuardSpec) {
        spawning.append(spec.holder.name)
        if !spec.leases.isEmpty { feedWatchdog(.watching(spec.holder, isNew: true)) }
        after(Duration(nanoseconds: world.random.between(1_000_000, 30_000_000))) { [self] in
            if let index = spawning.firstIndex(of: spec.holder.name) { spawning.remove(at: index) }
            switch GuardObserver.launch(spec, on: host) {
            case .start: observe(spec, patience: GuardLaunch.patience)
            case .wasThere: observe(spec)
            case .refused(let sighting):
                feedWatchdog(.over(spec.holder))
                submit(.sighted(spec.holder, sighting))
            }
        }
    }

    private func observe(_ spec: GuardSpec, patience: Duration = .zero) {
        guard observers[spec.holder] == nil else { return }
        if !spec.leases.isEmpty { feedWatchdog(.watching(spec.holder, isNew: patience > .zero)) }
        let observer = GuardObserver(spec, by: self, patience: patience) { [self] sighting in
            switch sighting {
            case .ended, .refused, .gone:
                observers.removeValue(forKey: spec.holder)?.close()
                feedWatchdog(.over(spec.holder))
            case .acquiring, .running, .ending, .unclear: break
            }
            submit(.sighted(spec.holder, sighting))
        }
        observers[spec.holder] = observer
        observer.connect()
    }

    /// Looks at every process and lock of the machine.
    private func scan() {
        guard !isScanning else { return }
        isScanning = true
        after(Duration(nanoseconds: world.random.between(5_000_000, 60_000_000))) { [self] in
            isScanning = false
            submit(.scanned(GuardObserver.scan(host, known: Set(observers.keys.map(\.name) + spawning))))
        }
    }
}
