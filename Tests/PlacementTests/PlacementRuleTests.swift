import Messages
import Testing

@testable import PlacementEngine

private let silent = Bench.host("host1", .nonResponsive)
private let proof1 = World.proof("host1", Incarnation(1))

@Test func filtersGiveAReasonForEachHost() throws {
    var bench = Bench(hosts: ["host1", "host2", "host3", "host4", "host5", "host6"])
    bench.define(Bench.vm("a", memory: 1000, pin: ["host1", "host2", "host3", "host4", "host6"]))
    bench.feed(.host(Bench.host("host1", .maintenance)))
    bench.feed(.host(Bench.host("host2", memory: 999)))
    bench.feed(.host(Bench.host("host3", generations: ["other": 1])))
    bench.feed(.host(Bench.host("host4", incarnation: 2)))
    let reasons = try bench.engine.explainPlacement(of: "a")
    #expect(reasons.candidates == ["host6"])
    #expect(reasons.rejected["host1"]?.contains("Maintenance") == true)
    #expect(reasons.rejected["host2"]?.contains("999 MiB") == true)
    #expect(reasons.rejected["host3"]?.contains("lockspace dom") == true)
    #expect(reasons.rejected["host4"]?.contains("reported") == true)
    #expect(reasons.rejected["host5"]?.contains("pinned") == true)
    bench.feed(.host(Bench.host("host6", .nonOperational)))
    bench.start("a")
    #expect(bench.refusal?.code == PlacementErrorCode.noHost.rawValue && bench.refusal?.details?.count == 6)
    #expect(bench.phase("a") == .down)
}

@Test func fewestVMsThenName() {
    var bench = Bench(hosts: ["host1", "host2", "host3"])
    for name in ["a", "b", "c", "d"] { bench.bringUp(Bench.vm(name)) }
    #expect(bench.starts == ["a.1@host1", "b.1@host2", "c.1@host3", "d.1@host1"])
}

@Test func whatIsPlacedCountsAgainstMemoryThatWasReportedBefore() {
    var bench = Bench(hosts: ["host1"])
    bench.feed(.host(Bench.host("host1", memory: 100)))
    bench.pass(.seconds(1))
    bench.bringUp(Bench.vm("a"))
    bench.define(Bench.vm("b"))
    bench.start("b")
    #expect(bench.refusal?.details?["host1"]?.hasPrefix("36 MiB") == true)
}

/// S9: host, incarnation, boot and generations are in the state before the command leaves, and in the command.
@Test func theRunIsRecordedBeforeTheCommand() {
    var bench = Bench()
    bench.define(Bench.vm("a"))
    bench.feed(.proof(World.proof("host9", Incarnation(4))))
    bench.pass(.seconds(3))
    bench.start("a")
    #expect(bench.engine.vms["a"]?.run == VMRun(attempt: 1, host: "host1", incarnation: Incarnation(1), bootID: "host1-1", generations: ["dom": 1], leased: true))
    guard case .start(let target, let start, let id) = bench.actions.last else { Issue.record("no start"); return }
    #expect(target.bootID == "host1-1" && start.attempt == 1 && start.generations == ["dom": 1] && id == "j.start.a.1")
    #expect(start.proofs.map(\.age) == [.seconds(3)], "a proof is forwarded with the time it waited here (S4)")
}

@Test(arguments: RequestErrorCode.allCases.map(\.rawValue) + AgentErrorCode.allCases.map(\.rawValue) + LeaseErrorCode.allCases.map(\.rawValue) + ["new.code"])
func onlyARefusalThatLeavesNothingIsFollowedByAnotherHost(code: String) {
    var bench = Bench()
    bench.define(Bench.vm("a"))
    bench.start("a")
    bench.answer("a", .failed(RequestError(code: code, message: "test")))
    let harmless = [
        "vm.start-failed", "vm.still-here", "storage.not-connected", "request.timeout", "request.malformed", "request.too-large", "request.unknown-version",
        "request.unknown-type", "request.invalid", "proof.unacceptable", "vm.toolstack-down",
    ]
    if code == "proof.settling" {
        #expect(bench.starts == ["a.1@host1"] && bench.phase("a") == .waiting)
        bench.pass(.seconds(1))
        #expect(bench.starts == ["a.1@host1", "a.2@host1"], "the same host may accept once the settle time is over")
    } else if harmless.contains(code) || code.hasPrefix("lease.") || code.hasPrefix("lockspace.") {
        #expect(bench.starts == ["a.1@host1", "a.2@host2"])
    } else {
        #expect(bench.starts == ["a.1@host1"] && bench.phase("a") == .unknown)
    }
}

