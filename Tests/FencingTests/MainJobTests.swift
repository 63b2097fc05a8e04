@testable import FencingEngine
import Messages
import Testing

/// Nothing that the world itself judges was broken.
func clean(_ world: World, _ location: SourceLocation = #_sourceLocation) { #expect(world.violations == [], "\(world.story)", sourceLocation: location) }

@Suite struct TheMainJob {
    @Test func aCrashedHostIsFencedProvenAndBroughtBack() {
        let world = World()
        #expect(world.allUp)
        world.events = []
        world.crash("host2")
        world.run(until: 40, "all Up again") { world.offs.isEmpty && world.proofs.contains { $0.kind == .powerOff } && world.allUp }
        #expect(world.statuses(of: "host2") == [.connecting, .nonResponsive, .reboot, .initializing, .up])
        #expect(world.view("host2").incarnation == Incarnation(2))
        #expect(world.ons["host2"] == 1)
        // Already off is a successful fence: no off was needed.
        #expect(world.offs["host2"] == nil)
        let proof = world.proofs.first { $0.kind == .powerOff }
        #expect(proof?.incarnations == Incarnation(1))
        #expect(proof?.generations == ["d1": 2])
        #expect(world.events.filter { $0.type == "fence.succeeded" }.count == 1)
        clean(world)
    }

    @Test func aFrozenHostIsSwitchedOffFirst() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 40, "all Up again") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.offs["host2"] == 1)
        #expect(world.status("host1") == .up && world.view("host1").incarnation == Incarnation(1))
        clean(world)
    }

    @Test func aHostThatRebootsWithinItsGraceYieldsAProofThatCoversItsLeases() {
        let world = World()
        world.reboot("host3")
        world.run(until: 30, "Up") { world.view("host3").incarnation == Incarnation(2) && world.allUp }
        world.run(until: 6, "proven") { world.view("host3").proof?.proof.generations == ["d1": 2] }
        #expect(world.proofs.allSatisfy { $0.kind == .rebooted })
        #expect(world.offs.isEmpty && world.ons.isEmpty)
        clean(world)
    }

    @Test func anOffThatWaitedForASlowJournalIsNotSentToAHostThatIsHeardAgain() {
        let world = World()
        world.slowOff = true
        world.machines["host2"]?.cut = true
        world.run(until: 20, "decided") { world.waitingOff != nil }
        world.machines["host2"]?.cut = false
        world.run(2)
        world.sendWaitingOff()
        world.run(until: 10, "closed") { world.allUp && world.view("host2").fenceCase == nil }
        #expect(world.offs.isEmpty && world.view("host2").incarnation == Incarnation(1))
        clean(world)
    }

    @Test func anOffThatWaitedForASlowJournalStillHitsASilentHost() {
        let world = World()
        world.slowOff = true
        world.machines["host2"]?.frozen = true
        world.run(until: 20, "decided") { world.waitingOff != nil }
        world.run(2)
        world.slowOff = false
        world.sendWaitingOff()
        world.run(until: 40, "all Up again") { world.offs["host2"] == 1 && world.allUp }
        clean(world)
    }

    @Test func silenceThatEndsBeforeTheOffClosesTheCase() {
        let world = World()
        world.submit(.haHold(world.request(), HoldRequest(why: "maintenance of the switch")))
        world.machines["host2"]?.cut = true
        world.run(until: 20, "held") { world.step("host2") == "held" }
        world.machines["host2"]?.cut = false
        world.run(3)
        #expect(world.allUp && world.offs.isEmpty)
        clean(world)
    }

    @Test func aWholeSiteAfterAPowerLossRecoversWithoutAnOperator() {
        let world = World()
        world.stop()
        for host in ["host1", "host2", "host3"] { world.crash(host) }
        world.run(10)
        world.powerOn("host3")
        world.run(4)
        world.start()
        world.run(3)
        world.powerOn("host1")
        world.run(until: 120, "all Up") { world.allUp && world.engine.hostViews.allSatisfy { $0.incarnation == Incarnation(2) } }
        world.run(1)
        for host in ["host1", "host2", "host3"] {
            #expect(world.view(host).incarnation == Incarnation(2))
            #expect(world.view(host).proof?.proof.covers(lockspace: "d1", hostID: world.view(host).id, generation: 2) == true)
        }
        #expect(world.offs.isEmpty)
        clean(world)
    }

    @Test func aHostThatLacksALockspaceIsNotUpAndBecomesNonOperational() {
        let world = World()
        world.reboot("host2")
        world.machines["host2"]?.joinedAt = world.now + .seconds(200)
        world.run(10)
        #expect(world.status("host2") == .initializing)
        world.run(65)
        #expect(world.status("host2") == .nonOperational)
        world.machines["host2"]?.joinedAt = world.now
        world.run(3)
        #expect(world.status("host2") == .up)
        clean(world)
    }

    @Test func anInitializingAgentIsNotUp() {
        let world = World()
        world.machines["host1"]?.initializing = true
        world.run(2)
        #expect(world.status("host1") == .initializing)
        world.machines["host1"]?.initializing = false
        world.run(2)
        #expect(world.status("host1") == .up)
    }
}
