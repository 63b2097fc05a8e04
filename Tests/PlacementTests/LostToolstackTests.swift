import Messages
import Testing

@testable import PlacementEngine

/// Toolstack down is not VM down: unknown is not stopped, and nothing is started elsewhere (I4).
@Suite struct AVMWhoseHostHasLostItsToolstack {
    private static let lost = ToolstackReport(state: .lost, why: "virsh list: exit status 1", restarts: 3)

    private func unknown(_ vm: String, _ attempt: UInt64) -> VMObservation {
        VMObservation(vm: vm, attempt: attempt, state: .unknown, evidence: "its hypervisor cannot be controlled", pid: 7)
    }

    private func lose(_ bench: inout Bench, _ host: String, _ status: HostStatus, _ report: ToolstackReport? = lost) {
        var view = Bench.host(host, status)
        view.toolstack = report
        bench.feed(.host(view))
    }

    /// One that runs on host1, whose toolstack is lost.
    private func bench(_ status: HostStatus = .nonOperational) -> Bench {
        var bench = Bench()
        bench.bringUp(Bench.vm("a"), on: "host1")
        lose(&bench, "host1", status)
        bench.feed(Bench.report("host1", [unknown("a", 1)]))
        return bench
    }

    @Test func isUnknownAndUpAgainWithoutAnythingDone() {
        var bench = bench()
        #expect(bench.phase("a") == .unknown && bench.starts == ["a.1@host1"])
        for _ in 0..<100 { bench.pass(.seconds(60)) }
        #expect(bench.phase("a") == .unknown && bench.starts == ["a.1@host1"])
        lose(&bench, "host1", .up, nil)
        bench.feed(Bench.report("host1", [Bench.running("a", 1)]))
        #expect(bench.phase("a") == .up && bench.starts == ["a.1@host1"])
    }

    @Test(arguments: [HostStatus.up, .nonOperational]) func hasNothingStartedBesideIt(status: HostStatus) throws {
        var bench = bench(status)
        bench.define(Bench.vm("b", pin: ["host1"]))
        bench.start("b")
        #expect(bench.refusal?.details?["host1"]?.isEmpty == false && bench.starts == ["a.1@host1"])
        if status == .up { #expect(try bench.engine.explainPlacement(of: "b").rejected["host1"]?.contains("virsh list") == true) }
    }

    /// It is not asked for what it will say by itself.
    @Test func isAskedAboutSeldom() {
        var bench = bench()
        func asked() -> Int { bench.actions.count { if case .observe = $0 { true } else { false } } }
        bench.pass(.seconds(2))
        bench.answer("a", .observed(unknown("a", 1)))
        let before = asked()
        for _ in 0..<19 { bench.pass(.seconds(1)) }
        #expect(asked() == before)
        bench.pass(.seconds(2))
        #expect(asked() == before + 1)
    }

    @Test func isStartedElsewhereOnlyOnProof() {
        var bench = bench()
        bench.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host1", proven: false)]))
        bench.pass(.seconds(10))
        #expect(bench.phase("a") == .unknown && bench.starts == ["a.1@host1"])
        bench.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host1")]))
        bench.pass(.seconds(10))
        #expect(bench.starts == ["a.1@host1", "a.2@host2"], "its guard reaped it, its storage answered, and that is signed")
    }

    @Test func isStoppedOnlyOnProof() {
        var bench = bench()
        bench.feed(.stop("stop", VMRequest(vm: "a")))
        bench.feed(Bench.report("host1", [unknown("a", 1)]))
        bench.answer("a", .observed(unknown("a", 1)))
        bench.pass(.seconds(60))
        #expect(bench.phase("a") == .stopping)
        bench.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host1")]))
        #expect(bench.phase("a") == .down && bench.starts == ["a.1@host1"])
    }

    /// It began while the toolstack died.
    @Test func whoseStartIsAnsweredUnknownIsUnknown() {
        var bench = Bench()
        bench.define(Bench.vm("a"))
        bench.start("a", on: "host1")
        bench.answer("a", .observed(unknown("a", 1)))
        #expect(bench.phase("a") == .unknown && bench.starts == ["a.1@host1"])
        bench.feed(Bench.report("host1", [Bench.running("a", 1)]))
        #expect(bench.phase("a") == .up)
    }

    @Test func whoseMonitorIsSilentRunsAndSaysSo() {
        var bench = Bench()
        bench.bringUp(Bench.vm("a"), on: "host1")
        var mute = Bench.running("a", 1)
        mute.isMute = true
        bench.feed(Bench.report("host1", [mute]))
        #expect(bench.phase("a") == .up && bench.engine.vms["a"]?.reason.contains("QMP") == true)
        bench.feed(Bench.report("host1", [Bench.running("a", 1)]))
        #expect(bench.phase("a") == .up && bench.engine.vms["a"]?.reason.contains("answers again") == true)
    }
}
