import HostAgentEngine
import Messages

/// The agent's side of one guard: the real ``GuardWatcher`` on a control socket, a lock and a process table that are simulated.
///
/// A guard that answers is asked every two seconds in reality; here only while one of the two is frozen, since an answer that says the same changes nothing.
final class GuardObserver {
    let spec: GuardSpec
    private unowned(unsafe) let agent: AgentProcess
    private let life: Int
    private let report: (GuardSighting) -> Void
    private var watcher: GuardWatcher
    private weak var guest: GuardProcess?
    private var timer = 0
    private var isClosed = false

    init(_ spec: GuardSpec, by agent: AgentProcess, patience: Duration, report: @escaping (GuardSighting) -> Void) {
        self.spec = spec
        self.agent = agent
        self.report = report
        life = agent.life
        watcher = GuardWatcher(isGuest: spec.isGuest, patienceUntil: agent.clock + patience)
    }

    private var host: HostMachine { agent.host }

    func connect() { handle(.begin) }

    func stop(_ why: String) {
        hearNow()
        handle(.stop(why: why))
    }

    /// In reality it heard the guard two seconds ago at most.
    private func hearNow() { if let guest, guest.isRunning { handle(.message(guest.status)) } }

    func close() {
        isClosed = true
        if guest?.watcher === self { guest?.watcher = nil }
    }

    private func handle(_ input: GuardWatcher.Input) {
        guard !isClosed, agent.isAlive, agent.life == life else { return }
        for step in watcher.handle(input, at: agent.clock) where !isClosed { carryOut(step) }
        arm()
    }

    private func arm() {
        guard !isClosed, let wake = watcher.nextWake else { return }
        if let guest, guest.isRunning, wake - agent.clock > .seconds(1) { return }
        timer += 1
        let armed = timer
        agent.after(max(.zero, wake - agent.clock)) { [self] in if timer == armed { handle(.tick) } }
    }

    /// The guard stops answering: from now on it is asked.
    func guardFroze() {
        guard let guest, !isClosed else { return }
        handle(.message(guest.status))
        timer += 1
        let armed = timer
        agent.after(.seconds(2)) { [self] in if timer == armed { handle(.tick) } }
    }

    /// What its hypervisor says is another thing now: it is asked every two seconds.
    func guestChanged() {
        guard let guest, !isClosed, !guest.isFrozen else { return }
        handle(.message(guest.status))
        agent.after(.seconds(2)) { [self] in handle(.tick) }
    }

    func resume(asked: Bool) {
        hearNow()
        handle(.resume(asked: asked))
        if asked { agent.after(GuardWatcher.resumeLimit + .milliseconds(1)) { [self] in handle(.tick) } }
    }

    private func carryOut(_ step: GuardWatcher.Step) {
        switch step {
        case .connect:
            agent.after(.milliseconds(1)) { [self] in
                if let guest = host.guardProcess(of: spec.holder), guest.isListening {
                    self.guest = guest
                    guest.watcher = self
                    handle(.connected)
                } else {
                    handle(.connectFailed(resultIsThere: host.results[spec.holder] != nil))
                }
            }
        case .send(let message):
            guard let guest, guest.isAlive else { return agent.after(.zero) { [self] in handle(.broken) } }
            guest.hearAgent(message)
        case .examine:
            agent.after(Duration(nanoseconds: agent.world.random.between(2_000_000, 20_000_000))) { [self] in handle(.examined(examine())) }
        case .confirm:
            agent.after(Duration(nanoseconds: agent.world.random.between(1_000_000, 10_000_000))) { [self] in
                let payload = guest?.payload
                handle(.confirmed(payload?.state != .running || payload?.isPaused == true ? nil : payload?.hasIOError == true ? .ioError : .running))
            }
        case .resumeGuest:
            agent.after(Duration(nanoseconds: agent.world.random.between(1_000_000, 10_000_000))) { [self] in
                let payload = guest?.payload
                if let payload, !payload.isPaused { payload.go() }
                handle(.resumed(failure: payload?.state == .running && payload?.isPaused == false ? nil : "QMP did not answer in time"))
                agent.after(GuardWatcher.relapsePause + .milliseconds(1)) { [self] in handle(.tick) }
            }
        case .answer(let outcome): agent.submit(.resumed(spec.holder, outcome))
        case .report(let sighting): report(sighting)
        case .monitor(let answers): agent.submit(.monitor(spec.holder, answers: answers))
        }
    }

    /// To `status`; `nil`: none comes.
    var answer: GuardMessage? {
        guard !isClosed, let guest, guest.watcher === self, guest.isRunning else { return nil }
        return guest.status
    }

    func hear(_ message: GuardMessage) {
        agent.after(.zero) { [self] in handle(.message(message)) }
    }

    func guardClosed() { agent.after(.zero) { [self] in handle(.broken) } }

    // MARK: What a shell does with locks and files

    private func examine() -> GuardSighting {
        let lock = GuardProcess.lock(of: spec.holder)
        let taken = host.takeLock(lock)
        defer { if taken { host.dropLock(lock) } }
        switch GuardExamination.conclusion(lockTaken: taken, result: host.results[spec.holder]) {
        case .seen(let sighting): return sighting
        case .callOff:
            host.specifications.remove(spec.holder)
            let guest = host.guests.first { $0.spec.holder.name == spec.holder.name && $0.spec.holder.role == spec.holder.role }
            let processes: GuardExamination.Processes? = spec.isGuest ? guest.map { .guest(pid: $0.pid) } ?? .some(.none) : nil
            return GuardExamination.afterCallingOff(specIsGone: true, processes: processes)
        }
    }

    static func launch(_ spec: GuardSpec, on host: HostMachine) -> GuardLaunch {
        let filesAreThere = host.specifications.contains(spec.holder) || host.results[spec.holder] != nil
        let guest = spec.isGuest ? host.guests.first { $0.spec.isGuest && $0.spec.holder.name == spec.holder.name }?.pid : nil
        let decision = GuardLaunch.decision(vm: spec.holder.name, filesAreThere: filesAreThere, guest: guest)
        guard case .start = decision else { return decision }
        for old in host.results.keys where GuardLaunch.removesFiles(of: old, before: spec.holder) { host.results[old] = nil }
        host.specifications = host.specifications.filter { !GuardLaunch.removesFiles(of: $0, before: spec.holder) }
        host.specifications.insert(spec.holder)
        let guest2 = GuardProcess(spec, on: host)
        host.machine.after(Duration(nanoseconds: host.world.random.between(500_000, 10_000_000))) { guest2.start() }
        return decision
    }

    static func scan(_ host: HostMachine, known: Set<String>) -> [ScannedGuest] {
        let guests = host.guests.filter(\.spec.isGuest).map { ScannedGuest(vm: $0.spec.holder.name, pid: $0.pid) }
        let search = GuestSearch(guests: guests, lockFiles: host.lockFiles, known: known)
        return search.found(held: search.suspects.filter { host.isLockHeld("vm-\($0).lock") })
    }
}

extension GuardSpec {
    var isGuest: Bool { if case .guest = payload { true } else { false } }
}
