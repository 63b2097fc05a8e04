import Messages
import Testing

@testable import PlacementEngine

/// Which hosts are powered down and on again.
@Suite struct PowerSavingTests {
    private func bench(_ hosts: Int = 4, reserve: Int = 1, memory: Int = 0) -> Bench {
        var bench = Bench(hosts: (1...hosts).map { "host\($0)" })
        bench.engine.policy.saving = PowerSavingPolicy(reserveHosts: reserve, reserveMemoryMiB: memory, emptyFor: .seconds(100), pause: .seconds(50))
        bench.feed(.pool(PoolView(pool: "p", master: "dom", status: .up, spm: "host1", incarnation: Incarnation(1), term: 1, lver: 1, reason: "")))
        return bench
    }

    private func view(_ name: String, _ state: PowerSavingState?) -> PlacementEngine.Input {
        var view = Bench.host(name, state == .off ? .down : state == .leaving ? .preparingForMaintenance : .up)
        view.powerSaving = state.map { $0 == .off ? .off : .leaving }
        return .host(view)
    }

    private enum PowerSavingState { case leaving, off }

    private func asked(_ bench: Bench) -> [String] {
        bench.actions.compactMap {
            switch $0 {
            case .powerDown(let request, _): "down \(request.host)"
            case .powerUp(let request, _): "up \(request.host)"
            default: nil
            }
        }
    }

    private func answer(_ bench: inout Bench, _ error: RequestError? = nil) {
        switch bench.actions.last(where: { if case .powerDown = $0 { true } else if case .powerUp = $0 { true } else { false } }) {
        case .powerDown(let request, let id), .powerUp(let request, let id): bench.feed(.powered(host: request.host, id: id, error))
        default: Issue.record("nothing was asked")
        }
    }

    @Test func anEmptyHostIsPoweredDownAfterItsTimeOneAtATime() {
        var bench = bench()
        bench.bringUp(Bench.vm("a"), on: "host2")
        bench.pass(.seconds(60))
        #expect(asked(bench) == [])
        bench.pass(.seconds(50))
        #expect(asked(bench) == ["down host4"], "not the SPM's, not the one with a guest")
        #expect((try? bench.engine.explainPlacement(of: "a").rejected["host4"]) == "it is powered down to save power")
        bench.pass(.seconds(100))
        #expect(asked(bench).count == 1, "its answer is awaited")
        bench.feed(view("host4", .off))
        answer(&bench)
        bench.pass(.seconds(40))
        #expect(asked(bench).count == 1, "a pause")
        bench.pass(.seconds(20))
        #expect(asked(bench) == ["down host4", "down host3"], "host1 is the reserve")
        bench.feed(view("host3", .off))
        answer(&bench)
        bench.pass(.seconds(500))
        #expect(asked(bench).count == 2, "two hosts stay")
    }

    @Test func withoutAPolicyNothingHappens() {
        var bench = Bench(hosts: ["host1", "host2", "host3"])
        bench.pass(.seconds(100_000))
        #expect(asked(bench) == [] && bench.engine.saving == nil)
    }

    @Test func nothingIsPoweredDownWhileSomethingIsNotAsItShouldBe() {
        for trouble in ["hold", "case", "spm", "waiting", "alien"] {
            var bench = bench(trouble == "alien" ? 3 : 4, reserve: 0)
            bench.bringUp(Bench.vm("a"), on: "host2")
            switch trouble {
            case "hold": bench.feed(.ha(HAState(enabled: true, hold: "work", recoveryAllowed: false)))
            case "case": bench.feed(.host(Bench.host("host2", .nonResponsive)))
            case "spm": bench.feed(.pool(PoolView(pool: "p", master: "dom", status: .contend, spm: nil, incarnation: nil, term: 2, lver: 1, reason: "")))
            case "alien": bench.feed(Bench.report("host3", [Bench.running("x", 1)]))
            default:
                bench.define(Bench.vm("b", memory: 5000))
                bench.engine.vms["b"]?.phase = .waiting
            }
            bench.pass(.seconds(1000))
            #expect(asked(bench) == [], "\(trouble)")
        }
    }

