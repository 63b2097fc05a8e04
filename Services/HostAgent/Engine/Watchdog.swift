public import Messages

/// When this host's hardware watchdog is opened, fed, disarmed, or left to fire (S6).
///
/// | state | stimulus | next |
/// |---|---|---|
/// | disarmed | a guard with leases is being started, or lease-service needs it | opening |
/// | inherited | an earlier life of this agent had opened it, and it counts: every guard that is known answers or is reaped | opening |
/// | opening | opened, and usable | armed: lease-service is told until it agrees |
/// |  | it cannot be used, and can be disarmed | closing |
/// |  | it cannot be opened | as before; tried again after a while |
/// | armed | time to feed, every guard answers, none is past its deadline with a group | fed |
/// |  | time to feed, and it is not so | nothing: it counts on, and fires |
/// |  | nobody has needed it for a while | releasing: lease-service is asked |
/// | releasing | lease-service holds nothing and grants nothing from now on | closing |
/// |  | it refuses, or does not answer | armed |
/// | closing | closed | disarmed |
/// |  | it cannot be closed | armed |
///
/// In releasing it is fed as in armed. One that cannot be disarmed (nowayout) stays armed as long as the machine runs. Before the agent knows what runs here it neither opens nor feeds it.
public struct Watchdog: Sendable {
    public enum State: String, Sendable { case disarmed, inherited, opening, armed, releasing, closing }

    /// What an open device is.
    public struct Device: Hashable, Sendable {
        /// As its driver calls it.
        public var identity: String
        /// How long after its last feeding it fires.
        public var timeout: Duration
        /// It counts on when the process that opened it ends.
        public var outlivesProcess: Bool
        /// It can be closed so that it does not fire.
        public var canDisarm: Bool

        public init(identity: String, timeout: Duration, outlivesProcess: Bool, canDisarm: Bool) {
            self.identity = identity
            self.timeout = timeout
            self.outlivesProcess = outlivesProcess
            self.canDisarm = canDisarm
        }
    }

    public enum Input: Sendable {
        /// `isCounting`: an earlier life of this agent has opened it in this boot, and did not close it.
        case begin(isCounting: Bool)
        /// The agent knows what runs here.
        case looked
        /// A guard that holds leases or is to take some; `isNew`: it was started just now.
        case watching(Holder, isNew: Bool)
        /// The guard's answer to `status`.
        case said(Holder, GuardMessage)
        /// The guard and its group are gone.
        case over(Holder)
        case leaseService(LeaseWatchdogView)
        case opened(Device)
        case openFailed(String)
        /// `nil`: it was, or it was too late for it.
        case fed(failure: String?)
        case closed(failure: String?)
        /// lease-service's answer to a report; `nil`: done.
        case answered(armed: Bool, RequestError?)
        /// This life of the agent ends: what nobody needs is disarmed at once.
        case ending
        case wake
    }

    public enum Step: Hashable, Sendable {
        /// Which feeds it, so not later than this; answered by ``Input/opened(_:)`` or ``Input/openFailed(_:)``.
        case open(timeout: Duration, notAfter: Instant)
        /// Unless it is later than this when it comes to that; answered by ``Input/fed(failure:)``.
        case feed(notAfter: Instant)
        /// Disarm it; answered by ``Input/closed(failure:)``.
        case close
        /// To lease-service; answered by ``Input/answered(armed:_:)``.
        case report(WatchdogReport)
        /// Whether this host's leases are covered by it now.
        case covers(Bool, why: String)
        /// What people should know; `nil`: nothing.
        case problem(String?)
    }

    private struct Guarded: Sendable {
        /// `nil`: it has not answered since this agent started.
        var heardAt: Instant?
        var deadline: Instant?
        var hasGroup = true
    }

    public private(set) var state = State.disarmed
    /// When ``Input/wake`` is due.
    public private(set) var nextWake: Instant?
    private let timeout: Duration
    private var hasLooked = false
    private var guards: [Holder: Guarded] = [:]
    private var leases: LeaseWatchdogView?
    /// An earlier life of this agent had opened it.
    private var wasCounting = false
    private var device: Device?
    /// Why the open device cannot cover leases; `nil`: it can.
    private var flaw: String?
    private var isFeeding = false
    private var feedAt = Instant(nanoseconds: 0)
    private var openAt = Instant(nanoseconds: 0)
    /// lease-service agreed that it is armed.
    private var isAgreed = false
    private var isReporting = false
    private var reportAt = Instant(nanoseconds: 0)
    private var neededAt = Instant(nanoseconds: 0)
    private var isEnding = false
    private var openFailure: String?
    private var feedFailure: String?
    private var refusal: String?
    private var said: (covers: Bool, problem: String?) = (false, nil)
    private var steps: [Step] = []

