import CLinux
import Glibc
import Messages

/// One guarded run, from its locks to its result.
///
/// | state | what happens | next |
/// |---|---|---|
/// | acquiring | locks are held, lease-service was asked | granted → running; refused, stop or no answer in time → over (refused) |
/// | running | the payload runs | deadline, lost, stop, adoption refused, payload ended → ending |
/// | ending | SIGKILL, again and again, until the namespace is empty and reaped | → releasing (leases and time left) or over |
/// | releasing | disk locks are free, lease-service was told | its answer, or the deadline → over |
/// | over | the result is written, the VM lock goes with the process | |
///
/// The clock is read before any message; from ending nothing leads back to running (S8).
struct GuardRun: ~Copyable {
    private enum State: String { case acquiring, running, ending, releasing, over }

    private let options: RunOptions
    private var state = State.acquiring
    private var vmLock: Int32 = -1
    private var diskLocks: [Int32] = []
    private var granted: [GuardLease] = []
    /// Absolute CLOCK_BOOTTIME nanoseconds; `nil` without leases.
    private var deadline: Int64?
    private var payload: Payload?
    /// The payload's exec has happened.
    private var begun = false
    private var exit = ""
    private var why = ""
    private var result: GuardMessage?
    private var lease = LeaseLink()
    private var control = ControlSocket()
    private let timer: Int32
    private let startedAt = cl_boottime()

    /// How long lease-service may take to be there and to answer `acquire`; a takeover without proof takes its time.
    private static let acquireLimit: Int64 = 120 * second
    private static let second: Int64 = 1_000_000_000

    init(_ options: RunOptions) {
        self.options = options
        timer = timerfd_create(CLOCK_BOOTTIME, Int32(TFD_CLOEXEC) | Int32(TFD_NONBLOCK))
    }

    /// Runs to the end and leaves the result; whether the run was ended properly (not refused).
    mutating func untilOver() -> Bool {
        begin()
        while state != .over { turn() }
        let result = result ?? GuardMessage("refused", [("code", "vm.start-failed"), ("message", why)])
        Log.line("over: \(result.text.split(separator: "\n").joined(separator: ", "))")
        // Not ours to report if another guard holds the lock: the result could be its own.
        if vmLock >= 0 || !sameHolderLives() { ResultFile.write(result.text, to: options.result) }
        unlink(options.controlSocket)
        return result.verb == "ended"
    }

    // MARK: Begin

    private mutating func begin() {
        guard mlockall(MCL_CURRENT | MCL_FUTURE) == 0 || options.leases.isEmpty else {
            return refuse("vm.start-failed", "cannot lock the guard's memory: \(Log.error(errno)); it needs CAP_IPC_LOCK or a higher RLIMIT_MEMLOCK")
        }
        guard timer >= 0 else { return refuse("vm.start-failed", "timerfd: \(Log.error(errno))") }
        guard let lock = FileLock.take(options.vmLock) else {
            return refuse("vm.still-here", "\(options.vmLock) is held: another run of \(options.holder.name) is still here")
        }
        vmLock = lock
        if let spec = options.spec, access(spec, F_OK) != 0 {
            return refuse("vm.start-failed", "this start was called off before the lock was taken")
        }
        for path in options.diskLocks {
            guard let lock = FileLock.take(path) else { return refuse("vm.still-here", "\(path) is held: another run on this host still has that disk") }
            diskLocks.append(lock)
        }
        guard control.listen(at: options.controlSocket) else {
            return refuse("vm.start-failed", "cannot listen at \(options.controlSocket): \(Log.error(errno))")
        }
        Log.line("\(options.holder) holds its locks, \(options.leases.count) leases to take")
        if options.leases.isEmpty { startPayload() }
    }

    /// Whether the result file's place belongs to a living guard of the very same attempt.
    private func sameHolderLives() -> Bool {
        guard let socket = Packet.connect(to: options.controlSocket) else { return false }
        close(socket)
        return true
    }

