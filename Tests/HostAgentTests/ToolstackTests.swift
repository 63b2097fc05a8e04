import HostAgentEngine
import Messages
import Testing

/// A toolstack, and what its commands would say: the table of ``Toolstack``, row by row.
private struct ToolstackDesk {
    var toolstack: Toolstack
    var now = Instant(nanoseconds: 1_000_000_000)
    /// What the next check says; `nil`: it succeeds.
    var failure: String?
    /// Neither checks nor restarts end.
    var hangs = false
    /// After so many restarts it works.
    var worksAfter = Int.max
    private(set) var checks = 0
    private(set) var restarts = 0
    private(set) var told: [ToolstackReport?] = []

    init(restarts: Int = 2, last: ToolstackReport? = nil, failure: String? = nil) {
        toolstack = Toolstack(Toolstack.Plan(every: .seconds(10), timeout: .seconds(4), restarts: restarts, restartTimeout: .seconds(20), pause: .seconds(2)))
        self.failure = failure
        send(.begin(last: last))
    }

    mutating func send(_ input: Toolstack.Input) {
        var inputs = [input]
        while !inputs.isEmpty {
            for step in toolstack.handle(inputs.removeFirst(), at: now) {
                switch step {
                case .check:
                    checks += 1
                    if !hangs { inputs.append(.checked(failure: failure)) }
                case .tell(let report):
                    told.append(report)
                    guard report?.state == .restarting else { continue }
                    restarts += 1
                    if restarts >= worksAfter { failure = nil }
                    if !hangs { inputs.append(.restarted(failure: restarts >= worksAfter ? nil : "exit status 5")) }
                }
            }
        }
    }

    mutating func pass(_ seconds: Int64) {
        let end = now + .seconds(seconds)
        while let wake = toolstack.nextWake, wake <= end {
            now = max(now, wake)
            send(.wake)
            guard toolstack.nextWake != wake else {
                Issue.record("woken at \(wake), it wants to be woken then")
                break
            }
        }
        now = end
    }

    var states: [ToolstackReport.State?] { told.map { $0?.state } }
}

@Suite struct AToolstack {
    @Test func thatWorksIsCheckedAndNothingIsTold() {
        var desk = ToolstackDesk()
        desk.pass(100)
        #expect(desk.checks == 11 && desk.told == [])
    }

    @Test func thatFailsForAMomentIsNotRestarted() {
        var desk = ToolstackDesk(failure: "exit status 1")
        desk.pass(2)
        desk.failure = nil
        desk.pass(10)
        #expect(desk.states == [.failing, nil] && desk.restarts == 0)
        #expect(desk.told.first??.why == "exit status 1")
    }

    @Test func isRestartedAfterThreeFailuresAndComesBack() {
        var desk = ToolstackDesk(failure: "exit status 1")
        desk.worksAfter = 1
        desk.pass(3)
        #expect(desk.restarts == 0, "the first check and one of two more have failed")
        desk.pass(1)
        #expect(desk.restarts == 1 && desk.states == [.failing, .restarting], "only a check tells whether that helped")
        desk.pass(2)
        #expect(desk.states == [.failing, .restarting, nil])
    }

    @Test func thatDoesNotComeBackIsLostAndStillChecked() {
        var desk = ToolstackDesk(failure: "exit status 1")
        desk.pass(60)
        #expect(desk.states == [.failing, .restarting, .restarting, .lost] && desk.restarts == 2)
        #expect(desk.told.last??.restarts == 2)
        #expect(desk.told.last??.why == "exit status 1; of the last restart: exit status 5")
        let checks = desk.checks
        desk.pass(100)
        #expect(desk.checks == checks + 10 && desk.restarts == 2 && desk.told.count == 4)
        desk.failure = nil
        desk.pass(10)
        #expect(desk.states.last == .some(nil))
    }

    @Test func withoutARestartCommandIsLostAfterThreeFailures() {
        var desk = ToolstackDesk(restarts: 0, failure: "exit status 1")
        desk.pass(4)
        #expect(desk.states == [.failing, .lost])
        #expect(desk.told.last??.sentence.contains("nothing restarts the toolstack") == true)
    }

    @Test func whoseCheckNeverEndsCountsAsFailingAndIsCheckedAgainOnlyWhenThatHasEnded() {
        var desk = ToolstackDesk()
        desk.hangs = true
        desk.pass(10)
        #expect(desk.states == [])
        desk.pass(9)
        #expect(desk.states == [.failing] && desk.checks == 2, "it was killed after 4 s and has not ended 5 s later")
        desk.pass(120)
        #expect(desk.states == [.failing, .restarting, .lost], "a restart that never ends is not begun again")
        #expect(desk.checks == 2)
        desk.send(.checked(failure: nil))
        #expect(desk.states.last == .lost, "what ends so late says what was")
        desk.hangs = false
        desk.pass(10)
        #expect(desk.states.last == .some(nil))
    }

    /// What works for a minute after each restart is no better than what does not.
    @Test func thatComesBackForAMomentEachTimeIsLostInTheEnd() {
        var desk = ToolstackDesk(restarts: 3)
        for round in 1...3 {
            desk.failure = "exit status 1"
            desk.worksAfter = round
            desk.pass(60)
            #expect(desk.restarts == round && desk.states.last == .some(nil))
        }
        desk.failure = "exit status 1"
        desk.worksAfter = .max
        desk.pass(60)
        #expect(desk.restarts == 3 && desk.states.last == .lost)
        desk.failure = nil
        desk.pass(Toolstack.memory.milliseconds / 1000 + 20)
        desk.failure = "exit status 1"
        desk.pass(20)
        #expect(desk.restarts > 3, "an hour later it is restarted again")
    }

