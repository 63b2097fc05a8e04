@testable import FencingEngine
import Messages
import Testing

/// Hosts that answer and cannot be used are switched off and on again only where that is wanted, and nothing is lost by it.
@Suite struct NonOperationalTests {
    private func world(_ prepare: (World) -> Void = { _ in }) -> World {
        World {
            $0.policy.nonOperational = .seconds(60)
            prepare($0)
        }
    }

    /// Its agent tells what runs there; `nil`: it does not know yet.
    private func runs(_ count: Int?, on name: String, in world: World, busyWith: [String]? = []) {
        let vms = (0..<(count ?? 0)).map { VMObservation(vm: "vm\($0)", attempt: 1, state: .running, evidence: "") }
        for input in world.monitor.onVMs(AgentVMs(host: name, bootID: world.bootID(name), complete: count != nil, vms: vms, busyWith: busyWith), of: name) { world.submit(input) }
    }

    /// It has lost its storage, and domain-monitor has told so.
    private func lose(_ name: String, in world: World) {
        world.machines[name]?.storageCut = true
        world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: name, reason: "cannot use storage domain d1, which other hosts can")))
    }

    private func heal(_ name: String, in world: World) {
        world.machines[name]?.storageCut = false
        world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: name, reason: nil)))
    }

    /// NonOperational for long enough, without a VM.
    private func due(_ world: World) {
        runs(0, on: "host1", in: world)
        lose("host1", in: world)
        world.run(50)
        #expect(world.status("host1") == .nonOperational && world.step("host1") == nil)
    }

    @Test func neverByDefault() {
        let world = world { $0.policy.nonOperational = .zero }
        runs(0, on: "host1", in: world)
        lose("host1", in: world)
        world.run(2000)
        #expect(world.status("host1") == .nonOperational && world.offs.isEmpty && world.step("host1") == nil && world.violations == [])
    }

    @Test func anEmptyOneThatLacksWhatOthersHaveIsSwitchedOffAndOn() {
        let world = world()
        due(world)
        world.run(until: 20, "off") { world.offs["host1"] == 1 }
        #expect(!world.statuses(of: "host1").dropFirst().contains(.up))
        heal("host1", in: world)
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.proofs.map(\.kind) == [.powerOff] && world.ons["host1"] == 1)
        let seen = world.engine.history(of: "host1").cases.last
        #expect(seen?.cause == "nonOperational" && seen?.steps?.contains { $0.step == "gathering-evidence" } == true)
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func notWhileVMsRunThere() {
        let world = world()
        due(world)
        runs(2, on: "host1", in: world)
        world.run(300)
        #expect(world.offs.isEmpty && world.status("host1") == .nonOperational && world.view("host1").reason.contains("2 VMs run there"), "\(world.story)")
        #expect(world.decisions.contains { $0.what == "left running" && $0.why.contains("2 VMs") })
        runs(0, on: "host1", in: world)
        world.run(until: 20, "off") { world.offs["host1"] == 1 }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test(arguments: ["it was never told", "its agent does not know yet", "it was told of an earlier boot"]) func notWhileNobodyKnowsWhatRunsThere(_ why: String) {
        let world = world()
        if why == "it was told of an earlier boot" {
            runs(0, on: "host1", in: world)
            world.reboot("host1")
            world.run(until: 30, "all Up") { world.allUp }
        }
        if why == "its agent does not know yet" { runs(nil, on: "host1", in: world) }
        lose("host1", in: world)
        world.run(300)
        #expect(world.offs.isEmpty && world.view("host1").reason.contains("has not told what runs there"), "\(world.story)")
    }

    @Test func notForStorageThatNoOtherHostHas() {
        let world = world()
        for name in ["host2", "host3"] { world.machines[name]?.storageCut = true }
        runs(0, on: "host1", in: world)
        lose("host1", in: world)
        world.run(300)
        #expect(world.offs.isEmpty && world.status("host1") == .nonOperational && world.violations == [], "\(world.story)")
    }

    /// A host that limps is better than none.
    @Test func notWhileNoOtherIsUp() {
        let world = world()
        for name in ["host2", "host3"] { world.submit(.hostMaintenance(world.request(), HostRequest(host: name))) }
        runs(0, on: "host1", in: world)
        lose("host1", in: world)
        world.run(300)
        #expect(world.offs.isEmpty && world.violations == [], "\(world.story)")
    }

    @Test func notWhileItHasJoinedWhatOthersHave() {
        let world = world()
        runs(0, on: "host1", in: world)
        world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host1", reason: "cannot use storage domain d1, which other hosts can")))
        world.run(300)
        #expect(world.offs.isEmpty && world.view("host1").reason.contains("lacks no lockspace"), "\(world.story)")
    }

    @Test(arguments: [true, false]) func notWhileHeldOrDisabled(_ isHeld: Bool) {
        let world = world()
        world.submit(isHeld ? .haHold(world.request(), HoldRequest(why: "work")) : .haDisable(world.request()))
        due(world)
        world.run(300)
        #expect(world.offs.isEmpty && world.status("host1") == .nonOperational)
        world.submit(isHeld ? .haHold(world.request(), HoldRequest(why: "", release: true)) : .haEnable(world.request()))
        world.run(until: 20, "off") { world.offs["host1"] == 1 }
    }

    @Test func aMomentOfHealthBeginsTheTimeAnew() {
        let world = world()
        due(world)
        heal("host1", in: world)
        world.run(3)
        lose("host1", in: world)
        world.run(58)
        #expect(world.offs.isEmpty && world.step("host1") == nil)
        world.run(until: 20, "off") { world.offs["host1"] == 1 }
    }

    /// Nothing that was seen before the restart counts (I5).
    @Test func aRestartBeginsTheTimeAnew() {
        let world = world()
        due(world)
        world.restart()
        runs(0, on: "host1", in: world)
        world.run(58)
        #expect(world.offs.isEmpty && world.status("host1") == .nonOperational)
        world.run(until: 20, "off") { world.offs["host1"] == 1 }
        #expect(world.violations == [], "\(world.story)")
    }

    /// The others are asked to read the storage now.
    @Test func notWhenNobodyCanReadItsStorageNow() {
        let world = world()
        world.leasesAnswer = false
        due(world)
        world.run(until: 20, "failed") { world.step("host1") == "failed" }
        world.run(60)
        #expect(world.offs.isEmpty && world.status("host1") == .nonOperational)
        heal("host1", in: world)
        world.run(until: 5, "closed") { world.allUp }
        #expect(world.offs.isEmpty && world.violations == [], "\(world.story)")
    }

    /// A case that is held, or waits, is over as soon as its reason is.
    @Test func anOperationalHostHasNoCaseAnyMore() {
        let world = world()
        due(world)
        world.run(until: 12, "case") { world.step("host1") != nil }
        world.submit(.haHold(world.request(), HoldRequest(why: "work")))
        world.run(until: 12, "held") { world.step("host1") == "held" }
        heal("host1", in: world)
        world.run(2)
        #expect(world.allUp && world.offs.isEmpty && world.violations == [], "\(world.story)")
    }

    /// Its decision waited for a slow journal.
    @Test func notWhenItIsOperationalAgainBeforeTheOffIsSent() {
        let world = world()
        world.slowOff = true
        due(world)
        world.run(until: 20, "decided") { world.waitingOff != nil }
        heal("host1", in: world)
        world.run(1)
        world.sendWaitingOff()
        world.slowOff = false
        world.run(until: 30, "Up") { world.allUp }
        #expect(world.offs.isEmpty && world.violations == [], "\(world.story)")
    }

    @Test func onceItIsSilentItIsACaseOfSilence() {
        let world = world()
        due(world)
        world.run(until: 12, "case") { world.step("host1") != nil }
        world.submit(.haHold(world.request(), HoldRequest(why: "work")))
        world.machines["host1"]?.frozen = true
        world.run(until: 20, "NonResponsive") { world.status("host1") == .nonResponsive && world.view("host1").fenceCase?.cause == "silent" }
        world.submit(.haHold(world.request(), HoldRequest(why: "", release: true)))
        world.run(until: 20, "off") { world.offs["host1"] == 1 }
        heal("host1", in: world)
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func maintenanceAndPowerCommandsAreNotInItsWay() {
        let world = world()
        due(world)
        world.run(until: 12, "case") { world.step("host1") != nil }
        world.submit(.haHold(world.request(), HoldRequest(why: "work")))
        world.run(until: 12, "held") { world.step("host1") == "held" }
        world.operatorActs = ["host1"]
        let cycle = world.request()
        world.submit(.power(cycle, .cycle, HostRequest(host: "host1")))
        heal("host1", in: world)
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.accepted(cycle))
        lose("host1", in: world)
        runs(0, on: "host1", in: world)
        world.submit(.haHold(world.request(), HoldRequest(why: "", release: true)))
        world.leasesAnswer = false
        world.run(until: 80, "case") { world.step("host1") == "failed" }
        let maintenance = world.request()
        world.submit(.hostMaintenance(maintenance, HostRequest(host: "host1")))
        world.run(60)
        #expect(world.accepted(maintenance) && world.status("host1") == .maintenance && world.step("host1") == nil)
        #expect(world.violations == [], "\(world.story)")
    }

    /// A device that does nothing, or another level that does nothing either: the host is what it says of itself again.
    @Test(arguments: [nil, World.BMC.stuck]) func anOffWithoutEffectEndsTheCase(_ outlet: World.BMC?) {
        let world = world {
            $0.policy.maximumReboots = 3
            $0.machines["host1"]?.bmc = .stuck
            $0.machines["host1"]?.outlet = outlet
        }
        let levels = outlet == nil ? 1 : 2
        due(world)
        world.run(until: 60, "no case any more") { world.offs["host1"] == levels && world.step("host1") == nil }
        #expect(world.status("host1") == .nonOperational)
        #expect(world.engine.history(of: "host1").cases.last?.reason.contains("had no effect") == true)
        world.run(50)
        #expect(world.offs["host1"] == levels, "it is tried again only after the whole time")
        world.run(1000)
        #expect(world.offs["host1"] == 3 * levels && world.view("host1").reason.contains("had no effect 3 times"), "\(world.story)")
        world.machines["host1"]?.bmc = .works
        world.submit(.hostActivate(world.request(), HostRequest(host: "host1")))
        world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host1", reason: "cannot use storage domain d1, which other hosts can")))
        world.run(until: 90, "off") { world.ons["host1"] == 1 }
        heal("host1", in: world)
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func anOffWithoutEffectEndsTheCaseOfWhatIsOperationalAgain() {
        let world = world {
            $0.machines["host1"]?.bmc = .stuck
            $0.machines["host1"]?.latency = .seconds(2)
        }
        due(world)
        world.run(until: 30, "off") { world.offs["host1"] == 1 }
        heal("host1", in: world)
        world.run(until: 30, "Up") { world.allUp }
        #expect(world.offs["host1"] == 1 && world.violations == [], "\(world.story)")
    }

    /// An off would end that too.
    @Test(arguments: [["spm:pool:1 is there"], nil]) func notWhileSomethingElseRunsThere(_ busyWith: [String]?) {
        let world = world()
        due(world)
        runs(0, on: "host1", in: world, busyWith: busyWith)
        world.run(300)
        #expect(world.offs.isEmpty && world.view("host1").reason.contains(busyWith?.first ?? "does not tell"), "\(world.story)")
        runs(0, on: "host1", in: world)
        world.run(until: 20, "off") { world.offs["host1"] == 1 }
        #expect(world.violations == [], "\(world.story)")
    }

    /// It is known before its agent tells: this service has asked it.
    @Test func notWhileItSwitchesAnotherHost() {
        let world = world {
            $0.policy.silentShare = 100
            $0.machines["host2"]?.via = .hosts
            $0.machines["host2"]?.latency = .seconds(5)
            $0.machines["host3"]?.reachesNoDevice = true
        }
        due(world)
        world.crash("host2")
        var seen = false
        for _ in 0..<600 {
            world.tick()
            guard world.engine.hosts["host2"]?.run?.proxy == "host1" else { continue }
            seen = true
            #expect(world.step("host1") != "off", "\(world.story)")
        }
        #expect(seen && world.violations == [], "\(world.story)")
    }

    /// What so many have in common is to be mended, and half of what is left is not switched off at once.
    @Test func oneAtATimeAndNotWhereManyLackTheSame() {
        let world = World(hosts: 8) { $0.policy.nonOperational = .seconds(60) }
        let all = (1...8).map { "host\($0)" }
        for name in all {
            runs(0, on: name, in: world)
            if name != "host7", name != "host8" { lose(name, in: world) }
        }
        world.run(300)
        #expect(world.offs.isEmpty && world.view("host1").reason.contains("5 of 7 other hosts"), "\(world.story)")
        for name in ["host4", "host5", "host6"] { heal(name, in: world) }
        var most = 0
        for _ in 0..<3000 {
            world.tick()
            most = max(most, all.count { world.machines[$0]?.powered == false || world.step($0) == "off" })
        }
        #expect(most == 1 && world.offs.count == 1 && world.view("host2").reason.contains("one at a time"), "\(world.story)")
        heal("host1", in: world)
        world.run(until: 60, "the next one") { world.offs.count == 2 }
        for name in all { heal(name, in: world) }
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    /// It would stay off.
    @Test func notWhenItWouldNotBeSwitchedOnAgain() {
        let world = world { $0.policy.maximumReboots = 0 }
        due(world)
        world.run(200)
        #expect(world.offs.isEmpty && world.view("host1").reason.contains("fence.maximumReboots"), "\(world.story)")
    }

    /// What cannot be ended there is S13's.
    @Test func whatIsStuckHasItsOwnCase() {
        let world = world()
        due(world)
        world.machines["host1"]?.unreaped = ["vm:web1:1"]
        world.run(until: 40, "off") { world.offs["host1"] == 1 }
        #expect(world.engine.view(of: "host1")?.fenceCase?.cause == "unreaped")
        #expect(world.violations == [], "\(world.story)")
    }

    // MARK: Agents that stay Initializing

    @Test func anAgentThatDoesNotFindOutWhatRunsThereMakesItsHostNonOperational() {
        let world = world()
        world.machines["host1"]?.initializing = true
        world.run(170)
        #expect(world.status("host1") == .initializing)
        world.run(until: 15, "NonOperational") { world.status("host1") == .nonOperational }
        #expect(world.view("host1").reason.contains("look at host-agent's health"))
        world.run(600)
        #expect(world.offs.isEmpty && world.step("host1") == nil, "nobody knows what runs there: \(world.story)")
        world.machines["host1"]?.initializing = false
        world.run(until: 5, "all Up") { world.allUp }
        #expect(world.violations == [])
    }

    @Test func anAgentThatIsStartedAnewHasItsTimeAnew() {
        let world = world()
        for _ in 0..<4 {
            world.machines["host1"]?.initializing = true
            world.run(100)
            world.machines["host1"]?.initializing = false
            world.run(3)
        }
        #expect(!world.statuses(of: "host1").contains(.nonOperational))
    }

    /// As it was before there was such a time, and as journals of then say.
    @Test func forEverWhereNoTimeIsSet() {
        let world = world { $0.policy.initializing = .zero }
        world.machines["host1"]?.initializing = true
        world.run(1000)
        #expect(world.status("host1") == .initializing)
    }
}
