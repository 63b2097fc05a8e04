import Messages

/// What the coordinator keeps of a host: the part of ``HostView`` that an election rests on, so that news of free memory is no news.
public struct SPMHost: Codable, Hashable, Sendable {
    public var name: String
    public var id: Int
    public var status: HostStatus
    public var incarnation: Incarnation
    public var bootID: String?
    public var generations: [String: UInt64]
    /// Endpoint and key of its agent.
    public var agent: String
    public var key: String?
    public var priority: Int
    /// Verified by the shell.
    public var proof: SignedProof?
    /// As ``proof``.
    public var leaseProof: SignedProof?
    /// The open fence case in a few words.
    public var fenceCase: String?

    /// - Parameter view: its proofs are verified.
    public init(_ view: HostView) {
        name = view.name
        id = view.id
        status = view.status
        incarnation = view.incarnation
        bootID = view.bootID
        generations = view.generations
        agent = view.endpoints.agentRequests
        key = view.key
        priority = view.spmPriority
        proof = view.proof
        leaseProof = view.leaseProof
        fenceCase = view.fenceCase.map { "\($0.id) at step \($0.step): \($0.reason)" }
    }

    /// Whether this says something that `known` does not; the age of a proof is no news.
    public func isNews(to known: SPMHost?) -> Bool {
        guard var known else { return true }
        if known.proof?.statement == proof?.statement { known.proof = proof }
        if known.leaseProof?.statement == leaseProof?.statement { known.leaseProof = leaseProof }
        return known != self
    }

    /// Whether nobody expects an answer of it: only its return or a proof helps.
    var isSilent: Bool {
        switch status {
        case .nonResponsive, .down, .reboot, .kdumping, .error: true
        default: false
        }
    }

    /// Whether the SPM role should leave it.
    var isLeaving: Bool {
        switch status {
        case .preparingForMaintenance, .maintenance, .nonOperational: true
        default: false
        }
    }

    /// Why it cannot become SPM of a pool with this master domain; `nil` if it can.
    func unfit(master: String) -> String? {
        if status != .up { return "is \(status.rawValue)" }
        if priority < 0 { return "has SPM priority \(priority)" }
        if bootID == nil { return "has not told its boot id" }
        if generations[master] == nil { return "has not joined the lockspace of master domain \(master)" }
        return nil
    }
}

/// A proof and when it came here, so that its age can be told to others (S4).
struct HeldProof: Codable, Hashable, Sendable {
    var signed: SignedProof
    var since: Instant

    func aged(at now: Instant) -> SignedProof {
        var copy = signed
        copy.age = signed.age + (now - since)
        return copy
    }
}
