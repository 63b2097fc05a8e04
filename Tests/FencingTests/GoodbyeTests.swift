@testable import FencingEngine
import Messages
import Testing

/// What holds an off is looked at again right before it is sent (S17).
@Test func othersThatFallSilentWhileAgentsAreAskedHoldTheOff() {
    let world = World()
    world.machines["host2"]?.frozen = true
    world.run(until: 20, "a case") { world.step("host2") == "checking" }
    world.machines["host1"]?.cut = true
    world.machines["host3"]?.cut = true
    world.run(8)
    #expect(world.offs.isEmpty && world.step("host2") == "held")
    world.machines["host1"]?.cut = false
    world.machines["host3"]?.cut = false
    world.run(until: 60, "fenced and back") { world.allUp }
    #expect(world.violations == [])
}

/// A clean shutdown says so (S19).
@Suite struct AGoodbye {
    @Test func isFollowedByNoFenceAndByAProofOnceTheMachineIsOff() {
        let world = World()
        world.machines["host2"]?.leaving = .ending
        world.run(2)
        #expect(world.status("host2") == .preparingForMaintenance)
        world.machines["host2"]?.leaving = .over
        world.run(3)
        world.crash("host2")
        world.run(until: 30, "proven over") { world.proofs.contains { $0.kind == .powerOff } }
        world.run(60)
        #expect(world.status("host2") == .down)
        #expect(world.offs.isEmpty && world.ons.isEmpty, "it is left as it is")
        world.powerOn("host2")
        world.run(until: 20, "Up again") { world.allUp && world.view("host2").fenceCase == nil }
        #expect(world.violations == [])
    }

    /// It came back from a fence, shut down before it was Up, and the manager was away meanwhile.
    @Test func beforeItWasUpAgainEndsItsCaseToo() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 60, "it boots") { world.ons["host2"] == 1 }
        world.machines["host2"]?.storageCut = true
        world.run(until: 30, "its new life is heard, its case open") { world.view("host2").incarnation == Incarnation(2) && world.view("host2").fenceCase != nil }
        world.machines["host2"]?.leaving = .over
        world.run(2)
        world.stop()
        world.crash("host2")
        world.run(1)
        world.start()
        world.run(60)
        #expect(world.offs["host2"] == 1 && world.ons["host2"] == 1 && world.status("host2") == .down, "it is left as it is\n\(world.story)")
        #expect(world.violations == [])
    }

    @Test func ofAMachineThatStaysOnIsBelievedUntilAnOperatorWantsItOff() {
        let world = World()
        world.machines["host2"]?.leaving = .over
        world.run(2)
        world.machines["host2"]?.cut = true
        world.run(until: 20, "held") { world.step("host2") == "held" }
        world.run(60)
        #expect(world.offs.isEmpty && world.status("host2") == .down)
        world.submit(.fenceNow(world.request(), HostRequest(host: "host2")))
        world.run(until: 20, "switched off") { world.offs["host2"] == 1 }
        #expect(world.violations == [])
    }

    @Test func thatWasNotFinishedDoesNotCount() {
        let world = World()
        world.machines["host2"]?.leaving = .ending
        world.run(2)
        world.machines["host2"]?.frozen = true
        world.run(until: 40, "fenced and back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.offs["host2"] == 1)
        #expect(world.violations == [])
    }

    @Test func isNoEvidenceAboutTheManagersOwnNetwork() {
        let world = World { $0.machines["host3"]?.bmc = .dead }
        world.machines["host3"]?.leaving = .over
        world.run(2)
        world.crash("host3")
        world.run(10)
        world.machines["host2"]?.frozen = true
        world.run(until: 20, "switched off") { world.offs["host2"] == 1 }
        #expect(world.violations == [])
    }

    @Test func thatIsCalledOffIsForgotten() {
        let world = World()
        world.machines["host2"]?.leaving = .over
        world.run(2)
        world.machines["host2"]?.leaving = nil
        world.run(2)
        #expect(world.allUp)
        world.machines["host2"]?.frozen = true
        world.run(until: 20, "switched off") { world.offs["host2"] == 1 }
        #expect(world.violations == [])
    }

    @Test func isHeardAgainWhereTheNetworkWasCut() {
        let world = World()
        world.machines["host2"]?.leaving = .over
        world.run(2)
        world.machines["host2"]?.cut = true
        world.run(15)
        world.machines["host2"]?.cut = false
        world.run(3)
        #expect(world.view("host2").fenceCase == nil && world.status("host2") == .preparingForMaintenance)
        #expect(world.violations == [])
    }
}
