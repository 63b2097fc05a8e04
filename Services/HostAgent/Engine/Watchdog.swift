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
/// |  | a feeding came to the device after the deadline of a guard that still has a group | shortened, and never fed again |
/// |  | nobody has needed it for a while, or it was released | releasing: lease-service is asked |
/// | releasing | lease-service holds nothing and grants nothing from now on | closing |
/// |  | it refuses, or does not answer | armed |
/// | closing | closed | disarmed |
/// |  | it cannot be closed | armed |
///
/// One that was released by fencing-service's order is needed by nobody, and lease-service is told to do without it; it covers nothing until that is taken back and it is armed again.
///
/// In releasing it is fed as in armed. One that cannot be disarmed (nowayout) stays armed as long as the machine runs. Before the agent knows what runs here it neither opens nor feeds it.
public struct Watchdog: Sendable {
    public enum State: String, Sendable { case disarmed, inherited, opening, armed, releasing, closing }

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
    /// Gone here, though lease-service may still name them.
    private var gone: Set<Holder> = []
    /// An earlier life of this agent had opened it.
    private var wasCounting = false
    private var device: Device?
    /// Why the open device cannot cover leases; `nil`: it can.
    private var flaw: String?
    private var isFeeding = false
    /// When the device was last asked for something that it has not done yet.
    private var askedAt: Instant?
    private var notAfter = Instant(nanoseconds: 0)
    /// When a feeding came to the device that had been allowed for an earlier time only; the guards are heard before it is judged.
    private var lateAt: Instant?
    /// It was shortened.
    private var isLost = false
    private var feedAt = Instant(nanoseconds: 0)
    private var openAt = Instant(nanoseconds: 0)
    /// lease-service agreed that it is armed.
    private var isAgreed = false
    private var isReporting = false
    private var reportAt = Instant(nanoseconds: 0)
    private var neededAt = Instant(nanoseconds: 0)
    private var isEnding = false
    /// fencing-service has ordered that it be disarmed.
    private var isReleased = false
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
    /// A device that has not done for so long what it was asked does not answer.
    private static let slowness = Duration.seconds(3)
    private static let lateness = Duration.seconds(1)

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
        // One that turns out to have been there is owed nothing.
        case .watching(let holder, let isNew): if guards[holder] == nil || !isNew { guards[holder] = Guarded(heardAt: isNew ? now : nil) }
        case .said(let holder, let message): onSaid(holder, message, now)
        case .over(let holder): if guards.removeValue(forKey: holder) != nil { gone.insert(holder) }
        case .leaseService(let view): onLeaseService(view)
        case .opened(let device, let time):
            onLanded(time)
            onOpened(device, now)
        case .openFailed(let why): onOpenFailed(why, now)
        case .fed(let failure, let time):
            if let time { onLanded(time) }
            if isOpen { askedAt = nil }
            isFeeding = false
            feedFailure = failure
        case .closed(let failure): onClosed(failure, now)
        case .answered(let armed, let error): onAnswered(armed, error, now)
        case .released(let isReleased):
            self.isReleased = isReleased
            reportAt = now
        case .ending: isEnding = true
        case .wake: break
        }
    }

    // MARK: Guards

    private mutating func onSaid(_ holder: Holder, _ message: GuardMessage, _ now: Instant) {
        guard message.verb == "status", guards[holder] != nil else { return }
        // Between its grant and the start of the group there is a deadline and no process yet.
        let hasGroup = message["pid"] != nil || message["state"] == "acquiring"
        guards[holder] = Guarded(heardAt: now, deadline: message["deadline"].flatMap { Int64($0) }.map { Instant(nanoseconds: $0) }, hasGroup: hasGroup)
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
    private var isNeeded: Bool { !isReleased && isWanted }
    private var isWanted: Bool { !guards.isEmpty || (!isEnding && leases?.needed == true) }

    // MARK: lease-service

    /// A holder without a guard that is watched: it may stand still beyond its deadline, and the feeding goes on.
    private var unwatched: Holder? { leases?.holders?.first { guards[$0] == nil && !gone.contains($0) } }

    private mutating func onLeaseService(_ view: LeaseWatchdogView) {
        leases = view
        if let holders = view.holders { gone.formIntersection(holders) }
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
                reportAt = now + Self.pause
                close(now)
            } else {
                state = .armed
                neededAt = now
                reportAt = now + Self.pause
            }
        }
    }

    // MARK: The device

    private mutating func close(_ now: Instant) {
        state = .closing
        ask(.close, now)
    }

    private mutating func ask(_ step: Step, _ now: Instant) {
        askedAt = now
        steps.append(step)
    }

    private mutating func onLanded(_ time: Instant) {
        if time > notAfter + Self.lateness { lateAt = time }
    }

    private mutating func onOpened(_ device: Device, _ now: Instant) {
        guard state == .opening else { return }
        askedAt = nil
        self.device = device
        openFailure = nil
        feedAt = now + interval
        flaw = flaw(of: device)
        if flaw != nil, device.canDisarm || !device.outlivesProcess {
            close(now)
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
        askedAt = nil
        state = wasCounting ? .inherited : .disarmed
        openFailure = why
        openAt = now + Self.pause
    }

    private mutating func onClosed(_ failure: String?, _ now: Instant) {
        guard state == .closing else { return }
        askedAt = nil
        lateAt = nil
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
            doWithout(now)
            guard state == .inherited || isNeeded, !isEnding, now >= openAt, obstacle(now) == nil else { return }
            state = .opening
            notAfter = latest(now + Self.silence)
            ask(.open(timeout: timeout, notAfter: notAfter), now)
        case .armed, .releasing:
            judgeLateness(now)
            feed(now)
            if state == .armed { report(now) }
        case .opening, .closing:
            break
        }
    }

    private mutating func feed(_ now: Instant) {
        guard !isFeeding, now >= feedAt else { return }
        feedAt = now + interval
        guard !isLost, obstacle(now) == nil else { return }
        isFeeding = true
        notAfter = latest(feedAt)
        ask(.feed(notAfter: notAfter), now)
    }

    /// lease-service, or a new life of it, is told that its grants need not wait for a watchdog.
    private mutating func doWithout(_ now: Instant) {
        guard state == .disarmed, isReleased, !isEnding, leases?.limit != nil, leases?.released != true, !isReporting, now >= reportAt else { return }
        isReporting = true
        reportAt = now + Self.pause
        steps.append(.report(WatchdogReport(armed: false, timeout: timeout, at: now, released: true)))
    }

    /// It would fire a whole timeout after a feeding that must not have been.
    private mutating func judgeLateness(_ now: Instant) {
        guard let late = lateAt, now - late >= Self.silence else { return }
        lateAt = nil
        guard guards.values.contains(where: { $0.hasGroup && $0.deadline.map { $0 < late } ?? false }) else { return }
        isLost = true
        steps.append(.shorten)
    }

    /// Until when what is decided now still holds.
    private func latest(_ time: Instant) -> Instant { guards.values.map(limit).reduce(time) { min($0, $1) } }

    private mutating func report(_ now: Instant) {
        guard !isReporting, now >= reportAt else { return }
        let isOver = !isNeeded && (isReleased || now - neededAt >= (isEnding ? .zero : Self.quiet)) && device?.canDisarm == true
        guard isOver || (flaw == nil && !isAgreed && !isReleased) else { return }
        if isOver { state = .releasing }
        isReporting = true
        steps.append(.report(WatchdogReport(armed: !isOver, timeout: device?.timeout ?? timeout, at: now, released: isOver && isReleased ? true : nil)))
    }

    // MARK: What is said

    private mutating func tell(_ now: Instant) {
        let covers = isOpen && isAgreed && !isReleased && leases?.limit != nil && unwatched == nil && !isLost
        let problem = problem(now)
        if covers != said.covers {
            let fed = "\(device?.identity ?? "it") is fed, it resets this host \(Int(device?.timeout.seconds ?? 0)) s after the last feeding"
            let why = covers ? fed : isReleased ? "fencing-service has ordered it to be disarmed" : problem ?? (isOpen ? "lease-service has not heard yet that it is armed" : "no lease is held")
            steps.append(.covers(covers, why: why))
        }
        if problem != said.problem { steps.append(.problem(problem)) }
        said = (covers, problem)
    }

    private func problem(_ now: Instant) -> String? {
        if isLost { return "it was fed after the deadline of a guard whose processes are not gone: it resets this host now" }
        if let askedAt, now - askedAt >= Self.slowness { return unanswered }
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
        if let unwatched { return "\(unwatched) has or wants leases of this host, and host-agent watches no guard of it: the watchdog does not cover this host's leases until that has ended" }
        if isAgreed, let leases, leases.limit == nil { return "lease-service grants leases without waiting for it: set lease.watchdog in its configuration" }
        return device?.canDisarm == false ? "it cannot be disarmed (nowayout, or its driver does not say): it resets this host \(Int(device?.timeout.seconds ?? 0)) s after host-agent was stopped" : nil
    }

    private var unanswered: String {
        let fires = "it resets this host \(Int((device?.timeout ?? timeout).seconds)) s after it was last fed"
        return switch state {
        case .opening: "its driver does not answer, it was to be opened \(Int(Self.slowness.seconds)) s ago and more: nothing is granted that waits for it" + (wasCounting ? ", and \(fires)" : "")
        case .closing: "its driver does not answer, it was to be disarmed \(Int(Self.slowness.seconds)) s ago and more: \(fires)"
        default: "its driver does not answer, it was to be fed \(Int(Self.slowness.seconds)) s ago and more: unless it does, \(fires)"
        }
    }

    private func wake(_ now: Instant) -> Instant? {
        switch state {
        case .disarmed: isNeeded ? max(openAt, now + interval) : isReleased && isWanted && leases?.released != true ? max(reportAt, now + interval) : nil
        case .inherited: max(openAt, now + .milliseconds(100))
        case .armed, .releasing: max(feedAt, now + (isFeeding ? interval : .milliseconds(10)))
        case .opening, .closing: askedAt.map { $0 + Self.slowness }.flatMap { $0 > now ? $0 : nil }
        }
    }
}
