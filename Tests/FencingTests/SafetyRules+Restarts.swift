@testable import FencingEngine
import Messages
import Testing

/// S11, S13, S4: restarts of the service, guards and runs that nobody reaped.
extension SafetyRules {
    @Test func s11AServiceThatWasDownDoesNotFenceARepairedHost() {
        let world = World()
        world.machines["host2"]?.bmc = .dead
        world.machines["host2"]?.frozen = true
        world.run(8)
        #expect(world.step("host2") == "failed")
        world.stop()
        world.run(3600)
        world.machines["host2"]?.bmc = .works
        world.machines["host2"]?.frozen = false
        world.reboot("host2")
        world.run(5)
        world.start()
        world.run(20)
        #expect(world.allUp && world.offs.isEmpty && world.ons.isEmpty)
        clean(world)
    }

    @Test func s11KilledBetweenOffAndOnTheHostIsSwitchedOnAgain() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 20, "off sent") { world.offs["host2"] == 1 }
        world.restart()
        world.run(until: 30, "back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.offs["host2"] == 1)
        clean(world)
    }

    @Test(arguments: ["checking", "accepting", "off", "confirming-off", "reading-generations", "rechecking-off", "signing", "on", "confirming-on", "booting"])
    func s11KilledAtAnyStepTheCaseResumes(step: String) {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 20, step) { world.step("host2") == step }
        world.restart()
        world.run(until: 60, "back") { (world.ons["host2"] ?? 0) > 0 && world.allUp }
        #expect(world.offs["host2"] == 1)
        clean(world)
    }

    @Test func s11AfterARestartNoOffBeforeAFullGraceOfListening() {
        let world = World(hosts: 1)
        world.machines["host1"]?.bmc = .dead
        world.machines["host1"]?.frozen = true
        world.run(8)
        world.machines["host1"]?.bmc = .works
        world.restart()
        world.run(4.5)
        #expect(world.step("host1") == "held" && world.offs.isEmpty)
        world.run(until: 40, "back") { world.ons["host1"] == 1 && world.allUp }
        clean(world)
    }

    @Test func s11AnOffLostInARestartIsStillOpen() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 20, "off") { world.step("host2") == "off" }
        world.machines["host2"]?.bmc = .dead
        world.restart()
        world.run(3)
        let id = world.request()
        world.submit(.power(id, .off, HostRequest(host: "host2")))
        #expect(world.refusal(id) == "fence.busy")
        clean(world)
    }

    @Test func i7ARestartInAQuietClusterDoesNothing() {
        let world = World()
        world.restart()
        world.run(20)
        #expect(world.allUp && world.offs.isEmpty && world.ons.isEmpty && world.proofs.isEmpty)
        #expect(world.statuses(of: "host1") == [.up])
        clean(world)
    }

    @Test func s13UnreapedGuardsOpenACaseAlthoughHeartbeatsCome() {
        let world = World()
        world.machines["host2"]?.unreaped = ["vm:web1:3"]
        world.run(3)
        #expect(world.step("host2") == nil)
        world.run(until: 60, "fenced") { world.offs["host2"] == 1 }
        world.machines["host2"]?.unreaped = []
        world.run(until: 60, "back") { world.ons["host2"] == 1 && world.allUp }
        clean(world)
    }

    private func losesStorage(_ world: World, _ host: String) {
        world.machines[host]?.storageCut = true
        world.machines[host]?.unproven = ["vm:web1:3"]
    }

    @Test func s4RunsThatCannotBeProvenOverAreFencedForOnceTheirHostIsSetAside() {
        let world = World()
        losesStorage(world, "host2")
        world.run(30)
        #expect(world.step("host2") == nil && world.offs.isEmpty, "the storage may come back")
        world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host2", reason: "cannot use storage domain data")))
        #expect(world.status("host2") == .nonResponsive)
        world.run(until: 30, "fenced") { world.offs["host2"] == 1 }
        world.machines["host2"]?.unproven = nil
        world.run(until: 30, "proven") { world.view("host2").proof?.proof.kind == .powerOff }
        world.run(10)
        #expect(world.status("host2") == .nonOperational && world.offs["host2"] == 1, "its storage is still cut, and it is not fenced for that")
        world.machines["host2"]?.storageCut = false
        world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host2", reason: nil)))
        world.run(until: 60, "back") { world.allUp }
        clean(world)
    }

    @Test func s4StorageThatComesBackClosesTheCase() {
        let world = World()
        world.machines["host2"]?.bmc = .dead
        losesStorage(world, "host2")
        world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host2", reason: "cannot use storage domain data")))
        world.run(until: 30, "a case") { world.step("host2") != nil }
        world.machines["host2"]?.storageCut = false
        world.machines["host2"]?.unproven = nil
        world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host2", reason: nil)))
        world.run(until: 10, "Up") { world.status("host2") == .up && world.step("host2") == nil }
        #expect(world.offs.isEmpty)
        clean(world)
    }

    @Test func s4StorageThatFailsEverywhereFencesNobody() {
        let world = World()
        for host in ["host1", "host2", "host3"] {
            losesStorage(world, host)
            world.machines[host]?.unreaped = ["vm:web2:1"]
            world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: host, reason: "cannot use storage domain data")))
            world.run(2)
        }
        world.run(60)
        #expect(world.offs.isEmpty && world.engine.hostViews.allSatisfy { $0.fenceCase == nil })
        clean(world)
    }

    /// Heartbeats may be older than the fault: what counts is that somebody reads the storage now.
    @Test func s4NobodyIsFencedForStorageThatNoOtherHostReadsNow() {
        let world = World()
        losesStorage(world, "host2")
        world.machines["host2"]?.unreaped = ["vm:web2:1"]
        world.leasesAnswer = false
        world.run(until: 30, "told") { world.step("host2") == "failed" }
        world.run(30)
        #expect(world.offs.isEmpty)
        world.leasesAnswer = true
        world.run(until: 30, "fenced") { world.offs["host2"] == 1 }
        clean(world)
    }
}
