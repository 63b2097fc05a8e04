public import Messages

/// How the agent observes one guard: by its control socket while it answers, by its lock and result when it does not. Reports changes only.
public struct GuardWatcher: Sendable {
    public enum Input: Hashable, Sendable {
        case begin
        case connected
        /// `resultIsThere`: whether the guard has left a result.
        case connectFailed(resultIsThere: Bool)
        /// The connection is gone; also when a message could not be sent.
        case broken
        case message(GuardMessage)
        /// What the guest's QEMU says; `nil`: it did not answer.
        case confirmed(GuestStatus?)
        case examined(GuardSighting)
        /// The guard is to end its group: said now, and again to whatever connection comes.
        case stop(why: String)
        /// A guest that an I/O error has paused is to go on, if its guard verifies its leases. `asked`: an operator waits for ``Step/answer(_:)``.
        case resume(asked: Bool)
        /// QEMU was told to go on; `failure`: why it could not be.
        case resumed(failure: String?)
        /// The time of ``GuardWatcher/nextWake`` has come.
        case tick
    }

    public enum Step: Hashable, Sendable {
        /// To the guard's control socket; answered by ``Input/connected`` or ``Input/connectFailed(resultIsThere:)``.
        case connect
        case send(GuardMessage)
        /// Find out what became of it (``GuardExamination``); answered by ``Input/examined(_:)``.
        case examine
        /// Ask the guest's QEMU; answered by ``Input/confirmed(_:)``.
        case confirm
        /// Tell the guest's QEMU to go on; answered by ``Input/resumed(failure:)``.
        case resumeGuest
        /// What came of an operator's wish; exactly one for each, while there is a connection to lose.
        case answer(ResumeOutcome)
        case report(GuardSighting)
        /// The guest's QEMU, which its guard says is there, answers nothing any more, or again. Only changes are told.
        case monitor(answers: Bool)
    }

    private enum Link: Hashable, Sendable {
        case connecting, connected, examining, over
        case waiting(until: Instant)
    }

    /// As a guest's QEMU says.
    public enum GuestStatus: Hashable, Sendable { case running, paused, ioError }

    private enum Confirmation: Hashable, Sendable {
        case none
        /// `askAt`: when to ask again; `nil`: asked.
        case asking(pid: Int32, lver: UInt64, since: Instant, askAt: Instant?)
        case known(pid: Int32, lver: UInt64, GuestStatus)
    }

    /// An operator's wish that the guest goes on.
    private struct Wish: Hashable, Sendable {
        var until: Instant
        /// The question that was asked for it.
        var number: UInt64
        /// Its leases were verified, and QEMU told.
        var isTold = false
        /// When QEMU is asked whether it went on.
        var lookAt: Instant?
        var isLooking = false
    }

    private let isGuest: Bool
    private let patienceUntil: Instant
    private var link = Link.connecting
    private var confirmation = Confirmation.none
    /// QEMU was asked once more, and has not answered.
    private var isAskedAgain = false
    /// The guard has stopped the guest: it would not answer.
    private var isStopped = false
    /// Since when the guest's QEMU has answered nothing, and whether that was told.
    private var muteSince: Instant?
    private var isMute = false
    private var wish: Wish?
    private var standstill = Standstill()
    private var last: GuardSighting?
    private var stopWhy: String?
    private var heardAt = Instant(nanoseconds: 0)
    private var askAt = Instant(nanoseconds: 0)
    private var failingSince: Instant?
    private var steps: [Step] = []

    /// A guard that answers nothing for this long is unclear; a QEMU is out of control.
    public static let silence = Duration.seconds(5)
    /// How long a guest may take to answer, and a guard that is ending to leave its lock.
    public static let greeting = Duration.seconds(2)
    /// How long reading the leases again, and QEMU, may take together.
    public static let resumeLimit = Duration.seconds(20)
    /// A guest whose storage still fails meets the error again meanwhile, if it writes at all.
    public static let relapsePause = Duration.milliseconds(500)
    private static let askPause = Duration.seconds(2)

    /// - Parameters:
    ///   - isGuest: its payload is a guest, whose QEMU can be asked.
    ///   - patienceUntil: until when a guard that was just started may take to hold its lock (``GuardLaunch/patience``).
    public init(isGuest: Bool, patienceUntil: Instant) {
        self.isGuest = isGuest
        self.patienceUntil = patienceUntil
    }

    /// It has reported a ``GuardSighting/isFinal``: there is nothing more to watch.
    public var isOver: Bool { link == .over }

    /// When ``Input/tick`` is due.
    public var nextWake: Instant? {
        switch link {
        case .waiting(let until): until
        case .connected:
            if case .asking(_, _, _, let again?) = confirmation { min(askAt, again) } else { min(askAt, wish?.lookAt ?? askAt, wish?.until ?? askAt) }
        case .connecting, .examining, .over: nil
        }
    }

