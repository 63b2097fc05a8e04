import FencingEngine
import GuardEngine
import HostAgentEngine
import Invariants
import LeaseEngine
import Messages

/// Whoever is connected to a lease-service and holds leases through it.
protocol LeaseClient: AnyObject {
    var holder: Holder { get }
    func hear(_ message: GuardMessage, on connection: UInt64)
    func leaseServiceGone()
}

/// What runs on a machine under leases.
struct Holding {
    var holder: Holder
    var leases: [GuardLease]
}

/// A program on a host that uses a lease without being a guest, alone or together with others: the real ``GuardEngine``, and what it guards.
///
/// While it holds the lease it keeps numbers in the lease's value, and it gives the lease back when somebody asks for it.
///
/// | use | |
/// |---|---|
/// | nothing | its guard waits for the lease, or it was given back |
/// | starting | the lease is granted, the program is not there yet |
/// | using | it reads; alone it writes, too |
/// | dying | SIGKILL was sent |
final class LeaseUser: Process, LeaseClient {
    private enum Use { case nothing, starting, using, dying }

    unowned(unsafe) let host: HostMachine
    let resource: Scenario.Resource
    let holder: Holder
    let lease: LeaseName
    private let run: Run
    private let proofs: [SignedProof]
    private var engine: GuardEngine
    private var use = Use.nothing
    /// What it goes by; a program that asks to share counts as sharing from then on.
    private(set) var used: GuardLease?
    private var connection: UInt64?
    private var timer = 0
    private var holdsLock = false
    private var answer: ((RequestError?) -> Void)?
    private var conversion: ((RequestError?) -> Void)?
    /// It asked to share, and writes no more until it is alone again.
    private var shares = false
    private var wantsAlone = false
    private var questions = 0
    private var isAsking = false
    private var isReading = false
    /// Numbers that it asked to be kept, without an answer so far.
    private var unanswered: Set<UInt64> = []

    /// - Parameter answer: whether it got the lease.
    init(of resource: Scenario.Resource, _ mode: LeaseMode, on host: HostMachine, _ answer: @escaping (RequestError?) -> Void) {
        self.host = host
        self.resource = resource
        self.answer = answer
        host.lastUser += 1
        holder = Holder(role: .vm, name: "\(resource.name)-at-\(host.machine.name)", attempt: host.lastUser)
        lease = host.world.leaseName(of: resource)
        run = Run(host: host.name, boot: host.machine.bootID, holder: holder)
        proofs = host.world.fencing.engine.hostViews.compactMap(\.proof)
        engine = GuardEngine(GuardPlan(
            holder: holder, vmLock: "use-\(holder.name)-\(holder.attempt).lock", leases: [GuardLease(name: lease, mode: mode)], proofs: proofs.isEmpty ? nil : "proofs", needsSpec: false))
        super.init("user@\(holder.name)", on: host.machine, startsAtBoot: false)
        host.users.append(self)
    }

    private var lock: String { engine.plan.vmLock }
    /// Something of it may still use the lease.
    var holding: Holding? { used.map { Holding(holder: holder, leases: [$0]) } }
    var isUsing: Bool { use == .using }

    // MARK: Life

    override func begin() { handle(.begin(unlocked: nil)) }

    override func end() {
        if let connection { host.leases.disconnect(connection) }
        connection = nil
        if holdsLock { host.dropLock(lock) }
        holdsLock = false
        host.users.removeAll { $0 === self }
        answered(RequestError(RequestErrorCode.unknownOutcome, "\(holder) ended"))
        // The program ends with its guard, and at once with its machine.
        guard host.machine.isOn else { return stopsUsing(isPowerLoss: true) }
        guard use != .nothing else { return }
        let host = host
        let boot = host.machine.boots
        host.dying.append(self)
        machine.after(Duration(nanoseconds: world.random.between(500_000, 20_000_000))) { [self] in
            if host.machine.boots == boot { stopsUsing() }
        }
    }

