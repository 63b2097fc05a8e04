/// The body of an event or a reply, read as what its type says it is.
public protocol MessageBody {
    /// - Throws: when it is not readable as this.
    func read<T: Decodable & Sendable>(_ type: T.Type) throws -> T
}

/// What fencing-service publishes about hosts and recovery, as far as others decide by it (topics `host.` and `ha.`).
public enum RegistryEvent: Sendable {
    case host(HostView)
    case removed(String)
    /// Not verified yet.
    case proof(SignedProof)
    /// The proof about this host does not hold any more.
    case proofRevoked(host: String)
    case recovery(HAState)

    /// `nil` for events that nobody decides by.
    ///
    /// - Throws: when the body cannot be read.
    public init?(_ type: String, _ body: some MessageBody) throws {
        switch type {
        case "host.status", "host.registered": self = .host(try body.read(HostView.self))
        case "host.removed": self = .removed(try body.read(HostView.self).name)
        case "host.proof": self = .proof(try body.read(HostProofEvent.self))
        case "host.proof-revoked": self = .proofRevoked(host: try body.read(HostProofEvent.self).proof.host)
        case "ha.state": self = .recovery(try body.read(HAState.self))
        default: return nil
        }
    }
}

/// What a service learns of the registry, in the order in which it happened. Its proofs are verified.
public enum RegistryNews: Sendable {
    /// The whole registry, after each (re)connection.
    case all([HostView], HAState)
    case host(HostView)
    case removed(String)
    case recovery(HAState)
}

extension HostView {
    /// The view with its proofs' signed content, or without those that are not acceptable or speak of another host.
    ///
    /// - Parameter verified: the proof with its signed content; `nil` if its maker is not pinned for it.
    public func checked(_ verified: (SignedProof) -> SignedProof?) -> HostView {
        var copy = self
        copy.proof = proof.flatMap(verified).flatMap { $0.proof.host == name ? $0 : nil }
        copy.leaseProof = leaseProof.flatMap(verified).flatMap { $0.proof.host == name && $0.proof.kind == .leaseExpired ? $0 : nil }
        return copy
    }
}
