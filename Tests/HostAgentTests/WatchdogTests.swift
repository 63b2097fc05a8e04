import Foundation
import HostAgentEngine
import Messages
import Testing

private let web = Holder(role: .vm, name: "web1", attempt: 1)
private let device = Watchdog.Device(identity: "iTCO_wdt", timeout: .seconds(30), outlivesProcess: true, canDisarm: true)

private func at(_ seconds: Double) -> Instant { Instant(nanoseconds: 1_000_000_000_000 + Int64(seconds * 1e9)) }

private func running(until deadline: Double) -> GuardMessage { GuardMessage("status", [("pid", "7"), ("deadline", String(at(deadline).nanoseconds))]) }

extension [Watchdog.Step] {
    fileprivate var feedings: [Instant] { compactMap { if case .feed(let notAfter) = $0 { notAfter } else { nil } } }
    fileprivate var reports: [Bool] { compactMap { if case .report(let report) = $0 { report.armed } else { nil } } }
    fileprivate var opens: Bool { contains { if case .open = $0 { true } else { false } } }
    fileprivate var problems: [String?] { compactMap { if case .problem(let text) = $0 { .some(text) } else { nil } } }
    fileprivate var covers: [Bool] { compactMap { if case .covers(let covers, _) = $0 { covers } else { nil } } }
}

@Suite("Watchdog: the table of its states")
struct WatchdogTests {
    /// Of an agent that knows that nothing runs here.
    private func fresh(isCounting: Bool = false) -> Watchdog {
        var watchdog = Watchdog(timeout: .seconds(30))
        _ = watchdog.handle(.begin(isCounting: isCounting), at: at(0))
        _ = watchdog.handle(.looked, at: at(0))
        return watchdog
    }

    private func view(armed: Bool = false, needed: Bool, limit: Duration? = .seconds(30)) -> Watchdog.Input {
        .leaseService(LeaseWatchdogView(armed: armed, needed: needed, limit: limit))
    }

    /// Armed, agreed, and one guest runs until second 100.
    private func armed() -> Watchdog {
        var watchdog = fresh()
        _ = watchdog.handle(view(needed: true), at: at(0))
        _ = watchdog.handle(.watching(web, isNew: true), at: at(0))
        _ = watchdog.handle(.opened(device, at: at(0)), at: at(0))
        _ = watchdog.handle(.answered(armed: true, nil), at: at(0))
        _ = watchdog.handle(.said(web, running(until: 100)), at: at(0.1))
        return watchdog
    }

    @Test("without leases it is not opened; the first guard with leases, or lease-service, opens it, and lease-service is told once it is open")
    func opens() {
        var watchdog = fresh()
        #expect(watchdog.handle(view(needed: false), at: at(1)).isEmpty)
        #expect(watchdog.state == .disarmed)
        var other = watchdog
        #expect(watchdog.handle(.watching(web, isNew: true), at: at(2)).opens)
        #expect(other.handle(view(needed: true), at: at(2)).opens)
        #expect(watchdog.state == .opening)
        #expect(watchdog.handle(.opened(device, at: at(2)), at: at(2)).reports == [true])
        #expect(watchdog.state == .armed)
        #expect(watchdog.handle(.answered(armed: true, nil), at: at(2)).covers == [true])
    }

    @Test("released, it is disarmed whatever is held: lease-service is told to do without, and nothing is covered; taken back, it is armed again")
    func isReleased() {
        var watchdog = armed()
        let steps = watchdog.handle(.released(true), at: at(0.5))
        #expect(steps.covers == [false])
        #expect(steps.contains { if case .report(let report) = $0 { report.released == true && !report.armed } else { false } })
        #expect(watchdog.state == .releasing)
        #expect(watchdog.handle(.answered(armed: false, nil), at: at(0.6)).contains { if case .close = $0 { true } else { false } })
        #expect(watchdog.handle(.closed(failure: nil), at: at(0.7)).reports == [])
        _ = watchdog.handle(.leaseService(LeaseWatchdogView(armed: false, needed: true, limit: .seconds(30), released: true)), at: at(1))
        #expect(watchdog.handle(.said(web, running(until: 100)), at: at(5)).isEmpty && watchdog.state == .disarmed)
        let again = watchdog.handle(.leaseService(LeaseWatchdogView(armed: false, needed: true, limit: .seconds(30))), at: at(6))
        #expect(again.contains { if case .report(let report) = $0 { report.released == true } else { false } }, "a new life of lease-service is told")
        _ = watchdog.handle(.answered(armed: false, nil), at: at(6))
        #expect(watchdog.handle(.released(false), at: at(7)).opens)
        _ = watchdog.handle(.opened(device, at: at(7)), at: at(7))
        #expect(watchdog.handle(.answered(armed: true, nil), at: at(7)).covers == [true])
    }

