@testable import FencingEngine
import Messages
import Testing

/// The safety rules of Services/README.md, and what follows from them, each on the engine.
@Suite struct SafetyRules {
    private func expired(_ world: World) -> Proof? { world.proofs.last { $0.kind == .leaseExpired } }

    @Test func s6ADeadDeviceAndAnArmedWatchdogProveTheLeasesExpiredAndNothingElse() {
        let world = World { $0.machines["host2"]?.watchdog = true }
        let generation = world.machines["host2"]?.generation
        world.machines["host2"]?.bmc = .dead
        world.crash("host2")
        world.run(until: 14, "the leases of host2 are proven expired") { world.view("host2").leaseProof != nil }
        #expect(expired(world)?.generations["d1"] == generation)
        #expect(expired(world)?.covers(host: "host2", incarnation: Incarnation(1)) == false)
        #expect(world.view("host2").proof == nil)
        #expect(world.step("host2") == "failed")
        world.run(40)
        #expect(world.proofs.count { $0.kind == .leaseExpired } == 1)
        world.machines["host2"]?.bmc = .works
        world.run(until: 60, "host2 is proven off and back") { world.allUp }
        #expect(world.view("host2").proof?.proof.kind == .powerOff)
        #expect(world.view("host2").leaseProof == nil)
        clean(world)
    }

    @Test func s6AFrozenHostIsResetBeforeItsLeasesAreProvenExpired() {
        let world = World { $0.machines["host2"]?.watchdog = true }
        world.machines["host2"]?.bmc = .dead
        world.machines["host2"]?.frozen = true
        world.run(until: 30, "host2 was reset") { world.machines["host2"]?.boot == 2 }
        world.machines["host2"]?.frozen = false
        world.run(until: 60, "host2 is back") { world.allUp }
        clean(world)
    }

    @Test func s6WithoutAWatchdogTheCaseWaitsAndNamesTheConfirmation() {
        let world = World()
        world.machines["host2"]?.bmc = .dead
        world.crash("host2")
        world.run(60)
        #expect(expired(world) == nil)
        #expect(world.view("host2").fenceCase?.reason.contains("bulwark host confirm-off host2") == true)
        clean(world)
    }

    @Test(arguments: ["a cut network", "one reader that still sees renewals", "a hold", "nobody who can read"]) func s6NothingExpires(for why: String) {
        let world = World { $0.machines["host2"]?.watchdog = true }
        world.machines["host2"]?.bmc = .dead
        switch why {
        case "a cut network": world.machines["host2"]?.cut = true
        case "one reader that still sees renewals":
            world.machines["host2"]?.cut = true
            world.machines["host3"]?.staleReads = true
        case "a hold":
            world.submit(.haHold(world.request(), HoldRequest(why: "test")))
            world.crash("host2")
        default:
            world.leasesAnswer = false
            world.crash("host2")
        }
        world.run(60)
        #expect(expired(world) == nil)
        clean(world)
    }

    @Test func s6ARestartedServiceProvesItStill() {
        let world = World { $0.machines["host2"]?.watchdog = true }
        world.machines["host2"]?.bmc = .dead
        world.crash("host2")
        world.run(8)
        world.restart()
        world.run(until: 20, "the leases of host2 are proven expired") { world.view("host2").leaseProof != nil }
        clean(world)
    }
}
