import LeaseFormat
import Messages

@testable import LeaseEngine

/// One host: its lease-service (the real engine, its journal, its I/O), its guards and its power.
final class SimulatedHost {
    let id: Int
    var name: String { "host\(id)" }
    unowned let world: World
    var engine = LeaseEngine()
    /// Journaled inputs: what survives.
    var journal: [(LeaseInput, Instant)] = []
    var isOn = false
    var isServing = false
    var isFrozen = false
    var boots = 0
    /// Counts lives of the lease-service: messages to an earlier one are lost.
    var life = 0
    var guards: [SimulatedGuard] = []
    var stalledUntil = Instant(nanoseconds: 0)
    var replies: [RequestID: Reply] = [:]
    var published: [Event] = []
    /// What it is configured with, from its next start on.
    var watchdog: Duration?
    var expiredOwners: [String: ExpiredOwners]?
    private var thawed: [() -> Void] = []
    private var nextWake: Instant?
    private var connections: [UInt64: SimulatedGuard] = [:]
    private var lastConnection: UInt64 = 0

    init(id: Int, world: World) {
        self.id = id
        self.world = world
    }

    var identity: HostIdentity {
        var identity = HostIdentity(name: name, hostID: id, bootID: "boot-\(id)-\(boots)", hardwareID: "hardware-\(id)", firing: .seconds(60), settle: .seconds(5), watchdog: watchdog)
        identity.expiredOwners = expiredOwners
        return identity
    }

    /// Runs on this host's processors: later, if it is frozen; never, if it is off by then.
    func onHost(after delay: Duration, _ work: @escaping () -> Void) {
        let boot = boots
        world.after(delay) { [self] in
            guard isOn, boots == boot else { return }
            if isFrozen { thawed.append(work) } else { work() }
        }
    }

    // MARK: Power and faults

    func powerOn() {
        guard !isOn else { return }
        world.tell("host \(id) on")
        isOn = true
        isFrozen = false
        boots += 1
        startService()
    }

    func powerOff() {
        guard isOn else { return }
        world.tell("host \(id) off")
        isOn = false
        isServing = false
        isFrozen = false
        thawed = []
        life += 1
        for guest in guards { guest.vanish() }
        guards = []
        connections = [:]
    }

    func freeze() {
        guard isOn, !isFrozen else { return }
        world.tell("host \(id) frozen")
        isFrozen = true
    }

    func thaw() {
        guard isFrozen else { return }
        world.tell("host \(id) thawed")
        isFrozen = false
        // What happens first after a thaw is chance; but every process reads its clock before anything else.
        var work = thawed
        thawed = []
        while !work.isEmpty { work.remove(at: Int(world.random.next() % UInt64(work.count)))() }
    }

    func killService() {
        guard isServing else { return }
        world.tell("lease-service of host \(id) killed")
        isServing = false
        life += 1
        connections = [:]
        for guest in guards { guest.connection = nil }
    }

    func startService() {
        guard isOn, !isServing else { return }
        world.tell("lease-service of host \(id) starts")
        isServing = true
        life += 1
        nextWake = nil
        // Replay: the journal alone makes the state.
        engine = LeaseEngine()
        for (input, time) in journal { _ = engine.handle(input, at: time) }
        submit(.started(identity))
        submit(.join("join-\(id)-\(life)", Caller(role: .operator_), LockspaceJoin(lockspace: World.lockspace, path: World.root)))
        for guest in guards { guest.connect() }
    }

    // MARK: The shell

    func submit(_ input: LeaseInput) {
        let effects = engine.handle(input, at: world.now)
        guard !input.isEphemeral else { return carryOut(effects) }
        let life = life
        for case .wake(let at) in effects { wake(at: at) }
        onHost(after: world.between(.milliseconds(0), .milliseconds(3))) { [self] in
            guard self.life == life else { return }
            journal.append((input, world.now))
            carryOut(effects)
        }
    }

    private func carryOut(_ effects: [Effect<LeaseAction>]) {
        let life = life
        for effect in effects {
            switch effect {
            case .wake(let at): wake(at: at)
            case .reply(let request, let reply): replies[request] = reply
            case .publish(let event): published.append(event)
            case .decide(let decision): world.tell("host \(id): \(decision.subject) \(decision.what): \(decision.why)")
            case .perform(.closeFiles), .perform(.daemon): break
            case .perform(.io(let request)): perform(request)
            case .perform(.note(let fact)):
                onHost(after: .zero) { [self] in if self.life == life { submit(.noted(fact)) } }
            case .perform(.tell(let connection, let message)):
                guard let guest = connections[connection] else { break }
                onHost(after: .milliseconds(1)) { if guest.connection == connection { guest.receive(message) } }
            case .perform(.testLocks(let holder, let paths)):
                let free = !guards.contains { guest in !guest.isGone && guest.locks.contains { paths.contains($0) } }
                onHost(after: .milliseconds(1)) { [self] in if self.life == life { submit(.locksTested(holder, free: free)) } }
            }
        }
    }

