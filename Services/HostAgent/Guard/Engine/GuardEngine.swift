public import Messages

/// Everything a guard decides, from its locks to its result.
///
/// | state | what happens | next |
/// |---|---|---|
/// | locking | VM lock, spec, disk locks, control socket, in this order | all there → acquiring, without leases running; one not → over (refused) |
/// | acquiring | lease-service was asked | granted → running; refused, stop, sanlock gone or no answer in time → over (refused) |
/// | running | the payload runs | deadline, lost, stop, adoption refused, sanlock gone, payload ended → ending; near the deadline, if the plan says so → paused |
/// | paused | all of it is stopped; once a renewal has moved the deadline lease-service re-reads the leases | they are this run's still → running; deadline, lost, stop, adoption refused, sanlock gone, not verified for too long, payload ended → ending |
/// | ending | SIGKILL, again and again, until the namespace is empty and reaped | → releasing (leases and time left) or over |
/// | releasing | disk locks are free, lease-service was told | its answer, sanlock gone or the deadline → over |
/// | over | the result is written, the VM lock goes with the process | |
///
/// The clock is read before any message; from ending nothing leads back to running (S8). All times are CLOCK_BOOTTIME of this machine.
public struct GuardEngine: Sendable {
    public enum State: String, Sendable { case locking, acquiring, running, paused, ending, releasing, over }

    enum Link: Hashable, Sendable {
        case none, connecting, connected
        case broken(retryAt: Instant)
    }

    enum Sanlock: Hashable, Sendable { case none, asked, held }

    public let plan: GuardPlan
    public internal(set) var state = State.locking
    /// Until when the leases are this run's; `nil` without leases.
    public internal(set) var deadline: Instant?
    /// When ``GuardInput/tick`` is due; `nil`: only something that happens leads on.
    public private(set) var nextWake: Instant?
    /// The payload, from its start until it is reaped.
    public private(set) var pid: Int32?

    /// What it holds, as lease-service granted it.
    public internal(set) var granted: [GuardLease] = []
    /// What a sanlock daemon holds for this process, with its engine.
    var sanlock = Sanlock.none
    /// Leases that others asked for.
    var requested: [String] = []
    var pause = Pause()
    var link = Link.none
    var triedAt: Instant?
    private var startedAt = Instant(nanoseconds: 0)
    private var holdsVMLock = false
    private var disksToLock: ArraySlice<String> = []
    /// The payload's exec has happened.
    private(set) var begun = false
    private var killedAt: Instant?
    private var exit = ""
    private var why = ""
    private var result: GuardMessage?

    var actions: [GuardAction] = []
    /// Said last: a log may be on a disk that does not answer.
    private var lines: [String] = []

    /// How long lease-service may take to be there and to answer `acquire`; a takeover without proof takes its time.
    public static let acquireLimit = Duration.seconds(120)
    private static let killPause = Duration.milliseconds(50)

    public init(_ plan: GuardPlan) { self.plan = plan }

    /// Once over, nothing happens any more.
    public mutating func handle(_ input: GuardInput, at now: Instant) -> [GuardAction] {
        guard state != .over else { return [] }
        let shown = (state, begun)
        checkClock(now)
        if state != .over { take(input, now) }
        // A message may have brought a deadline that has passed.
        checkDeadline(now)
        if shown != (state, begun) { actions.append(.tell(status)) }
        if state == .over { actions.append(.finish(result ?? refusal("vm.start-failed", why), isOurs: holdsVMLock)) }
        nextWake = wake
        defer {
            actions = []
            lines = []
        }
        return actions + lines.map { .log($0) }
    }

    /// Why a payload that is about to begin must not; `nil`: nothing. Asked in the payload's own process, after everything else.
    public static func obstacle(guardLives: Bool, deadline: Instant?, at now: Instant) -> String? {
        guard guardLives else { return "the guard is gone" }
        return deadline.map { now < $0 } ?? true ? nil : "the deadline has passed"
    }

