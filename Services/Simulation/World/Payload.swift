import GuardEngine
import HostAgentEngine
import Invariants
import Messages

/// What a guard runs: a guest, or the SPM's worker. It is a process group that ends with its guard, unless its storage keeps it.
///
/// | state | |
/// |---|---|
/// | starting | the process is there, its exec has not happened: it writes nothing |
/// | running | it writes to its disks, unless its guard or its hypervisor has paused it |
/// | dying | SIGKILL was sent; a write that does not come back keeps it |
/// | gone | reaped |
final class Payload {
    enum State { case starting, running, dying, gone }

    let spec: GuardSpec
    let pid: Int32
    unowned let host: HostMachine
    private(set) weak var parent: GuardProcess?
    private let deadline: Instant?
    private let boot: Int
    let bootID: String
    private(set) var state = State.starting
    /// It waits for something without interruption.
    var isStuck = false { didSet { if !isStuck, state == .dying { die() } } }
    private var worker: WorkerProcess?
    private var cause = EndCause.none
    /// Before that it has written nothing.
    private var hasBegun = false
    /// Stopped by its guard.
    private(set) var isPaused = false
    /// Its hypervisor has paused it: an I/O of it met an error.
    private(set) var hasIOError = false
    /// When it last came to a stand, and which of its leases its host has read since.
    private var stoodStillAt: Int64 = 0
    private var reread: Set<LeaseName> = []
    private let locks: [String]
    let leases: [GuardLease]

    init(of parent: GuardProcess, deadline: Instant?) {
        self.parent = parent
        self.deadline = deadline
        spec = parent.spec
        host = parent.host
        pid = parent.host.nextPID()
        boot = parent.machine.boots
        bootID = parent.machine.bootID
        leases = parent.grantedLeases
        locks = [GuardProcess.lock(of: spec.holder)] + spec.diskLocks.map(GuardProcess.diskLock)
    }

    var memoryMiB: Int { if case .guest(let vm, _) = spec.payload { vm.memoryMiB } else { 64 } }

    private var world: World { host.world }
    private var isHere: Bool { host.machine.isOn && host.machine.boots == boot }

    func start(isSlow: Bool) {
        for lock in locks { host.inheritLock(lock) }
        host.guests.append(self)
        let pace = world.scenario.pace.guestStart.nanoseconds
        let takes = isSlow ? world.random.between(61_000_000_000, 75_000_000_000) : world.random.between(pace / 4, pace * 5 / 4 + 1)
        host.machine.after(Duration(nanoseconds: takes)) { [self] in exec() }
    }

    /// The last look at parent and deadline, then the guest itself.
    private func exec() {
        guard state == .starting, isHere else { return }
        if let obstacle = GuardEngine.obstacle(guardLives: parent?.isAlive ?? false, deadline: deadline, at: host.machine.clock) {
            parent?.payloadNotBegun(obstacle)
            return die()
        }
        state = .running
        hasBegun = true
        world.payloadBegan(self)
        if case .worker(let pool, let master) = spec.payload {
            worker = WorkerProcess(pool: pool, master: master.domain, holder: spec.holder, lver: leases.first?.lver ?? 0, on: host)
            worker?.start()
        }
        parent?.payloadBegan()
        meetErrors()
    }

    // MARK: Pauses

    func pause() {
        guard isHere, state == .running, !isPaused else { return }
        standStill()
        isPaused = true
        world.payloadPaused(self, "its guard has stopped it")
    }

    func resume() {
        guard isHere, state == .running, isPaused else { return }
        isPaused = false
        world.payloadResumed(self, unread: unread)
    }

    /// Whatever it writes while its path fails.
    func meetErrors() {
        guard isFailing else { return }
        host.machine.after(Duration(nanoseconds: world.random.between(0, 2_000_000_000))) { [self] in
            guard isHere, state == .running, !isPaused, !hasIOError, isFailing else { return }
            standStill()
            hasIOError = true
            world.payloadPaused(self, "an I/O error")
            parent?.watcher?.guestChanged()
        }
    }

    /// What its hypervisor is told by the agent.
    func go() {
        guard isHere, state == .running, hasIOError else { return }
        hasIOError = false
        world.payloadResumed(self, unread: unread)
        parent?.watcher?.guestChanged()
        meetErrors()
    }

    private var isFailing: Bool { spec.isGuest && spec.places.contains { world.storage.path(of: host.machine.name, to: $0.domain) == .fails } }

    private func standStill() {
        stoodStillAt = world.now
        reread = []
    }

    private var unread: [LeaseName] { leases.map(\.name).filter { !reread.contains($0) } }
    var standsStill: Bool { isPaused || hasIOError }

    /// Its host has read the leader of a lease, by a read that was submitted then.
    func leaderRead(_ lease: LeaseName, submitted: Int64) {
        if standsStill, submitted >= stoodStillAt { reread.insert(lease) }
    }

    /// The guest ends by itself.
    func crash() {
        guard state == .running else { return }
        cause = .guest
        state = .dying
        die()
    }

    /// SIGKILL. What waits for storage that does not answer stays, or leaves a write behind.
    func kill(_ cause: EndCause) {
        // With its machine's power it goes by itself.
        guard isHere, state == .starting || state == .running else { return }
        self.cause = cause
        let wasRunning = state == .running
        state = .dying
        worker?.vanish()
        guard wasRunning, !isStuck else { return isStuck ? () : die() }
        let hanging = spec.places.filter { world.storage.path(of: host.machine.name, to: $0.domain) == .hangs }
        guard let place = hanging.first else { return die() }
        if world.random.chance(0.5) {
            isStuck = true
            return world.storage.whenPathAnswers(host.machine.name, place.domain, { [weak self] in self?.isStuck = false })
        }
        // Killed is not quiesced: what it had submitted lands when its path answers, or soon after its host has lost its power (S4).
        let land = { [self] in world.lateWrite(of: self) }
        world.storage.whenPathAnswers(host.machine.name, place.domain, land) { [world] in
            world.after(nanoseconds: world.random.between(0, max(1, world.longestInFlight)), land)
        }
        die()
    }

    private func die() {
        host.machine.after(Duration(nanoseconds: world.random.between(500_000, 20_000_000))) { [self] in
            // What ends by itself before it is a guest waits for nothing.
            guard isHere, state == .starting || (state == .dying && !isStuck) else { return }
            vanish()
            parent?.payloadExited("signal 9")
        }
    }

    private func vanish() {
        let began = state != .starting
        state = .gone
        for lock in locks { host.dropLock(lock) }
        host.guests.removeAll { $0 === self }
        if began { world.payloadEnded(self, cause) }
    }

    /// Its machine is off: it is gone with it, what it had submitted may still land.
    func powerLost() {
        guard state != .gone else { return }
        let wasRunning = hasBegun && (state == .running || isStuck)
        state = .gone
        worker?.vanish()
        guard wasRunning, world.longestInFlight > 0, world.random.chance(0.3) else { return }
        world.after(nanoseconds: world.random.between(0, world.longestInFlight)) { [self] in world.lateWrite(of: self) }
    }
}
