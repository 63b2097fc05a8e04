import Foundation
import Messages
import SPMEngine
import Testing

/// Inputs are compared as the journal would keep them.
private func same(_ input: SPMInput?, _ expected: SPMInput) throws -> Bool {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return try input.map(encoder.encode) == encoder.encode(expected)
}

/// What becomes an input, and so is journaled: news only.
@Suite struct InputTests {
    private func view(_ number: Int, _ status: HostStatus = .up, reason: String = "", proof: SignedProof? = nil) -> HostView {
        HostView(
            name: "host\(number)", id: number, status: status, reason: reason, incarnation: Incarnation(1), bootID: "boot\(number)-1", generations: [Bench.master: 1],
            endpoints: HostEndpoints(agentRequests: "a\(number)", agentEvents: "b", leaseRequests: "c", leaseEvents: "d"), proof: proof)
    }

    @Test func newsOfTheRegistry() throws {
        let proof = Bench.proof(2, through: 1)
        var older = proof
        older.age = .seconds(9)
        let engine = Bench([Bench.host(1), Bench.host(2, .down, proof: proof)], pool: false).engine
        #expect(try same(engine.input(.all([view(1)], Bench.hold)), .hosts([Bench.host(1)], Bench.hold)))
        #expect(engine.input(.host(view(1))) == nil)
        #expect(engine.input(.host(view(1, reason: "another sentence"))) == nil)
        #expect(try same(engine.input(.host(view(1, .nonResponsive))), .host(Bench.host(1, .nonResponsive))))
        #expect(try same(engine.input(.host(view(3))), .host(Bench.host(3))))
        #expect(engine.input(.host(view(2, .down, proof: older))) == nil, "the age of a proof is no news")
        #expect(try same(engine.input(.host(view(2, .down))), .host(Bench.host(2, .down))), "revoked")
        #expect(try same(engine.input(.removed("host1")), .hostRemoved("host1")))
        #expect(engine.input(.recovery(Bench.allowed)) == nil)
        #expect(try same(engine.input(.recovery(Bench.hold)), .recovery(Bench.hold)))
    }

    @Test func answers() {
        let refused = RequestError(RequestErrorCode.conflict, "no"), silence = RequestError(RequestErrorCode.unknownOutcome, "no reply")
        func role(_ result: Result<SPMRoleStatus, RequestError>) -> RoleAnswer { RoleAnswer(result) { $0.proof.host == "host1" ? $0 : nil } }
        func status(_ ended: SignedProof?) -> SPMRoleStatus { SPMRoleStatus(pool: "p", role: .free, term: 3, lver: 7, evidence: "test", ended: ended) }
        #expect(role(.success(status(Bench.ended(3)))) == .status(status(Bench.ended(3))))
        #expect(role(.success(status(Bench.ended(3, host: 2)))) == .status(status(nil)), "this agent may not make it")
        #expect(role(.failure(refused)) == .refused(refused))
        #expect(role(.failure(silence)) == .unanswered)
        let done = TaskResult(task: "t", detail: "made")
        #expect(TaskAnswer(.success(done)) == .finished(done))
        #expect(TaskAnswer(.failure(refused)) == .refused(refused))
        #expect(TaskAnswer(.failure(silence)) == .unanswered)
    }

    /// An agent does what comes under one id once; what is asked anew must not get an old answer.
    @Test func requestIDs() {
        let start = RoleAsk(.start, pool: "p", term: 3, host: "host1", bootID: "b")
        var next = start
        next.term = 4
        #expect(start.requestID(lineage: "l") == start.requestID(lineage: "l"))
        #expect(Set([start.requestID(lineage: "l"), next.requestID(lineage: "l"), start.requestID(lineage: "m")]).count == 3)
        #expect(RoleAsk(.status, pool: "p", term: 3, host: "host1", bootID: "b").requestID(lineage: "l") == nil)
    }
}
