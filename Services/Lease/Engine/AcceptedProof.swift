public import Messages

/// A proof that was verified, with what is known of its age.
public struct AcceptedProof: Codable, Hashable, Sendable {
    public var proof: Proof
    /// Age when it was received, as far as its sender knew.
    public var age: Duration
    public var receivedAt: Instant

    public init(proof: Proof, age: Duration, receivedAt: Instant) {
        self.proof = proof
        self.age = age
        self.receivedAt = receivedAt
    }
}