    /// A guard that has not answered for this long stops the feeding.
    public static let silence = GuardWatcher.silence
    /// It stays armed for so long after the last lease.
    public static let quiet = Duration.seconds(5)
    private static let pause = Duration.seconds(2)

    /// - Parameter timeout: what it must not exceed.
    public init(timeout: Duration) { self.timeout = timeout }

    /// An agent that ends now leaves nothing behind that it could have disarmed.
    public var mayEnd: Bool {
        switch state {
        case .disarmed, .inherited: true
        case .armed: isNeeded || device?.canDisarm == false
        case .opening, .releasing, .closing: false
        }
    }

    private var interval: Duration { min(.seconds(1), Duration(nanoseconds: timeout.nanoseconds / 4)) }
    private var isOpen: Bool { state == .armed || state == .releasing }

    public mutating func handle(_ input: Input, at now: Instant) -> [Step] {
        take(input, now)
        if isNeeded { neededAt = now }
        advance(now)
        tell(now)
        nextWake = wake(now)
        defer { steps = [] }
        return steps
    }

    private mutating func take(_ input: Input, _ now: Instant) {
        switch input {
        case .begin(let isCounting):
            wasCounting = isCounting
            state = isCounting ? .inherited : .disarmed
        case .looked: hasLooked = true
        case .watching(let holder, let isNew): if guards[holder] == nil { guards[holder] = Guarded(heardAt: isNew ? now : nil) }
        case .said(let holder, let message): onSaid(holder, message, now)
        case .over(let holder): guards[holder] = nil
        case .leaseService(let view): onLeaseService(view)
        case .opened(let device): onOpened(device, now)
        case .openFailed(let why): onOpenFailed(why, now)
        case .fed(let failure):
            isFeeding = false
            feedFailure = failure
        case .closed(let failure): onClosed(failure, now)
        case .answered(let armed, let error): onAnswered(armed, error, now)
        case .ending: isEnding = true
        case .wake: break
        }
    }

    // MARK: Guards

    private mutating func onSaid(_ holder: Holder, _ message: GuardMessage, _ now: Instant) {
        guard message.verb == "status", guards[holder] != nil else { return }
        guards[holder] = Guarded(heardAt: now, deadline: message["deadline"].flatMap { Int64($0) }.map { Instant(nanoseconds: $0) }, hasGroup: message["pid"] != nil)
    }

    /// Until when it may be fed, as far as this guard is concerned.
    private func limit(_ guarded: Guarded) -> Instant {
        let answered = guarded.heardAt.map { $0 + Self.silence } ?? Instant(nanoseconds: 0)
        guard guarded.hasGroup, let deadline = guarded.deadline else { return answered }
        return min(answered, deadline)
    }

    /// Why it must not be fed; `nil`: nothing.
    private func obstacle(_ now: Instant) -> String? {
        guard hasLooked else { return "host-agent still finds out what runs here" }
        for holder in guards.keys.sorted() {
            guard let guarded = guards[holder], now >= limit(guarded) else { continue }
            if let deadline = guarded.deadline, guarded.hasGroup, now >= deadline { return "the deadline of \(holder) has passed and its processes are not gone" }
            return "the guard of \(holder) " + (guarded.heardAt == nil ? "has not answered yet" : "has not answered for \(Int(Self.silence.seconds)) s")
        }
        return nil
    }

    /// An agent that ends asks lease-service instead of trusting what that said last.
    private var isNeeded: Bool { !guards.isEmpty || (!isEnding && leases?.needed == true) }

    // MARK: lease-service

    private mutating func onLeaseService(_ view: LeaseWatchdogView) {
        leases = view
        // Started again since: it has heard nothing yet.
        if isAgreed, !view.armed { isAgreed = false }
    }

    private mutating func onAnswered(_ armed: Bool, _ error: RequestError?, _ now: Instant) {
        isReporting = false
        if armed {
            guard isOpen else { return }
            isAgreed = error == nil
            refusal = error.map { "lease-service does not take it for armed: \($0.message)" }
            reportAt = now + Self.pause
        } else if state == .releasing {
            isAgreed = false
            if error == nil {
                state = .closing
                steps.append(.close)
            } else {
                state = .armed
                neededAt = now
                reportAt = now + Self.pause
            }
        }
    }

    // MARK: The device

