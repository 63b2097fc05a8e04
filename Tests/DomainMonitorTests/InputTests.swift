import DomainMonitorEngine
import Foundation
import Messages
import Testing

/// Inputs are compared as the journal would keep them.
private func same(_ input: DomainInput?, _ expected: DomainInput) throws -> Bool {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return try input.map(encoder.encode) == encoder.encode(expected)
}

/// What becomes an input, and so is journaled: news only.
@Suite struct InputTests {
    private func view(_ number: Int, _ status: HostStatus = .up, reason: String = "") -> HostView {
        HostView(
            name: "host\(number)", id: number, status: status, reason: reason, incarnation: Incarnation(1), bootID: Bench.boot(number),
            endpoints: HostEndpoints(agentRequests: "a\(number)", agentEvents: "b", leaseRequests: "c", leaseEvents: "d"))
    }

    private func proof(_ number: Int) -> SignedProof {
        let proof = Proof(id: "p", kind: .powerOff, host: "host\(number)", hostID: number, incarnations: Incarnation(1), statement: "off")
        return SignedProof(proof: proof, statement: "p", signature: "", key: "")
    }

    @Test func newsOfTheRegistry() throws {
        let engine = Bench([Bench.host(1), Bench.host(2, .down)]).engine
        let allowed = HAState(enabled: true, hold: nil, recoveryAllowed: true)
        var proven = view(2, .down)
        proven.proof = proof(2)
        #expect(try same(engine.input(.all([view(1), proven], allowed)), .hosts([Bench.host(1), Bench.host(2, .down, over: 1)])), "each time: it is the whole registry")
        #expect(engine.input(.host(view(1))) == nil)
        #expect(engine.input(.host(view(1, reason: "another sentence"))) == nil)
        #expect(try same(engine.input(.host(view(1, .nonResponsive))), .host(Bench.host(1, .nonResponsive))))
        #expect(try same(engine.input(.host(view(3))), .host(Bench.host(3))))
        #expect(try same(engine.input(.host(proven)), .host(Bench.host(2, .down, over: 1))))
        #expect(try same(engine.input(.removed("host1")), .hostRemoved("host1")))
        #expect(engine.input(.recovery(allowed)) == nil)
    }

    @Test func reportsOfHosts() throws {
        var bench = Bench()
        func storage(_ boot: UInt64 = 1, ok: Bool? = true, latency: Duration = .milliseconds(2), lockspace: LockspaceState? = .joined) -> AgentStorage {
            AgentStorage(
                host: "host1", bootID: Bench.boot(1, boot),
                domains: [DomainProbe(domain: Bench.uuid, path: "/x", ok: ok, latency: latency, detail: ok == true ? "\(latency)" : "", lockspace: lockspace)])
        }
        let first = bench.engine.input(storage())
        #expect(try same(first, .report(host: "host1", HostReport(storage()))))
        if let first { bench.give(first) }
        #expect(bench.engine.input(storage()) == nil)
        #expect(bench.engine.input(storage(latency: .milliseconds(900))) == nil)
        for news in [storage(2), storage(ok: false), storage(ok: nil), storage(lockspace: nil)] { #expect(try same(bench.engine.input(news), .report(host: "host1", HostReport(news)))) }
    }

    @Test func answers() {
        let refused = RequestError(RequestErrorCode.conflict, "no")
        #expect(Answer(Result<Int, RequestError>.success(1)) == .done)
        #expect(Answer(Result<Int, RequestError>.failure(refused)) == .refused(refused))
        #expect(Answer(Result<Int, RequestError>.failure(RequestError(RequestErrorCode.unknownOutcome, "no reply"))) == .unanswered)
    }
}
