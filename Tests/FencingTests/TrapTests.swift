@testable import FencingEngine
import Messages
import Testing

/// The traps that fencing in virtualisation managers is known for, each a test of that name.
///
/// | trap                                                                                          | test |
/// |-----------------------------------------------------------------------------------------------|------|
/// | silence counts by time alone, or by a count alone: a pause or a burst fences                   | ``graceNeedsBothCountAndTime()`` |
/// | the SPM host and full hosts are slower, and are fenced for that                                | ``theSPMHostAndEachVMAddToTheGrace()`` |
/// | silence that is added up over heartbeats in between                                            | ``anyHeartbeatResetsTheGrace()`` |
/// | share of silent hosts: the suspect itself counted, so that of two hosts none is ever fenced    | ``inAClusterOfTwoTheOtherIsFenced()`` |
/// | share of silent hosts: rounded down, and compared with > instead of >=                         | ``theShareOfSilentHostsIsExact(hosts:silent:share:held:)`` |
/// | a lease that is live only because its host died a moment ago spares it for ever                | ``aLeaseThatWasLiveAtTheDeathSparesNobody()`` |
/// | a view of leases by a host that has not joined the lockspace is taken for an answer            | ``whoHasNotJoinedTheLockspaceSaysNothingOfItsLeases()`` |
/// | leases that cannot be read are taken for dead, or for live                                     | ``unavailableIsNeitherDeadNorLive(isDoubtful:)`` |
/// | one of two power supplies is off, and the host is called off                                   | ``redundantSuppliesMustAllBeOff()`` |
/// | status of several agents: off and an error are called off                                      | ``offAndAnErrorTogetherAreUnknown(outcomes:together:)`` |
/// | after its own start the manager fences everybody whom it does not hear                         | ``aRestartWhileNobodyIsHeardFencesNobody()`` |
/// | hosts that are silent when the manager starts are forgotten                                    | ``whoIsSilentAtTheStartIsLookedAtOnceItsGraceIsOver()`` |
/// | killed between off and on, the manager leaves the host off                                     | ``killedBetweenOffAndOnTheHostComesBack()`` |
/// | the agent of a host is dead, and its VMs are called dead                                       | ``aDeadAgentIsNoDeadHost()`` |
/// | a case that was skipped is never looked at again                                               | ``aSkippedCaseIsLookedAtAgain()`` |
///
/// Elsewhere: the owner of the SPM role that is unreachable, and generations of owners (SPMTests, LeaseTests); VMs after a monitor's end, and the order of restarts (HostAgentTests, PlacementTests).
@Suite struct FencingTraps {
    private func at(_ seconds: Double) -> Instant { Instant(nanoseconds: Int64(seconds * 1e9)) }

    private func beat(_ sequence: UInt64) -> AgentHeartbeat {
        AgentHeartbeat(
            host: "h", hostID: 1, bootID: "a", hardwareID: "x", sequence: sequence, initializing: false, watchdogArmed: false, lockspaces: [], unreapedGuards: [], memoryFreeMiB: 100)
    }

    /// When a host that was last heard at 0 is told to be silent.
    private func silence(_ policy: FencingPolicy, vms: Int = 0, isSPM: Bool = false) -> Double? {
        var liveness = HostLiveness(host: "h", policy: policy, deadBoots: [], startedAt: at(0))
        _ = liveness.onHeartbeat(beat(1), at: at(0))
        liveness.onLoad(vms: vms, isSPM: isSPM)
        while let wake = liveness.nextWake, wake < at(1000) {
            for case .silent in liveness.onWake(at: wake) { return Double(wake.nanoseconds) / 1e9 }
        }
        return nil
    }

    // MARK: Grace

    @Test func graceNeedsBothCountAndTime() {
        #expect(silence(FencingPolicy(heartbeat: .seconds(1), grace: .seconds(10), minimumMissed: 3)) == 10, "three were missed long before")
        #expect(silence(FencingPolicy(heartbeat: .seconds(5), grace: .seconds(10), minimumMissed: 3)) == 15, "the time was over before")
    }

