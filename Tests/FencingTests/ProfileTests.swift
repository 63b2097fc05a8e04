@testable import FencingEngine
import Messages
import Testing

@Suite struct ProfileTests {
    /// A policy as `fence.profile` makes it, with what single keys change.
    private func policy(_ profile: FencingProfile, _ change: (inout FencingPolicy) -> Void = { _ in }) -> FencingPolicy {
        var policy = FencingPolicy(profile: profile)
        switch profile {
        case .standard: break
        case .fast:
            policy.heartbeat = .milliseconds(500)
            policy.grace = .seconds(3)
            policy.agentTimeout = .seconds(2)
            policy.retry = .seconds(2)
        case .noHA: policy.grace = .seconds(600)
        }
        change(&policy)
        return policy
    }

    @Test(arguments: FencingProfile.allCases) func everyProfileKeepsItsOwnBudget(profile: FencingProfile) {
        #expect(policy(profile).clashes == [])
    }

    @Test func fastPromisesWhatItsNumbersAddUpTo() {
        #expect(policy(.fast).longestFailover == .seconds(8) && FencingProfile.fast.promise == .seconds(8))
    }

    /// What an operator changed, and words and numbers that must be in the refusal; none: it is accepted.
    private static let table: [(profile: FencingProfile, change: @Sendable (inout FencingPolicy) -> Void, words: [String])] = [
        (.standard, { $0.grace = .seconds(3) }, []),
        (.standard, { $0.grace = .milliseconds(2999) }, ["3 heartbeats of 1.0 s", "3.0 s", "liveness.grace, 2.999 s"]),
        (.standard, { $0.minimumMissed = 31 }, ["31 heartbeats", "31.0 s", "30.0 s"]),
        (.standard, { $0.minimumMissed = 1 }, ["liveness.minimumMissed is 1", "at least 2"]),
        (.standard, { $0.heartbeat = .zero }, ["liveness.heartbeat is 0.0 s"]),
        (.standard, { $0.agentTimeout = .milliseconds(500) }, ["fence.agentTimeout is 0.5 s"]),
        (.standard, { $0.retry = .zero }, ["fence.retry is 0.0 s"]),
        (.standard, { $0.gracePerVM = .seconds(1) }, []),
        (.standard, { $0.agentTimeout = .seconds(300) }, []),
        (.standard, { $0.kdumpLimit = .seconds(900); $0.kdumpQuiet = .milliseconds(500) }, ["fence.kdumpQuiet is 0.5 s"]),
        (.standard, { $0.kdumpLimit = .seconds(900) }, []),
        (.standard, { $0.nonOperational = .seconds(10) }, ["fence.nonOperational is 10.0 s", "liveness.grace, 30.0 s"]),
        (.standard, { $0.toolstackLost = .seconds(10) }, ["fence.toolstackLost is 10.0 s", "liveness.grace, 30.0 s"]),
        (.standard, { $0.toolstackLost = .seconds(30) }, []),
        (.fast, { $0.kdumpLimit = .seconds(900) }, ["fence.kdumpWait 30.0 s", "up to 38.0 s"]),
        (.fast, { $0.kdumpLimit = .seconds(900); $0.kdumpWait = .zero }, []),
        (.fast, { $0.agentTimeout = .seconds(1) }, []),
        (.fast, { $0.agentTimeout = .seconds(1); $0.grace = .seconds(5) }, []),
        (.fast, { $0.agentTimeout = .milliseconds(2001) }, ["fence.agentTimeout 2.001 s", "up to 8.002 s", "8.0 s of fence.profile fast", "leave fence.profile fast"]),
        (.fast, { $0.grace = .seconds(4) }, ["liveness.grace 4.0 s", "up to 9.0 s"]),
        (.fast, { $0.graceSPM = .seconds(20) }, ["liveness.graceSPM 20.0 s", "up to 28.0 s"]),
        (.fast, { $0.gracePerVM = .milliseconds(500) }, ["liveness.gracePerVM is 0.5 s for each VM"]),
        (.fast, { $0.heartbeat = .seconds(2) }, ["3 heartbeats of 2.0 s", "liveness.grace, 3.0 s", "up to 11.0 s"]),
        (.noHA, { $0.agentTimeout = .seconds(600) }, []),
    ]

    @Test(arguments: table.indices) func clashesAreToldInWordsWithNumbers(row: Int) {
        let (profile, change, words) = Self.table[row]
        let clashes = policy(profile, change).clashes
        #expect(clashes.isEmpty == words.isEmpty, "\(clashes)")
        for word in words { #expect(clashes.contains { $0.contains(word) }, "\(word) is in \(clashes)") }
    }

    @Test func theSettingsOfAProfileAreWhatTheTableSays() {
        #expect(FencingProfile.fast.settings["liveness.grace"] == "3s" && FencingProfile.fast.settings["liveness.heartbeat"] == "500ms")
        #expect(FencingProfile.noHA.settings == ["liveness.grace": "600s"] && FencingProfile.standard.settings.isEmpty)
    }

    // MARK: no-ha

    @Test func noHAShowsASilentHostAndDoesNothing() {
        let world = World { $0.policy = FencingPolicy(grace: .seconds(5), profile: .noHA) }
        world.machines["host2"]?.frozen = true
        world.run(120)
        #expect(world.status("host2") == .nonResponsive && world.step("host2") == "held")
        let reason = world.view("host2").fenceCase?.reason ?? ""
        #expect(reason.contains("fence.profile is no-ha") && reason.contains("host confirm-off"))
        #expect(world.offs.isEmpty && world.ons.isEmpty && world.proofs.isEmpty)
        #expect(!world.engine.haState.enabled && !world.engine.haState.recoveryAllowed)
        // A member that comes back is well again without anybody's help.
        world.machines["host2"]?.frozen = false
        world.run(until: 20, "Up again") { world.allUp }
        #expect(world.violations == [])
    }

    @Test func noHAHasTheOperatorConfirm() {
        let world = World { $0.policy = FencingPolicy(grace: .seconds(5), profile: .noHA) }
        world.machines["host2"]?.bmc = .dead
        world.crash("host2")
        world.run(30)
        let view = world.view("host2")
        #expect(world.step("host2") == "failed" && world.proofs.isEmpty)
        let id = world.request()
        world.submit(.confirmOff(id, ConfirmOff(host: "host2", caseID: view.fenceCase?.id ?? "", incarnation: view.incarnation, who: "ann", why: "saw it", checked: true)))
        world.run(1)
        #expect(world.accepted(id) && world.view("host2").proof?.proof.kind == .operatorConfirmed)
        #expect(!world.engine.haState.recoveryAllowed && world.offs.isEmpty && world.ons.isEmpty)
    }

    @Test func noHAFencesWhomAnOperatorNames() {
        let world = World { $0.policy = FencingPolicy(grace: .seconds(5), profile: .noHA) }
        world.machines["host2"]?.frozen = true
        world.run(20)
        world.submit(.fenceNow(world.request(), HostRequest(host: "host2")))
        world.run(until: 30, "proven off") { world.proofs.contains { $0.kind == .powerOff } }
        #expect(world.offs["host2"] == 1 && world.violations == [])
    }
}
