public import Messages

/// Decides from the heartbeats of one host whether it is silent. It never says *dead*: silence opens a fence case, a `Proof` closes it (I4).
///
/// Ephemeral: heartbeats are not journaled; only what this detector makes of them, its transitions, becomes inputs of ``FencingEngine``.
///
/// | state         | heartbeat                           | wake                                                        |
/// |---------------|-------------------------------------|-------------------------------------------------------------|
/// | observing     | → up: heard                         | two intervals missed → connecting: missing                  |
/// | up            | changed content: heard (free memory alone: at most every ten intervals) | two intervals missed → connecting: missing                  |
/// | connecting    | → up: heard                         | grace over *and* `minimumMissed` missed → nonResponsive: silent |
/// | nonResponsive | → up: heard                         | –                                                           |
///
/// * A heartbeat of a distrusted life (proven dead, or superseded) changes no state. It is told only when two of them come at a living host's pace, so that
///   late messages from a dead machine's send buffer revoke nothing, and then once per grace.
/// * A heartbeat of another machine that goes by the host's name (S14) changes no state either: it is told at once, and again once per grace. When it has not come for a grace, the
///   host's own next one is told, whatever it says.
/// * A heartbeat that was sent before another one that was heard is a sign of life, and stands for that one: what it says itself was so once.
/// * A wake that comes late means that this listener itself was stopped: that time is not the host's silence (I5).
public struct HostLiveness: Sendable {
    public enum State: String, Hashable, Sendable {
        /// The listener has just started: earlier silence is not counted.
        case observing
        case up, connecting, nonResponsive
    }

    public private(set) var state = State.observing
    /// When it wants to be woken; never later than one interval before something is decided.
    public private(set) var nextWake: Instant?

    private let host: String
    private let policy: FencingPolicy
    private var quietSince: Instant
    private var last: AgentHeartbeat?
    /// The one that was sent last of those that were heard.
    private var newest: AgentHeartbeat?
    private var toldAt: Instant
    private var superseded: [String] = []
    private var dead: [String]
    private var doubt: (bootID: String, sequence: UInt64, since: Instant)?
    private var doubtTold: [String: Instant] = [:]
    private var hardwareID: String?
    private var bootID: String?
    private var impostor: (heardAt: Instant, toldAt: Instant)?
    private var surcharge = Duration.zero

    /// - Parameter deadBoots: boot ids of lives that are over or proven dead.
    public init(host: String, policy: FencingPolicy, deadBoots: [String], startedAt now: Instant) {
        self.host = host
        self.policy = policy
        dead = deadBoots
        quietSince = now
        toldAt = now
        nextWake = now + policy.heartbeat
    }

    /// - Parameters:
    ///   - hardwareID: of the machine that is this host; `nil`: any may be.
    ///   - bootID: of its current life, which is that machine's whatever it says of its hardware.
    public mutating func distrust(_ deadBoots: [String], otherThan hardwareID: String? = nil, bootID: String? = nil) {
        dead = deadBoots
        self.hardwareID = hardwareID
        self.bootID = bootID
    }

    /// Further grace for what runs on the host, from its own last report.
    public mutating func onLoad(vms: Int, isSPM: Bool) {
        surcharge = policy.gracePerVM * Int64(vms) + (isSPM ? policy.graceSPM : .zero)
    }

    public mutating func onHeartbeat(_ heartbeat: AgentHeartbeat, at now: Instant) -> [FencingInput] {
        if let hardwareID, heartbeat.hardwareID != hardwareID, heartbeat.bootID != bootID { return onImpostor(heartbeat, at: now) }
        guard !dead.contains(heartbeat.bootID), !superseded.contains(heartbeat.bootID) else { return onDoubtful(heartbeat, at: now) }
        let heartbeat = newest.flatMap { heartbeat.isOlder(than: $0) ? $0 : nil } ?? heartbeat
        newest = heartbeat
        if let last, last.bootID != heartbeat.bootID { superseded.append(last.bootID) }
        let isAloneAgain = impostor.map { now - $0.heardAt >= policy.grace } ?? false
        if isAloneAgain { impostor = nil }
        let tell = state != .up || isAloneAgain || last.map { isNews(heartbeat, after: $0, at: now) } ?? true
        state = .up
        quietSince = now
        nextWake = now + policy.heartbeat * 2
        guard tell else { return [] }
        last = heartbeat
        toldAt = now
        return [.heard(heartbeat)]
    }

