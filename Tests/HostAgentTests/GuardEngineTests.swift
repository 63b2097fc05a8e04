import GuardEngine
import Messages
import Testing

private let image = LeaseName(lockspace: "domain", resource: "image")
private let grant = GuardLease(name: image, lver: 7, generation: 3)

/// A guard's engine with the answers of a world in which everything works, unless a test says otherwise.
private struct GuardDesk {
    var engine: GuardEngine
    var now = Instant(nanoseconds: 1_000_000_000)
    /// What it wanted, since the last look.
    var actions: [GuardAction] = []
    var held: Set<String> = []
    var specIsThere = true
    var leaseServiceIsThere = true

    init(leases: Bool = true, onLeaseLoss: LeaseLossAction = .kill, pauseBefore: Duration? = nil) {
        engine = GuardEngine(
            GuardPlan(
                holder: Holder(role: .vm, name: "web1", attempt: 7), vmLock: "vm", diskLocks: ["disk-b", "disk-a"], leases: leases ? [GuardLease(name: image)] : [],
                generations: ["domain|3"], onLeaseLoss: onLeaseLoss, pauseBefore: pauseBefore))
    }

    mutating func send(_ input: GuardInput) {
        var inputs = [input]
        while !inputs.isEmpty {
            for action in engine.handle(inputs.removeFirst(), at: now) {
                actions.append(action)
                switch action {
                case .takeLock(let path): inputs.append(held.contains(path) ? .lockHeld(path) : .lockTaken(path))
                case .lookForSpec: inputs.append(.specSeen(isThere: specIsThere))
                case .listen: inputs.append(.listening(failure: nil))
                case .connectToLeaseService: inputs.append(leaseServiceIsThere ? .leaseConnected : .leaseBroken(why: "not there"))
                case .startPayload: inputs += [.payloadStarted(pid: 42), .payloadBegan]
                default: break
                }
            }
        }
    }

    mutating func hear(_ verb: String, _ fields: [(String, String)] = []) { send(.leaseMessage(GuardMessage(verb, fields))) }

    mutating func begin(grantedFor duration: Duration? = nil) {
        send(.begin(unlocked: nil))
        if let duration { hear("granted", [("deadline", String((now + duration).nanoseconds)), ("lease", grant.grant)]) }
    }

    /// Time passes, and every wake on the way is delivered.
    mutating func pass(_ duration: Duration) {
        let end = now + duration
        while let wake = engine.nextWake, wake <= end {
            now = max(now, wake)
            send(.tick)
            guard engine.nextWake != wake else {
                Issue.record("woken at \(wake), it wants to be woken then")
                break
            }
        }
        now = end
    }

    mutating func seen() -> [GuardAction] {
        defer { actions = [] }
        return actions
    }

    var result: GuardMessage? {
        for case .finish(let result, _) in actions { return result }
        return nil
    }

    var sent: [String] { actions.compactMap { if case .send(let message) = $0 { message.verb } else { nil } } }
    var starts: Int { actions.filter { if case .startPayload = $0 { true } else { false } }.count }
    var pauses: Int { actions.filter { $0 == .pauseGroup }.count }
    var resumes: Int { actions.filter { if case .resumeGroup = $0 { true } else { false } }.count }
    var question: String? { actions.compactMap { if case .send(let message) = $0, message.verb == "verify" { message["number"] } else { nil } }.last }
    var kills: Int { actions.filter { $0 == .killGroup }.count }
}

@Test func aGuardTakesItsLocksInOrderBeforeItAsks() {
    var desk = GuardDesk()
    desk.begin()
    let wanted = desk.actions.prefix(6)
    #expect(Array(wanted) == [.takeLock("vm"), .lookForSpec, .takeLock("disk-a"), .takeLock("disk-b"), .listen, desk.actions[5]])
    #expect(desk.sent == ["acquire"])
    #expect(desk.starts == 0)
}