    @Test("it is fed once a second, and what was decided is worth nothing once the guard's answer is old or its deadline has passed")
    func feeds() {
        var watchdog = armed()
        #expect(watchdog.handle(.wake, at: at(0.5)).feedings.isEmpty)
        #expect(watchdog.handle(.wake, at: at(1)).feedings == [at(2)])
        // Nothing is asked of a device that does not answer.
        #expect(watchdog.handle(.wake, at: at(2)).feedings.isEmpty)
        #expect(watchdog.handle(.fed(failure: nil, at: at(2.125)), at: at(2.125)).feedings == [at(3.125)])
        _ = watchdog.handle(.fed(failure: nil, at: at(2.2)), at: at(2.2))
        _ = watchdog.handle(.said(web, running(until: 3.5)), at: at(2.5))
        #expect(watchdog.handle(.wake, at: at(3.125)).feedings == [at(3.5)])
        _ = watchdog.handle(.fed(failure: nil, at: at(3.25)), at: at(3.25))
        let late = watchdog.handle(.wake, at: at(4.125))
        #expect(late.feedings.isEmpty)
        #expect(late.problems.first??.contains("the deadline of vm:web1:1 has passed") == true)
        // Its group is gone: nothing can be written any more.
        _ = watchdog.handle(.said(web, GuardMessage("status", [("state", "ending"), ("deadline", String(at(3.5).nanoseconds))])), at: at(4.5))
        #expect(watchdog.handle(.wake, at: at(5.125)).feedings == [at(6.125)])
    }

    @Test("a guard that does not answer for 5 s stops the feeding; its answer, or its end, lets it go on")
    func silentGuard() {
        var watchdog = armed()
        #expect(watchdog.handle(.wake, at: at(5)).feedings == [at(5.1)])
        _ = watchdog.handle(.fed(failure: nil, at: at(5)), at: at(5))
        #expect(watchdog.handle(.wake, at: at(6)).feedings.isEmpty)
        var over = watchdog
        _ = watchdog.handle(.said(web, running(until: 100)), at: at(6.5))
        #expect(watchdog.handle(.wake, at: at(7)).feedings == [at(8)])
        _ = over.handle(.over(web), at: at(6.5))
        #expect(over.handle(.wake, at: at(7)).feedings == [at(8)])
    }

    @Test("an agent that was started again does not open it before every guard has answered; without guards it opens and disarms it")
    func inherited() {
        var watchdog = Watchdog(timeout: .seconds(30))
        _ = watchdog.handle(.begin(isCounting: true), at: at(0))
        #expect(!watchdog.handle(.wake, at: at(0.1)).opens, "what runs here is not known yet")
        var empty = watchdog
        _ = watchdog.handle(.watching(web, isNew: false), at: at(0.2))
        #expect(!watchdog.handle(.looked, at: at(0.3)).opens)
        #expect(watchdog.state == .inherited)
        #expect(watchdog.handle(.said(web, running(until: 60)), at: at(0.4)).opens)
        _ = watchdog.handle(.openFailed("busy"), at: at(0.5))
        #expect(watchdog.state == .inherited, "it still counts")

        #expect(empty.handle(.looked, at: at(0.3)).opens)
        #expect(empty.handle(.opened(device, at: at(0.4)), at: at(0.4)).reports == [true])
        _ = empty.handle(.answered(armed: true, nil), at: at(0.5))
        #expect(empty.handle(.wake, at: at(6)).reports == [false])
        #expect(empty.handle(.answered(armed: false, nil), at: at(6.1)).contains(.close))
        _ = empty.handle(.closed(failure: nil), at: at(6.2))
        #expect(empty.state == .disarmed)
    }

