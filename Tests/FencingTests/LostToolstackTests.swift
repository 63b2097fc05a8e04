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
}