    private mutating func startPayload() {
        var environment = [(name: "BULWARK_HOLDER", value: options.holder.description)]
        if let first = granted.first { environment.append((name: "BULWARK_LVER", value: String(first.lver))) }
        switch Payload.start(options.payload, deadline: deadline ?? 0, environment: environment) {
        case .success(let started):
            payload = started
            state = .running
            Log.line("payload \(started.pid) started")
        case .failure(let failure):
            why = failure.why
            result = GuardMessage("refused", [("code", "vm.start-failed"), ("message", failure.why)])
            afterPayload()
        }
    }

    /// Over before anything was started.
    private mutating func refuse(_ code: String, _ message: String) {
        why = message
        result = GuardMessage("refused", [("code", code), ("message", message)])
        state = .over
    }

    // MARK: One turn of the loop

    private mutating func turn() {
        var watched: [pollfd] = []
        if state == .running || state == .releasing { watched.append(pollfd(fd: timer, events: Int16(POLLIN), revents: 0)) }
        if let payload {
            watched.append(pollfd(fd: payload.pidfd, events: Int16(POLLIN), revents: 0))
            if !begun { watched.append(pollfd(fd: payload.ready, events: Int16(POLLIN), revents: 0)) }
        }
        if lease.descriptor >= 0 { watched.append(pollfd(fd: lease.descriptor, events: Int16(POLLIN), revents: 0)) }
        for descriptor in control.descriptors { watched.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)) }
        let before = state
        poll(&watched, nfds_t(watched.count), pollTimeout)
        checkClock()
        checkPayload()
        if !options.leases.isEmpty { talkToLeaseService() }
        checkClock()
        talkToAgent()
        if state != before || state == .ending { control.tell(status) }
    }

    /// The timer descriptor wakes for the deadline; this is for retries only.
    private var pollTimeout: Int32 {
        switch state {
        case .ending: 50
        case .acquiring, .releasing: 100
        case .running: lease.descriptor < 0 && !options.leases.isEmpty ? 100 : -1
        case .over: 0
        }
    }

    private mutating func checkClock() {
        let now = cl_boottime()
        switch state {
        case .acquiring where now - startedAt > Self.acquireLimit:
            refuse("vm.start-failed", "lease-service did not answer within \(Self.acquireLimit / Self.second) s")
        case .running:
            if let deadline, now >= deadline { end("the leases' deadline has passed") }
        case .releasing:
            if let deadline, now >= deadline { finish(released: false) }
        case .ending:
            payload?.end()
        case .acquiring, .over:
            break
        }
    }

    private mutating func checkPayload() {
        guard let payload else { return }
        if !begun { checkBegun(payload) }
        guard let exit = payload.reap() else { return }
        close(payload.pidfd)
        self.payload = nil
        if state == .running { why = begun ? "the payload ended by itself" : why }
        Log.line("reaped: \(exit)")
        self.exit = exit
        afterPayload()
    }

    private mutating func checkBegun(_ payload: Payload) {
        var message = [UInt8](repeating: 0, count: 512)
        var ready = pollfd(fd: payload.ready, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, 0) == 1 else { return }
        let count = read(payload.ready, &message, message.count)
        if count > 0 {
            why = "the payload could not be executed: " + String(decoding: message[..<count], as: UTF8.self)
            result = GuardMessage("refused", [("code", "vm.start-failed"), ("message", why)])
        }
        begun = count == 0
        close(payload.ready)
        if begun { control.tell(status) }
    }

    /// Ends the group at once; there is no way back.
    private mutating func end(_ reason: String) {
        guard state == .running else { return }
        why = reason
        state = .ending
        // First of all: the log may be on a disk that does not answer.
        payload?.end()
        Log.line("ending the group: \(reason)")
    }

    /// Nothing runs any more: give back what is held, if there is time.
    private mutating func afterPayload() {
        for lock in diskLocks { close(lock) }
        diskLocks = []
        guard !granted.isEmpty, let deadline, cl_boottime() < deadline else { return finish(released: options.leases.isEmpty) }
        state = .releasing
        if lease.descriptor >= 0 { lease.send(GuardMessage("release", [("holder", options.holder.description)])) }
    }

    private mutating func finish(released: Bool) {
        if result == nil { result = GuardMessage("ended", [("exit", exit), ("released", released ? "yes" : "no"), ("why", why)]) }
        state = .over
    }

    // MARK: lease-service

    private mutating func talkToLeaseService() {
        if lease.descriptor < 0 {
            guard lease.reconnect(to: options.leaseService, at: cl_boottime()) else { return }
            Log.line("connected to lease-service")
            switch state {
            case .acquiring: lease.send(acquire)
            case .running, .ending: lease.send(adopt)
            case .releasing:
                lease.send(adopt)
                lease.send(GuardMessage("release", [("holder", options.holder.description)]))
            case .over: break
            }
        }
        while true {
            switch lease.receive() {
            case .none: return
            case .broken(let reason):
                Log.line("lease-service: \(reason)")
                return
            case .message(let message):
                onLeaseMessage(message)
            }
        }
    }

    private mutating func onLeaseMessage(_ message: GuardMessage) {
        switch (message.verb, state) {
        case ("granted", .acquiring):
            guard let until = message["deadline"].flatMap({ Int64($0) }) else { return refuse("lease.io", "a grant without a deadline") }
            granted = message.all("lease").compactMap(GuardLease.init)
            guard granted.map(\.name).sorted() == options.leases.map(\.name) else { return refuse("lease.io", "the grant names other leases than were asked for") }
            arm(until)
            guard cl_boottime() < until else { return refuse("lease.io", "the grant's deadline had passed when it came") }
            Log.line("granted \(granted.map(\.grant).joined(separator: " "))")
            startPayload()
        case ("refused", .acquiring):
            refuse(message["code"] ?? "lease.io", message["message"] ?? "refused")
        case ("refused", .running):
            granted = []
            end("lease-service does not take this run back: \(message["message"] ?? "no reason given")")
        case ("lost", .running):
            end("the leases are lost: \(message["message"] ?? "no reason given")")
        case ("granted", .running), ("deadline", .running), ("granted", .releasing), ("deadline", .releasing):
            if let until = message["deadline"].flatMap({ Int64($0) }) { arm(until) }
        case ("released", .releasing):
            finish(released: true)
        case ("refused", .releasing), ("lost", .releasing):
            finish(released: false)
        default:
            break
        }
    }

    private mutating func arm(_ until: Int64) {
        deadline = until
        var time = itimerspec()
        time.it_value = timespec(tv_sec: Int(until / Self.second), tv_nsec: Int(until % Self.second))
        if timerfd_settime(timer, Int32(TFD_TIMER_ABSTIME), &time, nil) != 0 { end("the deadline cannot be armed: \(Log.error(errno))") }
    }

    private var acquire: GuardMessage { request("acquire", leases: options.leases.map(\.request)) }

    private var adopt: GuardMessage { request("adopt", leases: granted.map(\.grant), also: [("deadline", String(deadline ?? 0))]) }

    private func request(_ verb: String, leases: [String], also: [(String, String)] = []) -> GuardMessage {
        var fields = [("holder", options.holder.description), ("lock", options.vmLock)]
        fields += leases.map { ("lease", $0) }
        fields += options.diskLocks.map { ("disklock", $0) }
        fields += options.generations.map { ("generation", $0) }
        if let proofs = options.proofs { fields.append(("proofs", proofs)) }
        return GuardMessage(verb, fields + also)
    }

    // MARK: The agent

    private mutating func talkToAgent() {
        for (client, message) in control.received() {
            switch message.verb {
            case "stop":
                let reason = message["why"] ?? "stopped by the agent"
                if state == .acquiring { refuse("vm.start-failed", "stopped before it ran: \(reason)") } else { end(reason) }
                control.answer(client, status)
            case "status":
                control.answer(client, status)
            default:
                break
            }
        }
    }

    /// `running` only once the payload's exec has happened.
    private var status: GuardMessage {
        let shown =
            switch state {
            case .acquiring: "acquiring"
            case .running: begun ? "running" : "acquiring"
            case .ending, .releasing: "ending"
            case .over: "ended"
            }
        var fields = [("holder", options.holder.description), ("state", shown), ("message", why)]
        if let payload { fields.append(("pid", String(payload.pid))) }
        if let deadline { fields.append(("deadline", String(deadline))) }
        fields += granted.map { ("lease", $0.grant) }
        return GuardMessage("status", fields)
    }
}
