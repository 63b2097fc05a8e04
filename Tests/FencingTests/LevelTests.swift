@testable import FencingEngine
import Messages
import Testing

/// Several levels on the way back.
@Suite struct LevelTests {
    /// Its BMC cannot switch it off, its outlet does.
    private func worldWithAnOutlet(waitsForItsBMC: Bool = false, maximumReboots: Int = .max) -> World {
        let world = World {
            $0.policy.maximumReboots = maximumReboots
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
    @Test(arguments: [1, .max]) func aMachineThatStaysOffBehindItsOutletIsSwitchedOnByItsBMC(maximumReboots: Int) {
        let world = worldWithAnOutlet(waitsForItsBMC: true, maximumReboots: maximumReboots)
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

    /// What it has found out is another level's word than the case's, and no complete rehearsal.
    @Test func aCaseCutsARehearsalShort() {
        let world = World { $0.machines["host1"]?.outlet = .lies }
        world.submit(.rehearse("r", HostRequest(host: "host1")))
        world.run(until: 5, "the second level is asked") { world.engine.hosts["host1"]?.level == 1 && world.engine.hosts["host1"]?.reads?[0] == .on }
        world.run(0.2)
        world.submit(.fenceNow("now", HostRequest(host: "host1")))
        world.run(until: 5, "the rehearsal is over") { world.replies["r"] != nil }
        #expect(world.refusal("r") == RequestErrorCode.unknownOutcome.rawValue && !world.events.contains { $0.type == "fence.rehearsed" })
        #expect(world.engine.hosts["host1"]?.reads?[0] == .on && world.engine.hosts["host1"]?.reads?[1] == .off)
    }

    /// It does not begin anew before they have asked again.
    @Test func aRehearsalThatWasCutShortLeavesTimeForWhoeverWantsSomethingElse() {
        let world = World {
            $0.machines["host1"]?.outlet = .works
            $0.machines["host1"]?.latency = .seconds(1)
            $0.policy.rehearseEvery = .seconds(3600)
        }
        world.operatorActs = ["host1"]
        world.run(until: 20, "rehearsed once") { world.events.contains { $0.type == "fence.rehearsed" && $0.subject == "host1" } }
        world.submit(.rehearse("r", HostRequest(host: "host1")))
        world.submit(.power("first", .off, HostRequest(host: "host1")))
        #expect(world.refusal("first") == FencingErrorCode.busy.rawValue)
        world.run(until: 5, "it is cut short") { world.refusal("r") != nil }
        world.run(1)
        world.submit(.power("again", .off, HostRequest(host: "host1")))
        world.run(until: 10, "off") { world.replies["again"] != nil }
        #expect(world.accepted("again"), "\(world.story)")
        #expect(world.events.count { $0.type == "fence.rehearsed" && $0.subject == "host1" } == 1)
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