    @Test("it is disarmed a while after the last lease, and only when lease-service agrees; until then it is fed")
    func disarms() {
        var watchdog = armed()
        _ = watchdog.handle(.over(web), at: at(10))
        #expect(watchdog.handle(.wake, at: at(11)).reports.isEmpty, "lease-service still holds something")
        _ = watchdog.handle(.fed(failure: nil, at: at(11)), at: at(11))
        _ = watchdog.handle(view(armed: true, needed: false), at: at(12))
        #expect(watchdog.handle(.wake, at: at(15)).reports.isEmpty)
        #expect(watchdog.handle(.wake, at: at(17.5)).reports == [false])
        #expect(watchdog.state == .releasing)
        #expect(watchdog.handle(.fed(failure: nil, at: at(17.6)), at: at(17.6)).feedings.count == 1)
        var refused = watchdog
        _ = refused.handle(.answered(armed: false, RequestError(LeaseErrorCode.heldHere, "somebody came")), at: at(19))
        #expect(refused.state == .armed)
        #expect(watchdog.handle(.answered(armed: false, nil), at: at(19)).contains(.close))
        #expect(watchdog.state == .closing)
        _ = watchdog.handle(.watching(Holder(role: .vm, name: "web2", attempt: 1), isNew: true), at: at(19.1))
        #expect(watchdog.handle(.closed(failure: nil), at: at(19.2)).opens, "somebody needs it again")
    }

    @Test("an agent that ends disarms what nobody needs at once, and leaves armed what its guards need")
    func ends() {
        var needed = armed()
        _ = needed.handle(.ending, at: at(1))
        #expect(needed.mayEnd && needed.state == .armed)
        var idle = armed()
        _ = idle.handle(.over(web), at: at(1))
        // What lease-service said before the guard was over.
        _ = idle.handle(view(armed: true, needed: true), at: at(1.5))
        #expect(idle.handle(.ending, at: at(4)).reports == [false])
        #expect(!idle.mayEnd)
        var refused = idle
        #expect(refused.handle(.answered(armed: false, RequestError(LeaseErrorCode.heldHere, "somebody came")), at: at(4)).reports.isEmpty, "not again at once")
        #expect(idle.handle(.answered(armed: false, nil), at: at(4)).contains(.close))
        _ = idle.handle(.closed(failure: nil), at: at(4))
        #expect(idle.mayEnd)
        #expect(!idle.handle(.watching(web, isNew: true), at: at(4)).opens)
    }

    @Test("what cannot be used is told plainly and closed; what cannot be disarmed is fed for ever")
    func flaws() {
        var busy = fresh()
        _ = busy.handle(view(needed: true), at: at(0))
        #expect(busy.handle(.openFailed("wdmd has it"), at: at(0)).problems == ["wdmd has it"])
        #expect(!busy.handle(.wake, at: at(1)).opens)
        #expect(busy.handle(.wake, at: at(2)).opens)

        var slow = fresh()
        _ = slow.handle(view(needed: true), at: at(0))
        let refused = slow.handle(.opened(Watchdog.Device(identity: "slow", timeout: .seconds(60), outlivesProcess: true, canDisarm: true), at: at(0)), at: at(0))
        #expect(refused.contains(.close) && refused.reports.isEmpty)
        #expect(slow.handle(.closed(failure: nil), at: at(0)).problems.first??.contains("60 s") == true)

        var mortal = fresh()
        _ = mortal.handle(view(needed: true), at: at(0))
        #expect(mortal.handle(.opened(Watchdog.Device(identity: "mortal", timeout: .seconds(30), outlivesProcess: false, canDisarm: true), at: at(0)), at: at(0)).contains(.close))

        var stubborn = fresh()
        _ = stubborn.handle(view(needed: true), at: at(0))
        let kept = stubborn.handle(.opened(Watchdog.Device(identity: "stubborn", timeout: .seconds(30), outlivesProcess: true, canDisarm: false), at: at(0)), at: at(0))
        #expect(kept.reports == [true])
        #expect(kept.problems.first??.contains("nowayout") == true)
        _ = stubborn.handle(.answered(armed: true, nil), at: at(0))
        _ = stubborn.handle(view(armed: true, needed: false), at: at(1))
        #expect(stubborn.handle(.wake, at: at(100)).reports.isEmpty)
        #expect(stubborn.state == .armed)
    }