    private mutating func take(_ input: GuardInput, _ now: Instant) {
        switch input {
        case .begin(let unlocked): onBegin(unlocked, now)
        case .lockTaken(let path): onLockTaken(path)
        case .lockHeld(let path): onLockHeld(path)
        case .specSeen(let isThere):
            if isThere { lockNextDisk() } else { refuse("vm.start-failed", "this start was called off before the lock was taken") }
        case .listening(let failure): onListening(failure, now)
        case .leaseConnected: onLeaseConnected()
        case .leaseBroken(let why): onLeaseBroken(why, now)
        case .leaseMessage(let message): onLeaseMessage(message, now)
        case .sanlockAnswered(let answer): onSanlockAnswered(answer)
        case .sanlockGone: onSanlockGone(now)
        case .payloadStarted(let pid): onPayloadStarted(pid, now)
        case .payloadNotStarted(let why): onPayloadNotStarted(why, now)
        case .payloadBegan: begun = true
        case .payloadNotBegun(let why):
            self.why = "the payload could not be executed: " + why
            result = refusal("vm.start-failed", self.why)
        case .payloadExited(let exit): onPayloadExited(exit, now)
        case .agentMessage(let client, let message): onAgentMessage(client, message, now)
        case .tick: break
        case .timerFailed(let why):
            if state == .locking || state == .acquiring { refuse("vm.start-failed", "the timer fails: \(why)") } else { end("the deadline cannot be armed: \(why)", now) }
        }
    }

    // MARK: Clock

    private mutating func checkClock(_ now: Instant) {
        checkDeadline(now)
        switch state {
        case .acquiring where now - startedAt > Self.acquireLimit:
            refuse("vm.start-failed", "lease-service did not answer within \(Self.acquireLimit.nanoseconds / 1_000_000_000) s")
        case .ending:
            if killedAt.map({ now - $0 >= Self.killPause }) ?? true {
                kill(now)
                actions.append(.tell(status))
            }
        default:
            break
        }
        if state != .over { reconnect(now) }
    }

    private mutating func checkDeadline(_ now: Instant) {
        guard let deadline, now >= deadline else { return checkPause(now) }
        if state == .running || state == .paused { end("the leases' deadline has passed", now) }
        if state == .releasing { finish(released: false) }
    }

    private var wake: Instant? {
        var times: [Instant?] = []
        switch state {
        case .acquiring: times.append(startedAt + Self.acquireLimit + Duration(nanoseconds: 1))
        case .running: times += [deadline, begun ? pauseAt : nil]
        case .paused: times += [deadline, pause.patienceEnds, pause.nextQuestion]
        case .releasing: times.append(deadline)
        case .ending: times.append(killedAt.map { $0 + Self.killPause })
        case .locking, .over: return nil
        }
        if case .broken(let retryAt) = link { times.append(retryAt) }
        return times.compactMap { $0 }.min()
    }

    // MARK: Locks

    private mutating func onBegin(_ unlocked: String?, _ now: Instant) {
        startedAt = now
        if let unlocked, !plan.leases.isEmpty {
            return refuse("vm.start-failed", "cannot lock the guard's memory: \(unlocked); it needs CAP_IPC_LOCK or a higher RLIMIT_MEMLOCK")
        }
        actions.append(.takeLock(plan.vmLock))
    }

    private mutating func onLockTaken(_ path: String) {
        guard state == .locking else { return }
        if path != plan.vmLock { return lockNextDisk() }
        holdsVMLock = true
        disksToLock = plan.diskLocks[...]
        if plan.needsSpec { actions.append(.lookForSpec) } else { lockNextDisk() }
    }

    private mutating func onLockHeld(_ path: String) {
        guard state == .locking else { return }
        let whose = path == plan.vmLock ? "another run of \(plan.holder.name) is still here" : "another run on this host still has that disk"
        refuse("vm.still-here", "\(path) is held: \(whose)")
    }

    private mutating func lockNextDisk() {
        guard state == .locking else { return }
        actions.append(disksToLock.popFirst().map { .takeLock($0) } ?? .listen)
    }

