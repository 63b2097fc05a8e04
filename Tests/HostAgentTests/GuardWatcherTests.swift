import HostAgentEngine
import Messages
import Testing

/// A watcher, and what the host would answer to its steps.
private struct WatchDesk {
    var watcher: GuardWatcher
    var now = Instant(nanoseconds: 1_000_000_000)
    var steps: [GuardWatcher.Step] = []
    var guardListens = true
    var resultIsThere = false
    var examination = GuardSighting.unclear(evidence: "its lock is held")
    var guest: GuardWatcher.GuestStatus? = .running
    var resumeFailure: String?

    init(isGuest: Bool = true, patience: Duration = .zero) { watcher = GuardWatcher(isGuest: isGuest, patienceUntil: now + patience) }

    mutating func send(_ input: GuardWatcher.Input) {
        var inputs = [input]
        while !inputs.isEmpty {
            for step in watcher.handle(inputs.removeFirst(), at: now) {
                steps.append(step)
                switch step {
                case .connect: inputs.append(guardListens ? .connected : .connectFailed(resultIsThere: resultIsThere))
                case .examine: inputs.append(.examined(examination))
                case .confirm: inputs.append(.confirmed(guest))
                case .resumeGuest: inputs.append(.resumed(failure: resumeFailure))
                case .send, .report, .answer, .monitor: break
                }
            }
        }
    }

    mutating func say(_ state: String, pid: Int32? = nil) {
        send(.message(GuardMessage("status", [("state", state), ("lease", "d|i|7|3")] + (pid.map { [("pid", String($0))] } ?? []))))
    }

    mutating func pass(_ duration: Duration) {
        let end = now + duration
        while let wake = watcher.nextWake, wake <= end {
            now = max(now, wake)
            send(.tick)
            guard watcher.nextWake != wake else {
                Issue.record("woken at \(wake), it wants to be woken then")
                break
            }
        }
        now = end
    }

    var reports: [GuardSighting] { steps.compactMap { if case .report(let sighting) = $0 { sighting } else { nil } } }
    /// Of the last question to the guard.
    var question: String? { steps.compactMap { if case .send(let message) = $0, message.verb == "verify" { message["number"] } else { nil } }.last }

    /// Its guard's answer to a question, the last one if not told.
    mutating func answer(_ verb: String, _ why: String = "", to number: String? = nil) {
        send(.message(GuardMessage(verb, [("message", why), ("number", number ?? question ?? "")])))
    }

    var sent: [String] { steps.compactMap { if case .send(let message) = $0 { message.verb } else { nil } } }
    var answers: [ResumeOutcome] { steps.compactMap { if case .answer(let outcome) = $0 { outcome } else { nil } } }
    var monitor: [Bool] { steps.compactMap { if case .monitor(let answers) = $0 { answers } else { nil } } }
    var examinations: Int { steps.filter { $0 == .examine }.count }
}

@Test func aWatchedGuardIsReportedOnceForEachChange() {
    var desk = WatchDesk()
    desk.send(.begin)
    for _ in 0..<2 { desk.say("acquiring") }
    for _ in 0..<2 { desk.say("running", pid: 9) }
    for _ in 0..<2 { desk.say("ending") }
    desk.guardListens = false
    desk.examination = .ended(exit: "signal 9", why: "stopped")
    desk.send(.broken)
    #expect(desk.reports == [.acquiring, .running(pid: 9, lver: 7, paused: false), .ending(why: ""), desk.examination])
    #expect(desk.watcher.isOver && desk.watcher.nextWake == nil)
}

