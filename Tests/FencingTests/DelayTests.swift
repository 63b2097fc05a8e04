@testable import FencingEngine
import Messages
import Testing

/// A delay before the first off.
@Suite struct DelayTests {
    private func world() -> World { World { $0.machines["host1"]?.delay = .seconds(8) } }

    @Test func offIsSentWhenTheDelayIsOver() {
        let world = world()
        world.machines["host1"]?.frozen = true
        world.run(until: 20, "delaying") { world.step("host1") == "delaying" }
        world.run(7)
        #expect(world.offs["host1"] == nil)
        world.run(until: 60, "all Up") { world.offs["host1"] == 1 && world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func aHostThatIsHeardMeanwhileIsSpared() {
        let world = world()
        world.machines["host1"]?.cut = true
        world.run(until: 20, "delaying") { world.step("host1") == "delaying" }
        world.run(4)
        world.machines["host1"]?.cut = false
        world.run(30)
        #expect(world.offs["host1"] == nil && world.allUp)
        #expect(world.violations == [], "\(world.story)")
    }

    /// It is not counted anew.
    @Test func aRestartOfTheServiceKeepsItsEnd() {
        let world = world()
        world.machines["host1"]?.frozen = true
        world.run(until: 20, "delaying") { world.step("host1") == "delaying" }
        let until = world.engine.hosts["host1"]?.fenceCase?.delayedUntil
        world.restart()
        world.run(until: 60, "all Up") { world.allUp && world.ons["host1"] == 1 }
        #expect(until != nil && world.offs["host1"] == 1)
        #expect(world.violations == [], "\(world.story)")
    }

    /// What came up meanwhile holds it.
    @Test func everythingIsLookedAtAnewAfterwards() {
        let world = world()
        world.machines["host1"]?.frozen = true
        world.run(until: 20, "delaying") { world.step("host1") == "delaying" }
        world.submit(.haHold(world.request(), HoldRequest(why: "a look first")))
        world.run(20)
        #expect(world.offs["host1"] == nil && world.step("host1") == "held")
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func anOperatorsWordIsNotDelayed() {
        let world = world()
        world.submit(.fenceNow("now", HostRequest(host: "host1")))
        world.run(3)
        #expect(world.offs["host1"] == 1)
    }
}