    @Test func theSPMHostAndEachVMAddToTheGrace() {
        let policy = FencingPolicy(grace: .seconds(10), graceSPM: .seconds(20), gracePerVM: .milliseconds(500))
        #expect(silence(policy) == 10 && silence(policy, isSPM: true) == 30 && silence(policy, vms: 40) == 30 && silence(policy, vms: 40, isSPM: true) == 50)
    }

    @Test func anyHeartbeatResetsTheGrace() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(10)), deadBoots: [], startedAt: at(0))
        var told: [FencingInput] = []
        for number: UInt64 in 1...10 {
            _ = liveness.onHeartbeat(beat(number), at: at(Double(number) * 9.5))
            while let wake = liveness.nextWake, wake < at(Double(number + 1) * 9.5) { told += liveness.onWake(at: wake) }
        }
        #expect(told.count == 10 && told.allSatisfy { if case .missing = $0 { true } else { false } })
    }

    // MARK: Is it them or me?

    @Test func inAClusterOfTwoTheOtherIsFenced() {
        let world = World(hosts: 2)
        // Nobody's word but the manager's own: no renewals are seen to stop.
        world.leasesAnswer = false
        world.machines["host2"]?.frozen = true
        world.run(until: 20, "host2 is switched off") { world.offs["host2"] == 1 }
        world.run(until: 60, "host2 is back") { world.allUp }
        #expect(world.violations == [])
    }

    /// Of so many hosts so many are silent: whether the first of them is held.
    @Test(arguments: [
        (3, 2, 50, true), (3, 2, 51, false), (4, 2, 34, false), (4, 2, 33, true), (5, 3, 50, true), (5, 2, 50, false), (8, 4, 43, false), (8, 4, 42, true),
    ]) func theShareOfSilentHostsIsExact(hosts: Int, silent: Int, share: Int, held: Bool) throws {
        let world = World(hosts: hosts) { $0.policy.silentShare = share }
        world.leasesAnswer = false
        for number in 1...silent { world.machines["host\(number)"]?.cut = true }
        // Until the graces are over, and the power is read.
        world.run(8)
        let host = try #require(world.engine.hosts["host1"])
        let open = try #require(host.fenceCase)
        let hold = world.engine.census.counted == 0 ? world.heldNow(host, open) : world.engine.hold(host, open) != nil
        #expect(hold == held && (world.offs["host1"] == nil) == held, "\(world.story)")
    }

    @Test func aLeaseThatWasLiveAtTheDeathSparesNobody() {
        let world = World { $0.policy.sparesLiveLeases = true }
        world.machines["host2"]?.frozen = true
        // The grace is 5 s; a lease counts as live for 4 s after its last renewal, so that a renewal as late as the silence would spare it.
        world.machines["host2"]?.lastRenewal = world.now + .seconds(4)
        world.run(until: 30, "fenced once renewals were missed") { world.offs["host2"] == 1 }
        world.run(until: 60, "host2 is back") { world.allUp }
        #expect(world.violations == [])
    }

    @Test func whoHasNotJoinedTheLockspaceSaysNothingOfItsLeases() {
        let world = World()
        world.machines["host1"]?.storageCut = true
        world.machines["host2"]?.cut = true
        world.machines["host3"]?.cut = true
        world.run(60)
        #expect(world.offs.isEmpty && world.proofs.isEmpty)
        #expect(["host2", "host3"].allSatisfy { world.view($0).fenceCase?.reason.contains("no host that answers can see its lease renewals") == true }, "\(world.story)")
        #expect(world.violations == [])
    }

    /// Where the manager doubts its own view it waits for an answer; where it does not, it needs none.
    @Test(arguments: [true, false]) func unavailableIsNeitherDeadNorLive(isDoubtful: Bool) {
        let world = World { $0.policy.sparesLiveLeases = true }
        world.leasesAnswer = false
        world.machines["host2"]?.frozen = true
        if isDoubtful { world.machines["host3"]?.cut = true }
        world.run(60)
        #expect((world.offs["host2"] == nil) == isDoubtful, "\(world.story)")
        #expect(world.violations == [])
    }

    // MARK: Several agents

    @Test func redundantSuppliesMustAllBeOff() {
        let world = World { $0.machines["host2"]?.pair = .stuck }
        world.machines["host2"]?.frozen = true
        world.run(40)
        #expect(world.proofs.isEmpty && (world.offs["host2"] ?? 0) > 0 && world.status("host2") == .nonResponsive)
        world.machines["host2"]?.pair = .works
        world.run(until: 60, "host2 is back") { world.allUp && world.proofs.contains { $0.kind == .powerOff } }
        #expect(world.violations == [])
    }

    private static let error = FenceOutcome.failed("no answer")
    private static let late = FenceOutcome.timedOut("no answer")

    @Test(arguments: [
        ([.readsOff, .readsOff], PowerState.off), ([.readsOff, error], .unknown), ([error, .readsOff], .unknown), ([.readsOff, late], .unknown), ([error, error], .unknown),
        ([.succeeded, .readsOff], .on), ([.succeeded, error], .on), ([.readsOff], .off), ([error], .unknown), ([], .unknown),
    ] as [([FenceOutcome], PowerState)]) func offAndAnErrorTogetherAreUnknown(outcomes: [FenceOutcome], together: PowerState) {
        let devices = outcomes.indices.map { FenceDevice(agent: "fence_apc", address: "\($0)") }
        let device = devices.first ?? FenceDevice(agent: "fence_apc", address: "0")
        let run = FenceRun(id: "r", host: "h", action: .status, device: device, others: devices.count > 1 ? Array(devices.dropFirst()) : nil, deadline: .seconds(1))
        #expect(FenceOutcome.together(outcomes, of: run).powerState == together)
    }

    // MARK: The manager's own end

    @Test func aRestartWhileNobodyIsHeardFencesNobody() {
        let world = World(hosts: 5)
        for name in world.machines.keys { world.machines[name]?.cut = true }
        world.restart()
        world.run(60)
        #expect(world.offs.isEmpty && world.proofs.isEmpty)
        for name in world.machines.keys { world.machines[name]?.cut = false }
        world.run(until: 30, "all Up") { world.allUp }
        #expect(world.violations == [])
    }

    @Test func whoIsSilentAtTheStartIsLookedAtOnceItsGraceIsOver() {
        let world = World()
        world.stop()
        world.crash("host2")
        world.run(10)
        world.start()
        world.run(4.5)
        #expect(world.engine.hosts["host2"]?.fenceCase == nil, "it is listened to for a full grace first")
        world.run(until: 60, "fenced and back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.violations == [])
    }

    @Test func killedBetweenOffAndOnTheHostComesBack() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 30, "it is off") { world.machines["host2"]?.powered == false }
        world.stop()
        #expect(world.ons["host2"] == nil)
        world.run(30)
        world.start()
        world.run(until: 60, "host2 is back") { world.ons["host2"] == 1 && world.allUp }
        #expect(world.offs["host2"] == 1 && world.violations == [])
    }

    // MARK: What silence is not

    @Test func aDeadAgentIsNoDeadHost() {
        let world = World()
        world.machines["host2"]?.cut = true
        world.machines["host2"]?.bmc = .dead
        world.run(120)
        #expect(world.status("host2") == .nonResponsive && world.proofs.isEmpty && world.view("host2").proof == nil)
        world.machines["host2"]?.cut = false
        world.run(until: 20, "well again, in the same life") { world.allUp && world.view("host2").incarnation == Incarnation(1) }
        #expect(world.violations == [])
    }

    @Test func aSkippedCaseIsLookedAtAgain() {
        let world = World()
        world.submit(.haHold(world.request(), HoldRequest(why: "work on the switch", duration: .seconds(60))))
        world.machines["host2"]?.frozen = true
        world.run(50)
        #expect(world.step("host2") == "held" && world.offs.isEmpty)
        world.run(until: 40, "the hold is over, and it is fenced") { world.offs["host2"] == 1 }
        world.run(until: 60, "host2 is back") { world.allUp }
        #expect(world.violations == [])
    }
}

extension World {
    /// As the rules say between two inputs, when the engine keeps no census.
    func heldNow(_ host: HostRecord, _ open: FenceCase) -> Bool {
        var engine = engine
        engine.census = engine.takeCensus()
        return engine.hold(host, open) != nil
    }
}
