@testable import FencingEngine
import Messages
import Testing

/// A host that answers and whose hypervisor is out of control (the toolstack is down, the VMs may run).
@Suite struct AHostWhoseToolstackIsLost {
    private func world(_ limit: Duration = .zero, hosts: Int = 3) -> World {
        World(hosts: hosts) { $0.policy.toolstackLost = limit }
    }

    private func report(_ state: ToolstackReport.State) -> ToolstackReport { ToolstackReport(state: state, why: "virsh list: exit status 1", restarts: 3) }

    @Test func isNotOperationalAndBackAtOnce() {
        let world = world()
        world.machines["host2"]?.toolstack = report(.failing)
        world.run(2)
        #expect(world.status("host2") == .up, "one check that failed takes no host out")
        #expect(world.view("host2").toolstack?.state == .failing && world.view("host2").reason.contains("virsh list"))
        for state in [ToolstackReport.State.restarting, .lost] {
            world.machines["host2"]?.toolstack = report(state)
            world.run(2)
            #expect(world.status("host2") == .nonOperational && world.view("host2").reason == report(state).sentence)
        }
        world.machines["host2"]?.toolstack = nil
        world.run(2)
        #expect(world.allUp && world.view("host2").toolstack == nil)
        #expect(world.decisions.contains { $0.what == "hypervisor out of control" } && world.decisions.contains { $0.what == "hypervisor controlled again" })
        #expect(world.violations == [])
    }

    @Test func isNeverFencedByDefault() {
        let world = world()
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(3600)
        #expect(world.offs.isEmpty && world.view("host2").fenceCase == nil && world.violations == [])
    }

