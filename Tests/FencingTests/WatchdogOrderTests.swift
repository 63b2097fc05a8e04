@testable import FencingEngine
import Messages
import Testing

/// Watchdogs are disarmed while nothing automatic happens, and count for nothing from before that is ordered until a host obeys the order to arm it again (S6).
@Suite struct AWatchdogInAHold {
    private func world(_ prepare: (World) -> Void = { _ in }) -> World {
        let world = World { world in
            world.machines["host2"]?.watchdog = true
            world.machines["host2"]?.bmc = .dead
        }
        prepare(world)
        world.run(2)
        return world
    }

    private func hold(_ world: World) { world.submit(.haHold(world.request(), HoldRequest(why: "work on the switches"))) }
    private func release(_ world: World) { world.submit(.haHold(world.request(), HoldRequest(why: "", release: true))) }

    @Test(arguments: [false, true]) func isDisarmedAndArmedAgain(byDisabling: Bool) {
        let world = world()
        #expect(world.view("host2").watchdogArmed)
        byDisabling ? world.submit(.haDisable(world.request())) : hold(world)
        #expect(!world.view("host2").watchdogArmed, "noted before the order leaves")
        world.run(2)
        #expect(world.machines["host2"]?.order?.disarm == true)
        #expect(world.machines["host1"]?.order == nil, "it has none")
        byDisabling ? world.submit(.haEnable(world.request())) : release(world)
        #expect(!world.view("host2").watchdogArmed)
        world.run(2)
        #expect(world.machines["host2"]?.order?.disarm == false && world.view("host2").watchdogArmed)
        #expect(world.violations == [])
    }

    @Test func provesNothingOfAHostThatMayHaveHeardTheOrder() {
        let world = world()
        world.losesOrders = true
        hold(world)
        world.run(2)
        world.machines["host2"]?.frozen = true
        release(world)
        world.run(60)
        #expect(!world.proofs.contains { $0.kind == .leaseExpired })
        world.machines["host2"]?.frozen = false
        world.machines["host2"]?.boot += 1
        world.losesOrders = false
        world.run(until: 30, "armed again") { world.view("host2").watchdogArmed }
        #expect(world.violations == [])
    }

    @Test func ofASilentHostCountsAsItWasHeardLast() {
        let world = world()
        world.machines["host2"]?.cut = true
        world.run(10)
        hold(world)
        world.run(5)
        #expect(world.machines["host2"]?.order == nil && world.view("host2").watchdogArmed, "nothing is sent to who is not heard")
        world.machines["host2"]?.frozen = true
        world.run(5)
        release(world)
        world.run(until: 60, "proven") { world.proofs.contains { $0.kind == .leaseExpired } }
        #expect(world.violations == [])
    }

    @Test func isOrderedAgainUntilItIsObeyedAndAfterARestart() {
        let world = world()
        world.losesOrders = true
        hold(world)
        world.run(3)
        world.restart()
        world.run(8)
        #expect(!world.view("host2").watchdogArmed)
        world.losesOrders = false
        world.run(until: 30, "disarmed") { world.machines["host2"]?.order?.disarm == true }
        #expect(world.violations == [])
    }
}
