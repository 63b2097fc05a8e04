@testable import FencingEngine
import Messages
import Testing

/// The agent is restarted before its host is switched off.
@Suite struct SoftRestartTests {
    private func world() -> World { World { $0.policy.softTimeout = .seconds(10) } }

    @Test func aHostThatIsHeardAfterwardsIsSpared() {
        let world = world()
        world.machines["host1"]?.cut = true
        world.run(until: 30, "heard again") { world.softRestarts == ["host1"] && world.allUp }
        #expect(world.offs["host1"] == nil && world.proofs.isEmpty)
        let seen = world.engine.history(of: "host1").cases.last
        #expect(seen?.runs?.contains { $0.action == "restart" && $0.outcome == "done" } == true || seen?.steps?.contains { $0.step == "soft-restarting" } == true)
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func oneThatStaysSilentIsSwitchedOffWhenItsTimeIsOver() {
        let world = world()
        world.machines["host1"]?.frozen = true
        world.run(until: 20, "soft-restarting") { world.step("host1") == "soft-restarting" }
        world.run(9)
        #expect(world.offs["host1"] == nil)
        world.run(until: 60, "all Up") { world.offs["host1"] == 1 && world.allUp }
        #expect(world.softRestarts == ["host1"])
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func ifTheCommandFailsTheCaseGoesOnAtOnce() {
        let world = world()
        world.softCommandWorks = false
        world.machines["host1"]?.frozen = true
        world.run(until: 20, "soft-restarting") { world.step("host1") == "soft-restarting" }
        world.run(until: 3, "off") { world.offs["host1"] == 1 }
        world.run(until: 60, "all Up") { world.allUp }
        let runs = world.engine.history(of: "host1").cases.flatMap { $0.runs ?? [] }
        #expect(runs.contains { $0.action == "restart" && $0.outcome == "failed" && $0.output.contains("ssh") })
        #expect(world.violations == [], "\(world.story)")
    }

    /// Off is fenced already: there is nothing to restart.
    @Test func notWhereItReadsOff() {
        let world = world()
        world.crash("host1")
        world.run(until: 60, "all Up") { !world.proofs.isEmpty && world.allUp }
        #expect(world.softRestarts == [])
    }

    @Test func notWhileTheCaseIsHeld() {
        let world = world()
        world.submit(.haHold(world.request(), HoldRequest(why: "maintenance of the switch")))
        world.machines["host1"]?.frozen = true
        world.run(20)
        #expect(world.softRestarts == [] && world.step("host1") == "held")
    }

    /// kill -9 of the service in between: it is not run again, its time goes on.
    @Test func onceInACase() {
        let world = world()
        world.machines["host1"]?.frozen = true
        world.run(until: 20, "soft-restarting") { world.step("host1") == "soft-restarting" }
        world.restart()
        world.run(until: 60, "all Up") { world.offs["host1"] == 1 && world.allUp }
        #expect(world.softRestarts == ["host1"])
        #expect(world.violations == [], "\(world.story)")
    }
}