    @Test func isFencedByPolicyWhenItWasLostForLongEnough() {
        let world = world(.seconds(60))
        world.machines["host2"]?.toolstack = report(.restarting)
        world.run(200)
        #expect(world.offs.isEmpty, "it may still be restored")
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(55)
        #expect(world.offs.isEmpty)
        world.run(until: 60, "fenced and back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.offs["host2"] == 1 && world.proofs.contains { $0.kind == .powerOff && $0.host == "host2" })
        #expect(world.engine.history(of: "host2").cases.contains { $0.cause == "toolstackLost" || $0.cause == "silent" })
        #expect(world.violations == [])
    }

    /// Restored, not heard, or fencing-service restarted: the time begins anew.
    @Test(arguments: ["restored", "missing", "restarted"]) func mustBeLostWithoutInterruption(by what: String) {
        let world = world(.seconds(60))
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(50)
        switch what {
        case "restored":
            world.machines["host2"]?.toolstack = nil
            world.run(2)
            world.machines["host2"]?.toolstack = report(.lost)
        case "missing":
            world.machines["host2"]?.cut = true
            world.run(3)
            world.machines["host2"]?.cut = false
        default: world.restart()
        }
        world.run(50)
        #expect(world.offs.isEmpty && world.view("host2").fenceCase == nil)
        world.run(until: 120, "fenced and back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.violations == [])
    }

    @Test func isLeftAloneWhenItComesBackBeforeTheOff() {
        let world = world(.seconds(60))
        world.machines["host2"]?.latency = .seconds(5)
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(until: 70, "a case") { world.view("host2").fenceCase?.cause == "toolstackLost" }
        world.machines["host2"]?.toolstack = nil
        world.run(until: 20, "Up, without a case") { world.allUp && world.view("host2").fenceCase == nil }
        #expect(world.offs.isEmpty && world.violations == [])
    }

    @Test func isHeldWhileOthersHaveLostTheirsToo() {
        let world = world(.seconds(60))
        for host in ["host1", "host2", "host3"] { world.machines[host]?.toolstack = report(.lost) }
        world.run(600)
        #expect(world.offs.isEmpty && world.engine.snapshot.cases.isEmpty, "what they have in common is to be mended")
        for host in ["host1", "host3"] { world.machines[host]?.toolstack = nil }
        world.run(until: 100, "fenced and back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.offs["host1"] == nil && world.offs["host3"] == nil && world.violations == [])
    }

    @Test func isNotFencedInAHold() {
        let world = world(.seconds(60))
        world.submit(.haHold(world.request(), HoldRequest(why: "test")))
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(300)
        #expect(world.offs.isEmpty && world.view("host2").fenceCase == nil)
        world.submit(.haHold(world.request(), HoldRequest(why: "", release: true)))
        world.run(until: 60, "fenced and back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.violations == [])
    }

    /// A hold in the middle of a case holds that.
    @Test func isHeldInTheMiddleOfItsCase() {
        let world = world(.seconds(60))
        world.machines["host2"]?.latency = .seconds(5)
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(until: 70, "a case") { world.view("host2").fenceCase != nil }
        world.submit(.haHold(world.request(), HoldRequest(why: "test")))
        world.run(120)
        world.run(until: 20, "held") { world.step("host2") == "held" }
        #expect(world.offs.isEmpty)
        world.submit(.haHold(world.request(), HoldRequest(why: "", release: true)))
        world.run(until: 120, "fenced and back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.violations == [])
    }

    /// Then all that holds for silence counts, and what it said before is old.
    @Test func thatFallsSilentIsFencedForItsSilence() {
        let world = world(.seconds(60))
        world.submit(.haHold(world.request(), HoldRequest(why: "test")))
        world.machines["host2"]?.latency = .seconds(2)
        world.machines["host2"]?.toolstack = report(.lost)
        world.submit(.haHold(world.request(), HoldRequest(why: "", release: true)))
        world.run(until: 70, "a case") { world.view("host2").fenceCase?.cause == "toolstackLost" }
        world.machines["host2"]?.cut = true
        world.run(until: 20, "its silence counts") { world.view("host2").fenceCase?.cause == "silent" }
        world.run(until: 120, "fenced") { world.offs["host2"] == 1 }
        #expect(world.violations == [])
    }

    /// Killed after every step of its case, it ends the same way.
    @Test func isFencedOnceHoweverOftenTheServiceRestarts() {
        let world = world(.seconds(60))
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(until: 100, "off is sent") { world.offs["host2"] == 1 }
        for _ in 0..<3 {
            world.restart()
            world.run(3)
        }
        world.run(until: 200, "back") { world.allUp && world.view("host2").fenceCase == nil }
        #expect(world.offs["host2"] == 1 && world.violations == [])
    }

    /// Its case waits, by the delay of its device.
    private func waiting(_ prepare: (World) -> Void = { _ in }) -> World {
        let world = World {
            $0.policy.toolstackLost = .seconds(60)
            $0.machines["host2"]?.delay = .seconds(100)
            prepare($0)
        }
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(until: 70, "a case") { world.step("host2") == "delaying" }
        return world
    }

    /// Until the off it is what it says, and operators deal with it.
    @Test func isNotInAnybodysWayBeforeTheOff() {
        let world = waiting()
        #expect(world.status("host2") == .nonOperational)
        let maintenance = world.request()
        world.submit(.hostMaintenance(maintenance, HostRequest(host: "host2")))
        world.run(200)
        #expect(world.accepted(maintenance) && world.status("host2") == .maintenance && world.offs.isEmpty && world.violations == [])
    }

    /// S19: nobody switches it off in the middle, and nobody switches it on.
    @Test func isSparedWhenItShutsDown() {
        let world = waiting()
        world.machines["host2"]?.leaving = .ending
        world.run(2)
        #expect(world.view("host2").fenceCase == nil && world.status("host2") == .preparingForMaintenance)
        world.run(200)
        world.machines["host2"]?.leaving = .over
        world.run(2)
        world.crash("host2")
        world.run(100)
        #expect(world.offs.isEmpty && world.ons.isEmpty && world.status("host2") == .down && world.violations == [], "\(world.story)")
    }

    /// The off was decided, and waits for a slow journal.
    @Test func thatSaidGoodbyeBeforeTheOffIsSentStaysOff() {
        let world = world(.seconds(60))
        world.slowOff = true
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(until: 70, "decided") { world.waitingOff != nil }
        world.machines["host2"]?.leaving = .over
        world.run(2)
        world.crash("host2")
        world.run(until: 20, "its goodbye counts") { world.view("host2").fenceCase?.cause == "shutDown" }
        world.sendWaitingOff()
        world.run(200)
        #expect(world.offs.isEmpty && world.ons.isEmpty && world.status("host2") == .down && world.violations == [], "\(world.story)")
    }

    @Test(arguments: ["restored", "held"]) func isSparedAtTheLastMoment(_ what: String) {
        let world = world(.seconds(60))
        world.slowOff = true
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(until: 70, "decided") { world.waitingOff != nil }
        if what == "restored" { world.machines["host2"]?.toolstack = nil } else { world.submit(.haHold(world.request(), HoldRequest(why: "work"))) }
        world.run(1)
        world.sendWaitingOff()
        world.slowOff = false
        world.run(50)
        #expect(world.offs.isEmpty && world.status("host2") == (what == "restored" ? .up : .nonOperational) && world.violations == [], "\(world.story)")
    }

    @Test func isNotSwitchedOffAgainAndAgain() {
        let world = world(.seconds(60))
        world.policy.maximumReboots = 3
        world.restart()
        world.machines["host2"]?.bmc = .stuck
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(until: 100, "in vain") { world.offs["host2"] == 1 && world.view("host2").fenceCase == nil }
        #expect(world.status("host2") == .nonOperational)
        world.run(1200)
        #expect(world.offs["host2"] == 3 && world.violations == [], "\(world.story)")
    }

    /// What cannot be ended there is S13's, at once.
    @Test func whoseGuestsAreStuckHasACaseOfThat() {
        let world = waiting()
        world.machines["host2"]?.unreaped = ["vm:web1:1"]
        world.machines["host2"]?.storageCut = true
        world.run(until: 10, "S13") { world.view("host2").fenceCase?.cause == "unreaped" }
        #expect(world.status("host2") == .nonResponsive)
        world.machines["host2"]?.storageCut = false
        world.machines["host2"]?.unreaped = []
        world.machines["host2"]?.toolstack = nil
        world.run(until: 10, "all Up") { world.allUp }
        #expect(world.offs.isEmpty && world.violations == [], "\(world.story)")
    }

    @Test func isSparedWhenThePolicyIsTakenBack() {
        let world = waiting()
        world.policy.toolstackLost = .zero
        world.restart()
        world.run(until: 5, "no case") { world.view("host2").fenceCase == nil }
        world.run(200)
        #expect(world.offs.isEmpty && world.status("host2") == .nonOperational && world.violations == [])
    }

    @Test func thatIsProvenOverIsNotFencedForItsSilence() {
        let world = world(.seconds(60))
        world.machines["host2"]?.toolstack = report(.lost)
        world.run(until: 100, "switched on") { world.ons["host2"] == 1 && world.machines["host2"]?.powered == true }
        world.machines["host2"]?.readyAt = world.now + .seconds(20)
        world.run(until: 60, "fenced and back") { world.allUp }
        #expect(world.engine.history(of: "host2").cases.map(\.cause) == ["toolstackLost"], "\(world.story)")
        #expect(world.violations == [])
    }

    /// What is done first for a silent host begins at once.
    @Test func thatFallsSilentDoesNotWaitForItsDelay() {
        let world = waiting {
            $0.policy.softTimeout = .seconds(10)
            $0.softCommandWorks = false
        }
        world.machines["host2"]?.frozen = true
        world.run(until: 10, "its agent is to be restarted") { world.softRestarts == ["host2"] }
        #expect(world.violations == [], "\(world.story)")
    }
}