    @Test(arguments: [ToolstackReport.State.failing, .restarting, .lost]) func goesOnWhereItWasToldToBeWhenItsAgentIsStartedAgain(at state: ToolstackReport.State) {
        var desk = ToolstackDesk(restarts: 2, last: ToolstackReport(state: state, why: "exit status 1", restarts: 2), failure: "exit status 1")
        #expect(desk.checks == 1 && desk.restarts == 0, "it is checked first")
        desk.pass(30)
        #expect(desk.restarts == 0, "both restarts are used up")
        #expect(desk.states == (state == .lost ? [] : [.lost]))
        desk.failure = nil
        desk.pass(10)
        #expect(desk.states.last == .some(nil))
    }
}

// MARK: What follows for guests

private let down = ToolstackReport(state: .failing, why: "virsh list: exit status 1", restarts: 0)

private func vm(_ name: String, _ attempt: UInt64) -> Holder { Holder(role: .vm, name: name, attempt: attempt) }

@Suite struct AHostWithoutItsToolstack {
    private func running() -> EngineBench {
        var bench = EngineBench()
        _ = bench.start("web1", 1)
        _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
        return bench
    }

    @Test func tellsItsGuestsAsUnknownAndStartsNone() {
        var bench = running()
        let effects = bench.send(.toolstack(down))
        #expect(bench.engine.vms.vms.map(\.state) == [.unknown] && bench.engine.vms.vms[0].pid == 7 && bench.engine.vms.vms[0].ended == nil)
        #expect(bench.engine.heartbeat.toolstack == down)
        #expect(effects.proofs.isEmpty && effects.actions.isEmpty)
        #expect(bench.observe("web1", 1).observations.map(\.state) == [.unknown])
        #expect(bench.start("web2", 1).refusals == ["vm.toolstack-down"])
        _ = bench.send(.toolstack(nil))
        #expect(bench.engine.vms.vms.map(\.state) == [.running] && bench.engine.heartbeat.toolstack == nil)
        #expect(bench.start("web2", 1).refusals == ["vm.attempt-stale"], "what was refused never starts")
        #expect(bench.start("web2", 2).spawns.count == 1)
    }

    @Test func isRestartedOnceForEachReportThatSaysSo() throws {
        var bench = running()
        func restarts(_ report: ToolstackReport?) -> Int { bench.send(.toolstack(report)).actions.filter { if case .restartToolstack = $0 { true } else { false } }.count }
        let restarting = ToolstackReport(state: .restarting, why: "", restarts: 1)
        #expect(restarts(down) == 0)
        #expect(restarts(restarting) == 1 && restarts(restarting) == 0)
        #expect(restarts(ToolstackReport(state: .lost, why: "", restarts: 1)) == 0)
        try bench.restart()
        #expect(bench.start().actions.allSatisfy { if case .restartToolstack = $0 { false } else { true } })
        #expect(bench.engine.toolstack?.state == .lost, "what was told is known after a restart")
        _ = bench.start(boot: "boot2")
        #expect(bench.engine.toolstack == nil, "another boot starts it anew")
    }

    @Test func aNewStartIsAnsweredUnknown() {
        var bench = EngineBench()
        _ = bench.start("web1", 1)
        _ = bench.send(.toolstack(down))
        #expect(bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false))).observations.map(\.state) == [.unknown])
    }

    /// The toolstack dies, or comes back, between any two steps of a stop: it is answered with the same evidence, and never sooner.
    @Test(arguments: 0...4, [false, true]) func endsAGuestOnEvidenceAlone(diesBefore step: Int, comesBack: Bool) {
        var bench = running()
        var answered: [VMObservation] = []
        var effects: [Effect<AgentAction>] = []
        let steps: [(inout EngineBench) -> [Effect<AgentAction>]] = [
            { $0.stop("web1", 1) }, { $0.send(.sighted(vm("web1", 1), .ending(why: "stopped on request"))) },
            { $0.send(.sighted(vm("web1", 1), .ended(exit: "signal 9", why: "stopped on request"))) }, { $0.send(.quiesced(vm("web1", 1))) },
        ]
        for (index, perform) in steps.enumerated() {
            if index == step { effects += bench.send(.toolstack(down)) }
            if index == step + 1, comesBack { effects += bench.send(.toolstack(nil)) }
            effects += perform(&bench)
            answered += effects.observations
            #expect(bench.engine.vms.vms.allSatisfy { $0.ended == nil && ($0.state != .stopped || index >= 2) }, "step \(index)")
        }
        #expect(answered.isEmpty && effects.proofs.count == 1, "it is proven over once, after its storage answered")
        let proof = effects.proofs.first.map { EngineBench.signed($0.1) }
        if let proof { effects = bench.send(.signed(vm("web1", 1), proof)) }
        #expect(effects.observations.map(\.state) == [.stopped] && effects.observations.first?.ended == proof)
    }

    @Test func doesNotProveOverWhatIsNotClear() {
        var bench = running()
        _ = bench.send(.toolstack(down))
        _ = bench.stop("web1", 1)
        let effects = bench.send(.sighted(vm("web1", 1), .unclear(evidence: "its guard does not answer")))
        #expect(effects.proofs.isEmpty && effects.observations.isEmpty && bench.engine.vms.vms.map(\.state) == [.unknown])
    }

    @Test func aGuestWhoseMonitorIsSilentRunsAndIsToldSo() {
        var bench = running()
        _ = bench.send(.monitor(vm("web1", 1), answers: false))
        #expect(bench.engine.vms.vms.map(\.state) == [.running] && bench.engine.vms.vms[0].isMute == true)
        _ = bench.send(.monitor(vm("web1", 1), answers: true))
        #expect(bench.engine.vms.vms[0].isMute == nil)
    }
}
