/// Ready-made fencing policies: `fence.profile` chooses one, single keys go above it.
///
/// | profile   | heartbeat | grace | one run of an agent | promise                                                            |
/// |-----------|-----------|-------|---------------------|--------------------------------------------------------------------|
/// | `default` | 1 s       | 30 s  | 30 s                | -                                                                  |
/// | `fast`    | 0.5 s     | 3 s   | 2 s                 | a guest of a host that crashed runs elsewhere within 8 s           |
/// | `no-ha`   | 1 s       | 600 s | 30 s                | nothing automatic: a silent host is shown, operators act           |
public enum FencingProfile: String, Codable, CaseIterable, Hashable, Sendable {
    case standard = "default"
    case fast
    case noHA = "no-ha"

    /// Whether hosts are fenced and guests restarted without an operator.
    public var isAutomatic: Bool { self != .noHA }

    /// From a crash until its guests run elsewhere.
    public var promise: Duration? { self == .fast ? .seconds(8) : nil }

    /// By the key of the configuration, where it is another than the default's.
    public var settings: [String: String] {
        switch self {
        case .standard: [:]
        case .fast: ["liveness.heartbeat": "500ms", "liveness.grace": "3s", "fence.agentTimeout": "2s", "fence.retry": "2s"]
        case .noHA: ["liveness.grace": "600s"]
        }
    }
}

extension FencingPolicy {
    public var isAutomatic: Bool { profile?.isAutomatic ?? true }

    /// Of a crash: everything but the silence and the two power readings. Generations are read, the proof is signed, a place is decided, the guest starts.
    public static let restOfFailover = Duration.seconds(1)

    /// The longest that a guest of a crashed host is away, if its device does what it is told within its time: silence, the power is read twice, the rest.
    public var longestFailover: Duration { max(grace, heartbeat * Int64(minimumMissed)) + graceSPM + agentTimeout * 2 + softTimeout + (kdumpLimit > .zero ? kdumpWait : .zero) + Self.restOfFailover }

    /// Values that may not stand together, a sentence each with the numbers that clash.
    public var clashes: [String] {
        var found: [String] = []
        func seconds(_ duration: Duration) -> String { "\((duration.seconds * 1000).rounded() / 1000) s" }
        if heartbeat < .milliseconds(10) { found.append("liveness.heartbeat is \(seconds(heartbeat)), it must be at least 0.01 s") }
        if minimumMissed < 2 { found.append("liveness.minimumMissed is \(minimumMissed), it must be at least 2: one heartbeat may be late") }
        let counted = heartbeat * Int64(min(max(minimumMissed, 0), 1_000_000))
        if counted > grace {
            found.append(
                "\(minimumMissed) heartbeats of \(seconds(heartbeat)) (liveness.minimumMissed, liveness.heartbeat) take \(seconds(counted)), longer than liveness.grace, \(seconds(grace)): "
                    + "no host would be silent after its grace")
        }
        if agentTimeout < .seconds(1) { found.append("fence.agentTimeout is \(seconds(agentTimeout)), it must be at least 1 s: agents are programs that start, connect and log in") }
        if retry < .milliseconds(100) { found.append("fence.retry is \(seconds(retry)), it must be at least 0.1 s") }
        for (key, time) in [("fence.nonOperational", nonOperational), ("fence.toolstackLost", toolstackLost)] where time > .zero && time < grace {
            found.append("\(key) is \(seconds(time)), it must be at least liveness.grace, \(seconds(grace)), or 0 s for never: no host that answers is switched off sooner than one that is silent")
        }
        if kdumpLimit > .zero, kdumpQuiet < .seconds(1) { found.append("fence.kdumpQuiet is \(seconds(kdumpQuiet)), it must be at least 1 s: fence_kdump_send sends every 10 s, unless it is told otherwise") }
        guard let profile, let promise = profile.promise else { return found }
        let instead = "; change it, or leave fence.profile \(profile.rawValue), which promises it, and set the keys that you want"
        if longestFailover > promise {
            found.append(
                "with liveness.grace \(seconds(grace)), liveness.graceSPM \(seconds(graceSPM)), two power readings of fence.agentTimeout \(seconds(agentTimeout))\(softTimeout > .zero ? ", fence.softTimeout \(seconds(softTimeout))" : "")\(kdumpLimit > .zero ? ", fence.kdumpWait \(seconds(kdumpWait))" : "") and \(seconds(Self.restOfFailover)) "
                    + "for the rest, guests of a crashed host run again after up to \(seconds(longestFailover)), not within the \(seconds(promise)) of fence.profile \(profile.rawValue)\(instead)")
        }
        if gracePerVM > .zero {
            found.append("liveness.gracePerVM is \(seconds(gracePerVM)) for each VM of a host, so that \(seconds(promise)) cannot be kept with any number of them\(instead)")
        }
        return found
    }
}
