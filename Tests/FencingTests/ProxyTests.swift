@testable import FencingEngine
import HostAgentEngine
import Messages
import Testing

/// Fence devices that are reached through other hosts.
@Suite struct ProxyTests {
    private func world(hosts: Int = 4) -> World {
        World(hosts: hosts) { world in for name in world.machines.keys { world.machines[name]?.via = .hosts } }
    }

    @Test func anotherHostThatAnswersRunsTheAgent() {
        let world = world()
        world.crash("host1")
        world.run(until: 60, "host1 is back") { world.proofs.contains { $0.host == "host1" } && world.allUp }
        #expect(!world.proxied.isEmpty && world.proxied.allSatisfy { $0.proxy == "host2" })
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func whatDoesNotReachTheDeviceIsPassedOverAtOnce() {
        let world = world()
        world.machines["host2"]?.reachesNoDevice = true
        world.crash("host1")
        world.run(until: 9, "proven over") { world.proofs.contains { $0.host == "host1" } }
        #expect(world.proxied.prefix(2).map(\.proxy) == ["host2", "host3"])
        let runs = world.engine.history(of: "host1").cases.flatMap { $0.runs ?? [] }
        #expect(runs.first?.via == "host2" && runs.first?.outcome == "failed" && runs.last?.via == "host3")
        world.run(until: 60, "all Up") { world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func ifNoneReachesItEachIsTriedOnceThenItWaits() {
        let world = world()
        for name in ["host2", "host3", "host4"] { world.machines[name]?.reachesNoDevice = true }
        world.crash("host1")
        world.run(8)
        #expect(world.proxied.map(\.proxy) == ["host2", "host3", "host4"])
        world.machines["host4"]?.reachesNoDevice = false
        world.run(until: 60, "all Up") { world.proofs.contains { $0.host == "host1" } && world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func aSuspectIsNoProxy() {
        let world = world()
        world.crash("host1")
        world.crash("host2")
        world.run(until: 120, "all Up") { world.proofs.count >= 2 && world.allUp }
        #expect(!world.proxied.contains { $0.proxy == "host1" && world.proofs.count < 1 })
        #expect(world.proxied.prefix(4).allSatisfy { $0.proxy == "host3" })
        #expect(world.violations == [], "\(world.story)")
    }

    /// Its agent is about to end, and a command with it.
    @Test func aHostThatIsPoweredDownToSavePowerIsNoProxy() {
        let world = world()
        world.goodbyesAreSlow = true
        for name in ["host3", "host4"] { world.machines[name]?.reachesNoDevice = true }
        world.submit(.powerSave("save", HostRequest(host: "host2")))
        world.run(until: 5, "it ends its guests") { world.view("host2").powerSaving == .leaving }
        let case1 = world.proxied.count
        world.crash("host1")
        world.run(30)
        #expect(world.proxied.count > case1 && world.proxied.dropFirst(case1).allSatisfy { $0.proxy != "host2" }, "\(world.story)")
        #expect(world.violations == [])
    }

    @Test func whoCarriesSomethingOutIsNotPoweredDown() {
        let world = world()
        world.freezesInACommand = "host2"
        world.crash("host1")
        world.run(until: 60, "its word is missing") { world.engine.hosts["host1"]?.owed?["host2"] != nil }
        #expect(world.engine.isBusyAsProxy("host2"))
        world.submit(.powerSave("save", HostRequest(host: "host2")))
        #expect(world.refusal("save") != nil)

        let other = self.world()
        other.machines["host1"]?.latency = .seconds(20)
        other.run(1)
        other.submit(.power("status", .status, HostRequest(host: "host1")))
        other.submit(.powerSave("save", HostRequest(host: "host2")))
        other.submit(.powerSave("other", HostRequest(host: "host3")))
        #expect(other.refusal("save") == RequestErrorCode.conflict.rawValue && other.refusal("other") == nil)
    }

    /// Proxies remember the numbers under which they worked for a name.
    @Test func numbersGoOnUnderTheNameOfAForgottenHost() {
        let world = world()
        world.operatorActs = ["host1"]
        world.submit(.power("off", .off, HostRequest(host: "host1")))
        world.run(until: 30, "proven over") { world.engine.hosts["host1"]?.isProvenDead == true && world.engine.hosts["host1"]?.run == nil }
        let before = world.engine.hosts["host1"]?.counter ?? 0
        world.submit(.hostForget("forget", HostForget(host: "host1")))
        var new = world.definition(1)
        new.key = "new"
        world.submit(.hostAdd("add", new))
        #expect(world.accepted("forget") && world.accepted("add"), "\(world.replies)")
        #expect(before > 5 && (world.engine.hosts["host1"]?.counter ?? 0) >= before)
    }

    @Test func withoutAnyOtherHostItSaysWhatIsMissing() {
        let world = world(hosts: 1)
        world.crash("host1")
        world.run(10)
        #expect(world.view("host1").fenceCase?.reason.contains("no other host answers") == true)
        #expect(world.offs["host1"] == nil && world.proxied.isEmpty)
        #expect(world.violations == [])
    }

    /// S18: the proxy freezes with the off in its hands. The host is fenced through another one, and not switched on before the first has been proven over, or says that nothing is left.
    @Test(arguments: [false, true]) func aLateOffOfAFrozenProxyNeverHitsAHostThatIsBack(thaws: Bool) {
        let world = world()
        world.freezesInACommand = "host2"
        world.machines["host1"]?.frozen = true
        world.run(until: 60, "the off is with host2") { world.proxied.contains { $0.action == .off } }
        if thaws {
            world.machines["host2"]?.bmc = .dead
            world.run(until: 90, "proven through host3") { world.step("host1") == "proven" }
            #expect(world.ons["host1"] == nil)
            #expect(world.view("host1").fenceCase?.reason.contains("host2 was told to switch it off") == true, "\(world.story)")
            world.machines["host2"]?.frozen = false
            world.machines["host2"]?.bmc = .works
            world.run(until: 30, "switched on") { world.ons["host1"] == 1 }
        }
        world.run(until: 300, "all Up") { world.proofs.contains { $0.host == "host1" } && world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    /// Its host was heard again meanwhile and reads on: it is not Up while the off may still come.
    @Test func aHostIsNotUpWhileAnOffMayStillComeToIt() {
        let world = world()
        world.freezesInACommand = "host2"
        world.machines["host1"]?.cut = true
        world.run(until: 60, "the off is with host2") { world.proxied.contains { $0.action == .off } }
        world.machines["host1"]?.cut = false
        world.run(5)
        #expect(world.status("host1") != .up, "\(world.story)")
        world.run(until: 300, "all Up") { world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func afterARestartOfTheServiceTheProxyStillOwesItsAnswer() {
        let world = world()
        world.freezesInACommand = "host2"
        world.machines["host1"]?.frozen = true
        world.run(until: 60, "the off is with host2") { world.proxied.contains { $0.action == .off } }
        world.restart()
        #expect(world.engine.hosts["host1"]?.owed?["host2"]?.action == .off)
        world.run(until: 300, "all Up") { world.proofs.contains { $0.host == "host1" } && world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    // MARK: Rehearsals

    private func rehearsal(_ world: World, _ id: RequestID) -> Rehearsal? {
        guard case .success(let body)? = world.replies[id] else { return nil }
        return body as? Rehearsal
    }

    @Test func aRehearsalTriesEveryHostThatCouldRunTheAgent() {
        let world = world()
        world.run(3)
        world.machines["host3"]?.reachesNoDevice = true
        world.submit(.rehearse("r", HostRequest(host: "host2")))
        world.run(3)
        #expect(world.proxied.map(\.proxy) == ["host3", "host4", "host1"])
        let found = rehearsal(world, "r")
        #expect(found?.ways == 1 && found?.devices.map { "\($0.via ?? "") \($0.outcome)" } == ["host3 failed", "host4 on", "host1 on"])
        #expect(found?.sentence == "host2 can be fenced in 1 way; level 1 through host4, host1, NOT through host3")
        #expect(world.engine.hosts["host2"]?.failedProxies == ["host3"] && world.engine.hosts["host2"]?.hasAnotherProxy == nil)
        #expect(world.offs.isEmpty && world.ons.isEmpty && world.allUp)
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func eachLevelIsTriedThroughEachOfThem() {
        let world = World { world in
            world.machines["host2"]?.via = .hosts
            world.machines["host2"]?.outlet = .works
        }
        world.run(3)
        world.submit(.rehearse("r", HostRequest(host: "host2")))
        world.run(3)
        let found = rehearsal(world, "r")
        #expect(found?.devices.map { "\($0.level) \($0.via ?? "manager")" } == ["1 host3", "1 host1", "2 manager"])
        #expect(found?.sentence == "host2 can be fenced in 2 independent ways; level 1 through host3, host1")
    }

    @Test func aDeadDeviceIsNotTheFaultOfThoseWhoTriedIt() {
        let world = world()
        world.run(3)
        world.machines["host2"]?.bmc = .dead
        world.submit(.rehearse("r", HostRequest(host: "host2")))
        world.run(3)
        #expect(rehearsal(world, "r")?.ways == 0 && world.engine.hosts["host2"]?.failedProxies == nil)
        #expect(world.decisions.last?.what == "cannot be fenced")
    }

    @Test func whoeverWantsItsPowerDoesNotWaitForTheRestOfARehearsal() {
        let world = world()
        world.run(3)
        world.submit(.rehearse("r", HostRequest(host: "host2")))
        world.submit(.power("now", .status, HostRequest(host: "host2")))
        #expect(world.refusal("now") == FencingErrorCode.busy.rawValue)
        world.run(0.5)
        #expect(world.refusal("r") == RequestErrorCode.unknownOutcome.rawValue && world.proxied.count == 1)
        world.submit(.power("then", .status, HostRequest(host: "host2")))
        world.run(1)
        #expect(world.accepted("then"))
    }

    // MARK: Whose the device is (S10)

    /// Nobody has vouched for it: it is read through another host, and through the next one if that does not reach it.
    @Test func aDeviceTellsThroughAnotherHostWhoseItIs() {
        let world = World(hosts: 3) { world in
            for name in world.machines.keys { world.machines[name]?.via = .hosts }
            world.machines["host2"]?.reachesNoDevice = true
        }
        world.run(until: 40, "host1 is verified") { world.engine.hosts["host1"]?.deviceVerified == true }
        world.machines["host2"]?.reachesNoDevice = false
        world.crash("host1")
        world.run(until: 60, "host1 is back") { world.proofs.contains { $0.host == "host1" } && world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    @Test func anotherMachinesDeviceIsFoundOutThroughAHostToo() {
        let world = World(hosts: 3) { world in
            let other = world.machines["host3"]?.hardwareID
            world.machines["host1"]?.via = .hosts
            world.machines["host1"]?.guid = other
        }
        world.run(until: 40, "host1's device is foreign") { world.engine.hosts["host1"]?.deviceIsForeign == true }
        world.machines["host1"]?.frozen = true
        world.run(20)
        #expect(world.offs["host1"] == nil && world.proofs.isEmpty)
        #expect(world.violations == [], "\(world.story)")
    }

    /// Nobody can ask it any more; what it was told does not begin after its time.
    @Test func aForgottenProxyIsWaitedForAsLongAsItMayBegin() {
        let world = world()
        world.freezesInACommand = "host2"
        world.machines["host1"]?.frozen = true
        world.run(until: 60, "the off is with host2") { world.proxied.contains { $0.action == .off } }
        world.restart()
        world.submit(.hostMaintenance("m", HostRequest(host: "host2")))
        world.submit(.hostForget("f", HostForget(host: "host2")))
        #expect(world.accepted("f"))
        world.run(until: 25, "proven through host3") { world.step("host1") == "proven" }
        world.run(3)
        #expect(world.ons["host1"] == nil, "\(world.story)")
        world.run(until: 30, "all Up") { world.ons["host1"] == 1 && world.allUp }
        #expect(world.violations == [], "\(world.story)")
    }

    /// A power command of an operator's, too.
    @Test func noOperatorsOnWhileAnOffMayStillCome() {
        let world = world()
        world.operatorActs = ["host1"]
        world.freezesInACommand = "host2"
        world.submit(.power("off", .off, HostRequest(host: "host1")))
        world.run(until: 120, "answered") { world.replies["off"] != nil }
        world.submit(.power("on", .on, HostRequest(host: "host1", now: true)))
        #expect(world.refusal("on") == FencingErrorCode.busy.rawValue)
    }
}

/// The proxy's side.
@Suite struct ProxyAgentTests {
    private let caller = Caller(role: .service, from: "fencing-service", lineage: "l", term: 1)
    private let device = FenceDevice(agent: "fence_ipmilan", address: "10.0.0.1", via: .hosts)
    private let at = Instant(nanoseconds: 5_000_000_000)

    private func agent() -> HostAgentEngine {
        var agent = HostAgentEngine()
        _ = agent.handle(.started(AgentIdentity(host: "host2", hostID: 2, bootID: "b", hardwareID: "h", signingKey: "s", settle: .zero)), at: at)
        return agent
    }

    private func prepare(_ agent: inout HostAgentEngine, _ number: UInt64, at now: Instant) -> FenceTicket? {
        for case .reply(_, .success(let body)) in agent.handle(.fencePrepare("p\(number)", caller, FencePrepare(host: "host1", number: number)), at: now) { return body as? FenceTicket }
        return nil
    }

    private func run(_ agent: inout HostAgentEngine, _ number: UInt64, _ ticket: Instant, at now: Instant) -> FenceProxyRun? {
        let run = FenceProxyRun(host: "host1", number: number, ticket: ticket, action: .off, devices: [device], deadline: .seconds(30))
        for case .perform(.fence(_, let left)) in agent.handle(.fenceRun("r\(number)", caller, run), at: now) { return left }
        return nil
    }

    @Test func aRunBeginsWithinItsDeadlineAfterTheTicket() {
        var agent = agent()
        let ticket = prepare(&agent, 7, at: at)
        #expect(ticket == FenceTicket(ticket: at, isIdle: true))
        #expect(run(&agent, 7, at, at: at + .seconds(10))?.deadline == .seconds(20))
        #expect(prepare(&agent, 8, at: at + .seconds(11))?.isIdle == false)
        _ = agent.handle(.fenceRan("r7", FenceProxyResult(parts: [])), at: at + .seconds(12))
        #expect(prepare(&agent, 9, at: at + .seconds(13))?.isIdle == true)
    }

    /// It stood still meanwhile, or the network did.
    @Test func oneThatComesLaterThanItsDeadlineIsRefused() {
        var agent = agent()
        _ = prepare(&agent, 7, at: at)
        #expect(run(&agent, 7, at, at: at + .seconds(30)) == nil)
    }

    @Test func oneThatALaterOneHasOvertakenIsRefused() {
        var agent = agent()
        _ = prepare(&agent, 7, at: at)
        _ = prepare(&agent, 8, at: at)
        #expect(run(&agent, 7, at, at: at) == nil)
        #expect(prepare(&agent, 7, at: at) == nil)
        #expect(run(&agent, 8, at, at: at) != nil)
        #expect(run(&agent, 8, at, at: at) == nil)
    }

    @Test func itReadsWhoseADeviceIsForOthersOnly() {
        var agent = agent()
        func actions(_ host: String) -> Bool {
            agent.handle(.fenceIdentify("i", caller, FenceIdentify(host: host, device: device)), at: at).contains { if case .perform(.identify("i", device)) = $0 { true } else { false } }
        }
        #expect(actions("host1") && !actions("host2"))
        let told = agent.handle(.fenceIdentified("i", FenceIdentity(guid: "ab", unsupported: false, detail: "")), at: at)
        guard case .reply("i", .success(let body)) = told.first else { return #expect(Bool(false), "\(told)") }
        #expect((body as? FenceIdentity)?.guid == "ab")
    }

    @Test func aHostRunsNoAgentForItself() {
        var agent = agent()
        let effects = agent.handle(.fencePrepare("p", caller, FencePrepare(host: "host2", number: 1)), at: at)
        guard case .reply(_, .refused) = effects.first else { return #expect(Bool(false), "\(effects)") }
    }
}
