import CSodium
#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// Ed25519 under proofs: a proof is worth what its maker's pinned key is worth.
public enum ProofSigning {
    /// The signature covers the canonical JSON of the proof, which travels with it as text.
    public static func sign(_ proof: Proof, with keys: KeyFile) throws -> SignedProof {
        try Sodium.start()
        let canonical = try JSON.encode(proof)
        guard let secret = Hexadecimal.bytes(keys.signingSecret, count: Int(crypto_sign_ed25519_SECRETKEYBYTES)) else {
            throw RequestError(RequestErrorCode.invalid, "the signing key of \(keys.name) is damaged")
        }
        var signature = [UInt8](repeating: 0, count: Int(crypto_sign_ed25519_BYTES))
        guard crypto_sign_ed25519_detached(&signature, nil, Array(canonical), UInt64(canonical.count), secret) == 0 else {
            throw RequestError(RequestErrorCode.invalid, "the proof cannot be signed")
        }
        return SignedProof(
            proof: proof, statement: String(decoding: canonical, as: UTF8.self), signature: Hexadecimal.text(signature), key: keys.signingPublic)
    }

    /// The proof that was signed, read from its signed bytes; `nil` if the signature is wrong or its key is not pinned for a maker of this kind and host.
    ///
    /// `ended` is made by an agent of that very host, everything else by `fencing-service`.
    public static func verify(_ signed: SignedProof, allow: AllowList) -> Proof? {
        guard (try? Sodium.start()) != nil,
            let signature = Hexadecimal.bytes(signed.signature, count: Int(crypto_sign_ed25519_BYTES)),
            let key = Hexadecimal.bytes(signed.key, count: Int(crypto_sign_ed25519_PUBLICKEYBYTES))
        else { return nil }
        let statement = Array(signed.statement.utf8)
        guard crypto_sign_ed25519_verify_detached(signature, statement, UInt64(statement.count), key) == 0,
            let proof = try? JSON.decode(Proof.self, Data(statement))
        else { return nil }
        let makers = allow.entries.filter { $0.signing == Hexadecimal.text(key) }
        let isPinned = makers.contains { maker in
            switch proof.kind {
            case .ended: maker.role == .agent && maker.host == proof.host
            case .powerOff, .rebooted, .leaseExpired, .operatorConfirmed: maker.role == .service && maker.name == "fencing-service"
            }
        }
        return isPinned ? proof : nil
    }
}
