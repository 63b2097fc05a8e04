import Foundation
import Messages
import Testing

@testable import PlacementEngine

/// What the shell finds acceptable: fencing-service's proofs, and of agents those about their own host.
private func verified(_ proof: SignedProof, _ sender: String?) -> SignedProof? {
    guard sender == nil ? proof.proof.kind != .ended : proof.proof.host == sender else { return nil }
    return proof
}

private func incarnation(_ number: UInt64) -> Incarnation { Incarnation(number) }

/// Inputs are compared as the journal would keep them.
private func same(_ input: PlacementEngine.Input?, _ expected: PlacementEngine.Input) throws -> Bool {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return try input.map(encoder.encode) == encoder.encode(expected)
}

@Suite struct ClusterFollowerTests {
    private let report = AgentVMs(host: "host1", bootID: "host1-1", complete: true, vms: [Bench.running("a", 1)])
    private let forged = World.ended("a", 1, "host2")

    @Test func onlyVerifiedProofsOfFencingServiceAreHandedOn() throws {
        var follower = ClusterFollower()
        let good = World.proof("host1", incarnation(1)), strange = World.proof("host2", incarnation(1))
        guard case .fencing(let snapshot) = follower.take(
            Bench.snapshot([Bench.host("host1", proof: good), Bench.host("host2", proof: forged), Bench.host("host3", proof: strange)]), verified)
        else { return #expect(Bool(false), "a snapshot is an input") }
        #expect(snapshot.hosts.map { $0.proof?.statement } == [good.statement, nil, nil])
        guard case .host(let view) = follower.take(.host(Bench.host("host1", proof: forged)), verified) else { return #expect(Bool(false), "a host is an input") }
        #expect(view.name == "host1" && view.proof == nil)
        #expect(follower.take(.proof(forged), verified) == nil)
        #expect(try same(follower.take(.proof(good), verified), .proof(good)))
        #expect(try same(follower.take(.proofRevoked(host: "host1"), verified), .proofRevoked(host: "host1")))
        #expect(try same(follower.take(.removed("host1"), verified), .hostRemoved("host1")))
        let state = HAState(enabled: false, hold: nil, recoveryAllowed: false)
        #expect(try same(follower.take(.recovery(state), verified), .ha(state)))
    }

    @Test func anAgentSpeaksForItselfOnly() {
        var follower = ClusterFollower()
        var report = report
        report.vms = [Bench.stopped("a", 1, by: "host1"), Bench.stopped("b", 1, by: "host2")]
        guard case .report(let checked) = follower.take(report, for: PlacementEngine(), verified) else { return #expect(Bool(false), "a report is an input") }
        #expect(checked.vms.map { $0.ended?.proof.host } == ["host1", nil])
    }

    /// A report that is known already counts again after whatever it may contradict.
    @Test(arguments: ["nothing", "snapshot", "host", "proof", "revoked", "removed", "forgotten", "recovery"])
    func aReportIsAnInputOnceAndAgainAfterNewsOfItsHost(news: String) {
        var follower = ClusterFollower()
        let engine = Bench(hosts: ["host1"]).engine
        _ = follower.take(Bench.snapshot([Bench.host("host1")]), verified)
        _ = follower.take(report, for: engine, verified)
        #expect(follower.take(report, for: engine, verified) == nil)
        switch news {
        case "snapshot": _ = follower.take(Bench.snapshot([Bench.host("host1", .nonResponsive)]), verified)
        case "host": _ = follower.take(.host(Bench.host("host1", .nonResponsive)), verified)
        case "proof": _ = follower.take(.proof(World.proof("host1", incarnation(1))), verified)
        case "revoked": _ = follower.take(.proofRevoked(host: "host1"), verified)
        case "removed": _ = follower.take(.removed("host1"), verified)
        case "forgotten": follower.forget("host1")
        case "recovery": _ = follower.take(.recovery(HAState(enabled: true, hold: nil, recoveryAllowed: true)), verified)
        default: _ = follower.take(.proof(forged), verified)
        }
        #expect((follower.take(report, for: engine, verified) != nil) == !["nothing", "recovery"].contains(news))
    }

    /// A report may come before fencing-service has told of its boot.
    @Test func aReportOfABootThatWasNotKnownCountsOnceItIs() throws {
        var follower = ClusterFollower()
        var bench = Bench(hosts: [])
        let early = AgentVMs(host: "host1", bootID: "host1-1", complete: true, vms: [Bench.stopped("a", 1, by: "host2")])
        if let input = follower.take(early, for: bench.engine, verified) { bench.feed(input) }
        #expect(follower.awaited(by: bench.engine, verified).isEmpty)
        if let input = follower.take(.host(Bench.host("host1")), verified) { bench.feed(input) }
        let awaited = follower.awaited(by: bench.engine, verified)
        #expect(awaited.count == 1)
        #expect(try same(awaited.first, Bench.report("host1", [Bench.stopped("a", 1, by: "host2", proven: false)])))
        for input in awaited { bench.feed(input) }
        #expect(follower.awaited(by: bench.engine, verified).isEmpty)
    }

    /// The filter has seen it; the engine, which has lost what it reported, has not.
    @Test func aRepeatedReportCountsWhileItsBootWaitsForOne() throws {
        var follower = ClusterFollower()
        _ = follower.take(report, for: PlacementEngine(), verified)
        #expect(follower.take(report, for: PlacementEngine(), verified) == nil)
        var waiting = Bench(hosts: [])
        waiting.feed(.host(Bench.host("host1")))
        #expect(try same(follower.take(report, for: waiting.engine, verified), .report(report)))
    }
}

@Test func anAnswerCarriesAProofOnlyIfItsAgentMayMakeIt() {
    func answer(_ result: Result<VMObservation, RequestError>) -> AgentAnswer { AgentAnswer(result) { verified($0, "host1") } }
    #expect(answer(.success(Bench.running("a", 1))) == .observed(Bench.running("a", 1)))
    #expect(answer(.success(Bench.stopped("a", 1, by: "host1"))) == .observed(Bench.stopped("a", 1, by: "host1")))
    #expect(answer(.success(Bench.stopped("a", 1, by: "host2"))) == .observed(Bench.stopped("a", 1, by: "host2", proven: false)))
    let error = RequestError(RequestErrorCode.unknownOutcome, "no reply")
    #expect(answer(.failure(error)) == .failed(error))
}