    @Test("a lease-service that was started again, or refuses, is told again; leases that it grants without waiting are not said to be covered")
    func agreement() {
        var watchdog = armed()
        #expect(watchdog.handle(view(armed: false, needed: true), at: at(3)).covers == [false])
        var refused = watchdog
        _ = refused.handle(.answered(armed: true, RequestError(LeaseErrorCode.watchdog, "too long")), at: at(3))
        #expect(watchdog.handle(.answered(armed: true, nil), at: at(3)).covers == [true])
        #expect(watchdog.handle(view(armed: true, needed: true, limit: nil), at: at(4)).covers == [false])
    }

    @Test("an agent that ended well knows at its next start that nothing runs here only after it has looked: its last snapshot says so before")
    func drained() throws {
        let identity = AgentIdentity(host: "host1", hostID: 1, bootID: "boot", hardwareID: "hardware", signingKey: "", settle: .zero)
        var last = HostAgentEngine()
        _ = last.handle(.started(identity), at: at(0))
        _ = last.handle(.scanned([]), at: at(1))
        var agent = try JSONDecoder().decode(HostAgentEngine.self, from: JSONEncoder().encode(last))
        #expect(!agent.isInitializing, "so nobody may ask it before it is started")
        _ = agent.handle(.started(identity), at: at(10))
        #expect(agent.isInitializing)
    }

    @Test("a feeding that comes to the device after the deadline of a guard with a group lets it fire soon and is the last one; guards that were only not heard change nothing")
    func lateFeeding() {
        var watchdog = armed()
        _ = watchdog.handle(.said(web, running(until: 2.5)), at: at(0.9))
        #expect(watchdog.handle(.wake, at: at(1)).feedings == [at(2)])
        #expect(!watchdog.handle(.fed(failure: nil, at: at(4)), at: at(4)).contains(.shorten), "it may have been renewed")
        var renewed = watchdog
        let late = watchdog.handle(.wake, at: at(9))
        #expect(late.contains(.shorten) && late.feedings.isEmpty)
        #expect(late.covers == [false])
        _ = watchdog.handle(.said(web, running(until: 100)), at: at(9.1))
        #expect(watchdog.handle(.wake, at: at(10)).feedings.isEmpty)

        _ = renewed.handle(.said(web, running(until: 100)), at: at(8.9))
        _ = renewed.handle(.fed(failure: nil, at: at(8.9)), at: at(8.9))
        let well = renewed.handle(.wake, at: at(10))
        #expect(!well.contains(.shorten) && well.feedings.count == 1)
    }

    @Test("between the grant and the start of its group a guard's deadline counts; one that was there already is not trusted unheard")
    func beforeTheGroup() {
        var watchdog = armed()
        _ = watchdog.handle(.said(web, GuardMessage("status", [("state", "acquiring"), ("deadline", String(at(1.5).nanoseconds))])), at: at(0.9))
        #expect(watchdog.handle(.wake, at: at(1)).feedings == [at(1.5)])
        _ = watchdog.handle(.fed(failure: nil, at: at(1)), at: at(1))
        #expect(watchdog.handle(.wake, at: at(2)).feedings.isEmpty)

        var other = armed()
        let spawned = Holder(role: .vm, name: "web2", attempt: 1)
        _ = other.handle(.watching(spawned, isNew: true), at: at(0.5))
        _ = other.handle(.watching(spawned, isNew: true), at: at(0.6))
        var there = other
        #expect(other.handle(.wake, at: at(1)).feedings.count == 1)
        _ = there.handle(.watching(spawned, isNew: false), at: at(0.7))
        #expect(there.handle(.wake, at: at(1)).feedings.isEmpty)
    }

    @Test("a holder without a watched guard is not covered and named; one whose guard is over is nobody")
    func unwatched() {
        func holders(_ names: Holder...) -> Watchdog.Input { .leaseService(LeaseWatchdogView(armed: true, needed: true, limit: .seconds(30), holders: names)) }
        let stray = Holder(role: .vm, name: "stray", attempt: 4)
        var watchdog = armed()
        #expect(watchdog.handle(holders(web), at: at(1)).covers.isEmpty)
        let seen = watchdog.handle(holders(web, stray), at: at(2))
        #expect(seen.covers == [false])
        #expect(seen.problems.first??.contains("vm:stray:4") == true)
        let gone = watchdog.handle(holders(web), at: at(3))
        #expect(gone.covers == [true] && gone.problems == [nil])
        _ = watchdog.handle(.over(web), at: at(3.5))
        #expect(watchdog.handle(holders(web), at: at(4)).covers.isEmpty)
    }

