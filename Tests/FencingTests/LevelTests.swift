@testable import FencingEngine
import Messages
import Testing

/// Several levels on the way back.
@Suite struct LevelTests {
    /// Its BMC cannot switch it off, its outlet does.
    private func worldWithAnOutlet(waitsForItsBMC: Bool = false) -> World {
        let world = World {
            $0.machines["host1"]?.outlet = .works
            $0.machines["host1"]?.waitsForItsBMC = waitsForItsBMC
        }
        world.machines["host1"]?.bmc = .stuck
        world.machines["host1"]?.frozen = true
        return world
    }

    @Test func whatTheOutletSwitchedOffItSwitchesOn() {
        let world = worldWithAnOutlet()
        world.run(until: 90, "all Up") { world.ons["host1"] == 1 && world.allUp }
        #expect(world.machines["host1"]?.outletIsOff == false)
        #expect(world.violations == [], "\(world.story)")
    }

    /// The outlet is on, its machine is not: it is not left at that, and does not count twice as an attempt.
    @Test func aMachineThatStaysOffBehindItsOutletIsSwitchedOnByItsBMC() {
        let world = worldWithAnOutlet(waitsForItsBMC: true)
        world.run(until: 60, "the outlet is on") { world.ons["host1"] == 1 }
        world.machines["host1"]?.bmc = .works
        world.run(until: 50, "all Up, long before the time of a boot is over") { world.ons["host1"] == 2 && world.allUp }
        #expect(world.engine.hosts["host1"]?.reboots?.count == 1)
        #expect(world.violations == [], "\(world.story)")
    }

    /// The outlet has failed since: the BMC may do it.
    @Test func anOnThatDoesNothingIsTriedAtTheOtherLevels() {
        let world = World { $0.machines["host1"]?.outlet = .works }
        world.machines["host1"]?.bmc = .dead
        world.machines["host1"]?.frozen = true
        world.run(until: 60, "proven over") { world.step("host1") == "proven" || world.step("host1") == "on" }
        world.machines["host1"]?.outlet = .dead
        world.machines["host1"]?.outletIsOff = false
        world.machines["host1"]?.bmc = .works
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.engine.hosts["host1"]?.reboots?.count == 1, "\(world.story)")
        #expect(world.violations == [], "\(world.story)")
    }

    /// Nobody saw its renewals stop, so the word of a device that cannot tell whose it is does not count; that of its outlet does, and is not taken for somebody's hand at its switch.
    @Test func anUnverifiedDeviceThatReadsOffLeavesItToTheNextLevel() {
        let world = World {
            $0.machines["host1"]?.guid = nil
            $0.machines["host1"]?.outlet = .works
            for name in ["host2", "host3"] { $0.machines[name]?.storageCut = true }
        }
        world.crash("host1")
        world.run(until: 55, "its outlet has switched it off, long before the time of a boot is over") { world.offs["host1"] == 1 && world.proofs.contains { $0.kind == .powerOff } }
        #expect(world.violations == [], "\(world.story)")
    }

    /// A person is told of a device that reads on, although the one of the next level cannot be read.
    @Test func aDeviceThatReadsOnIsRememberedWhenTheNextLevelFails() {
        let world = World {
            $0.machines["host1"]?.outlet = .dead
            $0.policy.grace = .seconds(5)
        }
        world.machines["host1"]?.bmc = .stuck
        world.machines["host1"]?.frozen = true
        world.run(30)
        let open = world.view("host1").fenceCase
        world.submit(.confirmOff("sure", ConfirmOff(host: "host1", caseID: open?.id ?? "", incarnation: open?.incarnation ?? Incarnation(0), who: "me", why: "the rack is dark")))
        #expect(world.refusal("sure") == FencingErrorCode.signsOfLife.rawValue, "\(world.story)")
        if case .refused(let error)? = world.replies["sure"] { #expect(error.message.contains("fence_ipmilan at 10.0.0.1 of host1 reads on")) }
    }
}