    /// Free memory alone is told only now and then: it helps to choose a host, nothing depends on its last change.
    private func isNews(_ heartbeat: AgentHeartbeat, after last: AgentHeartbeat, at now: Instant) -> Bool {
        if !last.says(sameAs: heartbeat) { return true }
        return FreeMemory.isNews(heartbeat.memoryFreeMiB, after: last.memoryFreeMiB) && now - toldAt >= policy.heartbeat * 10
    }

    public mutating func onWake(at now: Instant) -> [FencingInput] {
        guard let due = nextWake, now >= due else { return [] }
        let late = now - due
        if late > policy.heartbeat { quietSince = quietSince + late }
        let quiet = now - quietSince
        let missed = Int(quiet / policy.heartbeat)
        let grace = policy.grace + surcharge
        if quiet >= grace, missed >= policy.minimumMissed {
            state = .nonResponsive
            nextWake = nil
            return [.silent(Silence(host: host, quiet: quiet, grace: grace, missed: missed, everHeard: last != nil))]
        }
        let patience = max(grace, policy.heartbeat * Int64(policy.minimumMissed))
        nextWake = min(max(quietSince + patience, now + .milliseconds(1)), now + policy.heartbeat)
        guard state == .up || state == .observing, missed >= 2 else { return [] }
        state = .connecting
        return [.missing(Silence(host: host, quiet: quiet, grace: grace, missed: missed, everHeard: last != nil))]
    }

    private mutating func onImpostor(_ heartbeat: AgentHeartbeat, at now: Instant) -> [FencingInput] {
        if let told = impostor?.toldAt, now - told < policy.grace {
            impostor = (now, told)
            return []
        }
        impostor = (now, now)
        return [.heard(heartbeat)]
    }

    private mutating func onDoubtful(_ heartbeat: AgentHeartbeat, at now: Instant) -> [FencingInput] {
        guard let first = doubt, first.bootID == heartbeat.bootID, heartbeat.sequence > first.sequence, now - first.since < policy.heartbeat * 4 else {
            doubt = (heartbeat.bootID, heartbeat.sequence, now)
            return []
        }
        guard (now - first.since) * 2 >= policy.heartbeat else { return [] }
        doubt = (heartbeat.bootID, heartbeat.sequence, now)
        if let told = doubtTold[heartbeat.bootID], now - told < policy.grace { return [] }
        doubtTold[heartbeat.bootID] = now
        return [.heard(heartbeat)]
    }
}

/// How long a host was quiet, and why that is told.
public struct Silence: Codable, Hashable, Sendable {
    public var host: String
    public var quiet: Duration
    public var grace: Duration
    public var missed: Int
    /// Whether this listener heard it at all since it began to listen.
    public var everHeard: Bool
    public init(host: String, quiet: Duration, grace: Duration, missed: Int, everHeard: Bool) {
        self.host = host
        self.quiet = quiet
        self.grace = grace
        self.missed = missed
        self.everHeard = everHeard
    }
}

extension AgentHeartbeat {
    /// Whether it was sent before the other, as far as both say.
    func isOlder(than other: AgentHeartbeat) -> Bool {
        guard bootID == other.bootID, let startedAt, let otherStartedAt = other.startedAt else { return false }
        return (startedAt, sequence) < (otherStartedAt, other.sequence)
    }

    /// Whether another heartbeat says nothing new but its number and free memory.
    func says(sameAs other: AgentHeartbeat) -> Bool {
        var other = other
        other.sequence = sequence
        other.memoryFreeMiB = memoryFreeMiB
        return self == other
    }
}
