import Messages
import ServiceCore
import Testing

/// Returns the effects that its input names.
private struct Echo: Engine {
    enum Input: EngineInput {
        case wake
        case told([Said])
        case passing([Said])
        var isEphemeral: Bool { if case .passing = self { true } else { false } }
    }

    enum Said: Codable, Sendable {
        case wake(Int64), reply, publish(String), decide, act(String)
    }

    /// What the next wake-up returns.
    var onWake: [Said] = []
    init() {}

    mutating func handle(_ input: Input, at now: Instant) -> [Effect<String>] {
        let said: [Said] = switch input {
        case .wake: onWake
        case .told(let said), .passing(let said): said
        }
        return said.map { word in
            switch word {
            case .wake(let at): .wake(at: Instant(nanoseconds: at))
            case .reply: .reply(to: "r", .done)
            case .publish(let type): .publish(Event(type, body: Nothing()))
            case .decide: .decide(Decision("s", "d", why: ""))
            case .act(let what): .perform(what)
            }
        }
    }

    var publicState: any Encodable & Sendable { Nothing() }
}

/// Publishes at every wake-up, none of which is journaled.
private struct EphemeralWake: Engine {
    enum Input: EngineInput {
        case wake
        var isEphemeral: Bool { true }
    }

    mutating func handle(_ input: Input, at now: Instant) -> [Effect<String>] { [.publish(Event("x", body: Nothing()))] }
    var publicState: any Encodable & Sendable { Nothing() }
}

@Suite struct ShellCoreTests {
    private func core(onWake: [Echo.Said] = []) -> ShellCore<Echo> {
        var engine = Echo()
        engine.onWake = onWake
        return ShellCore(engine: engine, sequence: 40)
    }

    /// `j1/41 d1 r1` for record 1 with sequence 41, one decision and one reply; `w9` for a wake; `p`, `a`, `r`, `n`, `q` for the rest.
    private func words(_ steps: [ShellCore<Echo>.Step]) -> [String] {
        steps.map { step in
            switch step {
            case .journal(let record): "j\(record.number)/\(record.sequence) d\(record.decisions.count) r\(record.replies.count)"
            case .note(let decisions): "n\(decisions.count)"
            case .answer(let question): "q\(question)"
            case .wake(let at): "w\(at.nanoseconds)"
            case .effect(.reply(let id, _)): id
            case .effect(.publish(let event)): "p-\(event.type)"
            case .effect(.perform(let action)): "a-\(action)"
            case .effect(.wake), .effect(.decide): "never"
            }
        }
    }

    private func at(_ time: Int64) -> Instant { Instant(nanoseconds: time) }

    @Test func nothingLeavesBeforeItsRecordIsDurableAndThenInOrder() {
        var core = core()
        #expect(words(core.submit(.told([.reply, .decide, .publish("x")]), at: at(1))) == ["j1/41 d1 r1"])
        #expect(words(core.submit(.told([.act("y")]), at: at(2))) == ["j2/42 d0 r0"])
        #expect(words(core.submit(.told([.act("z")]), at: at(3))) == ["j3/43 d0 r0"])
        #expect(core.durable(through: 0).isEmpty)
        #expect(core.heldThrough == 3 && core.durableThrough == 0 && !core.isAllDurable)
        #expect(words(core.durable(through: 2)) == ["r", "p-x", "a-y"])
        #expect(core.durable(through: 2).isEmpty)
        #expect(words(core.durable(through: 3)) == ["a-z"])
        #expect(core.isAllDurable && core.sequence == 43)
    }

    @Test func ephemeralInputsLeaveNoRecordAndActAtOnce() {
        var core = core()
        #expect(core.submit(.passing([]), at: at(1)).isEmpty)
        _ = core.submit(.told([.publish("held")]), at: at(1))
        #expect(words(core.submit(.passing([.publish("x"), .decide, .reply, .act("y")]), at: at(2))) == ["p-x", "r", "a-y", "n1"])
        #expect(core.sequence == 41 && core.heldThrough == 1)
    }

