@testable import FencingEngine
import Messages
import Testing

/// S9, S10: what a proof rests on.
extension SafetyRules {
    @Test func s9TheProofCoversWhatWasReadAfterTheOffAndIsMintedByALaterStatus() {
        let world = World()
        world.machines["host2"]?.frozen = true
        var steps: [String] = []
        world.run(until: 40, "back") {
            if let step = world.step("host2"), steps.last != step { steps.append(step) }
            return world.ons["host2"] == 1 && world.allUp
        }
        #expect(steps == ["checking", "accepting", "off", "confirming-off", "reading-generations", "rechecking-off", "signing", "on", "confirming-on", "booting"])
        clean(world)
    }

    @Test func s9WithoutReaderTheProofCoversIncarnationsOnlyAndTheRebootCompletesIt() {
        let world = World()
        world.leasesAnswer = false
        world.crash("host2")
        world.run(until: 90, "back") { world.view("host2").incarnation == Incarnation(2) && world.allUp }
        world.run(1)
        let first = world.proofs.first
        #expect(first?.kind == .powerOff && first?.generations == [:])
        #expect(world.view("host2").proof?.proof.generations == ["d1": 2])
        clean(world)
    }

    @Test func s9AnOldConfirmationIsNotAppliedToALaterLife() {
        let world = World()
        world.machines["host2"]?.bmc = .dead
        world.machines["host2"]?.frozen = true
        world.run(8)
        guard let open = world.view("host2").fenceCase else { return #expect(Bool(false), "no case") }
        world.reboot("host2")
        world.run(10)
        let id = world.request()
        world.submit(.confirmOff(id, ConfirmOff(host: "host2", caseID: open.id, incarnation: open.incarnation, who: "me", why: "looked")))
        #expect(world.refusal(id) == "fence.stale")
        clean(world)
    }

    @Test func s10AnUnverifiedDeviceCountsOnlyAfterAMissedRenewal() {
        let world = World { $0.machines["host2"]?.guid = nil }
        world.leasesAnswer = false
        world.crash("host2")
        world.run(30)
        #expect(world.proofs.isEmpty)
        #expect(world.view("host2").fenceCase?.reason.contains("S10") == true)
        world.leasesAnswer = true
        world.run(until: 30, "a proof") { !world.proofs.isEmpty }
        clean(world)
    }

    /// Whoever could read its renewals has begun to read only after its death.
    @Test func s10AReaderThatNeverSawItRenewCountsOnceItHasReadTheSameForTwoRenewals() {
        let world = World { $0.machines["host2"]?.guid = nil }
        world.leasesAnswer = false
        world.crash("host2")
        world.run(30)
        for reader in ["host1", "host3"] { world.machines[reader]?.readsSince = world.now }
        world.leasesAnswer = true
        let began = world.now
        world.run(until: 30, "a proof") { !world.proofs.isEmpty }
        #expect(world.now - began >= .seconds(4))
        clean(world)
    }

    /// It would never be Up again.
    @Test func s10FenceNowThroughAForeignDeviceIsRefused() {
        let world = World { $0.machines["host2"]?.guid = "f00" }
        world.run(5)
        let id = world.request()
        world.submit(.fenceNow(id, HostRequest(host: "host2")))
        #expect(world.refusal(id) == "fence.held")
        world.run(30)
        #expect(world.allUp)
    }

    @Test func s10AFenceNowThatCannotBeDoneIsTakenBackByAnActivation() {
        let world = World { $0.machines["host2"]?.bmc = .dead }
        world.submit(.fenceNow(world.request(), HostRequest(host: "host2")))
        world.run(30)
        #expect(world.step("host2") == "failed" && world.status("host2") == .nonResponsive)
        world.submit(.hostActivate(world.request(), HostRequest(host: "host2")))
        #expect(world.allUp)
        world.machines["host2"]?.bmc = .works
        world.run(30)
        #expect(world.allUp && world.offs.isEmpty)
        clean(world)
    }

    @Test func s10AnActivationTakesBackNoOffThatMayHaveBeenDone() {
        let world = World()
        world.submit(.fenceNow(world.request(), HostRequest(host: "host2")))
        world.run(until: 10, "off") { world.step("host2") == "off" }
        world.submit(.hostActivate(world.request(), HostRequest(host: "host2")))
        #expect(world.view("host2").fenceCase != nil)
        world.run(until: 60, "back") { world.ons["host2"] == 1 && world.allUp }
        clean(world)
    }

    @Test(arguments: [false, true]) func whoSwitchesASuspectOnMayWaitForItsBoot(_ boots: Bool) {
        let world = World { $0.machines["host2"]?.guid = nil }
        world.leasesAnswer = false
        world.crash("host2")
        world.run(30)
        #expect(world.proofs.isEmpty && world.step("host2") == "failed")
        world.powerOn("host2")
        world.machines["host2"]?.readyAt = world.now + (boots ? .seconds(40) : .seconds(100_000))
        world.machines["host2"]?.joinedAt = world.now + .seconds(45)
        world.run(50)
        #expect(world.offs.isEmpty)
        if boots {
            world.run(until: 30, "Up") { world.allUp }
            #expect(world.proofs.map(\.kind).allSatisfy { $0 == .rebooted })
        } else {
            world.run(until: 40, "off, it does not boot") { world.offs["host2"] == 1 }
        }
        clean(world)
    }

    @Test func s10AForeignDeviceIsNeverSwitchedOff() {
        let world = World { $0.machines["host2"]?.guid = "f00" }
        world.machines["host2"]?.frozen = true
        world.run(40)
        #expect(world.step("host2") == "held" && world.offs.isEmpty)
        let id = world.request()
        world.submit(.power(id, .off, HostRequest(host: "host2")))
        #expect(world.refusal(id) == "fence.held")
    }

    /// Mis-cabled, and the other machine is off: that proves nothing, and nobody switches that machine on.
    @Test func s10AForeignDeviceThatReadsOffProvesNothing() {
        let world = World {
            $0.machines["host2"]?.guid = "f00"
            $0.machines["host2"]?.bmc = .lies
        }
        world.machines["host2"]?.frozen = true
        world.run(40)
        #expect(world.proofs.isEmpty && world.step("host2") == "failed")
        #expect(world.view("host2").fenceCase?.reason.contains("another machine") == true)
        guard let open = world.view("host2").fenceCase else { return #expect(Bool(false), "no case") }
        world.submit(.confirmOff(world.request(), ConfirmOff(host: "host2", caseID: open.id, incarnation: open.incarnation, who: "me", why: "looked")))
        world.run(40)
        #expect(world.proofs.map(\.kind) == [.operatorConfirmed])
        #expect(world.step("host2") == "failed")
        #expect(!world.events.contains { ($0.body as? FenceCaseView)?.step == "on" })
        clean(world)
    }

    @Test func s10AProofIsNotMadeIfItsDeviceTurnsOutForeignBeforeItIsSigned() {
        let world = World { $0.machines["host2"]?.guid = nil }
        world.crash("host2")
        world.run(until: 40, "signing") { world.step("host2") == "signing" }
        world.submit(.identified(Identification(host: "host2", guid: "f00", unsupported: false, detail: "")))
        world.run(20)
        #expect(world.view("host2").proof == nil && world.step("host2") == "failed")
        clean(world)
    }

    /// One reader has gone blind and answers first, another one sees the host renew.
    @Test func s10AnUnverifiedDeviceDoesNotCountWhileAnyReaderSeesRenewals() {
        let world = World {
            $0.machines["host2"]?.guid = nil
            $0.machines["host2"]?.bmc = .lies
            $0.machines["host1"]?.staleReads = true
        }
        world.machines["host2"]?.cut = true
        world.run(40)
        #expect(world.proofs.isEmpty)
        #expect(world.view("host2").fenceCase?.reason.contains("renewals go on") == true)
        clean(world)
    }
}