    /// HA needs what is empty: without it nobody could take what host1 runs.
    @Test func whatHANeedsStaysOn() {
        var bench = bench(3, reserve: 0)
        bench.bringUp(Bench.vm("a", memory: 3000), on: "host1")
        bench.bringUp(Bench.vm("b", memory: 3000), on: "host2")
        bench.feed(.host(Bench.host("host1", memory: 1096)))
        bench.feed(.host(Bench.host("host2", memory: 1096)))
        bench.pass(.seconds(1000))
        #expect(asked(bench) == [])
        bench.feed(.host(Bench.host("host1", memory: 4000)))
        bench.feed(.host(Bench.host("host2", memory: 4000)))
        bench.pass(.seconds(1000))
        #expect(asked(bench) == ["down host3"])
    }

    @Test func memoryIsKeptFree() {
        var bench = bench(3, reserve: 0, memory: 9000)
        bench.pass(.seconds(1000))
        #expect(asked(bench) == [], "8192 MiB would be left")
    }

    private func saved() -> Bench {
        var bench = bench()
        bench.bringUp(Bench.vm("a"), on: "host2")
        bench.pass(.seconds(110))
        bench.feed(view("host4", .off))
        answer(&bench)
        return bench
    }

    @Test func itIsSwitchedOnWhenTheReserveIsUsed() {
        var bench = saved()
        bench.bringUp(Bench.vm("b"), on: "host1")
        bench.bringUp(Bench.vm("c"), on: "host3")
        #expect(asked(bench) == ["down host4"], "a pause")
        bench.pass(.seconds(60))
        #expect(asked(bench) == ["down host4", "up host4"])
        answer(&bench)
        bench.pass(.seconds(300))
        #expect(asked(bench).count == 2, "it boots")
        bench.pass(.seconds(400))
        #expect(asked(bench) == ["down host4", "up host4", "up host4"], "it has not come")
    }

    @Test func aVMThatFindsNoPlaceDoesNotWaitForThePause() {
        var bench = saved()
        bench.define(Bench.vm("d", pin: ["host4"]))
        bench.start("d")
        #expect(bench.refusal?.message.contains("is switched on for it") == true)
        #expect(asked(bench) == ["down host4", "up host4"])
        var held = saved()
        held.feed(.ha(HAState(enabled: true, hold: "work", recoveryAllowed: false)))
        held.define(Bench.vm("d", pin: ["host4"]))
        held.start("d")
        #expect(held.refusal?.message.contains("is held") == true && asked(held) == ["down host4"])
    }

    @Test func whoeverRefusesIsAskedAgainAfterTheOthers() {
        var bench = bench(5)
        bench.pass(.seconds(110))
        #expect(asked(bench) == ["down host5"])
        answer(&bench, RequestError(RequestErrorCode.conflict, "host5 is not empty"))
        bench.pass(.seconds(60))
        #expect(asked(bench) == ["down host5", "down host4"])
    }

    /// Nothing runs on any host but host2, and all from this one on are powered down.
    private func saved(_ hosts: Int, from first: Int) -> Bench {
        var bench = bench(hosts, reserve: 2)
        bench.bringUp(Bench.vm("a"), on: "host2")
        bench.pass(.seconds(110))
        for number in (first...hosts).reversed() {
            #expect(asked(bench).last == "down host\(number)")
            bench.feed(view("host\(number)", .off))
            answer(&bench)
            if number != first { bench.pass(.seconds(51)) }
        }
        bench.actions = []
        return bench
    }

    private let failed = RequestError(RequestErrorCode.conflict, "its device does not answer")

    @Test func whatCannotBeSwitchedOnHasItsNextTurnAfterTheOthersAndAPauseAndIsGivenUp() {
        var bench = saved(5, from: 4)
        bench.define(Bench.vm("d", pin: ["host4", "host5"]))
        bench.start("d")
        #expect(asked(bench) == ["up host4"])
        answer(&bench, failed)
        #expect(asked(bench) == ["up host4", "up host5"])
        bench.pass(.seconds(10))
        answer(&bench, failed)
        bench.pass(.seconds(35))
        #expect(asked(bench).count == 2)
        bench.pass(.seconds(10))
        #expect(asked(bench) == ["up host4", "up host5", "up host4"])
        for _ in 0..<100 {
            answer(&bench, failed)
            bench.pass(.seconds(60))
        }
        #expect(asked(bench).count < 30, "whoever wanted it has not asked again")
    }

