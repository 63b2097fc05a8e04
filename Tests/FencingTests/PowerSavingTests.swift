@testable import FencingEngine
import Foundation
import HostAgentEngine
import Messages
import Testing

/// Powering empty hosts down, and on again.
@Suite struct PowerSavingTests {
    private func save(_ world: World, _ host: String = "host2", as id: RequestID = "save") { world.submit(.powerSave(id, HostRequest(host: host))) }

    private func savedWorld() -> World {
        let world = World()
        world.operatorActs = ["host2"]
        world.run(3)
        save(world)
        world.run(until: 20, "host2 is off") { world.accepted("save") && world.machines["host2"]?.powered == false }
        return world
    }

    @Test func itSaysGoodbyeIsSwitchedOffAndNotFenced() {
        let world = savedWorld()
        world.run(60)
        #expect(world.view("host2").powerSaving == .off && world.status("host2") == .down, "\(world.story)")
        #expect(world.view("host2").reason.contains("powered down to save power"))
        #expect(world.offs == ["host2": 1] && world.ons.isEmpty)
        #expect(world.proofs.map(\.kind) == [.powerOff])
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func itIsSwitchedOnAgainByPlacementOrAnOperator() {
        for request in [HostRequest(host: "host2", now: true, automatic: true), HostRequest(host: "host2", now: true)] {
            let world = savedWorld()
            world.run(10)
            world.submit(.power("on", .on, request))
            world.run(until: 30, "host2 is Up") { world.allUp && world.view("host2").incarnation.number == 2 }
            #expect(world.accepted("on") && world.view("host2").powerSaving == nil)
            #expect(world.violations == [], "\(world.story)")
        }
    }

    @Test func nothingAutomaticHappensInAHold() {
        let world = savedWorld()
        world.run(10)
        world.submit(.haHold("h", HoldRequest(why: "work")))
        world.submit(.power("on", .on, HostRequest(host: "host2", now: true, automatic: true)))
        save(world, "host1", as: "more")
        world.run(10)
        #expect(world.refusal("on") == FencingErrorCode.held.rawValue && world.refusal("more") != nil)
        #expect(world.ons.isEmpty && world.offs == ["host2": 1])
    }

    @Test func whoeverIsNotEmptySaysSoAndStaysUp() {
        let world = World()
        world.run(3)
        world.machines["host2"]?.isBusy = true
        save(world)
        world.run(3)
        #expect(world.refusal("save") == RequestErrorCode.conflict.rawValue && world.offs.isEmpty)
        #expect(world.allUp && world.view("host2").powerSaving == nil)
    }

    @Test func itIsRefusedWhereItMayNotBe() {
        let world = World(hosts: 4) { $0.machines["host3"]?.guid = "0" }
        world.run(3)
        var definition = world.definition(2)
        definition.powerSaving = false
        world.submit(.hostUpdate("u", definition))
        #expect(world.view("host2").powerSaving == .never)
        for (id, host) in [("forbidden", "host2"), ("foreign", "host3")] {
            save(world, host, as: id)
            #expect(world.refusal(id) == RequestErrorCode.conflict.rawValue)
        }
        world.machines["host4"]?.cut = true
        world.run(6)
        save(world, "host4", as: "silent")
        #expect(world.refusal("silent") != nil)
        world.goodbyesAreSlow = true
        save(world, "host1", as: "first")
        world.machines["host4"]?.cut = false
        world.run(until: 60, "host4 is well") { world.status("host4") == .up }
        save(world, "host4", as: "second")
        #expect(world.refusal("second") != nil && world.refusal("first") == nil, "one at a time")
    }

    /// It is called off, and may be given guests again.
    @Test(arguments: ["hold", "time"]) func whatComesBetweenItAndTheGoodbyeCallsItOff(_ what: String) {
        let world = World()
        world.run(3)
        world.goodbyesAreSlow = true
        save(world)
        world.run(3)
        #expect(world.status("host2") == .preparingForMaintenance)
        if what == "hold" { world.submit(.haHold("h", HoldRequest(why: "work"))) } else { world.run(118) }
        world.run(3)
        #expect(world.refusal("save") == RequestErrorCode.conflict.rawValue, "\(world.story)")
        #expect(world.allUp && world.offs.isEmpty && world.machines["host2"]?.leaving == nil)
    }

    @Test func anOffThatDoesNothingIsNotLeftAtThat() {
        let world = World()
        world.run(3)
        world.machines["host2"]?.bmc = .stuck
        save(world)
        world.run(until: 20, "answered") { world.replies["save"] != nil }
        world.run(10)
        #expect(world.refusal("save") == FencingErrorCode.agentFailed.rawValue)
        #expect(world.allUp && world.view("host2").powerSaving == nil, "\(world.story)")
    }

    /// At every moment: afterwards it is off and known to be, or Up.
    @Test(arguments: 0..<25) func fencingServiceMayDieAtAnyTime(tenths: Int) {
        let world = World()
        world.operatorActs = ["host2"]
        world.run(3)
        save(world)
        world.run(Double(tenths) / 10)
        world.restart()
        world.run(until: 90, "off or Up") {
            world.machines["host2"]?.powered == false ? world.view("host2").powerSaving == .off && world.status("host2") == .down && world.step("host2") == "proven" : world.allUp && world.machines["host2"]?.leaving == nil
        }
        world.run(30)
        #expect(world.offs["host2", default: 0] <= 1 && world.ons.isEmpty)
        #expect(world.violations == [], "\(world.story)")
    }

    // MARK: The agent

    private let caller = Caller(role: .service, from: "fencing-service", lineage: "l", term: 1)
    private let at = Instant(nanoseconds: 5_000_000_000)

    private func agent() -> HostAgentEngine {
        var agent = HostAgentEngine()
        _ = agent.handle(.started(AgentIdentity(host: "host2", hostID: 2, bootID: "b", hardwareID: "h", signingKey: "s", settle: .zero)), at: at)
        _ = agent.handle(.scanned([]), at: at)
        return agent
    }

    @Test func anEmptyHostSaysGoodbyeAfterALookAndOnlyThatIsCalledOff() {
        var agent = agent()
        let effects = agent.handle(.saveShutdown("s", caller), at: at)
        #expect(effects.contains { if case .perform(.scan) = $0 { true } else { false } })
        #expect(agent.heartbeat.leaving == .ending && agent.heartbeat.leavesToSave == true)
        let looked = agent.handle(.scanned([]), at: at)
        #expect(agent.heartbeat.leaving == .over && agent.heartbeat.leavesToSave == true)
        #expect(looked.contains { if case .reply("s", .success) = $0 { true } else { false } })
        _ = agent.handle(.saveCalledOff("c", caller), at: at)
        #expect(agent.heartbeat.leaving == nil)
        _ = agent.handle(.saveShutdown("s2", caller), at: at)
        _ = agent.handle(.shutdown("o", Caller(role: .operator_)), at: at)
        #expect(agent.heartbeat.leaving == .over, "an operator does not wait for the look")
        _ = agent.handle(.scanned([], others: ["process 7 (kvm)"]), at: at)
        _ = agent.handle(.saveCalledOff("c2", caller), at: at)
        #expect(agent.heartbeat.leaving == .over && agent.heartbeat.leavesToSave == nil, "an operator wants it, too")
    }

    /// Somebody has started it by hand since the last look.
    @Test(arguments: [[ScannedGuest(vm: "a", pid: 7)], []]) func whatTheLookFindsKeepsItOn(guests: [ScannedGuest]) {
        var agent = agent()
        _ = agent.handle(.saveShutdown("s", caller), at: at)
        let effects = agent.handle(.scanned(guests, others: guests.isEmpty ? ["process 7 (qemu-kvm)"] : nil), at: at)
        #expect(agent.heartbeat.leaving == nil)
        #expect(effects.contains { if case .reply("s", .refused(let error)) = $0 { error.message.contains("host2 is not empty") } else { false } })
    }

    /// A restart of the agent looks anew.
    @Test func theLookIsNotForgotten() throws {
        var agent = agent()
        _ = agent.handle(.saveShutdown("s", caller), at: at)
        agent = try JSONDecoder().decode(HostAgentEngine.self, from: JSONEncoder().encode(agent))
        _ = agent.handle(.started(AgentIdentity(host: "host2", hostID: 2, bootID: "b", hardwareID: "h", signingKey: "s", settle: .zero)), at: at)
        #expect(agent.heartbeat.leaving == .ending)
        _ = agent.handle(.scanned([]), at: at)
        #expect(agent.heartbeat.leaving == .over)
    }

    @Test func whatRunsThereKeepsIt() {
        func refuses(_ prepare: (inout HostAgentEngine) -> Void) -> Bool {
            var agent = agent()
            prepare(&agent)
            let effects = agent.handle(.saveShutdown("s", caller), at: at)
            return agent.heartbeat.leaving == nil && effects.contains { if case .reply("s", .refused) = $0 { true } else { false } }
        }
        #expect(!refuses { _ in })
        #expect(refuses { _ = $0.handle(.scanned([ScannedGuest(vm: "a", pid: 7)]), at: at) })
        #expect(refuses { _ = $0.handle(.lockspaces([AgentLockspace(lockspace: "d", state: .joined, generation: 1, generationBefore: nil, hasOtherHolders: true)]), at: at) })
        #expect(refuses { agent in
            _ = agent.handle(.fencePrepare("p", caller, FencePrepare(host: "host1", number: 1)), at: at)
            _ = agent.handle(.fenceRun("r", caller, FenceProxyRun(host: "host1", number: 1, ticket: at, action: .off, devices: [], deadline: .seconds(1))), at: at)
        })
    }
}
