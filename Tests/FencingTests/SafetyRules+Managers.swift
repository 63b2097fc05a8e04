@testable import FencingEngine
import Messages
import Testing

/// S16, S17, S18: whose word counts, and whose silence it is.
extension SafetyRules {
    @Test func s16NoOffWithoutAnAgentThatObeys() {
        let world = World()
        world.machines["host1"]?.obeys = false
        world.machines["host3"]?.obeys = false
        world.machines["host2"]?.frozen = true
        world.run(30)
        #expect(world.step("host2") == "failed" && world.offs.isEmpty)
        world.machines["host3"]?.obeys = true
        world.run(until: 60, "back") { world.ons["host2"] == 1 && world.allUp }
        clean(world)
    }

    /// Not even when nobody is left who could refuse an off.
    @Test func s16AHostThatObeysOtherManagersIsNotSwitchedOff() {
        let world = World()
        world.submit(.greeted(host: "host2", refusal: "another lineage"))
        for name in ["host1", "host3"] { world.submit(.hostMaintenance(world.request(), HostRequest(host: name))) }
        world.run(2)
        for name in ["host1", "host2", "host3"] { world.machines[name]?.frozen = true }
        world.run(40)
        #expect(world.step("host2") == "held" && world.offs.isEmpty)
        world.submit(.greeted(host: "host2", refusal: nil))
        world.run(until: 60, "it obeys") { world.offs["host2"] != nil }
        clean(world)
    }

    /// A refusal was about the term of then; each start has another one, and every agent is asked anew.
    @Test func s16ARefusalDoesNotOutliveTheTermThatWasRefused() {
        let world = World()
        world.submit(.greeted(host: "host2", refusal: "a newer term"))
        world.restart()
        world.machines["host2"]?.frozen = true
        world.run(until: 60, "fenced") { world.offs["host2"] == 1 && world.allUp }
        clean(world)
    }

    @Test func s17NothingIsFencedWhileTheManagersNetworkIsCut() {
        let world = World()
        world.submit(.network(ok: false, detail: "br0 has no carrier"))
        for host in ["host1", "host2", "host3"] { world.machines[host]?.cut = true }
        world.run(120)
        #expect(world.offs.isEmpty)
        #expect(world.step("host1") == "held")
        for host in ["host1", "host2", "host3"] { world.machines[host]?.cut = false }
        world.submit(.network(ok: true, detail: ""))
        world.run(5)
        #expect(world.allUp)
        clean(world)
    }

    @Test func s17AHostThatIsHeardLastAfterTheManagersCutIsNotFenced() {
        let world = World()
        world.submit(.network(ok: false, detail: "br0 has no carrier"))
        for host in ["host1", "host2", "host3"] { world.machines[host]?.cut = true }
        world.run(60)
        for host in ["host1", "host3"] { world.machines[host]?.cut = false }
        world.submit(.network(ok: true, detail: ""))
        world.run(3)
        world.machines["host2"]?.cut = false
        world.run(5)
        #expect(world.allUp && world.offs.isEmpty)
        clean(world)
    }

    @Test func s17OneSilentHostIsNotFencedWhileTheManagersOwnNetworkFails() {
        let world = World()
        world.submit(.network(ok: false, detail: "br0 has no carrier"))
        world.machines["host2"]?.cut = true
        world.run(40)
        #expect(world.step("host2") == "held" && world.offs.isEmpty)
        world.submit(.network(ok: true, detail: ""))
        world.run(until: 20, "fenced") { world.offs["host2"] == 1 }
        clean(world)
    }

    @Test func s17HalfOfTheOthersSilentHoldsUnlessRenewalsAreSeenToStop() {
        let world = World()
        world.machines["host2"]?.cut = true
        world.machines["host3"]?.cut = true
        world.run(30)
        #expect(world.offs.isEmpty)
        #expect(world.step("host2") == "held" && world.view("host2").fenceCase?.reason.contains("go on") == true)
        // A frozen one no longer renews: host1 sees that.
        world.machines["host2"]?.frozen = true
        world.run(until: 40, "host2 fenced") { world.offs["host2"] == 1 }
        #expect(world.offs["host3"] == nil)
        clean(world)
    }

    /// Seed 1023 of a nightly run: nobody knows whether host3 is off, so its silence may be the network's.
    @Test func s17AnOperatorsOffThatFailedIsNoReasonToLeaveAHostOut() {
        let world = World()
        world.leasesAnswer = false
        world.machines["host3"]?.bmc = .dead
        world.machines["host3"]?.cut = true
        world.submit(.power(world.request(), .off, HostRequest(host: "host3")))
        world.run(10)
        world.machines["host2"]?.cut = true
        world.run(20)
        #expect(world.offs["host2"] == nil)
        #expect(world.step("host2") == "held")
        clean(world)
    }

    @Test func s17AHostThatReadsOffNeedsNoMajority() {
        let world = World()
        world.crash("host2")
        world.crash("host3")
        world.run(until: 60, "both back") { world.ons["host2"] == 1 && world.ons["host3"] == 1 && world.allUp }
        #expect(world.offs.isEmpty)
        clean(world)
    }

    @Test func s18AfterATimedOutOffOnlyStatusUntilItIsResolved() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 20, "off") { world.step("host2") == "off" }
        world.machines["host2"]?.bmc = .dead
        world.run(30)
        #expect(world.step("host2") == "failed")
        #expect(world.offs["host2"] == 1)
        let id = world.request()
        world.submit(.power(id, .on, HostRequest(host: "host2")))
        #expect(world.refusal(id) == "fence.busy")
        world.machines["host2"]?.bmc = .works
        world.run(until: 60, "back") { world.ons["host2"] == 1 && world.allUp }
        clean(world)
    }

    @Test func s18AnOperatorsOffIsNeverUndoneByACase() {
        let world = World()
        world.operatorActs = ["host2"]
        let id = world.request()
        world.submit(.power(id, .off, HostRequest(host: "host2", reason: "repair")))
        world.run(60)
        #expect(world.accepted(id))
        #expect(world.status("host2") == .down)
        #expect(world.ons.isEmpty)
        #expect(world.proofs.first?.incarnations == Incarnation(1))
        world.submit(.power(world.request(), .on, HostRequest(host: "host2")))
        world.run(until: 60, "back") { world.allUp }
        clean(world)
    }
}
