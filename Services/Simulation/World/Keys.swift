import Messages

/// Who may state what: signatures are taken as unforgeable, so that a key stands for its owner.
struct Keys {
    static let fencing = "key-of-fencing-service"
    static func of(host: String, installation: Int = 1) -> String { installation == 1 ? "key-of-\(host)" : "key-of-\(host)-\(installation)" }

    /// What hosts are enrolled with, where it is not their first installation.
    private var enrolled: [String: (key: String, signingKey: String)] = [:]

    mutating func enrol(_ host: HostMachine) { enrolled[host.name] = (host.key, host.signingKey) }

    /// Whether who connects to a host of that name takes this machine for it.
    func isEnrolled(_ host: HostMachine) -> Bool { enrolled[host.name].map { $0.key == host.key } ?? (host.installation == 1) }

    func sign(_ proof: Proof, with key: String) -> SignedProof {
        SignedProof(proof: proof, statement: proof.id, signature: "signed", key: key)
    }

    /// As `ProofCheck`: the proof, if its key is its maker's. An agent speaks for itself only.
    ///
    /// - Parameter fencing: of the fencing-service that one believes.
    func verified(_ signed: SignedProof, from sender: String? = nil, fencing: String = Keys.fencing) -> SignedProof? {
        let maker = signed.proof.kind == .ended ? enrolled[signed.proof.host]?.signingKey ?? Self.of(host: signed.proof.host) : fencing
        guard signed.key == maker, signed.signature == "signed" else { return nil }
        if let sender, signed.proof.kind == .ended, signed.proof.host != sender { return nil }
        return signed
    }
}