    public mutating func handle(_ input: Input, at now: Instant) -> [Step] {
        guard !isOver else { return [] }
        switch input {
        case .begin: steps.append(.connect)
        case .connected: onConnected(now)
        case .connectFailed(let resultIsThere): if link == .connecting { onSilent(resultIsThere, now) }
        case .broken: onBroken(now)
        case .message(let message): if link == .connected { onStatus(message, now) }
        case .confirmed(let status): onConfirmed(status, now)
        case .examined(let seen): if link == .examining { onExamined(seen, now) }
        case .stop(let why): onStop(why)
        case .resume(asked: false): if link == .connected, standstill.isKnown, case .known(_, _, .ioError) = confirmation { _ = askGuard(now) }
        case .resume(asked: true): onWish(now)
        case .resumed(let failure): onResumed(failure, now)
        case .tick: onTick(now)
        }
        defer { steps = [] }
        return steps
    }

    private mutating func report(_ sighting: GuardSighting) {
        guard sighting != last else { return }
        last = sighting
        steps.append(.report(sighting))
    }

    // MARK: Connection

    private mutating func onConnected(_ now: Instant) {
        guard link == .connecting else { return }
        link = .connected
        heardAt = now
        askAt = now + Self.askPause
        steps.append(.send(GuardMessage("status")))
        if let stopWhy { onStop(stopWhy) }
    }

    private mutating func onStop(_ why: String) {
        stopWhy = why
        if link == .connected { steps.append(.send(GuardMessage("stop", [("why", why)]))) }
    }

    private mutating func onTick(_ now: Instant) {
        switch link {
        case .waiting(let until) where now >= until:
            link = .connecting
            steps.append(.connect)
        case .connected:
            if now >= askAt { keepAsking(now) }
            checkWish(now)
            if case .asking(let pid, let lver, let since, let again?) = confirmation, now >= again {
                confirmation = .asking(pid: pid, lver: lver, since: since, askAt: nil)
                look()
            }
        case .waiting, .connecting, .examining, .over:
            break
        }
    }

    /// A stopped process keeps its socket open: only answers count.
    private mutating func keepAsking(_ now: Instant) {
        if now - heardAt > Self.silence { report(.unclear(evidence: "its guard holds its lock, but has not answered for \(Int(Self.silence.seconds)) s")) }
        askAt = now + Self.askPause
        steps.append(.send(GuardMessage("status")))
        // An I/O error pauses a guest at any time.
        guard case .known = confirmation, !isAskedAgain, !isStopped else { return }
        isAskedAgain = true
        look()
    }

    private mutating func onStatus(_ message: GuardMessage, _ now: Instant) {
        heardAt = now
        failingSince = nil
        let number = message["number"].flatMap { UInt64($0) } ?? 0
        if message.verb == "verified" { return onVerified(number, now) }
        if message.verb == "unverified", let wish, !wish.isTold, number >= wish.number { settle(.stays(why: "its leases are not known to be its own: \(message["message"] ?? "no reason given")")) }
        if let state = message["state"] { isStopped = state == "paused" }
        switch message["state"] {
        case "acquiring":
            report(.acquiring)
        case "running":
            let lver = message.all("lease").first.flatMap(GuardLease.init)?.lver ?? 0
            if let pid = message["pid"].flatMap({ Int32($0) }) { onRunning(pid, lver, now) }
        case "paused":
            let lver = message.all("lease").first.flatMap(GuardLease.init)?.lver ?? 0
            if let pid = message["pid"].flatMap({ Int32($0) }) { report(.running(pid: pid, lver: lver, paused: true, why: .leaseLoss(message["message"] ?? ""))) }
        case "ending", "ended":
            report(.ending(why: message["message"] ?? ""))
            settle(.stays(why: "its guard ends it: \(message["message"] ?? "")"))
        default:
            break
        }
    }

    // MARK: The guest itself

    /// The guest's QEMU is asked once; a guest that cannot answer yet is reported after a while all the same.
    private mutating func onRunning(_ pid: Int32, _ lver: UInt64, _ now: Instant) {
        guard isGuest else { return report(.running(pid: pid, lver: lver, paused: false)) }
        switch confirmation {
        case .asking:
            break
        case .known(pid, _, let status):
            confirmation = .known(pid: pid, lver: lver, status)
            report(pid, lver, status)
        case .none, .known:
            confirmation = .asking(pid: pid, lver: lver, since: now, askAt: nil)
            look()
        }
    }

    private mutating func report(_ pid: Int32, _ lver: UInt64, _ status: GuestStatus) {
        report(.running(pid: pid, lver: lver, paused: status != .running, why: status == .ioError ? .ioError : nil))
    }

    private mutating func look() {
        standstill.lookBegins()
        steps.append(.confirm)
    }

    private mutating func onConfirmed(_ status: GuestStatus?, _ now: Instant) {
        if let status { standstill.looked(status) }
        if case .known(let pid, let lver, _) = confirmation {
            isAskedAgain = false
            noteMonitor(status != nil, now)
            guard let status, link == .connected else { return }
            confirmation = .known(pid: pid, lver: lver, status)
            guard !isStopped, case .running = last else { return }
            report(pid, lver, status)
            return onLookedAt(status)
        }
        guard case .asking(let pid, let lver, let since, nil) = confirmation else { return }
        guard link == .connected else {
            confirmation = .none
            return
        }
        if status == nil, now - since < Self.greeting {
            confirmation = .asking(pid: pid, lver: lver, since: since, askAt: now + .milliseconds(20))
            return
        }
        confirmation = .known(pid: pid, lver: lver, status ?? .running)
        if case .ending = last { return }
        if !isStopped { report(pid, lver, status ?? .running) }
        if status == nil { muteSince = since }
    }