    @Test("a driver that does not answer for 3 s is told, with what that means, while it is opened, fed and disarmed")
    func hungDriver() {
        var watchdog = fresh()
        #expect(watchdog.handle(.watching(web, isNew: true), at: at(0)).opens)
        #expect(watchdog.nextWake == at(3))
        #expect(watchdog.handle(.wake, at: at(3)).problems.first??.contains("it was to be opened") == true)
        #expect(watchdog.nextWake == nil)
        #expect(watchdog.handle(.opened(device, at: at(4)), at: at(4)).problems == [nil])

        var feeding = armed()
        #expect(feeding.handle(.wake, at: at(1)).feedings.count == 1)
        _ = feeding.handle(.said(web, running(until: 100)), at: at(3))
        #expect(feeding.handle(.wake, at: at(4)).problems.first??.contains("it was to be fed") == true)
        #expect(feeding.handle(.fed(failure: nil, at: at(5)), at: at(5)).problems == [nil])

        var closing = armed()
        _ = closing.handle(.over(web), at: at(1))
        _ = closing.handle(.ending, at: at(2))
        #expect(closing.handle(.answered(armed: false, nil), at: at(2)).contains(.close))
        #expect(closing.handle(.wake, at: at(5)).problems.first??.contains("it was to be disarmed") == true)
    }

    @Test("the configuration is refused, with its numbers, when it could fire after its leases are taken")
    func timing() {
        #expect(WatchdogTiming(timeout: .seconds(30), inFlight: .seconds(5), firing: .seconds(60), ioTimeout: .seconds(10)).clash == nil)
        let clash = WatchdogTiming(timeout: .seconds(60), inFlight: .seconds(5), firing: .seconds(60), ioTimeout: .seconds(10)).clash
        #expect(clash?.contains("8 x io_timeout 80 s + watchdog timeout 60 s + clock drift 1.4 s + longest I/O in flight (lease.settle) 5 s = 146.4 s is not below") == true)
        #expect(clash?.contains("below 53.6 s") == true)
        // Equal is not below.
        #expect(WatchdogTiming(timeout: .seconds(60) - .milliseconds(1400), inFlight: .zero, firing: .seconds(60), ioTimeout: .seconds(10)).clash != nil)
    }
}

/// Guards, lease-service and a device as they really are, beside what the watchdog believes.
private struct WatchdogModel {
    struct Guest {
        var answers = true
        var hasGroup = false
        var deadline: Instant?
        var heardAt: Instant?
    }

    var random: SystemlessRandom
    var now = at(0)
    var watchdog = Watchdog(timeout: .seconds(10))
    var guests: [Holder: Guest] = [:]
    /// What lease-service believes, and what it holds.
    var believesArmed = false
    var held: Set<Holder> = []
    var reportedAt = at(-1)
    /// `nil`: closed.
    var isOpen = false
    var isCounting = false
    var fedAt = at(0)
    var next: UInt64 = 1
    var delayed: [Watchdog.Step] = []
    var resets = 0
    var agentStarted = at(0)

