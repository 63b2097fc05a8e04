/// Error codes of fencing-service.
public enum FencingErrorCode: String, CaseIterable, Sendable {
    /// The host still shows signs of life: a heartbeat, a renewal, power.
    case signsOfLife = "fence.signs-of-life"
    /// The fence agent failed, or its outcome is unknown.
    case agentFailed = "fence.agent-failed"
    /// No fence device is defined for the host.
    case noDevice = "fence.no-device"
    /// An operator's hold, or a skip rule, forbids it now.
    case held = "fence.held"
    /// Case or incarnation is not the current one.
    case stale = "fence.stale"
    /// Another fence command for this host has not ended yet.
    case busy = "fence.busy"
}

/// What a fence device reads or was told. `unknown` is never treated as off (I4).
public enum PowerState: String, Codable, Sendable { case on, off, unknown }

/// A fence case as it is shown: open until the host is Up again, in maintenance or forgotten.
public struct FenceCaseView: Codable, Hashable, Sendable {
    public var id: String
    public var host: String
    /// The incarnation it is about.
    public var incarnation: Incarnation
    /// The current step: `observing`, `held`, `accepting`, `off`, `confirming-off`, `reading-generations`, `proven`, `on`, `confirming-on`, `booting`, `failed`, ...
    public var step: String
    public var reason: String
    /// Why it was opened: `silent`, `unreaped`, `operatorAsked`, `proofRevoked`.
    public var cause: String?

    public init(id: String, host: String, incarnation: Incarnation, step: String, reason: String, cause: String? = nil) {
        self.id = id
        self.cause = cause
        self.host = host
        self.incarnation = incarnation
        self.step = step
        self.reason = reason
    }
}

/// Body of `fence.started`, `.step`, `.succeeded`, `.failed`, `.held`.
public typealias FenceCaseEvent = FenceCaseView

/// Body of `host.proof`.
public typealias HostProofEvent = SignedProof

/// Body of `power.state`.
public struct PowerStateEvent: Codable, Hashable, Sendable {
    public var host: String
    public var state: PowerState
    public var detail: String
    public init(host: String, state: PowerState, detail: String) {
        self.host = host
        self.state = state
        self.detail = detail
    }
}

/// Body of `ha.state`; also the reply to `ha.hold`, `ha.enable` and `ha.disable`.
public struct HAState: Codable, Hashable, Sendable {
    public var enabled: Bool
    /// Set while an operator holds all automatic power and recovery.
    public var hold: String?
    /// Whether recovery may act now: enabled and not held, no proof revoked.
    public var recoveryAllowed: Bool
    /// Contradictions that stop recovery until they are resolved or an operator sends `ha.enable`: a revoked proof, two boot ids under one identity.
    public var alarms: [String]?
    public init(enabled: Bool, hold: String?, recoveryAllowed: Bool, alarms: [String]? = nil) {
        self.enabled = enabled
        self.hold = hold
        self.recoveryAllowed = recoveryAllowed
        self.alarms = alarms
    }
}

/// Body of `snapshot` of fencing-service.
public struct FencingSnapshot: Codable, Sendable {
    public var hosts: [HostView]
    public var cases: [FenceCaseView]
    public var ha: HAState
    /// Ed25519 public key that signs this service's proofs.
    public var signingKey: String
    public init(hosts: [HostView], cases: [FenceCaseView], ha: HAState, signingKey: String) {
        self.hosts = hosts
        self.cases = cases
        self.ha = ha
        self.signingKey = signingKey
    }
}

/// Body of `host.show`, `host.maintenance`, `host.activate`, `power.status`, `power.on`, `power.off`, `power.cycle`, `fence.now`, `fence.history`.
public struct HostRequest: Codable, Hashable, Sendable {
    public var host: String
    public var reason: String?
    public init(host: String, reason: String? = nil) {
        self.host = host
        self.reason = reason
    }
}

/// Body of `host.confirm-off`: a person vouches that the machine is off, for exactly this case and incarnation (S9).
public struct ConfirmOff: Codable, Hashable, Sendable {
    public var host: String
    public var caseID: String
    public var incarnation: Incarnation
    public var who: String
    public var why: String
    public init(host: String, caseID: String, incarnation: Incarnation, who: String, why: String) {
        self.host = host
        self.caseID = caseID
        self.incarnation = incarnation
        self.who = who
        self.why = why
    }
}

/// Body of `host.set-nonoperational` and `host.set-error`.
public struct HostSetStatus: Codable, Hashable, Sendable {
    public var host: String
    /// `nil` clears it.
    public var reason: String?
    public init(host: String, reason: String?) {
        self.host = host
        self.reason = reason
    }
}

/// Body of `ha.hold`: until released, or for a time, nothing automatic happens to power or placement.
public struct HoldRequest: Codable, Hashable, Sendable {
    public var why: String
    /// `nil`: until released.
    public var duration: Duration?
    public var release: Bool
    public init(why: String, duration: Duration? = nil, release: Bool = false) {
        self.why = why
        self.duration = duration
        self.release = release
    }
}

/// Reply to `host.list`.
public struct HostList: Codable, Sendable {
    public var hosts: [HostView]
    public init(hosts: [HostView]) { self.hosts = hosts }
}

/// Reply to `fence.history`: closed cases, oldest first, then the open ones.
public struct FenceHistory: Codable, Sendable {
    public var cases: [FenceCaseView]
    public init(cases: [FenceCaseView]) { self.cases = cases }
}

/// What fencing-service decides by: its configuration, and the reply to `policy.get`.
public struct FencingPolicy: Codable, Hashable, Sendable {
    /// Time between heartbeats.
    public var heartbeat: Duration
    /// Silence that is forgiven.
    public var grace: Duration
    /// Heartbeats that must be missing as well.
    public var minimumMissed: Int
    /// Further grace for the SPM host.
    public var graceSPM: Duration
    /// Further grace for each VM on the host.
    public var gracePerVM: Duration
    /// How long one run of a fence agent may take before it is killed.
    public var agentTimeout: Duration
    /// How long a host may take from power-on to its first heartbeat.
    public var bootTimeout: Duration
    /// Between attempts of a case that is held or failed.
    public var retry: Duration
    /// How long a host that answers may lack lockspaces that other Up hosts have, before it becomes NonOperational.
    public var joinPatience: Duration

    public init(
        heartbeat: Duration = .seconds(1), grace: Duration = .seconds(30), minimumMissed: Int = 3, graceSPM: Duration = .zero, gracePerVM: Duration = .zero,
        agentTimeout: Duration = .seconds(30), bootTimeout: Duration = .seconds(300), retry: Duration = .seconds(10), joinPatience: Duration = .seconds(60)
    ) {
        self.heartbeat = heartbeat
        self.grace = grace
        self.minimumMissed = minimumMissed
        self.graceSPM = graceSPM
        self.gracePerVM = gracePerVM
        self.agentTimeout = agentTimeout
        self.bootTimeout = bootTimeout
        self.retry = retry
        self.joinPatience = joinPatience
    }
}
