public import Messages

/// One attempt of a VM, or one term of the SPM role, on this host.
///
/// | phase | how it is left |
/// |---|---|
/// | starting | guard seen running → running; refused → signing; ended, gone → quiescing |
/// | running | seen ending, unclear, ended or gone |
/// | ending | ended or gone → quiescing |
/// | unknown | whatever is seen next; never by time (I4) |
/// | quiescing | its storage answered → signing |
/// | signing | the `ended` proof is signed → over |
/// | over | a newer attempt takes its place |
///
/// A new boot of the machine ends every run: → signing.
struct Run: Codable, Sendable {
    enum Phase: Codable, Hashable, Sendable {
        case starting
        case running(pid: Int32, paused: Bool)
        case ending
        case unknown
        case quiescing
        case signing
        case over
    }

    var spec: GuardSpec
    var phase = Phase.starting
    /// How the phase is known.
    var evidence: String
    var lver: UInt64 = 0
    /// Requests that wait until it runs.
    var starters: [RequestID] = []
    /// Requests that wait until it is over.
    var enders: [RequestID] = []
    /// Why its guard was told to end it.
    var stop: String?
    /// It was told to end because this host shuts down.
    var endsWithHost: Bool?
    /// Since when its hypervisor says that an I/O error has paused it.
    var pausedSince: Instant?
    /// It went on after that, and has not been paused again.
    var resumedAt: Instant?
    /// Requests that wait for what comes of letting it go on.
    var resumers: [RequestID]?
    var proof: SignedProof?
    /// Hardware id of the machine that it was started on, if this agent's disk was copied or moved to another one since: what became of it there cannot be told here (S14).
    var leftOn: String?
    /// Its guest's QMP monitor does not answer.
    var isMute: Bool?

    var holder: Holder { spec.holder }

    /// A process of it may exist.
    var mayRun: Bool {
        switch phase {
        case .starting, .running, .ending, .unknown: true
        case .quiescing, .signing, .over: false
        }
    }

    var state: RunState {
        switch phase {
        case .starting: .starting
        case .running(_, let paused): paused ? .paused : .running
        // A start that fails is ended again by its guard: it was never seen running.
        case .ending: starters.isEmpty ? .running : .starting
        case .unknown: .unknown
        case .quiescing, .signing, .over: .stopped
        }
    }

    var pid: Int32? { if case .running(let pid, _) = phase { pid } else { nil } }
}

extension Holder {
    /// The VM or the pool, whatever the attempt: `vm:web1`.
    public var subject: String { "\(role.rawValue):\(name)" }
    /// How proofs name it.
    var proofName: String { role == .vm ? name : "spm/\(name)" }
    /// How decisions name it.
    var decisionSubject: String { role == .vm ? "vm/\(name)" : "spm/\(name)" }
}