    private func handle(_ input: GuardInput) {
        guard isAlive else { return }
        let actions = engine.handle(input, at: clock)
        if let wake = engine.nextWake {
            timer += 1
            let armed = timer
            after(max(.zero, wake - clock)) { [self] in if timer == armed { handle(.tick) } }
        }
        for action in actions { if isAlive { perform(action) } }
        noteMode()
    }

    private func perform(_ action: GuardAction) {
        switch action {
        case .takeLock(let path):
            holdsLock = host.takeLock(path)
            handle(holdsLock ? .lockTaken(path) : .lockHeld(path))
        case .listen: handle(.listening(failure: nil))
        case .connectToLeaseService:
            connection = host.leases.connect(self)
            after(.milliseconds(0)) { [self] in handle(connection != nil ? .leaseConnected : .leaseBroken(why: "connection refused")) }
        case .send(let message): send(message)
        case .startPayload(let deadline, _): start(deadline)
        case .killGroup: kill(why: engine.status["message"] ?? "")
        case .tell(let status), .answer(_, let status): if status["requested"] != nil { yieldSoon() }
        case .finish(let result, _):
            if result.verb == "refused" { answered(RequestError(code: result["code"] ?? "", message: result["message"] ?? "")) }
            vanish()
            machine.remove(self)
        case .lookForSpec, .closeDiskLocks, .takeFromSanlock, .dropSanlock, .pauseGroup, .resumeGroup, .log: break
        }
    }

    private func send(_ message: GuardMessage) { connection.map { host.leases.hear(message, on: $0, proofs: proofs) } }

    private func answered(_ refusal: RequestError?) {
        let waiting = answer
        answer = nil
        waiting?(refusal)
        if refusal != nil { converted(refusal) }
    }

    private func converted(_ refusal: RequestError?) {
        let waiting = conversion
        conversion = nil
        waiting?(refusal)
    }

    // MARK: lease-service

    func hear(_ message: GuardMessage, on connection: UInt64) {
        let life = life
        after(.zero) { [self] in
            run(life) { [self] in
                guard self.connection == connection else { return }
                // Only what says that it was converted ends its sharing.
                if message.verb == "converted", wantsAlone { shares = false }
                handle(.leaseMessage(message))
                switch message.verb {
                case "converted": converted(nil)
                case "unchanged": converted(RequestError(code: message["code"] ?? "", message: message["message"] ?? ""))
                case "value": hasValue(message["data"])
                case "novalue": isAsking = false
                default: break
                }
            }
        }
    }

    func leaseServiceGone() {
        connection = nil
        isAsking = false
        isReading = false
        unanswered = []
        converted(RequestError(RequestErrorCode.unknownOutcome, "lease-service ended"))
        after(.zero) { [self] in handle(.leaseBroken(why: "closed")) }
    }

    // MARK: Its program

    private func start(_ deadline: Instant?) {
        use = .starting
        host.inheritLock(lock)
        handle(.payloadStarted(pid: host.nextPID()))
        after(Duration(nanoseconds: world.random.between(1_000_000, 50_000_000))) { [self] in
            guard use == .starting else { return }
            if let obstacle = GuardEngine.obstacle(guardLives: isAlive, deadline: deadline, at: clock) {
                handle(.payloadNotBegun(why: obstacle))
                return kill(why: obstacle)
            }
            use = .using
            noteMode()
            handle(.payloadBegan)
            answered(nil)
            keepValues()
        }
    }

    /// Says how it uses the lease, if that is news.
    private func noteMode() {
        guard use == .using, var granted = engine.granted.first, engine.state == .running else { return }
        if granted.mode == .shared { shares = false }
        if shares { granted.mode = .shared }
        guard granted != used else { return }
        used = granted
        world.leases.began(granted)
        world.note(.leaseUsed(run, granted, writes: granted.mode == .exclusive ? [resource.name] : []))
        world.observer.occurred(.lease(resource: resource.name, granted.mode, host: host.name))
        world.tell(host.name, "\(holder) uses lease \(resource.name), \(granted.mode.rawValue)")
    }