/// A guard that was just started does not hold its lock yet: an examination would call its start off.
@Test func aGuardThatWasJustStartedIsNotExaminedBeforeItsPatienceEnds() {
    var desk = WatchDesk(patience: GuardLaunch.patience)
    desk.guardListens = false
    desk.examination = .gone(evidence: "lock free")
    desk.send(.begin)
    desk.pass(.milliseconds(4900))
    #expect(desk.examinations == 0)
    desk.pass(.milliseconds(200))
    #expect(desk.reports == [.gone(evidence: "lock free")])

    var refused = WatchDesk(patience: GuardLaunch.patience)
    refused.guardListens = false
    refused.resultIsThere = true
    refused.examination = .refused(code: "lease.held", message: "")
    refused.send(.begin)
    #expect(refused.reports == [refused.examination])

    var brief = WatchDesk(patience: GuardLaunch.patience)
    brief.send(.begin)
    brief.guardListens = false
    brief.send(.broken)
    brief.pass(.seconds(1))
    #expect(brief.examinations == 0)

    // One that has spoken has had its lock: it is looked for at once.
    var known = WatchDesk(patience: GuardLaunch.patience)
    known.send(.begin)
    known.say("acquiring")
    known.guardListens = false
    known.send(.broken)
    known.examination = .gone(evidence: "lock free")
    known.pass(.milliseconds(100))
    #expect(known.reports.last == .gone(evidence: "lock free"))
}

@Test func aSilentGuardIsUnclearUntilItAnswers() {
    var desk = WatchDesk()
    desk.send(.begin)
    desk.say("running", pid: 9)
    desk.pass(.seconds(5))
    #expect(desk.reports.count == 1)
    desk.pass(.seconds(1))
    #expect(desk.reports.count == 2)
    if case .unclear = desk.reports.last {} else { Issue.record("\(desk.reports)") }
    desk.say("running", pid: 9)
    #expect(desk.reports.last == .running(pid: 9, lver: 7, paused: false))
}

/// Between its result and its last breath a guard still holds its lock.
@Test func aHeldLockIsUnclearOnlyAfterAWhile() {
    var desk = WatchDesk()
    desk.guardListens = false
    desk.send(.begin)
    desk.pass(.milliseconds(1900))
    #expect(desk.reports.isEmpty)
    desk.pass(.milliseconds(300))
    #expect(desk.reports == [desk.examination])
    desk.examination = .gone(evidence: "lock free")
    desk.pass(.milliseconds(500))
    #expect(desk.reports.last == .gone(evidence: "lock free"))
}

@Test func aGuestIsAskedUntilItAnswersOrAWhileHasPassed() {
    var mute = WatchDesk()
    mute.guest = nil
    mute.send(.begin)
    mute.say("running", pid: 9)
    mute.pass(.milliseconds(1900))
    #expect(mute.reports.isEmpty)
    mute.pass(.milliseconds(200))
    #expect(mute.reports == [.running(pid: 9, lver: 7, paused: false)])
    var paused = WatchDesk()
    paused.guest = .paused
    paused.send(.begin)
    paused.say("running", pid: 9)
    #expect(paused.reports == [.running(pid: 9, lver: 7, paused: true)])
    var worker = WatchDesk(isGuest: false)
    worker.send(.begin)
    worker.say("running", pid: 9)
    #expect(!worker.steps.contains(.confirm) && worker.reports.count == 1)
}

@Test func aStopIsSaidToEveryConnection() {
    var desk = WatchDesk()
    desk.guardListens = false
    desk.send(.begin)
    desk.send(.stop(why: "no more"))
    #expect(desk.sent.isEmpty)
    desk.guardListens = true
    desk.pass(.milliseconds(20))
    #expect(desk.sent == ["status", "stop"])
    desk.send(.broken)
    desk.pass(.milliseconds(20))
    #expect(desk.sent == ["status", "stop", "status", "stop"])
}

// MARK: Examination, launch, search