    /// Their host is not known to be coming.
    @Test func aRequestThatIsLostInARestartIsMadeAgain() {
        var bench = saved()
        bench.bringUp(Bench.vm("b"), on: "host1")
        bench.bringUp(Bench.vm("c"), on: "host3")
        bench.pass(.seconds(60))
        #expect(asked(bench) == ["down host4", "up host4"])
        bench.feed(.started(bench.engine.policy, lineage: "j2"))
        bench.feed(.fencing(Bench.snapshot(bench.engine.hostViews)))
        for (host, vm) in [("host1", "b"), ("host2", "a"), ("host3", "c")] { bench.feed(Bench.report(host, [Bench.running(vm, 1)])) }
        bench.pass(.seconds(60))
        #expect(asked(bench) == ["down host4", "up host4", "up host4"])
    }

    private func without(_ host: String, _ status: HostStatus = .up) -> PlacementEngine.Input {
        var view = Bench.host(host, status)
        view.spmPriority = -1
        return .host(view)
    }

    @Test func thePoolsSPMKeepsAHostBesideIt() {
        var bench = bench(4, reserve: 0)
        for host in ["host2", "host3"] { bench.feed(without(host)) }
        for _ in 0..<10 {
            bench.pass(.seconds(60))
            if case .powerDown(let request, _) = bench.actions.last, bench.engine.saving?.ask != nil {
                bench.feed(view(request.host, .off))
                answer(&bench)
            }
        }
        #expect(asked(bench) == ["down host3", "down host2"])
    }

    @Test(arguments: ["the last other host", "the election"]) func aHostThatMayBeSPMIsSwitchedOnIfItIsMissed(_ failure: String) {
        var bench = bench(4, reserve: 0)
        bench.feed(without("host2"))
        bench.pass(.seconds(110))
        #expect(asked(bench) == ["down host4"])
        bench.feed(view("host4", .off))
        answer(&bench)
        bench.pass(.seconds(60))
        #expect(asked(bench) == ["down host4", "down host2"], "host3 may be SPM")
        var off = Bench.host("host2", .down)
        off.spmPriority = -1
        off.powerSaving = .off
        bench.feed(.host(off))
        answer(&bench)
        if failure == "the last other host" {
            bench.feed(.host(Bench.host("host3", .nonResponsive)))
        } else {
            bench.feed(.pool(PoolView(pool: "p", master: "dom", status: .nonResponsive, spm: nil, incarnation: nil, term: 2, lver: 1, reason: "")))
            bench.pass(.seconds(500))
            #expect(asked(bench).count == 2, "it may be elected yet")
            bench.pass(.seconds(200))
        }
        bench.pass(.seconds(60))
        #expect(asked(bench).dropFirst(2).first == "up host4")
    }

    @Test func aVMThatWaitsForAnotherHostIsNotForgotten() {
        var bench = saved(6, from: 5)
        bench.pass(.seconds(60))
        #expect(asked(bench) == ["down host4"])
        for number in [5, 6] {
            bench.define(Bench.vm("d\(number)", pin: ["host\(number)"]))
            bench.start("d\(number)")
        }
        answer(&bench, failed)
        #expect(asked(bench) == ["down host4", "up host5"])
        answer(&bench)
        #expect(asked(bench) == ["down host4", "up host5", "up host6"])
    }

    /// It may go off yet.
    @Test func nothingIsPlacedOnAHostThatLeaves() throws {
        var bench = bench()
        bench.define(Bench.vm("a"))
        var view = Bench.host("host1")
        view.powerSaving = .leaving
        bench.feed(.host(view))
        #expect(try bench.engine.explainPlacement(of: "a").rejected["host1"] == "it is powered down to save power")
    }

    @Test func afterARestartItAsksNobodyBeforeItHasHeardAll() {
        var bench = bench()
        bench.pass(.seconds(90))
        bench.feed(.started(bench.engine.policy, lineage: "j2"))
        bench.pass(.seconds(1000))
        #expect(asked(bench) == [] && bench.engine.saving?.spm == nil)
    }
}
