import Messages
import ServiceCore
import Testing

private let allowed = HAState(enabled: true, hold: nil, recoveryAllowed: true)

private func host(_ name: String, _ status: HostStatus = .up, proof: SignedProof? = nil) -> HostView {
    HostView(
        name: name, id: 1, status: status, reason: "", incarnation: Incarnation(1),
        endpoints: HostEndpoints(agentRequests: "a", agentEvents: "b", leaseRequests: "c", leaseEvents: "d"), proof: proof)
}

/// - Parameter signed: what its statement says it is about; `nil`: it has no acceptable signature.
private func proof(_ host: String, signed: String?) -> SignedProof {
    let proof = Proof(id: "p", kind: .powerOff, host: host, hostID: 1, incarnations: Incarnation(1), statement: "off")
    return SignedProof(proof: proof, statement: signed ?? "", signature: "", key: "")
}

/// As the shell's: what counts is what was signed, not the copy for readers.
private func verified(_ proof: SignedProof) -> SignedProof? {
    guard !proof.statement.isEmpty else { return nil }
    var checked = proof
    checked.proof.host = proof.statement
    return checked
}

@Suite struct RegistryFollowerTests {
    /// `all: host1 host2+`, `host1 Up`, `host1 Up+`, `-host1`, `recovery`; `+`: with a proof.
    private func words(_ news: RegistryNews?) -> String? {
        func word(_ view: HostView) -> String { "\(view.name) \(view.status.rawValue)\(view.proof.map { "+\($0.proof.host)" } ?? "")" }
        return switch news {
        case .all(let views, let recovery): "all \(recovery.recoveryAllowed): " + views.map(word).joined(separator: ", ")
        case .host(let view): word(view)
        case .removed(let name): "-\(name)"
        case .recovery(let state): "recovery \(state.recoveryAllowed)"
        case nil: nil
        }
    }

    private func snapshot(_ hosts: [HostView]) -> FencingSnapshot { FencingSnapshot(hosts: hosts, cases: [], ha: allowed, signingKey: "") }

    @Test func aViewCarriesAnAcceptableProofOfItsOwnHostOrNone() {
        var follower = RegistryFollower()
        let hosts = [
            host("host1"), host("host2", .down, proof: proof("host2", signed: "host2")), host("host3", .down, proof: proof("host3", signed: nil)),
            host("host4", .down, proof: proof("host4", signed: "host2")),
        ]
        #expect(words(follower.take(snapshot(hosts), verified)) == "all true: host1 Up, host2 Down+host2, host3 Down, host4 Down")
        #expect(words(follower.take(.host(hosts[1]), verified)) == "host2 Down+host2")
        #expect(words(follower.take(.host(hosts[3]), verified)) == "host4 Down")
    }

    @Test func aProofChangesTheViewOfTheHostThatItIsSignedFor() {
        var follower = RegistryFollower()
        _ = follower.take(snapshot([host("host1", .down), host("host2")]), verified)
        #expect(words(follower.take(.proof(proof("host1", signed: nil)), verified)) == nil)
        #expect(words(follower.take(.proof(proof("host1", signed: "stranger")), verified)) == nil)
        #expect(words(follower.take(.proof(proof("host2", signed: "host1")), verified)) == "host1 Down+host1")
        #expect(words(follower.take(.proofRevoked(host: "host1"), verified)) == "host1 Down")
        #expect(words(follower.take(.proofRevoked(host: "stranger"), verified)) == nil)
    }

    @Test func whatIsGoneIsForgotten() {
        var follower = RegistryFollower()
        _ = follower.take(snapshot([host("host1"), host("host2")]), verified)
        #expect(words(follower.take(.removed("host1"), verified)) == "-host1")
        #expect(words(follower.take(.proof(proof("host1", signed: "host1")), verified)) == nil)
        _ = follower.take(snapshot([host("host1")]), verified)
        #expect(words(follower.take(.proof(proof("host2", signed: "host2")), verified)) == nil, "not in the newest snapshot")
        #expect(words(follower.take(.recovery(HAState(enabled: true, hold: "now", recoveryAllowed: false)), verified)) == "recovery false")
    }
}

@Suite struct RegistryEventTests {
    private func event(_ type: String, _ body: any Encodable & Sendable) throws -> String? {
        switch try RegistryEvent(type, Event(type, body: body)) {
        case .host(let view): "host \(view.name)"
        case .removed(let name): "removed \(name)"
        case .proof(let signed): "proof \(signed.proof.host)"
        case .proofRevoked(let host): "revoked \(host)"
        case .recovery(let state): "recovery \(state.enabled)"
        case nil: nil
        }
    }

    @Test func theTypeOfAnEventSaysWhatItsBodyIs() throws {
        let about = host("host1"), signed = proof("host2", signed: "host2")
        #expect(try event("host.status", about) == "host host1")
        #expect(try event("host.registered", about) == "host host1")
        #expect(try event("host.removed", about) == "removed host1")
        #expect(try event("host.proof", signed) == "proof host2")
        #expect(try event("host.proof-revoked", signed) == "revoked host2")
        #expect(try event("ha.state", allowed) == "recovery true")
        #expect(try event("power.state", about) == nil)
        #expect(throws: RequestError.self) { try event("host.status", allowed) }
    }
}