@Test func anHAVMIsTriedForEverAndAnotherOnlyOnce() {
    var bench = Bench()
    let failed = AgentAnswer.failed(RequestError(AgentErrorCode.startFailed, "no"))
    bench.define(Bench.vm("once", ha: false))
    bench.start("once")
    bench.answer("once", failed)
    bench.answer("once", failed)
    #expect(bench.phase("once") == .failed && bench.engine.vms["once"]?.reason.contains("host2 tried in this round: vm.start-failed") == true)
    bench.pass(.seconds(60))
    #expect(bench.starts.count == 2)
    bench.define(Bench.vm("ha"))
    bench.start("ha")
    for round in 1...8 {
        bench.answer("ha", failed)
        bench.answer("ha", failed)
        #expect(bench.phase("ha") == .waiting && bench.starts.count == 2 + 2 * round)
        bench.pass(min(.seconds(1 << round), .seconds(30)) - .milliseconds(1))
        #expect(bench.starts.count == 2 + 2 * round)
        bench.pass(.milliseconds(1))
        #expect(bench.starts.count == 3 + 2 * round)
    }
}

/// I4: silence, an unknown outcome, a stop without proof: nothing starts. I3: a proof about the run's incarnation opens the way, an older one does not.
@Test func unknownIsNotStopped() {
    var bench = Bench()
    bench.feed(.host(Bench.host("host1", incarnation: 2)))
    bench.feed(Bench.report("host1", incarnation: 2, []))
    bench.bringUp(Bench.vm("a"))
    bench.feed(.host(Bench.host("host1", .connecting, incarnation: 2)))
    #expect(bench.phase("a") == .up)
    bench.feed(.host(Bench.host("host1", .nonResponsive, incarnation: 2)))
    #expect((try? bench.engine.show("a"))?.status == .unknown && (try? bench.engine.show("a"))?.host == nil)
    bench.feed(.proof(proof1))
    bench.pass(.seconds(600))
    bench.start("a")
    #expect(bench.refusal?.code == PlacementErrorCode.notProven.rawValue)
    bench.feed(.resetPowerState("r", VMRequest(vm: "a")))
    #expect(bench.refusal?.code == PlacementErrorCode.notProven.rawValue)
    #expect(bench.starts == ["a.1@host1"])
    bench.feed(.proof(World.proof("host1", Incarnation(2))))
    #expect(bench.starts == ["a.1@host1", "a.2@host2"])
    #expect(bench.decisions.contains { $0.what == "start on host2" && $0.see.contains("host/host1") && $0.evidence["case"] == "host1-2-1" })
    bench.answer("a", .observed(Bench.running("a", 2)))
    #expect(bench.events.contains { $0.topic == "vm.recovered.a" })
}

/// A new life alone is no proof: fencing-service says so by `rebooted`.
@Test func aNewIncarnationAloneStartsNothing() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(.host(Bench.host("host1", incarnation: 2)))
    bench.feed(Bench.report("host1", incarnation: 2, []))
    bench.pass(.seconds(30))
    #expect(bench.phase("a") == .unknown && bench.starts.count == 1)
    bench.feed(.host(Bench.host("host1", incarnation: 2, proof: proof1)))
    #expect(bench.starts.count == 2)
}

@Test func heardAgainInTheSameLifeItIsObserved() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(.host(silent))
    bench.pass(.seconds(10))
    let before = bench.actions.count
    bench.feed(.host(Bench.host("host1")))
    guard bench.actions.count == before + 1, case .observe(_, VMAttempt(vm: "a", attempt: 1), _) = bench.actions.last else { Issue.record("not observed"); return }
    bench.answer("a", .observed(Bench.running("a", 1)))
    #expect(bench.phase("a") == .up && bench.starts.count == 1)
}

@Test func aCrashedGuestRestartsOnlyWithItsEndedProof() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.bringUp(Bench.vm("b", ha: false))
    bench.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host1", proven: false)]))
    #expect(bench.phase("a") == .unknown && bench.starts.count == 2)
    bench.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host2")]))
    #expect(bench.phase("a") == .unknown, "another host's proof says nothing")
    bench.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host1")]))
    #expect(bench.starts.last == "a.2@host1")
    bench.feed(Bench.report("host2", [Bench.stopped("b", 1, by: "host2")]))
    #expect(bench.phase("b") == .down && bench.starts.count == 3)
}

