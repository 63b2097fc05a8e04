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
        switch bench.actions.last {
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

    @Test func afterARestartItAsksNobodyBeforeItHasHeardAll() {
        var bench = bench()
        bench.pass(.seconds(90))
        bench.feed(.started(bench.engine.policy, lineage: "j2"))
        bench.pass(.seconds(1000))
        #expect(asked(bench) == [] && bench.engine.saving?.spm == nil)
    }
}