    /// A QEMU whose guard has stopped it, or ends it, is not expected to answer.
    private mutating func noteMonitor(_ answers: Bool, _ now: Instant) {
        guard link == .connected, !isStopped, case .running = last else { return }
        let since = muteSince ?? now
        muteSince = answers ? nil : since
        guard answers ? isMute : !isMute && now - since >= Self.silence else { return }
        isMute = !answers
        steps.append(.monitor(answers: answers))
    }

    // MARK: An operator's wish

    private mutating func onWish(_ now: Instant) {
        guard link == .connected, case .known = confirmation else { return steps.append(.answer(.stays(why: "its guard, or its QEMU, does not answer"))) }
        if case .running(_, _, _, .leaseLoss(let why)) = last, isStopped {
            return steps.append(.answer(.stays(why: "its guard has stopped it, and lets it go on by itself if its leases are verified before their deadline: \(why)")))
        }
        // One that is out counts for whoever asks meanwhile.
        guard wish == nil else { return }
        wish = Wish(until: now + Self.resumeLimit, number: askGuard(now))
    }

    private mutating func askGuard(_ now: Instant) -> UInt64 {
        let number = standstill.ask(now)
        steps.append(.send(GuardMessage("verify", [("number", String(number))])))
        return number
    }

    private mutating func onVerified(_ number: UInt64, _ now: Instant) {
        guard let asked = wish, !asked.isTold, number >= asked.number else {
            if standstill.allows(number), case .known(_, _, .ioError) = confirmation { tellGuest() }
            return
        }
        if standstill.allows(number) {
            wish?.isTold = true
            tellGuest()
        } else if standstill.isKnown {
            // It came to a stand since.
            let number = askGuard(now)
            wish?.number = number
        } else {
            // As far as is known it runs.
            wish?.isTold = true
            wish?.lookAt = now
            checkWish(now)
        }
    }

    private mutating func tellGuest() {
        standstill.goesOn()
        steps.append(.resumeGuest)
    }

    private mutating func onResumed(_ failure: String?, _ now: Instant) {
        standstill.wasTold()
        guard wish?.isTold == true, wish?.lookAt == nil, wish?.isLooking == false else { return }
        if let failure { return settle(.stays(why: "its QEMU did not go on: \(failure)")) }
        wish?.lookAt = now + Self.relapsePause
    }

    private mutating func checkWish(_ now: Instant) {
        guard let wish else { return }
        if now >= wish.until { return settle(.stays(why: "neither its guard nor its QEMU answered within \(Int(Self.resumeLimit.seconds)) s; see bulwark vm show whether it goes on")) }
        guard let lookAt = wish.lookAt, now >= lookAt else { return }
        // An answer that is under way may be older than the wish.
        guard !isAskedAgain else {
            self.wish?.lookAt = now + .milliseconds(50)
            return
        }
        self.wish?.lookAt = nil
        self.wish?.isLooking = true
        isAskedAgain = true
        look()
    }

    private mutating func onLookedAt(_ status: GuestStatus) {
        guard wish?.isLooking == true else { return }
        settle(status == .running ? .goesOn : .stays(why: "its leases are its own, but its storage does not answer it yet: its hypervisor has paused it again"))
    }

    private mutating func settle(_ outcome: ResumeOutcome) {
        guard wish != nil else { return }
        wish = nil
        steps.append(.answer(outcome))
    }

    // MARK: Without a connection

    private mutating func onBroken(_ now: Instant) {
        guard link == .connected else { return }
        settle(.stays(why: "the connection to its guard was lost; see bulwark vm show whether it goes on"))
        if case .asking(_, _, _, .some) = confirmation { confirmation = .none }
        // One that has said nothing yet may be a guard that was just started: it is not examined before its patience ends.
        if last == nil { wait(.milliseconds(10), now) } else { examine() }
    }

    /// A guard that was just started does not hold its lock yet: taking it now would call its start off.
    private mutating func onSilent(_ resultIsThere: Bool, _ now: Instant) {
        if last == nil, now < patienceUntil, !resultIsThere { wait(.milliseconds(10), now) } else { examine() }
    }

    private mutating func examine() {
        link = .examining
        steps.append(.examine)
    }

    private mutating func onExamined(_ seen: GuardSighting, _ now: Instant) {
        guard !seen.isFinal else {
            link = .over
            return report(seen)
        }
        let since = failingSince ?? now
        failingSince = since
        // Between its result and its last breath a guard still holds its lock.
        let isFailing = now - since > Self.greeting
        if isFailing { report(seen) }
        wait(isFailing ? .milliseconds(500) : .milliseconds(20), now)
    }

    private mutating func wait(_ pause: Duration, _ now: Instant) { link = .waiting(until: now + pause) }
}