@Test func whatIsMissingFromACompleteReportIsAskedFor() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(Bench.report("host1", complete: false, []))
    bench.pass(.seconds(10))
    let before = bench.actions.count
    bench.feed(Bench.report("host1", []))
    #expect(bench.actions.count == before, "report and reply travel apart: not at once")
    bench.pass(.seconds(3))
    guard case .observe = bench.actions.last else { Issue.record("not observed"); return }
    #expect(bench.phase("a") == .up)
    bench.answer("a", .observed(Bench.stopped("a", 1, by: "host1")))
    #expect(bench.starts.count == 2)
}

@Test func whatAnOperatorStoppedStaysStopped() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(.stop("s", VMRequest(vm: "a")))
    guard case .stop(_, VMAttempt(vm: "a", attempt: 1), let first) = bench.actions.last else { Issue.record("no stop"); return }
    bench.feed(.answered(vm: "a", id: first, .failed(RequestError(RequestErrorCode.unknownOutcome, "no reply"))))
    bench.pass(.seconds(2))
    guard case .stop(_, _, let second) = bench.actions.last, second != first else { Issue.record("not told again"); return }
    bench.feed(.host(silent))
    #expect((try? bench.engine.show("a"))?.status == .unknown)
    bench.feed(.proof(proof1))
    bench.pass(.seconds(60))
    #expect(bench.phase("a") == .down && bench.starts.count == 1)
}

@Test func aHoldStopsRecoveryButNotTheOperator() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(.ha(HAState(enabled: true, hold: "work", recoveryAllowed: false)))
    bench.feed(.host(silent))
    bench.feed(.proof(proof1))
    bench.pass(.seconds(60))
    #expect(bench.phase("a") == .waiting && bench.starts.count == 1)
    bench.start("a")
    #expect(bench.refusal == nil && bench.starts.last == "a.2@host2")
    bench.answer("a", .observed(Bench.running("a", 2)))
    bench.feed(.host(Bench.host("host2", .nonResponsive)))
    bench.feed(.proof(World.proof("host2", Incarnation(1))))
    bench.feed(.host(Bench.host("host1", incarnation: 2, proof: proof1)))
    bench.feed(Bench.report("host1", incarnation: 2, []))
    #expect(bench.starts.count == 2)
    bench.feed(.ha(HAState(enabled: true, hold: nil, recoveryAllowed: true)))
    #expect(bench.starts.last == "a.3@host1")
}

@Test func aRevokedProofMakesItUnknownAgain() {
    var bench = Bench(hosts: ["host1"])
    bench.bringUp(Bench.vm("a"))
    bench.feed(.host(Bench.host("host1", .reboot, proof: proof1)))
    #expect(bench.phase("a") == .waiting)
    bench.feed(.proofRevoked(host: "host1"))
    #expect(bench.phase("a") == .unknown)
    bench.feed(.host(Bench.host("host2")))
    bench.feed(Bench.report("host2", []))
    bench.pass(.seconds(60))
    #expect(bench.starts.count == 1)
}

@Test func higherPriorityGoesFirstAndBlocksOnlyForATime() {
    var bench = Bench()
    for (name, priority) in [("low", 10), ("mid", 50), ("top", 90)] { bench.bringUp(Bench.vm(name, priority: priority, pin: ["host1"]), on: "host1") }
    bench.feed(.host(silent))
    bench.feed(.host(Bench.host("host1", incarnation: 2, proof: proof1)))
    #expect(bench.starts.count == 3)
    bench.feed(Bench.report("host1", incarnation: 2, []))
    #expect(bench.starts.suffix(1) == ["top.2@host1"])
    bench.answer("top", .observed(Bench.running("top", 2)))
    #expect(bench.starts.suffix(1) == ["mid.2@host1"])
    bench.pass(.milliseconds(2999))
    #expect(bench.starts.suffix(1) == ["mid.2@host1"])
    bench.pass(.milliseconds(1))
    #expect(bench.starts.suffix(1) == ["low.2@host1"], "mid is stuck; low has waited long enough")
}

/// What was lost at once is not started at once: each host has a few starts under way, and whoever is next follows each answer.
@Test func recoveryStartsFewAtATimeOnEachHostAndAnOperatorWaitsForNobody() {
    var bench = Bench()
    for number in 0..<10 { bench.bringUp(Bench.vm("vm\(number)"), on: "host1") }
    bench.define(Bench.vm("mine"))
    bench.feed(.host(silent))
    bench.feed(.proof(proof1))
    #expect(bench.starts.count == 10 + 4)
    #expect(bench.engine.list.vms.filter { $0.reason.contains("waits for its turn") }.count == 6)
    bench.start("mine")
    #expect(bench.starts.last == "mine.1@host2")
    bench.answer("vm0", .observed(Bench.running("vm0", 2)))
    #expect(bench.starts.count == 15, "mine takes the place")
    for number in 1..<5 { bench.answer("vm\(number)", .observed(Bench.running("vm\(number)", 2))) }
    #expect(bench.starts.count == 10 + 1 + 4 + 4)
    for number in 0..<10 { bench.answer("vm\(number)", .observed(Bench.running("vm\(number)", 2))) }
    for number in 0..<10 { bench.answer("vm\(number)", .observed(Bench.running("vm\(number)", 2))) }
    #expect(bench.starts.count == 10 + 1 + 10)
}