@Test func aGuardIsRefusedForEveryThingThatIsMissing() {
    let cases: [(String, String, Bool, (inout GuardDesk) -> Void)] = [
        ("vm lock held", "vm.still-here", false, { $0.held = ["vm"] }),
        ("disk lock held", "vm.still-here", true, { $0.held = ["disk-b"] }),
        ("called off", "vm.start-failed", true, { $0.specIsThere = false }),
    ]
    for (name, code, isOurs, prepare) in cases {
        var desk = GuardDesk()
        prepare(&desk)
        desk.begin()
        #expect(desk.result?["code"] == code, "\(name)")
        #expect(desk.starts == 0 && desk.sent.isEmpty, "\(name)")
        #expect(desk.actions.contains { if case .finish(_, isOurs: isOurs) = $0 { true } else { false } }, "\(name)")
    }
    var unlocked = GuardDesk()
    unlocked.send(.begin(unlocked: "not permitted"))
    #expect(unlocked.result?.verb == "refused")
}

@Test func aGuardWithoutLeasesStartsAtOnceAndNeedsNoLockedMemory() {
    var desk = GuardDesk(leases: false)
    desk.send(.begin(unlocked: "not permitted"))
    #expect(desk.starts == 1 && desk.sent.isEmpty && desk.engine.nextWake == nil)
    desk.send(.payloadExited("exit 0"))
    #expect(desk.result?["released"] == "yes")
    #expect(desk.result?["why"] == "the payload ended by itself")
}

/// What each message does in each state: `nil` leaves the state as it is.
@Test func messagesByState() {
    let until = ("deadline", "900000000000")
    let rows: [(String, [(String, String)], [GuardEngine.State: GuardEngine.State])] = [
        ("granted", [until, ("lease", grant.grant)], [.acquiring: .running]),
        ("granted", [("lease", grant.grant)], [.acquiring: .over]),
        ("granted", [until, ("lease", "domain|other|1|1")], [.acquiring: .over]),
        ("granted", [("deadline", "5"), ("lease", grant.grant)], [.acquiring: .over, .running: .ending, .releasing: .over]),
        ("deadline", [until], [:]),
        ("deadline", [("deadline", "5")], [.running: .ending, .releasing: .over]),
        ("refused", [("code", "lease.held")], [.acquiring: .over, .running: .ending, .releasing: .over]),
        ("lost", [], [.running: .ending, .releasing: .over]),
        ("released", [], [.releasing: .over]),
        ("unheard-of", [], [:]),
    ]
    for (verb, fields, changes) in rows {
        for state in [GuardEngine.State.acquiring, .running, .ending, .releasing] {
            var desk = GuardDesk()
            desk.begin(grantedFor: state == .acquiring ? nil : .seconds(60))
            if state == .ending || state == .releasing { desk.send(.agentMessage(client: 1, GuardMessage("stop"))) }
            if state == .releasing { desk.send(.payloadExited("signal 9")) }
            #expect(desk.engine.state == state)
            desk.hear(verb, fields)
            #expect(desk.engine.state == changes[state] ?? state, "\(verb) \(fields) in \(state)")
        }
    }
}

@Test func theDeadlineComesBeforeAnyMessage() {
    var desk = GuardDesk()
    desk.begin(grantedFor: .seconds(10))
    desk.now = desk.now + .seconds(10)
    desk.hear("deadline", [("deadline", String((desk.now + .seconds(60)).nanoseconds))])
    #expect(desk.engine.state == .ending)
    #expect(desk.kills == 1)
    _ = desk.seen()
    desk.send(.payloadExited("signal 9"))
    #expect(desk.result?["released"] == "no" && desk.sent.isEmpty)
}

@Test func aGroupThatDoesNotEndIsKilledAgainAndAgain() {
    var desk = GuardDesk()
    desk.begin(grantedFor: .seconds(10))
    desk.pass(.seconds(11))
    #expect(desk.kills >= 20)
    #expect(desk.result == nil)
}

@Test func aGrantAfterItsDeadlineOrAStopBeforeItsPayloadRunsNothing() {
    var late = GuardDesk()
    late.begin(grantedFor: .zero)
    #expect(late.result?["code"] == "lease.io" && late.starts == 0)
    var other = GuardDesk()
    other.begin()
    other.hear("granted", [("deadline", "900000000000"), ("lease", grant.grant + "|shared")])
    #expect(other.result?["code"] == "lease.io" && other.starts == 0)
    var stopped = GuardDesk()
    stopped.begin()
    stopped.send(.agentMessage(client: 1, GuardMessage("stop", [("why", "no more")])))
    #expect(stopped.result?["message"] == "stopped before it ran: no more")
    stopped.hear("granted", [("deadline", "900000000000"), ("lease", grant.grant)])
    #expect(stopped.starts == 0)
}

