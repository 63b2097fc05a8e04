@testable import FencingEngine
import Messages
import Testing

@Suite struct Contradictions {
    @Test func aStuckDeviceKeepsTheCaseOpenAndItResumesByItself() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.machines["host2"]?.bmc = .stuck
        world.run(60)
        #expect(world.step("host2") == "failed" || world.step("host2") == "checking" || world.step("host2") == "confirming-off")
        #expect((world.offs["host2"] ?? 0) > 1 && world.proofs.isEmpty)
        world.machines["host2"]?.bmc = .works
        world.run(until: 60, "back") { world.ons["host2"] == 1 && world.allUp }
        clean(world)
    }

    @Test func aThawedHostWhoseOffHadNoEffectGoesOn() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.machines["host2"]?.bmc = .stuck
        world.run(20)
        world.machines["host2"]?.frozen = false
        world.run(until: 15, "closed") { world.allUp }
        #expect(world.view("host2").incarnation == Incarnation(1) && world.proofs.isEmpty)
        clean(world)
    }

    @Test(arguments: [0.0, 0.2, 0.4, 0.6, 0.8, 1.2, 2.0, 4.0, 7.0]) func thawedAtAnyMomentOfAStuckCase(delay: Double) {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.machines["host2"]?.bmc = .stuck
        world.run(until: 20, "off") { world.step("host2") == "off" }
        world.run(delay)
        world.machines["host2"]?.frozen = false
        world.run(until: 30, "closed") { world.allUp }
        #expect(world.proofs.isEmpty)
        clean(world)
    }

    @Test func whileAnOffIsOnItsWayTheCaseOfAThawedHostStaysOpen() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.machines["host2"]?.latency = .seconds(6)
        world.run(until: 30, "off") { world.step("host2") == "off" }
        world.machines["host2"]?.frozen = false
        world.run(2)
        #expect(world.step("host2") == "off" && world.status("host2") == .nonResponsive)
        world.run(until: 60, "back") { world.ons["host2"] == 1 && world.allUp }
        clean(world)
    }

    @Test func anOperatorConfirmsAndIsBelievedOnlyWithoutSignsOfLife() {
        let world = World()
        world.machines["host2"]?.bmc = .stuck
        world.machines["host2"]?.cut = true
        world.run(10)
        guard let open = world.view("host2").fenceCase else { return #expect(Bool(false), "no case") }
        let word = ConfirmOff(host: "host2", caseID: open.id, incarnation: open.incarnation, who: "me", why: "pulled the plug", checked: true)
        let early = world.request()
        world.submit(.confirmOff(early, word))
        world.run(1)
        #expect(world.refusal(early) == "fence.signs-of-life")
        world.machines["host2"]?.frozen = true
        world.run(6)
        let soon = world.request()
        world.submit(.confirmOff(soon, word))
        world.run(1)
        #expect(world.refusal(soon) == "fence.signs-of-life", "renewals have stopped, but its guards' deadline has not passed: thawed now, guests would write on")
        world.run(4)
        let late = world.request()
        world.submit(.confirmOff(late, word))
        world.run(1)
        #expect(world.accepted(late))
        #expect(world.view("host2").proof?.proof.kind == .operatorConfirmed)
        #expect(world.view("host2").proof?.proof.generations == ["d1": 2])
        clean(world)
    }

    @Test func aLifeSignOfAProvenDeadLifeRevokesTheProof() {
        let world = World()
        world.machines["host2"]?.bmc = .stuck
        world.machines["host2"]?.frozen = true
        world.run(12)
        guard let open = world.view("host2").fenceCase else { return #expect(Bool(false), "no case") }
        world.submit(.confirmOff(world.request(), ConfirmOff(host: "host2", caseID: open.id, incarnation: open.incarnation, who: "me", why: "I believe so", checked: true)))
        world.run(1)
        #expect(world.view("host2").proof != nil)
        world.machines["host2"]?.frozen = false
        world.run(4)
        #expect(world.view("host2").proof == nil)
        #expect(world.events.contains { $0.type == "host.proof-revoked" })
        #expect(!world.engine.haState.recoveryAllowed)
        #expect(world.status("host2") == .nonResponsive)
        world.machines["host2"]?.bmc = .works
        world.run(until: 60, "fenced for real, and back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.engine.haState.recoveryAllowed)
    }

    /// A sector that stands still for another reason than its host's end is no evidence of it (S10, S17).
    @Test(arguments: [("d1", 2, true), ("d1", 1, false), ("left", 2, false)]) func onlyARenewedMembershipThatStopsIsEvidence(lockspace: String, generation: UInt64, counts: Bool) {
        let world = World()
        let sector = Sector(lockspace: lockspace, generation: generation, held: true, lastChange: .seconds(100), ioTimeout: 1)
        #expect(sector.renewalsStopped)
        #expect(world.engine.hosts["host2"]?.renews(sector) == counts)
    }

    /// What was read off before says nothing any more: it is switched off at once, not left to boot.
    @Test func aLifeThatADeviceHadReadOffIsFencedAtOnceWhenItIsHeardAgain() {
        let world = World()
        world.machines["host2"]?.bmc = .lies
        world.machines["host2"]?.cut = true
        world.run(until: 30, "proven") { world.proofs.contains { $0.kind == .powerOff } }
        world.run(2)
        world.machines["host2"]?.bmc = .works
        world.machines["host2"]?.cut = false
        world.run(until: 15, "fenced for real") { world.offs["host2"] == 1 }
        #expect(world.offs["host2"] == 1)
        #expect(world.events.contains { $0.type == "host.proof-revoked" })
        world.run(until: 60, "back") { world.allUp }
        #expect(world.allUp)
    }

    @Test func aDeviceThatReadsOffWhileItsHostBeatsProvesNothing() {
        let world = World()
        world.machines["host2"]?.bmc = .lies
        world.submit(.fenceNow(world.request(), HostRequest(host: "host2")))
        world.run(60)
        #expect(world.proofs.isEmpty && world.status("host2") == .nonResponsive)
        #expect(world.view("host2").fenceCase?.reason.contains("heartbeats come") == true)
        clean(world)
    }

    @Test func aHostThatNeverBootsKeepsItsCase() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 20, "on") { world.ons["host2"] == 1 }
        world.run(1)
        world.machines["host2"]?.readyAt = world.now + .seconds(500)
        world.run(200)
        #expect(world.step("host2") == "booting" && world.status("host2") == .reboot)
        world.run(until: 400, "back") { world.allUp }
        clean(world)
    }

    @Test func maintenanceIsNotFenced() {
        let world = World()
        world.submit(.hostMaintenance(world.request(), HostRequest(host: "host2")))
        world.crash("host2")
        world.run(60)
        #expect(world.status("host2") == .maintenance && world.step("host2") == nil && world.ons.isEmpty)
        world.submit(.hostActivate(world.request(), HostRequest(host: "host2")))
        world.run(until: 60, "recovered") { world.allUp }
        clean(world)
    }

    @Test func fenceNowFencesALivingHost() {
        let world = World()
        world.submit(.fenceNow(world.request(), HostRequest(host: "host2")))
        world.run(until: 60, "back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.offs["host2"] == 1)
        #expect(world.engine.history(of: "host2").cases.count == 1)
        clean(world)
    }

    @Test func powerCycleAndItsReplies() {
        let world = World()
        world.operatorActs = ["host1"]
        let id = world.request()
        world.submit(.power(id, .cycle, HostRequest(host: "host1")))
        let second = world.request()
        world.submit(.power(second, .off, HostRequest(host: "host1")))
        #expect(world.refusal(second) == "fence.busy")
        world.run(20)
        #expect(world.accepted(id) && world.allUp)
        #expect(world.view("host1").incarnation == Incarnation(2))
        clean(world)
    }

    @Test(arguments: [Duration(nanoseconds: .max), .seconds(11 * 365 * 86_400), .seconds(-1)]) func aHoldOfAnAbsurdLengthIsRefused(length: Duration) {
        let world = World()
        let absurd = world.request(), long = world.request()
        world.submit(.haHold(absurd, HoldRequest(why: "x", duration: length)))
        #expect(world.refusal(absurd) == "request.invalid" && world.engine.haState.hold == nil)
        world.submit(.haHold(long, HoldRequest(why: "x", duration: .seconds(10 * 365 * 86_400))))
        #expect(world.accepted(long) && world.engine.haState.hold == "x")
    }

    @Test(arguments: [Int.max, Int.min, 0]) func aSectorWithAnAbsurdTimeoutMissesNoRenewal(ioTimeout: Int) {
        let sector = Sector(lockspace: "d1", generation: 1, held: true, lastChange: .milliseconds(100), ioTimeout: ioTimeout)
        #expect(!sector.renewalsStopped && sector.renewalsSeen)
    }

    @Test func freeMemoryIsPublishedOnlyWhenItMovedByASixteenth() {
        let world = World()
        world.events = []
        // Told for the sake of something else each time.
        for (sequence, free) in [1010, 960, 1060, 940, Int.max, Int.min].enumerated() {
            world.submit(.heard(AgentHeartbeat(
                host: "host1", hostID: 1, bootID: world.bootID("host1"), hardwareID: world.machines["host1"]?.hardwareID ?? "",
                sequence: UInt64(1000 + sequence), initializing: false, watchdogArmed: false,
                lockspaces: [AgentLockspace(lockspace: "d1", state: .joined, generation: 2, generationBefore: 1)], unreapedGuards: [], memoryFreeMiB: free)))
        }
        let told = world.events.filter { $0.type == "host.status" }.compactMap { ($0.body as? HostView)?.memoryMiB }
        #expect(told == [1 << 40, 0])
    }

    @Test func theRegistryIsIdempotentAndRefusesDoubles() {
        let world = World()
        let again = world.request(), other = world.request(), double = world.request(), unknown = world.request()
        world.submit(.hostAdd(again, world.definition(1)))
        #expect(world.accepted(again))
        var changed = world.definition(1)
        changed.spmPriority = 9
        world.submit(.hostAdd(other, changed))
        #expect(world.refusal(other) == "object.exists")
        var named = world.definition(1)
        named.name = "host9"
        world.submit(.hostAdd(double, named))
        #expect(world.refusal(double) == "object.exists")
        world.submit(.hostUpdate(unknown, named))
        #expect(world.refusal(unknown) == "object.not-found")
        world.submit(.hostUpdate(world.request(), changed))
        #expect(world.view("host1").spmPriority == 9)
    }
}