    private func kill(why: String) {
        guard use == .starting || use == .using else { return }
        let wasUsing = use == .using
        use = .dying
        if wasUsing { leaveWrite() }
        after(Duration(nanoseconds: world.random.between(500_000, 20_000_000))) { [self] in
            stopsUsing()
            handle(.payloadExited("signal 9"))
        }
    }

    /// Killed is not quiesced (S4).
    private func leaveWrite() {
        guard used?.mode == .exclusive, world.storage.path(of: host.machine.name, to: lease.lockspace) == .hangs, world.random.chance(0.5) else { return }
        let land = { [self] in world.note(.writeLanded(run, disk: resource.name)) }
        world.storage.whenPathAnswers(host.machine.name, lease.lockspace, land) { [world] in
            world.after(nanoseconds: world.random.between(0, max(1, world.longestInFlight)), land)
        }
    }

    func endsWithItsMachine() { stopsUsing(isPowerLoss: true) }

    private func stopsUsing(isPowerLoss: Bool = false) {
        guard use != .nothing else { return }
        let wrote = used?.mode == .exclusive
        use = .nothing
        used = nil
        host.dying.removeAll { $0 === self }
        world.note(.leaseUnused(run))
        world.observer.occurred(.leaseEnded(resource: resource.name, host: host.name))
        guard isPowerLoss else { return host.dropLock(lock) }
        guard wrote, world.longestInFlight > 0, world.random.chance(0.3) else { return }
        world.after(nanoseconds: world.random.between(0, world.longestInFlight)) { [self] in world.note(.writeLanded(run, disk: resource.name)) }
    }

    // MARK: What an operator does with it

    func giveBack(_ why: String) { handle(.agentMessage(client: 1, GuardMessage("stop", [("why", why)]))) }

    /// A program that is asked ends its work first.
    private func yieldSoon() {
        after(Duration(nanoseconds: world.random.between(100_000_000, 3_000_000_000))) { [self] in giveBack("somebody asks for it") }
    }

    func convert(to mode: LeaseMode, _ done: @escaping (RequestError?) -> Void) {
        guard use == .using, conversion == nil, connection != nil else { return done(RequestError(RequestErrorCode.conflict, "\(holder) does not hold it")) }
        conversion = done
        wantsAlone = mode == .exclusive
        // It has stopped writing before it asks to share.
        if mode == .shared { shares = true }
        noteMode()
        send(GuardMessage("convert", [("holder", holder.description), ("lease", GuardLease(name: lease, mode: mode).request)]))
    }

    // MARK: The value beside the lease

    private func keepValues() {
        after(Duration(nanoseconds: world.random.between(200_000_000, 4_000_000_000))) { [self] in
            guard use == .using, let used else { return }
            if !isAsking, connection != nil { askForValue(writes: used.mode == .exclusive && questions > 0) }
            keepValues()
        }
    }

    private func askForValue(writes: Bool) {
        questions += 1
        isAsking = true
        let asked = questions
        var fields = [("holder", holder.description), ("lease", GuardLease(name: lease).request)]
        if writes {
            let value = world.leases.newValue()
            unanswered.insert(value)
            world.note(.valueAsked(lease, run, value))
            fields.append(("data", Self.hexadecimal(value)))
        } else {
            isReading = true
        }
        send(GuardMessage("value", fields))
        after(.seconds(30)) { [self] in if questions == asked { isAsking = false } }
    }

    private func hasValue(_ data: String?) {
        isAsking = false
        handle(.tick)
        guard let value = data.flatMap({ UInt64($0.prefix(16), radix: 16) }) else { return }
        if unanswered.remove(value) != nil { return world.note(.valueWritten(lease, run, value)) }
        guard isReading, use == .using, engine.state == .running else { return }
        isReading = false
        world.note(.valueRead(lease, run, value))
    }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
