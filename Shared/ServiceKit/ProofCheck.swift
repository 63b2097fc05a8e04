public import Bus
public import Messages

/// Verifies proofs before the engine sees them: it acts on signed statements of pinned makers only.
@ReactorActor
public final class ProofCheck {
    /// Told what is wrong with the last proof that was not acceptable; `nil` when one was.
    public var onProblem: @ReactorActor (String?) -> Void = { _ in }

    private let allowListPath: String
    private var allow: AllowList?
    private var rereadAt: Instant?

    /// - Parameter allowListPath: read again for hosts enrolled later.
    public init(security: BusSecurity?, allowListPath: String) {
        allow = security?.allow
        self.allowListPath = allowListPath
    }

    /// The proof with its signed content in place of the readable copy; `nil` if its maker is not pinned for it.
    ///
    /// - Parameter sender: for `ended` proofs the host that sent it: an agent speaks for itself only.
    public func verified(_ signed: SignedProof, from sender: String? = nil) -> SignedProof? {
        guard let proof = content(of: signed), sender == nil || proof.host == sender else {
            onProblem("proof \(signed.proof.id) about \(signed.proof.host) is not signed by a maker that is pinned for it; it is ignored")
            return nil
        }
        onProblem(nil)
        var copy = signed
        copy.proof = proof
        return copy
    }

    /// A host that was enrolled after this service began is in the allow-list's file by now.
    private func content(of signed: SignedProof) -> Proof? {
        if let allow, let proof = ProofSigning.verify(signed, allow: allow) { return proof }
        let now = Clock.boottime()
        if let rereadAt, now - rereadAt < .seconds(1) { return nil }
        rereadAt = now
        guard let fresh = try? AllowList.load(allowListPath) else { return nil }
        allow = fresh
        return ProofSigning.verify(signed, allow: fresh)
    }
}
