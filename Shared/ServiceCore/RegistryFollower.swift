public import Messages

/// A service's copy of what fencing-service owns: hosts, with verified proofs, and whether recovery may act.
///
/// A view that is handed on carries the signed content of an acceptable proof, or none: nobody decides by anything else.
public struct RegistryFollower: Sendable {
    private var views: [String: HostView] = [:]

    public init() {}

    /// - Parameter verified: the proof with its signed content; `nil` if its maker is not pinned for it.
    public mutating func take(_ snapshot: FencingSnapshot, _ verified: (SignedProof) -> SignedProof?) -> RegistryNews {
        let hosts = snapshot.hosts.map { $0.checked(verified) }
        views = Dictionary(hosts.map { ($0.name, $0) }, uniquingKeysWith: { _, last in last })
        return .all(hosts, snapshot.ha)
    }

    /// `nil`: nothing is learned of it.
    public mutating func take(_ event: RegistryEvent, _ verified: (SignedProof) -> SignedProof?) -> RegistryNews? {
        switch event {
        case .host(let view): return news(of: view.checked(verified))
        case .removed(let name):
            views[name] = nil
            return .removed(name)
        case .proof(let signed):
            guard let proof = verified(signed), var view = views[proof.proof.host] else { return nil }
            view.proof = proof
            return news(of: view)
        case .proofRevoked(let host):
            guard var view = views[host] else { return nil }
            view.proof = nil
            return news(of: view)
        case .recovery(let state): return .recovery(state)
        }
    }

    private mutating func news(of view: HostView) -> RegistryNews {
        views[view.name] = view
        return .host(view)
    }
}

/// An event's value, where it comes without a frame: in one process.
extension Event: MessageBody {
    public func read<T: Decodable & Sendable>(_ type: T.Type) throws -> T {
        guard let value = body as? T else { throw RequestError(RequestErrorCode.malformed, "\(self.type) carries \(Swift.type(of: body)), not \(type)") }
        return value
    }
}
