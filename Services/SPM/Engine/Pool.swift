import Messages

/// One election: a host was, or may have been, told to serve. Journaled before the command is sent (S9); it ends only by release, refusal or proof (I2, I3).
public struct Term: Codable, Hashable, Sendable {
    public enum Phase: String, Codable, Sendable {
        /// `spm.start` was sent; no answer yet.
        case starting
        /// Nobody knows whether the host serves: `spm.status` until it answers.
        case asking
        case serving
        /// `spm.stop` until the host says that nothing of the term remains.
        case stopping
    }

    public var number: UInt64
    public var host: String
    public var hostID: Int
    public var incarnation: Incarnation
    public var bootID: String
    public var generations: [String: UInt64]
    public var phase: Phase = .starting
    /// Version of lease SDM; 0 until the host serves.
    public var lver: UInt64 = 0
    /// When it was first known to serve.
    public var electedAt: Instant?
    /// A question or command is on its way.
    var inFlight = true
    /// When to ask next.
    var askAt: Instant
    /// Questions without a useful answer in a row.
    var missed = 0
    /// What the last unhelpful answer was.
    var detail = ""

    /// Whether this proof says that the term is over: its incarnation, its attempt, or its membership of the master's lockspace.
    func isOver(by proof: Proof, pool: String, master: String) -> Bool {
        if proof.covers(host: host, incarnation: incarnation) { return true }
        if proof.covers(holder: "spm/\(pool)", attempt: number) { return true }
        guard let generation = generations[master] else { return false }
        return proof.covers(lockspace: master, hostID: hostID, generation: generation)
    }
}

/// A storage pool and its SPM role.
public struct Pool: Codable, Sendable {
    /// Why the next election happens: what an operator asked for goes on while recovery is held.
    enum Trigger: String, Codable, Sendable { case requested, recovery }

    public var name: String
    /// Uuid of the master domain.
    public var master: String
    /// Number of the last election.
    public var lastTerm: UInt64 = 0
    /// The only term that is not over; no other begins before it is.
    public var term: Term?
    var trigger: Trigger = .requested
    /// Elected first if it is fit; used once.
    var preferred: String?
    /// Hosts that refused since the last success, and why.
    var refusals: [String: String] = [:]
    /// Host to the last term it was given: the least recently used comes first.
    var used: [String: UInt64] = [:]
    /// Back-off: no election before.
    var notBefore: Instant?
    var backoffReason = ""
    var failedRounds = 0
    var shortTerms = 0
    /// The `ended` proof of the last term, if its agent gave one: opens the lease it may have left.
    var ended: HeldProof?
    /// As last published.
    public var view: PoolView

    init(_ request: PoolCreate) {
        name = request.pool
        master = request.master
        view = PoolView(
            pool: name, master: master, status: .nonResponsive, spm: nil, incarnation: nil, term: 0, lver: 0, reason: "created; looks for its first SPM")
    }
}
