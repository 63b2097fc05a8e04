import Messages

/// One open fence case: from the suspicion until the host is Up again, in maintenance or forgotten. It is never given up (see ``FencingEngine``).
struct FenceCase: Codable, Hashable, Sendable {
    var id: String
    /// The life it is about.
    var incarnation: Incarnation
    var cause: Cause
    var step = Step.observing
    var reason: String
    /// The last reason to be held or failed that was recorded as a decision: retries do not record it again.
    var told: String?
    /// The `off` of this case was sent.
    var offSent = false
    /// The levels through which it was sent, the latest last; `nil`: nobody noted that.
    var offLevels: [Int]?
    /// The device last read off: if it reads on next, somebody has switched the machine on.
    var readOff: Bool?
    /// That of this level; `nil` is 0.
    var readOffLevel: Int?
    /// A proof covers ``incarnation``; what is left is to bring the host back.
    var proven = false
    /// The power-on part was entered: the host is to boot.
    var booting = false
    var bootDeadline: Instant?

    /// Generations read after the off (S9).
    var sectors: [String: UInt64] = [:]
    /// The readers that have not answered the question ``serial``.
    var readers: [String] = []
    var serial: UInt64 = 0
    /// What the readers asked by ``serial`` saw of the suspect's renewals.
    var renewalsStopped = false
    var renewalsSeen = false
    /// Readings done since the proof that still lacks lockspaces.
    var readings = 0
    /// The silence may have been the manager's own (S17): once nothing speaks for that any more, the host is listened to for a full grace before its off.
    var doubted = false
    /// The reading is evidence for S17, not for a proof.
    var readsForEvidence = false
    /// How many levels failed in a row.
    var failedLevels: Int?

    // For people
    var openedAt: Instant?
    var steps: [FenceCaseView.Moment]?
    var runs: [FenceRunView]?
    var runBeganAt: Instant?

    /// Until when it may be heard after its agent was restarted; set once.
    var softUntil: Instant?
    /// Until when the first sign of a crash dump is awaited; set once.
    var dumpAwaitedUntil: Instant?
    /// Until when a crash dump is waited for at most; set once.
    var dumpUntil: Instant?
    /// Until when its devices' delay lasts; set once.
    var delayedUntil: Instant?
    /// Levels that were switched on, or read on, since the case began to bring it back, in order.
    var levelsOn: [Int]?

    var voters: [String] = []
    /// Some agent other than the suspect answered that it does not obey.
    var refusedBy: String?

    enum Cause: String, Codable, Hashable, Sendable {
        /// No heartbeat for the grace.
        case silent
        /// What ran with lost leases could not be ended, or not proven over, for the grace, although heartbeats come (S13, S4).
        case unreaped
        /// It answers and has not been operational for `fence.nonOperational`.
        case nonOperational
        /// `fence.now`.
        case operatorAsked
        /// A life that was proven over gave a sign.
        case proofRevoked
        /// It said goodbye and is silent (S19): its power status is read until it is off, and it is never switched off or on.
        case shutDown
        /// Its hypervisor could not be controlled for as long as the policy allows, although its agent answers and has tried to restore it.
        case toolstackLost
    }

    enum Step: String, Codable, Hashable, Sendable {
        case observing
        /// Reads the power status before anything else.
        case checking
        case held
        /// Asks the other hosts whether the suspect's renewals stopped.
        case gathering = "gathering-evidence"
        /// Its agent is restarted, and may be heard again.
        case softRestarting = "soft-restarting"
        /// Its crash kernel may be about to say that it writes a dump.
        case awaitingDump = "awaiting-dump"
        /// It says so.
        case dumping
        /// Waits for the delay of its devices.
        case delaying
        case accepting
        case off
        case confirmingOff = "confirming-off"
        case readingGenerations = "reading-generations"
        case recheckingOff = "rechecking-off"
        case signing
        case proven
        case on
        case confirmingOn = "confirming-on"
        case booting
        case resolving
        case failed
        case closed

        /// It is looked at anew after a time, or before, as soon as there is news.
        var isWaiting: Bool {
            switch self {
            case .held, .failed, .softRestarting, .awaitingDump, .dumping, .delaying: true
            default: false
            }
        }
    }

    /// With its history.
    func wholeView(of host: String) -> FenceCaseView {
        var view = view(of: host)
        view.steps = steps
        view.runs = runs
        return view
    }

    func view(of host: String) -> FenceCaseView {
        FenceCaseView(id: id, host: host, incarnation: incarnation, step: step.rawValue, reason: reason, cause: cause.rawValue)
    }
}
