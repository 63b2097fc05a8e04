import Messages
import Testing

@testable import PlacementEngine

private let silent = Bench.host("host1", .nonResponsive)
private let proof1 = World.proof("host1", Incarnation(1))

/// A VM without leases has nothing but proofs: the run is in doubt again whichever proof ended it.
@Test func aRevokedProofBringsBackEveryRunItCovers() {
    var bench = Bench(hosts: ["host1"])
    bench.bringUp(Bench.vm("a", ha: false, leases: false))
    bench.feed(.host(Bench.host("host1", .reboot, proof: proof1)))
    #expect(bench.phase("a") == .down)
    var completed = proof1
    completed.proof.id = "p-host1-1-completed"
    completed.proof.generations["other"] = 1
    completed.statement = "completed"
    bench.feed(.proof(completed))
    bench.feed(.proofRevoked(host: "host1"))
    #expect(bench.phase("a") == .unknown)
    bench.feed(.host(Bench.host("host2")))
    bench.feed(Bench.report("host2", []))
    bench.start("a")
    #expect(bench.refusal?.code == PlacementErrorCode.notProven.rawValue && bench.starts == ["a.1@host1"])
}

/// That a later attempt was refused says nothing of the earlier run.
@Test func aRevokedProofBringsBackTheRunBeforeARefusedAttempt() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a", ha: false, leases: false), on: "host1")
    bench.feed(.host(Bench.host("host1", .reboot, proof: proof1)))
    bench.start("a")
    bench.answer("a", .failed(RequestError(AgentErrorCode.startFailed, "no")))
    #expect(bench.starts == ["a.1@host1", "a.2@host2"] && bench.engine.vms["a"]?.isOver == true)
    bench.feed(.proofRevoked(host: "host1"))
    #expect(bench.phase("a") == .unknown && bench.engine.vms["a"]?.run?.attempt == 1)
    bench.pass(.seconds(60))
    bench.start("a")
    #expect(bench.refusal?.code == PlacementErrorCode.notProven.rawValue && bench.starts.count == 2)
    bench.feed(.host(Bench.host("host1")))
    bench.answer("a", .observed(Bench.running("a", 1)))
    #expect(bench.phase("a") == .up && bench.engine.vms["a"]?.run?.host == "host1", "it is alive: it is taken back")
}

/// The doubt waits until the attempt that was made meanwhile is over, and outlives a removal of the VM.
@Test func aRevokedProofIsRememberedWhileALaterAttemptRuns() {
    var bench = Bench()
    let vm = Bench.vm("a", ha: false, leases: false)
    bench.bringUp(vm, on: "host1")
    bench.feed(.host(Bench.host("host1", .reboot, proof: proof1)))
    bench.start("a")
    bench.feed(.stop("s", VMRequest(vm: "a")))
    bench.answer("a", .observed(Bench.stopped("a", 2, by: "host2")))
    bench.feed(.remove("r", VMRequest(vm: "a")))
    bench.bringUp(vm, on: "host2")
    #expect(bench.phase("a") == .up)
    bench.feed(.proofRevoked(host: "host1"))
    #expect(bench.phase("a") == .up)
    bench.feed(Bench.report("host2", [Bench.stopped("a", 3, by: "host2")]))
    #expect(bench.phase("a") == .unknown && bench.engine.vms["a"]?.run?.attempt == 1)
    bench.feed(.proof(proof1))
    #expect(bench.engine.vms["a"]?.isOver == true)
}

/// Its view has no proof yet; that says nothing of the lives it had before it was forgotten.
@Test func aHostEnrolledAnewRevokesNothing() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a", ha: false), on: "host1")
    bench.feed(.proof(proof1))
    bench.feed(.hostRemoved("host1"))
    for _ in 1...2 { bench.feed(.host(Bench.host("host1", .initializing))) }
    #expect(bench.phase("a") == .down && bench.engine.vms["a"]?.isOver == true)
}

/// fencing-service's view takes a proof back too: its event may have been missed.
@Test func aViewWithoutTheProofRevokesIt() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a", ha: false), on: "host1")
    bench.feed(.proof(proof1))
    #expect(bench.phase("a") == .down)
    bench.feed(.host(Bench.host("host1")))
    #expect(bench.phase("a") == .unknown)
}

/// What a dead life was seen to run cannot keep the VM down for ever.
@Test(arguments: [false, true]) func aSightingEndsWithTheLifeItWasSeenIn(removed: Bool) {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    bench.feed(.host(silent))
    bench.feed(.proof(proof1))
    bench.answer("a", .observed(Bench.running("a", 2)))
    bench.feed(Bench.report("host1", [Bench.running("a", 1)]))
    bench.feed(Bench.report("host2", [Bench.stopped("a", 2, by: "host2")]))
    bench.feed(.host(Bench.host("host1", proof: proof1)))
    bench.pass(.seconds(60))
    #expect(bench.starts.count == 2, "the proof is older than what was seen: it does not end the doubt")
    bench.feed(removed ? .hostRemoved("host1") : .host(Bench.host("host1", incarnation: 2, proof: proof1)))
    #expect(bench.engine.vms["a"]?.sighting == nil && bench.starts.count == 3)
}

@Test func aProofEndsARunAndASightingOfItsHost() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"), on: "host1")
    bench.feed(Bench.report("host1", [Bench.running("a", 1), Bench.running("a", 7)]))
    #expect(bench.engine.vms["a"]?.sighting?.attempt == 7)
    bench.feed(.proof(proof1))
    #expect(bench.engine.vms["a"]?.sighting == nil && bench.starts.last == "a.2@host2")
}

@Test func whatRunsIsToBeStoppedFirst() {
    var bench = Bench()
    bench.bringUp(Bench.vm("a"))
    for input in [PlacementEngine.Input.remove("1", VMRequest(vm: "a")), .resetPowerState("2", VMRequest(vm: "a"))] {
        bench.feed(input)
        #expect(bench.refusal?.code == PlacementErrorCode.badState.rawValue && bench.refusal?.message.contains("stop it first: bulwark vm stop a") == true)
    }
    #expect(bench.phase("a") == .up)
}
