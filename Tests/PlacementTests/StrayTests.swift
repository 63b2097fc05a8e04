import Messages
import Testing

@testable import PlacementEngine

/// Runs that are to be over, and which a host does not know to be (I4).
@Suite struct StrayTests {
    private func seen(_ state: RunState, _ attempt: UInt64, elsewhere: Bool? = nil) -> VMObservation {
        VMObservation(vm: "a", attempt: attempt, state: state, evidence: "test", pid: 7, leftElsewhere: elsewhere)
    }

    /// A VM without leases, of which placement knows nothing but that it was defined.
    private func bench() -> Bench {
        var bench = Bench()
        bench.define(Bench.vm("a", ha: false, leases: false))
        return bench
    }

    private func start(_ bench: inout Bench) -> [String] {
        bench.start("a", on: "host2")
        return bench.starts
    }

    @Test(arguments: [RunState.unknown, .starting]) func whatWasSeenToRunIsNotOverWhenNothingIsKnownOfItAnyMore(state: RunState) {
        var bench = bench()
        bench.feed(Bench.report("host1", [seen(.running, 7)]))
        #expect(start(&bench) == [])
        bench.feed(Bench.report("host1", [seen(state, 7)]))
        bench.pass(.seconds(60))
        #expect(start(&bench) == [] && bench.refusal?.code == PlacementErrorCode.notProven.rawValue)
        bench.feed(Bench.report("host1", [seen(.stopped, 7)]))
        #expect(start(&bench) == ["a.1@host2"])
    }

    @Test(arguments: [RunState.unknown, .starting]) func whatMayRunIsAnAlarmUntilItIsNotThere(state: RunState) {
        var bench = bench()
        bench.feed(Bench.report("host1", [seen(state, 7)]))
        bench.pass(.seconds(4))
        #expect(start(&bench) == [] && bench.refusal?.message.contains("as unknown") == true)
        #expect(bench.decisions.last?.what.hasPrefix("alarm") == true && bench.decisions.last?.why.contains("attempt 7 as unknown") == true)
        bench.feed(Bench.report("host1", complete: false, []))
        #expect(start(&bench) == [], "not all was looked at")
        bench.feed(Bench.report("host1", []))
        #expect(start(&bench) == ["a.1@host2"])
    }

    /// The agent has lost its records, and finds a process.
    @Test func aGuestOfWhichNoAttemptIsKnownMayBeTheCurrentOneAndNoOther() {
        var bench = bench()
        bench.feed(Bench.report("host1", [seen(.unknown, 0)]))
        #expect(start(&bench) == [])
        bench.feed(Bench.report("host1", []))
        bench.start("a", on: "host1")
        bench.answer("a", .observed(seen(.running, 1)))
        bench.feed(Bench.report("host1", [seen(.unknown, 0)]))
        bench.pass(.seconds(4))
        #expect(bench.engine.vms["a"]?.sighting == nil && bench.engine.vms["a"]?.ask != nil, "it is asked about")
        bench.feed(Bench.report("host2", [seen(.unknown, 0)]))
        #expect(bench.engine.vms["a"]?.sighting?.host == "host2")
    }

    /// S14: a machine with the disk of another says nothing of what that one ran.
    @Test func whatWasLeftOnAnotherMachineIsNoNews() {
        var bench = bench()
        bench.feed(Bench.report("host1", [seen(.unknown, 7, elsewhere: true)]))
        #expect(start(&bench) == ["a.1@host2"])
    }

    /// Its report does not come again.
    @Test(arguments: [RunState.running, .unknown]) func aVMThatIsDefinedAnewMayRunAlready(state: RunState) {
        var bench = Bench()
        bench.feed(Bench.report("host1", [seen(state, 7)]))
        #expect(bench.decisions.last?.what == "undefined guest seen")
        bench.define(Bench.vm("a", ha: false, leases: false))
        #expect(start(&bench) == [] && bench.refusal?.code == PlacementErrorCode.notProven.rawValue)
        bench.feed(Bench.report("host1", [seen(.stopped, 7)]))
        #expect(start(&bench) == ["a.1@host2"])
    }

    @Test func aLifeOfAnEarlierVersionIsReplayedAsItWasLived() {
        var bench = bench()
        bench.engine.policy.unknownMayRun = nil
        bench.feed(Bench.report("host1", [seen(.unknown, 7)]))
        #expect(start(&bench) == ["a.1@host2"])
    }
}