    @Test func theOnlyTimerIsArmedForTheEarliestTime() {
        var core = core()
        #expect(words(core.submit(.passing([.wake(9), .wake(7), .wake(8)]), at: at(1))) == ["w7"])
        #expect(core.submit(.passing([.wake(7)]), at: at(1)).isEmpty)
        #expect(words(core.submit(.told([.wake(30), .act("x")]), at: at(1))) == ["j1/41 d0 r0"])
        #expect(words(core.submit(.told([.wake(3), .act("y")]), at: at(1))) == ["w3", "j2/42 d0 r0"])
        #expect(core.wakeUp(at: at(3)).isEmpty)
        #expect(core.nextWake == nil)
        #expect(words(core.submit(.passing([.act("x"), .wake(50)]), at: at(4))) == ["w50", "a-x"])
    }

    @Test func aWakeUpThatOnlyAsksForTheNextOneLeavesNoRecord() {
        var quiet = core(onWake: [.wake(20)])
        #expect(words(quiet.wakeUp(at: at(10))) == ["w20"])
        #expect(quiet.sequence == 40)
        var deciding = core(onWake: [.wake(20), .decide])
        #expect(words(deciding.wakeUp(at: at(10))) == ["w20", "j1/41 d1 r0"])
        #expect(deciding.durable(through: 1).isEmpty)
    }

    /// A snapshot names the events that it covers when it leaves: it must not leave after those of a later input.
    @Test func aQuestionIsAnsweredBetweenTheEffectsBeforeAndAfterIt() {
        var core = core()
        #expect(words(core.ask(1)) == ["q1"])
        _ = core.submit(.told([.publish("before")]), at: at(1))
        #expect(core.ask(2).isEmpty)
        _ = core.submit(.told([.publish("after")]), at: at(2))
        #expect(words(core.durable(through: 2)) == ["p-before", "q2", "p-after"])
    }

    /// A subscriber takes every event up to the snapshot's number as known to its state.
    @Test func aCapturedStateStandsUntilAnEventLeavesAtOnce() {
        var core = core()
        let capture = core.capture()
        _ = core.submit(.told([.publish("held")]), at: at(1))
        _ = core.submit(.passing([.reply, .act("x"), .wake(5)]), at: at(1))
        _ = core.durable(through: 1)
        #expect(core.stands(capture))
        _ = core.submit(.passing([.publish("x")]), at: at(2))
        #expect(!core.stands(capture) && core.stands(core.capture()))
    }

    @Test func anEventOfAWakeUpThatIsNotJournaledOvertakesACaptureToo() {
        var core = ShellCore<EphemeralWake>(engine: EphemeralWake(), sequence: 0)
        let capture = core.capture()
        _ = core.wakeUp(at: at(1))
        #expect(!core.stands(capture))
    }
}

@Suite struct RequestLedgerTests {
    @Test func theSameRequestGetsTheSameReplyAndAnotherIsRefused() throws {
        var ledger = RequestLedger<String>()
        guard case .new = try ledger.judge("a", digest: 1) else { return #expect(Bool(false), "a was never seen") }
        _ = ledger.accept("a", digest: 1, at: 10)
        guard case .underWay = try ledger.judge("a", digest: 1) else { return #expect(Bool(false), "a is under way") }
        #expect(ledger.settle("a", "done")?.acceptedAt == 10)
        guard case .answered("done") = try ledger.judge("a", digest: 1) else { return #expect(Bool(false), "a was answered") }
        #expect(throws: RequestError.self) { try ledger.judge("a", digest: 2) }
        #expect(ledger.settle("b", "done") == nil)
    }

    @Test func onlyWhatWasAnsweredIsForgotten() {
        var ledger = RequestLedger<String>()
        for (id, time) in [("old", 10), ("open", 10), ("young", 11)] { _ = ledger.accept(id, digest: 1, at: Int64(time)) }
        for id in ["old", "young"] { _ = ledger.settle(id, "done") }
        ledger.forget(acceptedThrough: 10)
        #expect(ledger["old"] == nil && ledger["open"] != nil && ledger["young"] != nil)
    }
}
