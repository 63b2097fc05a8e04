@testable import FencingEngine
import Messages
import Testing

/// Many hosts, and a kill after any input.
extension SafetyRules {
    @Test func manyHostsSilentAtOnceAreTheManagersOwnSwitch() {
        let world = World(hosts: 200)
        #expect(world.engine.hostViews.count { $0.status == .up } == 200)
        for index in 1...120 { world.machines["host\(index)"]?.cut = true }
        world.run(20)
        #expect(world.offs.isEmpty)
        #expect(world.step("host7") == "held")
        for index in 1...120 { world.machines["host\(index)"]?.cut = false }
        world.run(until: 20, "all are Up") { world.allUp }
        #expect(world.offs.isEmpty)
        clean(world)
    }

    @Test func aRackWithoutItsManagementSwitchIsHeldWhileItsLeasesLive() {
        let world = World(hosts: 200) { $0.policy.sparesLiveLeases = true }
        for index in 1...60 { world.machines["host\(index)"]?.cut = true }
        world.run(15)
        #expect(world.offs.isEmpty)
        #expect(world.view("host7").fenceCase?.reason.contains("its lease renewals go on") == true)
        for index in 1...60 { world.machines["host\(index)"]?.cut = false }
        world.run(until: 20, "all are Up") { world.allUp }
        #expect(world.offs.isEmpty)
        clean(world)
    }

    @Test func threeOfManyThatDieAreFencedBesideEachOther() {
        let world = World(hosts: 200)
        let began = world.now
        for index in [3, 90, 177] { world.crash("host\(index)") }
        world.run(until: 12, "all three are proven off") { Set(world.proofs.map(\.host)) == ["host3", "host90", "host177"] }
        #expect(world.now - began < .seconds(9))
        world.run(until: 30, "all are Up") { world.allUp }
        clean(world)
    }

    /// Every position of the journal is one where the process may be killed: what follows is the same case, ended the same way.
    @Test(arguments: [false, true]) func killedAfterAnyInputTheCaseEndsTheSameWay(isFrozen: Bool) {
        func story(killedAfter position: Int?) -> (World, Int) {
            let world = World()
            let before = world.inputs.count
            if isFrozen { world.machines["host2"]?.frozen = true } else { world.crash("host2") }
            if let position {
                world.run(until: 60, "position \(position) is reached") { world.inputs.count >= before + position }
                world.restart()
            }
            world.run(until: 90, "host2 is back") { world.allUp && world.view("host2").incarnation.number == 2 }
            return (world, before)
        }
        let (whole, before) = story(killedAfter: nil)
        for position in 1...(whole.inputs.count - before) {
            let (world, _) = story(killedAfter: position)
            clean(world)
            #expect(world.view("host2").incarnation == Incarnation(2), "killed after input \(position)")
            #expect(world.offs["host2"] ?? 0 == (isFrozen ? 1 : 0), "killed after input \(position)")
            #expect(world.proofs.contains { $0.host == "host2" && $0.covers(host: "host2", incarnation: Incarnation(1)) }, "killed after input \(position)")
        }
    }
}