    private mutating func onOpened(_ device: Device, _ now: Instant) {
        guard state == .opening else { return }
        self.device = device
        openFailure = nil
        feedAt = now + interval
        flaw = flaw(of: device)
        if flaw != nil, device.canDisarm || !device.outlivesProcess {
            state = .closing
            steps.append(.close)
        } else {
            state = .armed
            neededAt = now
            reportAt = now
        }
    }

    private func flaw(of device: Device) -> String? {
        if !device.outlivesProcess { return "\(device.identity) cannot be used: its driver disarms it whenever host-agent ends" }
        if device.timeout > timeout {
            return "\(device.identity) cannot be used: it fires after \(Int(device.timeout.seconds)) s and takes no shorter time; watchdog.timeout is \(Int(timeout.seconds)) s"
        }
        return nil
    }

    private mutating func onOpenFailed(_ why: String, _ now: Instant) {
        guard state == .opening else { return }
        state = wasCounting ? .inherited : .disarmed
        openFailure = why
        openAt = now + Self.pause
    }

    private mutating func onClosed(_ failure: String?, _ now: Instant) {
        guard state == .closing else { return }
        feedFailure = failure
        if failure != nil {
            state = .armed
            neededAt = now
            reportAt = now
        } else {
            state = .disarmed
            wasCounting = false
            device = nil
            openFailure = flaw
            openAt = now + (flaw == nil ? .zero : Self.pause * 15)
        }
    }

    private mutating func advance(_ now: Instant) {
        switch state {
        case .disarmed, .inherited:
            guard state == .inherited || isNeeded, !isEnding, now >= openAt, obstacle(now) == nil else { return }
            state = .opening
            steps.append(.open(timeout: timeout, notAfter: latest(now + Self.silence)))
        case .armed, .releasing:
            feed(now)
            if state == .armed { report(now) }
        case .opening, .closing:
            break
        }
    }

    private mutating func feed(_ now: Instant) {
        guard !isFeeding, now >= feedAt else { return }
        feedAt = now + interval
        guard obstacle(now) == nil else { return }
        isFeeding = true
        steps.append(.feed(notAfter: latest(feedAt)))
    }

    /// Until when what is decided now still holds.
    private func latest(_ time: Instant) -> Instant { guards.values.map(limit).reduce(time) { min($0, $1) } }

    private mutating func report(_ now: Instant) {
        guard !isReporting, now >= reportAt else { return }
        let isOver = !isNeeded && now - neededAt >= (isEnding ? .zero : Self.quiet) && device?.canDisarm == true
        guard isOver || (flaw == nil && !isAgreed) else { return }
        if isOver { state = .releasing }
        isReporting = true
        steps.append(.report(WatchdogReport(armed: !isOver, timeout: device?.timeout ?? timeout, at: now)))
    }

    // MARK: What is said

    private mutating func tell(_ now: Instant) {
        let covers = isOpen && isAgreed && leases?.limit != nil
        let problem = problem(now)
        if covers != said.covers {
            let fed = "\(device?.identity ?? "it") is fed, it resets this host \(Int(device?.timeout.seconds ?? 0)) s after the last feeding"
            let why = covers ? fed : problem ?? (isOpen ? "lease-service has not heard yet that it is armed" : "no lease is held")
            steps.append(.covers(covers, why: why))
        }
        if problem != said.problem { steps.append(.problem(problem)) }
        said = (covers, problem)
    }

    private func problem(_ now: Instant) -> String? {
        switch state {
        case .disarmed: return openFailure
        case .inherited: return obstacle(now).map { "it counts and is not opened again: \($0)" } ?? openFailure
        case .opening, .closing: return said.problem
        case .armed, .releasing: break
        }
        if let why = obstacle(now) { return "it is not fed and will reset this host: \(why)" }
        if let feedFailure { return feedFailure }
        if let flaw { return "\(flaw); it cannot be disarmed either, and is fed as long as host-agent runs" }
        if let refusal, !isAgreed { return refusal }
        if isAgreed, let leases, leases.limit == nil { return "lease-service grants leases without waiting for it: set lease.watchdog in its configuration" }
        return device?.canDisarm == false ? "it cannot be disarmed (nowayout): it resets this host \(Int(device?.timeout.seconds ?? 0)) s after host-agent was stopped" : nil
    }

    private func wake(_ now: Instant) -> Instant? {
        switch state {
        case .disarmed: isNeeded ? max(openAt, now + interval) : nil
        case .inherited: max(openAt, now + .milliseconds(100))
        case .armed, .releasing: max(feedAt, now + (isFeeding ? interval : .milliseconds(10)))
        case .opening, .closing: nil
        }
    }
}
