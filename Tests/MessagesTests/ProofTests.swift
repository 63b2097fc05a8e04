import Messages
import Testing

private func proof(_ kind: ProofKind) -> Proof {
    Proof(
        id: "p", kind: kind, host: "host2", hostID: 2, incarnations: Incarnation(3), generations: ["ls": 7], holder: "vm:web1:4", attempt: 4, statement: "test")
}

@Suite struct ProofTests {
    @Test(arguments: [ProofKind.powerOff, .rebooted, .operatorConfirmed]) func aHostsProofCoversItsLivesAndGenerationsUpToItsOwn(kind: ProofKind) {
        let proof = proof(kind)
        #expect(proof.covers(host: "host2", incarnation: Incarnation(3)) && proof.covers(host: "host2", incarnation: Incarnation(1)))
        #expect(!proof.covers(host: "host2", incarnation: Incarnation(4)) && !proof.covers(host: "host1", incarnation: Incarnation(1)))
        #expect(proof.covers(lockspace: "ls", hostID: 2, generation: 7))
        #expect(!proof.covers(lockspace: "ls", hostID: 2, generation: 8) && !proof.covers(lockspace: "other", hostID: 2, generation: 1))
        #expect(!proof.covers(lockspace: "ls", hostID: 3, generation: 1))
        #expect(!proof.covers(holder: "vm:web1:4", attempt: 4))
    }

    /// Whatever else an agent writes into it, its word is about one run.
    @Test func anEndedProofCoversOneRunAndNothingElse() {
        let proof = proof(.ended)
        #expect(proof.covers(holder: "vm:web1:4", attempt: 4) && !proof.covers(holder: "vm:web1:4", attempt: 5))
        #expect(!proof.covers(host: "host2", incarnation: Incarnation(1)))
        #expect(!proof.covers(lockspace: "ls", hostID: 2, generation: 1))
    }

    @Test func anExpiredLeaseSaysNothingOfGuests() {
        #expect(!proof(.leaseExpired).covers(host: "host2", incarnation: Incarnation(1)))
        #expect(proof(.leaseExpired).covers(lockspace: "ls", hostID: 2, generation: 7))
    }
}