    private mutating func onListening(_ failure: String?, _ now: Instant) {
        guard state == .locking else { return }
        if let failure { return refuse("vm.start-failed", "cannot listen for the agent: \(failure)") }
        lines.append("\(plan.holder) holds its locks, \(plan.leases.count) leases to take")
        guard !plan.leases.isEmpty else { return startPayload() }
        state = .acquiring
        connect(now)
    }

    // MARK: Payload

    mutating func startPayload() {
        state = .running
        var environment = ["BULWARK_HOLDER": plan.holder.description]
        if let first = granted.first { environment["BULWARK_LVER"] = String(first.lver) }
        actions.append(.startPayload(deadline: deadline, environment: environment))
    }

    private mutating func onPayloadStarted(_ pid: Int32, _ now: Instant) {
        self.pid = pid
        lines.append("payload \(pid) started")
        if state == .ending { kill(now) }
    }

    private mutating func onPayloadNotStarted(_ why: String, _ now: Instant) {
        self.why = why
        result = refusal("vm.start-failed", why)
        afterPayload(now)
    }

    private mutating func onPayloadExited(_ exit: String, _ now: Instant) {
        pid = nil
        if state == .running || state == .paused, begun { why = "the payload ended by itself" }
        self.exit = exit
        lines.append("reaped: \(exit)")
        afterPayload(now)
    }

    /// Ends the group at once; there is no way back.
    mutating func end(_ reason: String, _ now: Instant) {
        guard state == .running || state == .paused else { return }
        why = reason
        state = .ending
        kill(now)
        lines.append("ending the group: \(reason)")
    }

    private mutating func kill(_ now: Instant) {
        killedAt = now
        actions.append(.killGroup)
    }

    /// Nothing runs any more: give back what is held, if there is time.
    private mutating func afterPayload(_ now: Instant) {
        guard state == .running || state == .paused || state == .ending else { return }
        actions.append(.closeDiskLocks)
        guard !granted.isEmpty, let deadline, now < deadline else { return finish(released: plan.leases.isEmpty) }
        state = .releasing
        if link == .connected { actions.append(.send(release)) }
    }

    // MARK: End

    mutating func finish(released: Bool) {
        result = result ?? GuardMessage("ended", [("exit", exit), ("released", released ? "yes" : "no"), ("why", why)])
        state = .over
    }

    /// Over before anything was started.
    mutating func refuse(_ code: String, _ message: String) {
        why = message
        result = refusal(code, message)
        state = .over
    }

    private func refusal(_ code: String, _ message: String) -> GuardMessage { GuardMessage("refused", [("code", code), ("message", message)]) }

    mutating func log(_ line: String) { lines.append(line) }

    // MARK: The agent

    private mutating func onAgentMessage(_ client: Int32, _ message: GuardMessage, _ now: Instant) {
        if message.verb == "verify" { return onAgentAsks(client, number: message["number"]) }
        guard message.verb == "stop" || message.verb == "status" else { return }
        if message.verb == "stop" {
            let reason = message["why"] ?? "stopped by the agent"
            if state == .locking || state == .acquiring { refuse("vm.start-failed", "stopped before it ran: \(reason)") } else { end(reason, now) }
        }
        actions.append(.answer(client: client, status))
    }

    /// `running` only once the payload's exec has happened.
    public var status: GuardMessage {
        let shown =
            switch state {
            case .locking, .acquiring: "acquiring"
            case .running: begun ? "running" : "acquiring"
            case .paused: "paused"
            case .ending, .releasing: "ending"
            case .over: "ended"
            }
        var fields = [("holder", plan.holder.description), ("state", shown), ("message", state == .paused ? pause.why : why)]
        if let pid { fields.append(("pid", String(pid))) }
        if let deadline { fields.append(("deadline", String(deadline.nanoseconds))) }
        fields += granted.map { ("lease", $0.grant) } + requested.map { ("requested", $0) }
        return GuardMessage("status", fields)
    }
}