    private func wake(at time: Instant) {
        guard time < nextWake ?? Instant(nanoseconds: .max) else { return }
        nextWake = time
        let life = life
        onHost(after: max(.zero, time - world.now)) { [self] in
            guard self.life == life, nextWake == time else { return }
            nextWake = nil
            submit(.wake)
        }
    }

    private func perform(_ request: VolumeRequest) {
        switch request.work {
        case .one(let operation): perform(operation, of: request) { [self] result in submit(.completed(request.token, result)) }
        case .sequence(let sequence): go(sequence, sequence.begin, of: request)
        }
    }

    private func go(_ sequence: VolumeSequence, _ operation: VolumeOperation?, of request: VolumeRequest) {
        guard let operation else { return submit(.completed(request.token, .sequence(sequence))) }
        perform(operation, of: request) { [self] result in
            var sequence = sequence
            let next = sequence.next(result, at: world.now)
            go(sequence, next, of: request)
        }
    }

    /// - Parameter done: called within the service's life, unless the I/O has timed out.
    private func perform(_ operation: VolumeOperation, of request: VolumeRequest, _ done: @escaping (IOResult) -> Void) {
        let life = life
        let started: Duration = max(.zero, stalledUntil - world.now) + .milliseconds(Int64(world.random.next() % 3))
        onHost(after: started) { [self] in
            // The thread outlives a killed service only inside the kernel; what it has not submitted by then it never will.
            guard self.life == life else { return }
            guard operation.mayBegin(at: world.now) else { return done(.expired) }
            let device: Duration = world.isStormy && world.chance(3) ? world.between(.milliseconds(100), .seconds(9)) : world.between(.milliseconds(1), .milliseconds(15))
            let late = device > request.timeout
            // A lane tells that first, whatever a thaw does first.
            var isTold = !late
            let tellLate = { [self] in
                guard self.life == life, !isTold else { return }
                isTold = true
                submit(.completed(request.token, .timedOut))
            }
            if late { onHost(after: request.timeout, tellLate) }
            // From here on it is the device's: it lands even if the host is off.
            world.after(device) { [self] in
                let result: IOResult
                switch operation {
                case .read(let path, let offset, let length): result = world.disk.read(path, offset, length).map { .data($0) } ?? .missing("no file")
                case .write(let path, let offset, let bytes, _, _):
                    world.disk.write(path, offset, bytes)
                    result = world.isStormy && world.chance(1) ? .failed("the answer was lost") : .written
                }
                onHost(after: .zero) { [self] in
                    guard self.life == life else { return }
                    guard late else { return done(result) }
                    tellLate()
                    submit(.landed(request.token))
                }
            }
        }
    }

    // MARK: Guards

    func connect(_ guest: SimulatedGuard) -> UInt64? {
        guard isServing else { return nil }
        lastConnection += 1
        connections[lastConnection] = guest
        return lastConnection
    }

    func disconnect(_ connection: UInt64) {
        connections[connection] = nil
        let life = life
        onHost(after: .milliseconds(1)) { [self] in if self.life == life { submit(.disconnected(connection: connection)) } }
    }

    func send(_ input: LeaseInput) {
        let life = life
        onHost(after: .milliseconds(1)) { [self] in if self.life == life, isServing { submit(input) } }
    }

    /// Starts a guard if its locks are free.
    func startGuard(_ name: String, attempt: UInt64, images: [String], mode: LeaseMode = .exclusive, wait: Duration? = nil, generation: UInt64?) {
        guard isOn, !isFrozen else { return }
        let guest = SimulatedGuard(Holder(role: .vm, name: name, attempt: attempt), images: images, mode: mode, wait: wait, generation: generation, on: self)
        guard !guards.contains(where: { other in !other.isGone && other.locks.contains { guest.locks.contains($0) } }) else { return }
        guards.append(guest)
        world.tell("host \(id): guard \(guest.holder) for \(images)")
        guest.connect()
    }

    var generation: UInt64? {
        guard let membership = engine.memberships[World.lockspace], membership.isJoined else { return nil }
        return membership.record.generation
    }
}