/// After a failure of all hosts the first that is back waits a moment for the others.
@Test func theFirstHostThatIsBackDoesNotGetEverything() {
    var bench = Bench(hosts: ["host1", "host2", "host3"])
    for number in 0..<6 { bench.bringUp(Bench.vm("vm\(number)"), on: "host1") }
    for host in ["host1", "host2", "host3"] { bench.feed(.host(Bench.host(host, generations: [:]))) }
    bench.feed(Bench.report("host1", (0..<6).map { Bench.stopped("vm\($0)", 1, by: "host1") }))
    bench.feed(.host(Bench.host("host1", generations: ["dom": 2])))
    #expect(bench.starts.count == 6)
    bench.feed(.host(Bench.host("host2", generations: ["dom": 2])))
    #expect(bench.starts.count == 6)
    bench.feed(.host(Bench.host("host3", generations: ["dom": 2])))
    #expect(bench.starts.suffix(6).map { String($0.suffix(5)) }.sorted() == ["host1", "host1", "host2", "host2", "host3", "host3"])
    var alone = Bench(hosts: ["host1", "host2"])
    alone.bringUp(Bench.vm("a"), on: "host1")
    for host in ["host1", "host2"] { alone.feed(.host(Bench.host(host, generations: [:]))) }
    alone.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host1")]))
    alone.feed(.host(Bench.host("host1", generations: ["dom": 2])))
    alone.pass(.milliseconds(4999))
    #expect(alone.starts.count == 1)
    alone.pass(.milliseconds(1))
    #expect(alone.starts.count == 2, "host2 does not come back: the rest is not kept waiting")
}

@Test func aVMIsPausedWithItsReason() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"), on: "host1")
    var paused = Bench.running("a", 1)
    paused.state = .paused
    paused.evidence = "an I/O error"
    bench.feed(Bench.report("host1", [paused]))
    let view = bench.engine.list.vms[0]
    #expect(view.status == .paused && view.reason == "paused on host1: an I/O error" && view.host == "host1")
    bench.feed(Bench.report("host1", [Bench.running("a", 1)]))
    #expect(bench.engine.list.vms[0].status == .up && bench.decisions.last?.what == "no longer paused on host1")
}

/// An older run that is alive is an alarm, and nothing is started while it lasts.
@Test func aRunThatShouldBeOverIsAnAlarm() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(.host(silent))
    bench.feed(.proof(proof1))
    bench.answer("a", .observed(Bench.running("a", 2)))
    bench.feed(.host(Bench.host("host1", proof: proof1)))
    bench.feed(Bench.report("host1", [Bench.running("a", 1)]))
    bench.pass(.seconds(3))
    #expect(bench.decisions.last?.what.hasPrefix("alarm") == true)
    bench.feed(Bench.report("host2", [Bench.stopped("a", 2, by: "host2")]))
    bench.pass(.seconds(60))
    #expect(bench.starts.count == 2)
    bench.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host1")]))
    #expect(bench.starts.count == 3)
}

/// I5, I7: after its own restart nothing is sent before fencing-service and the hosts were heard; an unanswered start is observed, never sent again.
@Test func afterItsOwnRestartItObservesFirst() {
    var bench = Bench()
    bench.define(Bench.vm("a"))
    bench.start("a")
    let before = bench.actions.count
    bench.feed(.started(PlacementPolicy(), lineage: "j"))
    bench.pass(.seconds(600))
    #expect(bench.actions.count == before && bench.phase("a") == .unknown)
    bench.feed(.fencing(Bench.snapshot([Bench.host("host1"), Bench.host("host2")])))
    guard bench.actions.count == before + 1, case .observe(_, VMAttempt(vm: "a", attempt: 1), _) = bench.actions.last else { Issue.record("not observed"); return }
    bench.answer("a", .observed(Bench.stopped("a", 1, by: "host1")))
    #expect(bench.starts.count == 1, "no host has reported")
    bench.feed(Bench.report("host2", []))
    #expect(bench.starts == ["a.1@host1", "a.2@host2"])
}