@Test func onlyALockInHandAndACompleteLookSayThatNothingRuns() {
    let ended = GuardMessage("ended", [("exit", "exit 0"), ("why", "w")])
    let refused = GuardMessage("refused", [("code", "lease.held"), ("message", "m")])
    let rows: [(Bool, GuardMessage?, GuardExamination)] = [
        (true, ended, .seen(.ended(exit: "exit 0", why: "w"))),
        (true, refused, .seen(.refused(code: "lease.held", message: "m"))),
        (true, nil, .callOff),
        (true, GuardMessage("half"), .callOff),
        (false, refused, .seen(.refused(code: "lease.held", message: "m"))),
        (false, ended, .seen(.unclear(evidence: "its lock is held, but its guard does not answer"))),
        (false, nil, .seen(.unclear(evidence: "its lock is held, but its guard does not answer"))),
    ]
    for (taken, result, conclusion) in rows { #expect(GuardExamination.conclusion(lockTaken: taken, result: result) == conclusion) }
    #expect(GuardExamination.afterCallingOff(specIsGone: true, processes: nil).isFinal)
    #expect(GuardExamination.afterCallingOff(specIsGone: true, processes: GuardExamination.Processes.none).isFinal)
    #expect(!GuardExamination.afterCallingOff(specIsGone: true, processes: .guest(pid: 1)).isFinal)
    #expect(!GuardExamination.afterCallingOff(specIsGone: true, processes: .gap("1")).isFinal)
    #expect(!GuardExamination.afterCallingOff(specIsGone: false, processes: GuardExamination.Processes.none).isFinal)
}

@Test func aGuardIsStartedOnceAndNeverBesideItsGuest() {
    #expect(GuardLaunch.decision(vm: "a", filesAreThere: true, guest: 7) == .wasThere)
    #expect(GuardLaunch.decision(vm: "a", filesAreThere: false, guest: nil) == .start)
    #expect(GuardLaunch.decision(vm: "a", filesAreThere: false, guest: 7) == GuardLaunch.failed(.stillHere, "process 7 of a runs on this host"))
    let next = Holder(role: .vm, name: "a", attempt: 5)
    let removed = (0...9).filter { GuardLaunch.removesFiles(of: Holder(role: .vm, name: "a", attempt: $0), before: next) }
    #expect(removed == [0, 1, 2, 3])
    #expect(!GuardLaunch.removesFiles(of: Holder(role: .vm, name: "b", attempt: 1), before: next))
    #expect(!GuardLaunch.removesFiles(of: next, before: Holder(role: .vm, name: "a", attempt: 0)))
}

@Test func onlyLocksOfUnknownGuardsAreTested() {
    let guest = ScannedGuest(vm: "b", pid: 4)
    let search = GuestSearch(guests: [guest], lockFiles: ["vm-c.lock", "vm-a.lock", "vm-b.lock", "vm-d.lock", "disk-x.lock", "vm-e"], known: ["a"])
    #expect(search.suspects == ["c", "d"])
    #expect(search.found(held: ["d"]) == [guest, ScannedGuest(vm: "d", pid: nil)])
}

@Test func anIOErrorIsSeenAtAnyTimeAndTheGuestGoesOnOnlyAfterItsGuardHasVerified() {
    var desk = WatchDesk()
    desk.send(.begin)
    desk.say("running", pid: 9)
    desk.send(.resume(asked: false))
    #expect(desk.question == nil)
    desk.guest = .ioError
    desk.pass(.seconds(2))
    #expect(desk.reports.last == .running(pid: 9, lver: 7, paused: true, why: .ioError))
    desk.send(.resume(asked: false))
    #expect(desk.sent.last == "verify")
    desk.answer("unverified", "no answer")
    #expect(!desk.steps.contains(.resumeGuest))
    desk.answer("verified")
    #expect(desk.steps.last == .resumeGuest && desk.answers.isEmpty)
    desk.guest = .running
    desk.pass(.seconds(2))
    #expect(desk.reports.last == .running(pid: 9, lver: 7, paused: false))
}

/// It goes on by one answer and meets an error again while another is under way: what was read before that says nothing.
@Test func whatWasReadBeforeAPauseLetsNobodyGoOnAfterIt() throws {
    var desk = WatchDesk()
    desk.send(.begin)
    desk.say("running", pid: 9)
    desk.guest = .ioError
    desk.pass(.seconds(2))
    desk.send(.resume(asked: false))
    let first = try #require(desk.question)
    desk.send(.resume(asked: false))
    let second = try #require(desk.question)
    desk.answer("verified", to: first)
    #expect(desk.steps.filter { $0 == .resumeGuest }.count == 1)
    // Whether or not it was seen to run meanwhile.
    desk.answer("verified", to: second)
    desk.pass(.seconds(2))
    desk.answer("verified", to: second)
    #expect(desk.steps.filter { $0 == .resumeGuest }.count == 1)
    desk.send(.resume(asked: false))
    desk.answer("verified")
    #expect(desk.steps.filter { $0 == .resumeGuest }.count == 2)

    // An operator's wish for one that runs, and that has come to a stand when the answer is there.
    var other = WatchDesk()
    other.send(.begin)
    other.say("running", pid: 9)
    other.send(.resume(asked: true))
    let wish = try #require(other.question)
    other.guest = .ioError
    other.pass(.seconds(2))
    other.answer("verified", to: wish)
    #expect(!other.steps.contains(.resumeGuest) && other.question != wish)
    other.guest = .running
    other.answer("verified")
    #expect(other.steps.last == .resumeGuest)
    other.pass(GuardWatcher.relapsePause)
    #expect(other.answers == [.goesOn])

    var running = WatchDesk()
    running.send(.begin)
    running.say("running", pid: 9)
    running.send(.resume(asked: true))
    running.answer("verified")
    #expect(running.answers == [.goesOn] && !running.steps.contains(.resumeGuest))
}

/// QEMU was told to go on, and what it says may still be older than that.
@Test func aLookThatBeganBeforeItWentOnSaysNothingOfItsNextPause() {
    var watcher = GuardWatcher(isGuest: true, patienceUntil: Instant(nanoseconds: 0))
    var now = Instant(nanoseconds: 1)
    var steps: [GuardWatcher.Step] = []
    func feed(_ input: GuardWatcher.Input) { steps = watcher.handle(input, at: now) }
    func question() -> String { if case .send(let message)? = steps.last { message["number"] ?? "" } else { "" } }
    for input in [GuardWatcher.Input.begin, .connected, .message(GuardMessage("status", [("state", "running"), ("pid", "9")])), .confirmed(.ioError), .resume(asked: false)] { feed(input) }
    let number = question()
    now = now + .seconds(2)
    feed(.tick)
    #expect(steps.contains(.confirm))
    feed(.message(GuardMessage("verified", [("number", number)])))
    #expect(steps == [.resumeGuest])
    for input in [GuardWatcher.Input.confirmed(.ioError), .resumed(failure: nil), .resume(asked: false)] { feed(input) }
    #expect(steps.isEmpty, "the look began before")
    now = now + .seconds(2)
    for input in [GuardWatcher.Input.tick, .confirmed(.ioError), .resume(asked: false)] { feed(input) }
    #expect(question() > number)
}

@Test func aGuestThatItsGuardHasStoppedIsReportedAndNotAsked() {
    var desk = WatchDesk()
    desk.send(.begin)
    desk.say("running", pid: 9)
    desk.send(.message(GuardMessage("status", [("state", "paused"), ("pid", "9"), ("lease", "d|i|7|3"), ("message", "no renewal")])))
    #expect(desk.reports.last == .running(pid: 9, lver: 7, paused: true, why: .leaseLoss("no renewal")))
    let before = desk.steps.count
    desk.pass(.seconds(4))
    #expect(!desk.steps[before...].contains(.confirm))
    desk.say("running", pid: 9)
    #expect(desk.reports.last == .running(pid: 9, lver: 7, paused: false))
}

// MARK: An operator's wish

private func wished() -> WatchDesk {
    var desk = WatchDesk()
    desk.guest = .ioError
    desk.send(.begin)
    desk.say("running", pid: 9)
    desk.send(.resume(asked: true))
    return desk
}

private func isStaying(_ outcome: ResumeOutcome?, _ word: String) -> Bool {
    guard case .stays(let why) = outcome else { return false }
    return why.contains(word)
}

@Test func aWishIsAnsweredWhenTheLeasesAreVerifiedAndTheGuestIsSeenToRun() {
    var desk = wished()
    #expect(desk.sent.last == "verify")
    // A second one waits for the same answer.
    desk.send(.resume(asked: true))
    #expect(desk.sent.filter { $0 == "verify" }.count == 1)
    desk.guest = .running
    desk.answer("verified")
    #expect(desk.steps.last == .resumeGuest && desk.answers.isEmpty)
    desk.pass(GuardWatcher.relapsePause)
    #expect(desk.answers == [.goesOn])
    #expect(desk.reports.last == .running(pid: 9, lver: 7, paused: false))
    desk.pass(.seconds(30))
    #expect(desk.answers.count == 1 && desk.steps.filter { $0 == .resumeGuest }.count == 1)
}

@Test func aWishThatCannotBeGrantedSaysWhy() {
    var foreign = wished()
    foreign.answer("unverified", "lease-service does not answer")
    #expect(isStaying(foreign.answers.first, "lease-service does not answer") && !foreign.steps.contains(.resumeGuest))

    var lost = wished()
    lost.send(.message(GuardMessage("status", [("state", "ending"), ("message", "lease i is of host id 3")])))
    #expect(isStaying(lost.answers.first, "host id 3"))
    lost.answer("verified")
    #expect(lost.answers.count == 1 && lost.reports.last == .ending(why: "lease i is of host id 3"))

    var mute = wished()
    mute.pass(GuardWatcher.resumeLimit)
    #expect(isStaying(mute.answers.first, "answered within 20 s"))

    var broken = wished()
    broken.send(.broken)
    #expect(isStaying(broken.answers.first, "connection"))
    broken.guardListens = false
    broken.send(.resume(asked: true))
    #expect(broken.answers.count == 2)

    var hung = wished()
    hung.resumeFailure = "QMP did not answer in time"
    hung.answer("verified")
    #expect(isStaying(hung.answers.first, "QMP"))

    var relapsed = wished()
    relapsed.answer("verified")
    relapsed.pass(GuardWatcher.relapsePause)
    #expect(isStaying(relapsed.answers.first, "storage"))

    var stopped = WatchDesk()
    stopped.send(.begin)
    stopped.say("running", pid: 9)
    stopped.send(.message(GuardMessage("status", [("state", "paused"), ("pid", "9"), ("lease", "d|i|7|3"), ("message", "no renewal")])))
    stopped.send(.resume(asked: true))
    #expect(isStaying(stopped.answers.first, "no renewal") && !stopped.sent.contains("verify"))
}

/// What QEMU was asked before it was told to go on may be answered after that.
@Test func anAnswerFromBeforeTheWishIsNotTakenForOneAfterIt() {
    var watcher = GuardWatcher(isGuest: true, patienceUntil: Instant(nanoseconds: 0))
    let running = GuardMessage("status", [("state", "running"), ("pid", "9")])
    var now = Instant(nanoseconds: 0)
    var steps: [GuardWatcher.Step] = []
    func feed(_ input: GuardWatcher.Input) { steps += watcher.handle(input, at: now) }
    for input in [GuardWatcher.Input.begin, .connected, .message(running), .confirmed(.ioError)] { feed(input) }
    now = now + .seconds(2)
    // Asked as every two seconds; not answered yet.
    feed(.tick)
    feed(.resume(asked: true))
    guard case .send(let question)? = steps.last else { return #expect(Bool(false), "its guard was not asked") }
    for input in [GuardWatcher.Input.message(GuardMessage("verified", [("number", question["number"] ?? "")])), .resumed(failure: nil)] { feed(input) }
    now = now + GuardWatcher.relapsePause
    feed(.tick)
    feed(.confirmed(.ioError))
    #expect(!steps.contains { if case .answer = $0 { true } else { false } })
    now = now + .milliseconds(50)
    feed(.tick)
    feed(.confirmed(.running))
    #expect(steps.last == .answer(.goesOn))
}

/// The guard proves that it runs; what its QEMU could tell and do is out of reach.
@Test func aMonitorThatStopsAnsweringIsToldOnceAndChangesNothingElse() {
    var desk = WatchDesk()
    desk.send(.begin)
    desk.say("running", pid: 9)
    let reports = desk.reports
    desk.guest = nil
    for _ in 0..<8 {
        desk.pass(.seconds(1))
        desk.say("running", pid: 9)
    }
    #expect(desk.monitor == [false] && desk.reports == reports)
    desk.guest = .running
    for _ in 0..<4 {
        desk.pass(.seconds(1))
        desk.say("running", pid: 9)
    }
    #expect(desk.monitor == [false, true] && desk.reports == reports)
}

@Test func aGuestThatItsGuardHasStoppedIsNotExpectedToAnswer() {
    var desk = WatchDesk()
    desk.send(.begin)
    desk.say("running", pid: 9)
    desk.guest = nil
    for _ in 0..<20 {
        desk.pass(.seconds(1))
        desk.say("paused", pid: 9)
    }
    #expect(desk.monitor == [])
}