    mutating func give(_ input: Watchdog.Input) {
        for step in watchdog.handle(input, at: now) {
            switch step {
            case .open, .feed, .close, .report: delayed.append(step)
            case .covers(let covers, _): if covers { #expect(isCounting) }
            case .problem: break
            case .shorten: Issue.record("shortened, though nothing came late")
            }
        }
    }

    /// A device, or lease-service, gets to one of the things that were asked of it.
    mutating func carryOut() {
        guard !delayed.isEmpty else { return }
        switch delayed.remove(at: 0) {
        case .open(_, let notAfter):
            guard now <= notAfter, random.below(5) > 0 else { return give(.openFailed("no")) }
            expectMayBeFed("opened")
            isOpen = true
            isCounting = true
            fedAt = now
            give(.opened(Watchdog.Device(identity: "model", timeout: .seconds(10), outlivesProcess: true, canDisarm: true), at: now))
        case .feed(let notAfter):
            let isInTime = now <= notAfter
            if isInTime {
                expectMayBeFed("fed")
                #expect(isOpen)
                fedAt = now
            }
            give(.fed(failure: nil, at: isInTime ? now : nil))
        case .close:
            #expect(held.isEmpty, "disarmed while \(held) hold leases")
            isOpen = false
            isCounting = false
            give(.closed(failure: nil))
        case .report(let report):
            if random.below(8) == 0 { return give(.answered(armed: report.armed, RequestError(RequestErrorCode.unknownOutcome, "lost"))) }
            if report.at <= reportedAt { return give(.answered(armed: report.armed, RequestError(RequestErrorCode.conflict, "old"))) }
            if !report.armed, !held.isEmpty { return give(.answered(armed: false, RequestError(LeaseErrorCode.heldHere, "held"))) }
            reportedAt = report.at
            believesArmed = report.armed
            give(.answered(armed: report.armed, nil))
        case .shorten, .covers, .problem: break
        }
        #expect(!believesArmed || isCounting, "lease-service grants and nothing counts")
    }

    private func expectMayBeFed(_ what: String) {
        for (holder, guest) in guests {
            if guest.hasGroup, let deadline = guest.deadline { #expect(now <= deadline, "\(what) after the deadline of \(holder)") }
            #expect((guest.heardAt.map { now - $0 } ?? .seconds(1000)) <= Watchdog.silence, "\(what) although \(holder) does not answer")
        }
    }

    mutating func restartAgent() {
        watchdog = Watchdog(timeout: .seconds(10))
        delayed = []
        isOpen = false
        agentStarted = now
        give(.begin(isCounting: isCounting))
        for holder in guests.keys.sorted() {
            guests[holder]?.heardAt = nil
            give(.watching(holder, isNew: false))
        }
        give(.looked)
    }

    mutating func step() {
        now = now + .milliseconds(Int64(random.below(400)) + 1)
        if isCounting, now - fedAt > .seconds(10) {
            // The machine is reset.
            resets += 1
            guests = [:]
            held = []
            believesArmed = false
            isCounting = false
            restartAgent()
        }
        let holder = guests.keys.sorted().randomElement(using: &random)
        switch random.below(16) {
        case 0 where guests.count < 3:
            let new = Holder(role: .vm, name: "vm", attempt: next)
            next += 1
            guests[new] = Guest(heardAt: now)
            give(.watching(new, isNew: true))
        case 1: if let holder, random.below(6) == 0 { guests[holder]?.answers.toggle() }
        case 2:
            if let holder, believesArmed, guests[holder]?.answers == true {
                held.insert(holder)
                guests[holder]?.hasGroup = true
                guests[holder]?.deadline = now + .seconds(8)
            }
        case 3, 4: for holder in held { guests[holder]?.deadline = now + .seconds(8) }
        case 5:
            if let holder, guests[holder]?.answers == true {
                guests[holder] = nil
                held.remove(holder)
                give(.over(holder))
            }
        case 6 where random.below(20) == 0: restartAgent()
        case 7 where random.below(10) == 0: believesArmed = false
        case 8: give(.leaseService(LeaseWatchdogView(armed: believesArmed, needed: !held.isEmpty, limit: .seconds(10))))
        case 9, 10, 11, 12: carryOut()
        default: break
        }
        for holder in guests.keys.sorted() where guests[holder]?.answers == true && random.below(4) == 0 {
            guard let guest = guests[holder] else { continue }
            guests[holder]?.heardAt = now
            var fields: [(String, String)] = guest.hasGroup ? [("pid", "1")] : []
            if let deadline = guest.deadline { fields.append(("deadline", String(deadline.nanoseconds))) }
            give(.said(holder, GuardMessage("status", fields)))
        }
        if let wake = watchdog.nextWake, wake <= now { give(.wake) }
    }
}

/// The same walk for the same seed.
struct SystemlessRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}

@Suite("Watchdog: random walks")
struct WatchdogWalks {
    @Test("it is never fed past a deadline or beside a silent guard, never disarmed under a lease, and lease-service never takes it for armed when it is not", arguments: 1...40)
    func walks(seed: UInt64) {
        var model = WatchdogModel(random: SystemlessRandom(state: seed))
        model.restartAgent()
        for _ in 0..<3000 { model.step() }
    }
}
