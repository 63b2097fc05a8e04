/// What kind of fact a proof states, and so who may make it.
public enum ProofKind: String, Codable, Sendable, CaseIterable {
    /// BMC status read off after our own off command, on a verified device. Made by fencing-service.
    case powerOff
    /// Same hardware id and key heard with a newer boot id. Made by fencing-service.
    case rebooted
    /// The owner's sector unchanged for the owner's own dead time, and an armed watchdog covered it. Made by fencing-service from a lease-service's observation.
    case leaseExpired
    /// Guest reaped, process group empty, its storage answered afterwards. Made by host-agent.
    case ended
    /// A person said so, naming case and incarnation. Made by fencing-service.
    case operatorConfirmed
}

/// The statement that a run is over. Demanded by type wherever something that ran elsewhere is started, taken over or re-elected (I3).
///
/// It covers what it names and nothing else: incarnations up to ``incarnations`` of ``host``; of each lockspace in ``generations`` the leases of ``hostID`` up to that generation;
/// for ``ProofKind/ended`` one attempt of one VM (or one term of the SPM role).
public struct Proof: Codable, Hashable, Sendable {
    public var id: String
    public var kind: ProofKind
    public var host: String
    /// The host's id in every lockspace (1...2000).
    public var hostID: Int
    /// Covers every incarnation up to and including this one; `nil` if it says nothing of incarnations (`ended`, `leaseExpired`).
    public var incarnations: Incarnation?
    /// Lockspace to the highest generation covered, read before the status that minted the proof (S9).
    public var generations: [String: UInt64]
    /// For `ended`: the VM (or `spm/<pool>`) and its attempt (or term).
    public var holder: String?
    public var attempt: UInt64?
    /// The fence case it closes.
    public var caseID: String?
    /// One sentence for people.
    public var statement: String
    /// RFC 3339, for people.
    public var time: String

    public init(
        id: String, kind: ProofKind, host: String, hostID: Int, incarnations: Incarnation? = nil, generations: [String: UInt64] = [:],
        holder: String? = nil, attempt: UInt64? = nil, caseID: String? = nil, statement: String, time: String = ""
    ) {
        self.id = id
        self.kind = kind
        self.host = host
        self.hostID = hostID
        self.incarnations = incarnations
        self.generations = generations
        self.holder = holder
        self.attempt = attempt
        self.caseID = caseID
        self.statement = statement
        self.time = time
    }

    /// Whether a run on this incarnation of this host is proven over.
    public func covers(host: String, incarnation: Incarnation) -> Bool {
        guard kind != .ended, kind != .leaseExpired, host == self.host, let incarnations else { return false }
        return incarnation <= incarnations
    }

    /// Whether this attempt of this VM (or term of this SPM role) is proven over by an `ended` proof.
    public func covers(holder: String, attempt: UInt64) -> Bool {
        kind == .ended && self.holder == holder && self.attempt == attempt
    }

    /// Whether a lease owned by this host id with this generation is proven to be without a living holder.
    public func covers(lockspace: String, hostID: Int, generation: UInt64) -> Bool {
        guard kind != .ended, hostID == self.hostID, let highest = generations[lockspace] else { return false }
        return generation <= highest
    }
}

/// A proof as it travels: the exact bytes that were signed, so that readers of other versions can verify what they cannot fully decode.
public struct SignedProof: Codable, Hashable, Sendable {
    /// The proof for readers; whoever *acts* on it decodes ``statement`` after verifying it and ignores this copy.
    public var proof: Proof
    /// Canonical JSON of the proof: what the signature covers.
    public var statement: String
    /// Ed25519 signature over the UTF-8 bytes of ``statement``, lower-case hexadecimal.
    public var signature: String
    /// The maker's public key, lower-case hexadecimal; accepted only if it is pinned for a maker of this kind.
    public var key: String
    /// How long ago it was made, as far as the sender knows; forwarders add theirs. For the domain's `settle` time (S4).
    public var age: Duration

    public init(proof: Proof, statement: String, signature: String, key: String, age: Duration = .zero) {
        self.proof = proof
        self.statement = statement
        self.signature = signature
        self.key = key
        self.age = age
    }
}