@Test func aPayloadWhoseStartTakesTimeIsKilledWhenItComesAfterTheEnd() {
    var engine = GuardDesk().engine
    let start = Instant(nanoseconds: 1)
    for input in [GuardInput.begin(unlocked: nil), .lockTaken("vm"), .specSeen(isThere: true), .lockTaken("disk-a"), .lockTaken("disk-b"), .listening(failure: nil), .leaseConnected] {
        _ = engine.handle(input, at: start)
    }
    _ = engine.handle(.leaseMessage(GuardMessage("granted", [("deadline", "1000000000"), ("lease", grant.grant)])), at: start)
    _ = engine.handle(.tick, at: Instant(nanoseconds: 1_000_000_000))
    #expect(engine.handle(.payloadStarted(pid: 9), at: Instant(nanoseconds: 1_010_000_000)).contains(.killGroup))
    #expect(GuardEngine.obstacle(guardLives: true, deadline: engine.deadline, at: Instant(nanoseconds: 1_000_000_000)) != nil)
    #expect(GuardEngine.obstacle(guardLives: true, deadline: engine.deadline, at: Instant(nanoseconds: 999_999_999)) == nil)
    #expect(GuardEngine.obstacle(guardLives: false, deadline: nil, at: start) != nil)
}

@Test func aLostConnectionIsMadeAgainFiveTimesASecondAndAdopts() {
    var desk = GuardDesk()
    desk.begin(grantedFor: .seconds(60))
    desk.pass(.seconds(1))
    _ = desk.seen()
    desk.leaseServiceIsThere = false
    desk.send(.leaseBroken(why: "closed"))
    desk.pass(.seconds(1))
    #expect((5...6).contains(desk.actions.filter { $0 == .connectToLeaseService }.count))
    desk.leaseServiceIsThere = true
    desk.pass(.milliseconds(200))
    #expect(desk.sent == ["adopt"])
    for case .send(let adopt) in desk.actions { #expect(adopt.all("lease") == [grant.grant] && adopt.all("disklock") == ["disk-a", "disk-b"]) }
}

@Test func withoutAnAnswerAcquiringEnds() {
    var desk = GuardDesk()
    desk.leaseServiceIsThere = false
    desk.begin()
    desk.pass(GuardEngine.acquireLimit)
    #expect(desk.result == nil)
    desk.pass(.seconds(1))
    #expect(desk.result?["code"] == "vm.start-failed")
}

private func rank(_ state: GuardEngine.State) -> Int {
    switch state {
    case .locking: 0
    case .acquiring: 1
    case .running, .paused: 2
    case .ending: 3
    case .releasing: 4
    case .over: 5
    }
}

/// Over everything that can happen in any order: what runs, runs under a grant whose deadline has not passed, and is killed at once when it has.
@Test(arguments: 0..<300 as Range<UInt64>) func nothingRunsOutsideItsDeadline(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var desk = GuardDesk(onLeaseLoss: seed % 4 == 1 ? .kill : .pause, pauseBefore: .milliseconds(800))
    desk.send(.begin(unlocked: nil))
    var hasEnded = false
    var question = ""
    for _ in 0..<200 {
        _ = desk.seen()
        let before = desk.engine.state
        let deadline = desk.engine.deadline
        let until = String((desk.now + .milliseconds(Int64.random(in: -500...5000, using: &random))).nanoseconds)
        var isVerified = false
        switch Int.random(in: 0...15, using: &random) {
        case 0, 1: desk.hear("granted", [("deadline", until), ("lease", grant.grant)])
        case 2, 3: desk.hear("deadline", [("deadline", until)])
        case 4: if seed % 3 == 0 { desk.hear(["lost", "refused"].randomElement(using: &random) ?? "", []) }
        case 5: desk.hear("released")
        case 6: if seed % 2 == 0 { desk.send(.agentMessage(client: 1, GuardMessage("stop"))) }
        case 7: desk.send(.leaseBroken(why: "closed"))
        case 8: if desk.engine.pid != nil, before == .ending || seed % 5 == 0 { desk.send(.payloadExited("signal 9")) }
        case 9: desk.leaseServiceIsThere.toggle()
        case 10: desk.pass(.milliseconds(Int64.random(in: 0...3000, using: &random)))
        // As after a suspend: nobody was woken on the way.
        case 11: desk.now = desk.now + .milliseconds(Int64.random(in: 0...3000, using: &random))
        case 12, 13:
            let number = Bool.random(using: &random) ? question : String(Int.random(in: 0...3, using: &random))
            let lver = Int.random(in: 0...4, using: &random) == 0 ? UInt64(8) : 7
            isVerified = number == question && lver == 7
            desk.hear("verified", verified(desk, until: .milliseconds(Int64.random(in: -500...5000, using: &random)), lver: lver, number: number))
        case 14: desk.hear("unverified", [("number", question)])
        default: desk.send(.agentMessage(client: 1, GuardMessage(Bool.random(using: &random) ? "status" : "verify")))
        }
        if desk.resumes > 0 { #expect(before == .paused && isVerified && desk.now < deadline ?? desk.now, "it goes on unread or too late") }
        if before == .paused, desk.engine.state == .running { #expect(desk.resumes == 1) }
        if before == .running, desk.engine.state == .paused { #expect(desk.pauses == 1 && desk.resumes == 0) }
        question = desk.question ?? question
        let state = desk.engine.state
        if desk.starts > 0 { #expect(!hasEnded && before == .acquiring && desk.now < desk.engine.deadline ?? desk.now) }
        if state == .running || state == .paused, !desk.actions.isEmpty { #expect(desk.now < desk.engine.deadline ?? desk.now, "runs after its deadline") }
        if rank(before) == 2, let deadline, desk.now >= deadline, !desk.actions.isEmpty { #expect(desk.kills > 0 || rank(state) != 2) }
        if rank(before) == 2, state == .ending { #expect(desk.kills > 0) }
        #expect(rank(state) >= rank(before), "back from \(before) to \(state)")
        hasEnded = hasEnded || rank(state) >= rank(.ending)
        if desk.engine.pid != nil { #expect(rank(state) == 2 || state == .ending, "\(state) with a living payload") }
        if let wake = desk.engine.nextWake, rank(state) == 2 { #expect(wake <= desk.engine.deadline ?? wake) }
        if state == .over { return #expect(desk.result != nil || before == .over) }
    }
}

@Suite("A guard whose lease somebody else wants")
struct GuardDemandTests {
    private func running() -> GuardDesk {
        var desk = GuardDesk()
        desk.begin(grantedFor: .seconds(80))
        return desk
    }

    @Test func aGracefulRequestIsShownAndNothingElse() {
        var desk = running()
        desk.hear("requested", [("lease", "domain|image"), ("mode", "graceful"), ("by", "host2"), ("lver", "8")])
        #expect(desk.engine.state == .running && desk.engine.status["requested"] == "domain|image")
        desk.hear("requested", [("lease", "domain|other"), ("mode", "force"), ("by", "host2"), ("lver", "8")])
        #expect(desk.engine.state == .running, "it does not hold that one")
    }

    @Test func forceEndsTheGroup() {
        var desk = running()
        desk.hear("requested", [("lease", "domain|image"), ("mode", "force"), ("by", "host2"), ("lver", "8")])
        #expect(desk.engine.state == .ending && desk.actions.contains(.killGroup) && desk.engine.status["message"] == "host2 took lease domain|image by force")
    }

    @Test func aConversionChangesWhatIsHeld() {
        var desk = running()
        desk.hear("converted", [("deadline", String((desk.now + .seconds(70)).nanoseconds)), ("lease", "domain|image|7|3|shared")])
        #expect(desk.engine.state == .running && desk.engine.status["lease"] == "domain|image|7|3|shared")
        desk.hear("unchanged", [("code", "lease.held"), ("message", "no")])
        #expect(desk.engine.state == .running)
    }
}

@Suite("A guard that takes its leases from sanlock")
struct GuardSanlockTests {
    private func asked() -> GuardDesk {
        var desk = GuardDesk()
        desk.begin()
        desk.hear("take", [("library", "l"), ("run", "r"), ("lease", "domain|image"), ("place", "1048576 /domain/xleases")])
        return desk
    }

    private func takes(_ desk: GuardDesk) -> Int { desk.actions.filter { if case .takeFromSanlock = $0 { true } else { false } }.count }

    @Test func itStartsOnlyWhenLeaseServiceGrantsWhatWasTaken() {
        var desk = asked()
        #expect(takes(desk) == 1 && desk.starts == 0)
        desk.send(.sanlockAnswered(SanlockAnswer(result: 0, why: "")))
        #expect(desk.sent == ["acquire", "taken"] && desk.starts == 0)
        desk.hear("granted", [("deadline", String((desk.now + .seconds(80)).nanoseconds)), ("lease", grant.grant)])
        #expect(desk.starts == 1)
    }

    @Test func whatIsTakenIsNotTakenAgain() {
        var desk = asked()
        desk.send(.leaseBroken(why: "closed"))
        desk.pass(.seconds(1))
        desk.hear("take")
        desk.send(.sanlockAnswered(SanlockAnswer(result: 0, why: "")))
        desk.send(.leaseBroken(why: "closed"))
        desk.pass(.seconds(1))
        desk.hear("take")
        #expect(takes(desk) == 1 && desk.sent == ["acquire", "acquire", "taken", "acquire", "taken"])
    }

    @Test func aRefusalIsToldAndDecidedByLeaseService() {
        var desk = asked()
        desk.send(.sanlockAnswered(SanlockAnswer(result: -243, why: "")))
        #expect(desk.sent == ["acquire", "nottaken"] && desk.result == nil)
        desk.hear("refused", [("code", "lease.held"), ("message", "no")])
        #expect(desk.result?["code"] == "lease.held" && desk.starts == 0)
    }

    @Test func theConnectionIsClosedOnlyAfterThePayload() {
        var desk = asked()
        desk.send(.sanlockAnswered(SanlockAnswer(result: 0, why: "")))
        desk.hear("granted", [("deadline", String((desk.now + .seconds(80)).nanoseconds)), ("lease", grant.grant)])
        desk.hear("drop")
        #expect(!desk.actions.contains(.dropSanlock), "with a living payload")
        desk.send(.agentMessage(client: 1, GuardMessage("stop")))
        desk.hear("drop")
        #expect(!desk.actions.contains(.dropSanlock), "with a living payload")
        desk.send(.payloadExited("signal 9"))
        desk.hear("drop")
        #expect(desk.actions.contains(.dropSanlock) && desk.result == nil)
        desk.hear("released")
        #expect(desk.result?["released"] == "yes")
    }

    /// A restarted daemon may join anew at once, and then others take what this run still uses: its deadline is too late.
    @Test func aDaemonThatIsGoneEndsTheGroupAtOnceAndNothingIsGivenBack() {
        for state in [GuardEngine.State.acquiring, .running, .paused, .ending, .releasing] {
            var desk = GuardDesk(onLeaseLoss: .pause)
            desk.begin()
            desk.hear("take", [("library", "l"), ("run", "r"), ("lease", "domain|image"), ("place", "1048576 /domain/xleases")])
            desk.send(.sanlockAnswered(SanlockAnswer(result: 0, why: "")))
            if state != .acquiring { desk.hear("granted", [("deadline", String((desk.now + .seconds(80)).nanoseconds)), ("lease", grant.grant), ("iotimeout", "10")]) }
            if state == .paused { desk.pass(.seconds(60)) }
            if state == .ending || state == .releasing { desk.send(.agentMessage(client: 1, GuardMessage("stop"))) }
            if state == .releasing { desk.send(.payloadExited("signal 9")) }
            #expect(desk.engine.state == state)
            let before = desk.kills
            desk.send(.sanlockGone)
            switch state {
            case .acquiring:
                #expect(desk.result?["code"] == "lockspace.lost" && desk.starts == 0)
                continue
            case .running, .paused: #expect(desk.engine.state == .ending && desk.kills > before, "\(state)")
            default: break
            }
            if state != .releasing { desk.send(.payloadExited("signal 9")) }
            #expect(desk.result?.verb == "ended" && desk.result?["released"] == "no", "\(state)")
        }
    }
}

// MARK: Pause

/// Granted for 80 s with an io_timeout of 10 s, and paused 20 s before that.
private func pausedDesk() -> GuardDesk {
    var desk = GuardDesk(onLeaseLoss: .pause)
    desk.send(.begin(unlocked: nil))
    desk.hear("granted", [("deadline", String((desk.now + .seconds(80)).nanoseconds)), ("lease", grant.grant), ("iotimeout", "10")])
    desk.pass(.milliseconds(59_900))
    #expect(desk.engine.state == .running && desk.pauses == 0)
    desk.pass(.milliseconds(200))
    #expect(desk.engine.state == .paused && desk.pauses == 1 && desk.engine.status["state"] == "paused")
    return desk
}

private func verified(_ desk: GuardDesk, until: Duration, lver: UInt64 = 7, number: String? = nil) -> [(String, String)] {
    var lease = grant
    lease.lver = lver
    return [("deadline", String((desk.now + until).nanoseconds)), ("lease", lease.grant), ("number", number ?? desk.question ?? "")]
}

@Test func aPausedGroupIsKilledAtItsDeadline() {
    var desk = pausedDesk()
    desk.pass(.seconds(19))
    #expect(desk.kills == 0 && desk.question == nil)
    desk.pass(.seconds(1))
    #expect(desk.engine.state == .ending && desk.kills > 0 && desk.resumes == 0)
    desk.hear("deadline", [("deadline", String((desk.now + .seconds(80)).nanoseconds))])
    desk.hear("verified", verified(desk, until: .seconds(80), number: "1"))
    #expect(desk.resumes == 0 && desk.engine.state == .ending)
}

@Test func aPausedGroupGoesOnOnlyAfterItsLeasesWereReadAgain() {
    var desk = pausedDesk()
    desk.hear("deadline", [("deadline", String((desk.now + .seconds(80)).nanoseconds))])
    #expect(desk.engine.state == .paused && desk.resumes == 0 && desk.question == "1")
    desk.hear("verified", verified(desk, until: .seconds(80), number: "0"))
    #expect(desk.resumes == 0)
    desk.hear("verified", verified(desk, until: .seconds(80), lver: 8))
    #expect(desk.resumes == 0 && desk.engine.state == .paused)
    desk.pass(.seconds(1))
    #expect(desk.question == "2")
    desk.hear("unverified", [("number", "2"), ("message", "timed out")])
    desk.pass(.seconds(1))
    #expect(desk.question == "3" && desk.engine.status["message"]?.contains("timed out") == true)
    desk.hear("verified", verified(desk, until: .seconds(80)))
    #expect(desk.engine.state == .running && desk.resumes == 1)
    // An answer to an earlier pause's question says nothing about this one.
    desk.pass(.milliseconds(60_100))
    #expect(desk.engine.state == .paused && desk.pauses == 2)
    desk.hear("verified", verified(desk, until: .seconds(80), number: "3"))
    #expect(desk.engine.state == .paused && desk.resumes == 1)
}

@Test func aPausedGroupWhoseLeasesAreAnothersIsEnded() {
    var desk = pausedDesk()
    desk.hear("deadline", [("deadline", String((desk.now + .seconds(80)).nanoseconds))])
    desk.hear("lost", [("message", "of host id 2")])
    #expect(desk.engine.state == .ending && desk.kills == 1 && desk.resumes == 0)
}

@Test func aPausedGroupThatCannotBeVerifiedDoesNotWaitForEver() {
    var desk = pausedDesk()
    for _ in 0..<20 where desk.engine.state == .paused {
        desk.hear("deadline", [("deadline", String((desk.now + .seconds(80)).nanoseconds))])
        if let question = desk.question { desk.hear("unverified", [("number", question), ("message", "input/output error")]) }
        desk.pass(.seconds(5))
    }
    #expect(desk.engine.state == .ending && desk.resumes == 0)
    #expect(desk.engine.status["message"]?.contains("could not be verified") == true)
}

@Test func aPausedGroupAsksAgainWhenLeaseServiceIsBack() {
    var desk = pausedDesk()
    desk.hear("deadline", [("deadline", String((desk.now + .seconds(80)).nanoseconds))])
    desk.leaseServiceIsThere = false
    desk.send(.leaseBroken(why: "closed"))
    desk.pass(.seconds(2))
    #expect(desk.engine.state == .paused)
    desk.leaseServiceIsThere = true
    desk.actions = []
    desk.pass(.seconds(1))
    #expect(desk.sent.first == "adopt" && desk.question == "2")
    desk.hear("verified", verified(desk, until: .seconds(80)))
    #expect(desk.engine.state == .running && desk.resumes == 1)
}

@Test func oneLateRenewalPausesNobodyWhateverItsDefinitionSays() {
    var desk = GuardDesk(onLeaseLoss: .pause, pauseBefore: .seconds(75))
    desk.send(.begin(unlocked: nil))
    desk.hear("granted", [("deadline", String((desk.now + .seconds(80)).nanoseconds)), ("lease", grant.grant), ("iotimeout", "10")])
    desk.pass(.milliseconds(39_900))
    #expect(desk.pauses == 0)
    desk.pass(.milliseconds(200))
    #expect(desk.pauses == 1)
}

@Test func theAgentHearsWhatLeaseServiceReadAfterItAsked() {
    var desk = GuardDesk()
    desk.begin(grantedFor: .seconds(80))
    desk.send(.agentMessage(client: 4, GuardMessage("verify")))
    #expect(desk.question == "1")
    desk.hear("verified", verified(desk, until: .seconds(80)))
    #expect(desk.actions.last == .answer(client: 4, GuardMessage("verified", [("message", "")])))
    var free = GuardDesk(leases: false)
    free.send(.begin(unlocked: nil))
    free.send(.agentMessage(client: 4, GuardMessage("verify")))
    #expect(free.actions.last == .answer(client: 4, GuardMessage("verified", [("message", "")])))
}

/// A slow disk is asked once at a time: whoever asks meanwhile gets the answer to the next question.
@Test func aQuestionThatIsOutIsAwaited() {
    var desk = GuardDesk()
    desk.begin(grantedFor: .seconds(80))
    desk.send(.agentMessage(client: 4, GuardMessage("verify")))
    for number in ["7", "8"] { desk.send(.agentMessage(client: 5, GuardMessage("verify", [("number", number)]))) }
    #expect(desk.question == "1")
    desk.hear("verified", verified(desk, until: .seconds(80)))
    #expect(desk.actions.contains(.answer(client: 4, GuardMessage("verified", [("message", "")]))))
    #expect(desk.question == "2" && !desk.actions.contains { if case .answer(client: 5, _) = $0 { true } else { false } })
    desk.hear("verified", verified(desk, until: .seconds(80)))
    #expect(desk.actions.contains(.answer(client: 5, GuardMessage("verified", [("message", ""), ("number", "8")]))))
    desk.send(.agentMessage(client: 4, GuardMessage("verify")))
    desk.send(.agentMessage(client: 5, GuardMessage("verify")))
    desk.actions = []
    desk.send(.leaseBroken(why: "closed"))
    #expect(desk.actions.filter { if case .answer(_, let message) = $0 { message.verb == "unverified" } else { false } }.count == 2)
}

/// A lease-service of an earlier version: the question fails, the guest runs on.
@Test func aLeaseServiceThatDoesNotKnowTheQuestionEndsNobody() {
    var desk = GuardDesk()
    desk.begin(grantedFor: .seconds(80))
    desk.hear("refused", [("code", "request.unknown-type")])
    #expect(desk.engine.state == .ending, "of a run that asked nothing it is no answer")
    desk = GuardDesk()
    desk.begin(grantedFor: .seconds(80))
    desk.send(.agentMessage(client: 4, GuardMessage("verify")))
    desk.hear("refused", [("code", "request.unknown-type"), ("message", "it does not know \"verify\"")])
    #expect(desk.engine.state == .running && desk.engine.granted == [grant])
}