/// A report of the new boot that arrives before fencing-service has counted it is not taken for the old boot's.
@Test func aReportOfAnotherBootSaysNothing() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(Bench.report("host1", incarnation: 2, []))
    bench.pass(.seconds(30))
    #expect(bench.phase("a") == .up && bench.starts.count == 1)
    #expect(!bench.engine.awaitsReport(of: "host1-2", on: "host1"))
    bench.feed(.host(Bench.host("host1", incarnation: 2)))
    #expect(bench.engine.awaitsReport(of: "host1-2", on: "host1"))
}

/// A start by an operator that was waiting when the service restarted goes on when the hosts were heard; it does not fail for want of them.
@Test func aWaitingStartSurvivesARestart() {
    var bench = Bench(hosts: ["host1"])
    bench.define(Bench.vm("a", ha: false))
    bench.start("a")
    bench.answer("a", .failed(RequestError(LeaseErrorCode.settling, "wait")))
    bench.feed(.started(PlacementPolicy(), lineage: "j"))
    bench.pass(.seconds(2))
    bench.feed(.fencing(Bench.snapshot([Bench.host("host1")])))
    #expect(bench.phase("a") == .waiting)
    bench.feed(Bench.report("host1", []))
    #expect(bench.starts == ["a.1@host1", "a.2@host1"])
}

// MARK: Letting a paused VM go on

private func paused(_ vm: String, _ attempt: UInt64) -> VMObservation {
    VMObservation(vm: vm, attempt: attempt, state: .paused, evidence: "its hypervisor has paused it: an I/O error of its storage", pid: 7)
}

@Test func aResumeIsAnsweredByTheAgentOfTheRun() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(Bench.report("host1", [paused("a", 1)]))
    bench.lastReply = nil
    bench.feed(.resume("r1", VMRequest(vm: "a")))
    guard case .resume(let target, VMAttempt(vm: "a", attempt: 1), let id) = bench.actions.last else { Issue.record("not asked"); return }
    #expect(target.bootID == "host1-1" && bench.lastReply == nil)
    let before = bench.actions.count
    bench.feed(.resume("r2", VMRequest(vm: "a")))
    #expect(bench.actions.count == before && bench.engine.vms["a"]?.resuming?.askers == ["r1", "r2"])
    bench.feed(.answered(vm: "a", id: id, .failed(RequestError(AgentErrorCode.notResumed, "its lease is of host id 2"))))
    #expect(bench.refusal?.message == "its lease is of host id 2" && bench.phase("a") == .up)

    bench.feed(.resume("r3", VMRequest(vm: "a")))
    guard case .resume(_, _, let again) = bench.actions.last else { Issue.record("not asked"); return }
    bench.feed(.answered(vm: "a", id: again, .observed(Bench.running("a", 1))))
    guard case .success(let body)? = bench.lastReply, let view = body as? VMView else { Issue.record("\(String(describing: bench.lastReply))"); return }
    #expect(again != id && view.status == .up && bench.engine.vms["a"]?.resuming == nil)
}

@Test func whatIsNotUpIsNotResumedAndNobodyWaitsForEver() {
    var bench = Bench()
    bench.define(Bench.vm("a"))
    bench.feed(.resume("r", VMRequest(vm: "a")))
    #expect(bench.refusal?.code == PlacementErrorCode.badState.rawValue && bench.refusal?.message.contains("bulwark vm start a") == true)
    bench.start("a")
    bench.answer("a", .observed(Bench.running("a", 1)))
    bench.feed(.resume("r", VMRequest(vm: "b")))
    #expect(bench.refusal?.code == PlacementErrorCode.notFound.rawValue)
    bench.lastReply = nil
    // Its run is over before the agent answers; and a restart forgets what was asked.
    bench.feed(.resume("r", VMRequest(vm: "a")))
    bench.feed(Bench.report("host1", [Bench.stopped("a", 1, by: "host1")]))
    #expect(bench.refusal?.code == PlacementErrorCode.badState.rawValue && bench.engine.vms["a"]?.resuming == nil)
    bench.answer("a", .observed(Bench.running("a", 2)))
    bench.feed(.resume("r", VMRequest(vm: "a")))
    bench.feed(.started(PlacementPolicy(), lineage: "j"))
    #expect(bench.refusal?.code == RequestErrorCode.unknownOutcome.rawValue)
    let before = bench.actions.count
    bench.feed(.resume("r", VMRequest(vm: "a")))
    #expect(bench.refusal?.code == PlacementErrorCode.badState.rawValue && bench.actions.count == before)
}
