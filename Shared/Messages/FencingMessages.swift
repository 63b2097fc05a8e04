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
    /// Why it was opened: `silent`, `unreaped`, `nonOperational`, `operatorAsked`, `proofRevoked`, `shutDown`, `toolstackLost`.
    public var cause: String?
    /// In `fence.history`, of open cases and the last twenty: its steps, oldest first; the first and the last fifty.
    public var steps: [Moment]?
    /// In `fence.history`: what its fence agents were run for and what came of it, oldest first; as ``steps``.
    public var runs: [FenceRunView]?

    /// A step that the case came to.
    public struct Moment: Codable, Hashable, Sendable {
        /// Since the case was opened.
        public var after: Duration
        public var step: String
        public var reason: String
        public init(after: Duration, step: String, reason: String) {
            self.after = after
            self.step = step
            self.reason = reason
        }
    }

    public init(
        id: String, host: String, incarnation: Incarnation, step: String, reason: String, cause: String? = nil, steps: [Moment]? = nil, runs: [FenceRunView]? = nil
    ) {
        self.id = id
        self.steps = steps
        self.runs = runs
        self.cause = cause
        self.host = host
        self.incarnation = incarnation
        self.step = step
        self.reason = reason
    }
}

/// What a fence agent can be told to do.
public enum FenceAction: String, Codable, Hashable, Sendable {
    case status, off, on
    /// Whether it changes the power state.
    public var isDestructive: Bool { self != .status }
}

/// How a run of a fence agent ended.
public enum FenceOutcome: Codable, Hashable, Sendable {
    /// Exit 0: done; for status: on.
    case succeeded
    /// Exit 2 of status.
    case readsOff
    /// The agent ended and says that it failed. What the device does is not known.
    case failed(String)
    /// The agent was killed at its deadline, or an earlier run of it still lingers.
    case timedOut(String)
}

/// How a run went at one device.
public struct FencePart: Codable, Hashable, Sendable {
    public var outcome: FenceOutcome
    public var took: Duration
    public init(outcome: FenceOutcome, took: Duration) {
        self.outcome = outcome
        self.took = took
    }
}

/// Body of `fence.prepare`, to the host that is to run fence agents for another one as its proxy: runs with lower numbers are refused from now on.
public struct FencePrepare: Codable, Hashable, Sendable {
    /// Whose power it is about.
    public var host: String
    /// Rises with every run for that host.
    public var number: UInt64
    public init(host: String, number: UInt64) {
        self.host = host
        self.number = number
    }
}

/// Reply to `fence.prepare`.
public struct FenceTicket: Codable, Hashable, Sendable {
    /// The proxy's own time: a run that names it begins no later than its deadline afterwards, however long it was under way.
    public var ticket: Instant
    /// No older run for that host is left there.
    public var isIdle: Bool
    public init(ticket: Instant, isIdle: Bool) {
        self.ticket = ticket
        self.isIdle = isIdle
    }
}

/// Body of `fence.run`: the proxy runs these agents, all at once. No secret is in it: each device names the file that lies on the proxy.
public struct FenceProxyRun: Codable, Hashable, Sendable {
    public var host: String
    public var number: UInt64
    public var ticket: Instant
    public var action: FenceAction
    public var devices: [FenceDevice]
    /// From the ticket on; then the agents are killed.
    public var deadline: Duration
    public init(host: String, number: UInt64, ticket: Instant, action: FenceAction, devices: [FenceDevice], deadline: Duration) {
        self.host = host
        self.number = number
        self.ticket = ticket
        self.action = action
        self.devices = devices
        self.deadline = deadline
    }
}

/// Reply to `fence.run`: one part for each device, in their order.
public struct FenceProxyResult: Codable, Hashable, Sendable {
    public var parts: [FencePart]
    public init(parts: [FencePart]) { self.parts = parts }
}

/// Body of `fence.identify`: a host that reaches this device of another one reads who it says that it is (S10). Nothing is switched, and no secret is in it, as in ``FenceProxyRun``.
public struct FenceIdentify: Codable, Hashable, Sendable {
    /// Whose device it is.
    public var host: String
    public var device: FenceDevice
    public init(host: String, device: FenceDevice) {
        self.host = host
        self.device = device
    }
}

/// Reply to `fence.identify`.
public struct FenceIdentity: Codable, Hashable, Sendable {
    /// 32 lower-case hexadecimal digits; `nil`: it could not be read.
    public var guid: String?
    /// The device has no identity to read: asking again is useless.
    public var unsupported: Bool
    public var detail: String
    public init(guid: String?, unsupported: Bool, detail: String) {
        self.guid = guid
        self.unsupported = unsupported
        self.detail = detail
    }
}

/// One run of one fence agent for a case.
public struct FenceRunView: Codable, Hashable, Sendable {
    /// When it was begun, since the case was opened.
    public var after: Duration
    /// `status`, `off`, `on`.
    public var action: String
    public var agent: String
    public var address: String
    /// `nil`: not told by who ran it.
    public var took: Duration?
    /// `on`, `off` (of a status), `done`, `failed`, `timed out`.
    public var outcome: String
    /// What the agent said if it failed, without secrets, at most 400 characters.
    public var output: String
    /// The host that ran it; `nil`: the manager.
    public var via: String?
    public init(after: Duration, action: String, agent: String, address: String, took: Duration?, outcome: String, output: String, via: String? = nil) {
        self.after = after
        self.action = action
        self.agent = agent
        self.address = address
        self.took = took
        self.outcome = outcome
        self.output = output
        self.via = via
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

/// Body of `host.show`, `host.maintenance`, `host.activate`, `power.status`, `power.on`, `power.off`, `power.cycle`, `power.save`, `fence.now`, `fence.history`.
public struct HostRequest: Codable, Hashable, Sendable {
    public var host: String
    public var reason: String?
    /// Of a power command: without the quiet time after the last one.
    public var now: Bool?
    /// Of a power command: a service wants it, to which every hold applies.
    public var automatic: Bool?
    public init(host: String, reason: String? = nil, now: Bool? = nil, automatic: Bool? = nil) {
        self.automatic = automatic
        self.host = host
        self.reason = reason
        self.now = now
    }
}

/// Body of `host.confirm-off`: a person vouches that the machine is off, for exactly this case and incarnation (S9).
public struct ConfirmOff: Codable, Hashable, Sendable {
    public var host: String
    public var caseID: String
    public var incarnation: Incarnation
    public var who: String
    public var why: String
    /// The person has looked at the machine itself: it is off, although its fence device reads on.
    public var checked: Bool?
    public init(host: String, caseID: String, incarnation: Incarnation, who: String, why: String, checked: Bool? = nil) {
        self.host = host
        self.caseID = caseID
        self.incarnation = incarnation
        self.who = who
        self.why = why
        self.checked = checked
    }
}

/// Body of `host.add`: a definition, and beside its keys `reinstalled`.
public struct HostAdd: Codable, Hashable, Sendable {
    public var definition: HostDefinition
    /// Somebody has installed the machine anew: it may have the name of a host that was forgotten (S20).
    public var reinstalled: Bool?

    public init(_ definition: HostDefinition, reinstalled: Bool? = nil) {
        self.definition = definition
        self.reinstalled = reinstalled
    }

    private enum CodingKeys: CodingKey { case reinstalled }

    public init(from decoder: any Decoder) throws {
        definition = try HostDefinition(from: decoder)
        reinstalled = try decoder.container(keyedBy: CodingKeys.self).decodeIfPresent(Bool.self, forKey: .reinstalled)
    }

    public func encode(to encoder: any Encoder) throws {
        try definition.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encodeIfPresent(reinstalled, forKey: .reinstalled)
    }
}

/// Body of `host.forget`. A host that may run guests is forgotten only while HA is disabled, with `who`, `reason` and `checked`, and without a sign of life: that is a `host.confirm-off`, too.
public struct HostForget: Codable, Hashable, Sendable {
    public var host: String
    public var reason: String?
    public var who: String?
    /// The person has looked at the machine itself: it is off, and will not come back as it is.
    public var checked: Bool?

    public init(host: String, reason: String? = nil, who: String? = nil, checked: Bool? = nil) {
        self.host = host
        self.reason = reason
        self.who = who
        self.checked = checked
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

/// Reply to `fence.rehearse`, and body of `fence.rehearsed`: every way to fence the host was tried up to its status, network path and credentials included.
public struct Rehearsal: Codable, Hashable, Sendable {
    public var host: String
    /// Levels all of whose devices told a status, through whichever host: each alone could fence it.
    public var ways: Int
    /// One for each device and way.
    public var devices: [Device]
    /// With devices that are reached through hosts: each way that was tried, in order.
    public var tried: [Way]?

    /// A level of its devices, and who runs their agents.
    public struct Way: Codable, Hashable, Sendable {
        public var level: Int
        /// The host that runs those that are reached through hosts; `nil`: the manager runs all, or no host could.
        public var via: String?
        /// All devices told a status; `nil`: not tried yet.
        public var works: Bool?
        public init(level: Int, via: String? = nil, works: Bool? = nil) {
            self.level = level
            self.via = via
            self.works = works
        }
    }

    public struct Device: Codable, Hashable, Sendable {
        public var level: Int
        public var agent: String
        public var address: String
        /// `on`, `off`, `failed`, `timed out`.
        public var outcome: String
        public var output: String
        public var took: Duration?
        /// It is known to be this host's (S10).
        public var verified: Bool
        /// The host that ran its agent; `nil`: the manager.
        public var via: String?
        public init(level: Int, agent: String, address: String, outcome: String, output: String, took: Duration?, verified: Bool, via: String? = nil) {
            self.via = via
            self.level = level
            self.agent = agent
            self.address = address
            self.outcome = outcome
            self.output = output
            self.took = took
            self.verified = verified
        }
    }

    public init(host: String, ways: Int, devices: [Device], tried: [Way]? = nil) {
        self.host = host
        self.ways = ways
        self.devices = devices
        self.tried = tried
    }

    /// For people.
    public var sentence: String {
        switch ways {
        case 0: "\(host) CANNOT be fenced: no level of its devices answers in full"
        case 1: "\(host) can be fenced in 1 way\(routes)"
        default: "\(host) can be fenced in \(ways) independent ways\(routes)"
        }
    }

    /// Of each level that hosts reach: which of them do.
    private var routes: String {
        let levels = Dictionary(grouping: (tried ?? []).filter { $0.via != nil }, by: \.level)
        return levels.keys.sorted().map { level in
            func names(_ works: Bool) -> String { (levels[level] ?? []).filter { $0.works == works }.compactMap(\.via).joined(separator: ", ") }
            return "; level \(level) through \(names(true).isEmpty ? "nobody" : names(true))" + (names(false).isEmpty ? "" : ", NOT through \(names(false))")
        }.joined()
    }
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
    /// How long an agent may take to find out what runs on its host, before that becomes NonOperational; zero: for ever.
    public var initializing: Duration
    /// How long a host that answers may be NonOperational, without interruption, before it is switched off and on again, if nothing is lost by that; zero: it never is.
    public var nonOperational: Duration
    /// How often a host is switched on again by its cases within ``rebootWindow``; then it stays off until an operator has looked, or the window has passed. `.max`: without limit.
    public var maximumReboots: Int
    public var rebootWindow: Duration
    /// Between two power commands of operators for one host, unless they are told to be at once.
    public var powerQuiet: Duration
    /// Percent of the other hosts, 1...100: if so many or more are silent too, the silence may be the manager's own (S17).
    public var silentShare: Int
    /// Whether a silent host whose lease renewals are seen to go on is left alone: its guests run, and nobody manages them until it is heard again.
    public var sparesLiveLeases: Bool
    /// How often every way to fence each host is tried up to its status; zero: only when asked.
    public var rehearseEvery: Duration
    /// How long a case waits for a silent host whose agent was restarted by `fence.softCommand`; zero: there is no such command.
    public var softTimeout: Duration
    /// How long a host's hypervisor must have been out of control without interruption, although its agent tried to restore it, before the host is fenced; zero: it is never fenced for that.
    public var toolstackLost: Duration
    /// How long a case waits for the first sign that a silent host with kdump writes a crash dump, from when everything else says off.
    public var kdumpWait: Duration
    /// A dump is over when its host has not said so for so long.
    public var kdumpQuiet: Duration
    /// How long a dump may keep its host from being switched off; zero: nobody listens for dumps.
    public var kdumpLimit: Duration
    /// Where the values come from, and whether anything happens without an operator; `nil`: that of before there were any.
    public var profile: FencingProfile?
    /// Which decisions the engine had learned when this was written; journals of earlier versions lack it, and lead to what was decided then.
    public var rules = 1

    public init(
        heartbeat: Duration = .seconds(1), grace: Duration = .seconds(30), minimumMissed: Int = 3, graceSPM: Duration = .zero, gracePerVM: Duration = .zero,
        agentTimeout: Duration = .seconds(30), bootTimeout: Duration = .seconds(300), retry: Duration = .seconds(10), joinPatience: Duration = .seconds(60),
        maximumReboots: Int = .max, rebootWindow: Duration = .seconds(3600), powerQuiet: Duration = .zero, silentShare: Int = 50, sparesLiveLeases: Bool = false,
        rehearseEvery: Duration = .zero, softTimeout: Duration = .zero, toolstackLost: Duration = .zero, kdumpWait: Duration = .seconds(30), kdumpQuiet: Duration = .seconds(30), kdumpLimit: Duration = .zero,
        initializing: Duration = .seconds(180), nonOperational: Duration = .zero, profile: FencingProfile? = nil
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
        self.maximumReboots = maximumReboots
        self.rebootWindow = rebootWindow
        self.powerQuiet = powerQuiet
        self.silentShare = silentShare
        self.sparesLiveLeases = sparesLiveLeases
        self.rehearseEvery = rehearseEvery
        self.softTimeout = softTimeout
        self.toolstackLost = toolstackLost
        self.kdumpWait = kdumpWait
        self.kdumpQuiet = kdumpQuiet
        self.kdumpLimit = kdumpLimit
        self.initializing = initializing
        self.nonOperational = nonOperational
        self.profile = profile
    }

    /// Journals of earlier versions lack what was added since: there it was not limited.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            heartbeat: try values.decode(Duration.self, forKey: .heartbeat), grace: try values.decode(Duration.self, forKey: .grace),
            minimumMissed: try values.decode(Int.self, forKey: .minimumMissed), graceSPM: try values.decode(Duration.self, forKey: .graceSPM),
            gracePerVM: try values.decode(Duration.self, forKey: .gracePerVM), agentTimeout: try values.decode(Duration.self, forKey: .agentTimeout),
            bootTimeout: try values.decode(Duration.self, forKey: .bootTimeout), retry: try values.decode(Duration.self, forKey: .retry),
            joinPatience: try values.decode(Duration.self, forKey: .joinPatience), maximumReboots: try values.decodeIfPresent(Int.self, forKey: .maximumReboots) ?? .max,
            rebootWindow: try values.decodeIfPresent(Duration.self, forKey: .rebootWindow) ?? .seconds(3600),
            powerQuiet: try values.decodeIfPresent(Duration.self, forKey: .powerQuiet) ?? .zero, silentShare: try values.decodeIfPresent(Int.self, forKey: .silentShare) ?? 50,
            sparesLiveLeases: try values.decodeIfPresent(Bool.self, forKey: .sparesLiveLeases) ?? false,
            rehearseEvery: try values.decodeIfPresent(Duration.self, forKey: .rehearseEvery) ?? .zero,
            softTimeout: try values.decodeIfPresent(Duration.self, forKey: .softTimeout) ?? .zero,
            toolstackLost: try values.decodeIfPresent(Duration.self, forKey: .toolstackLost) ?? .zero,
            kdumpWait: try values.decodeIfPresent(Duration.self, forKey: .kdumpWait) ?? .seconds(30),
            kdumpQuiet: try values.decodeIfPresent(Duration.self, forKey: .kdumpQuiet) ?? .seconds(30),
            kdumpLimit: try values.decodeIfPresent(Duration.self, forKey: .kdumpLimit) ?? .zero,
            initializing: try values.decodeIfPresent(Duration.self, forKey: .initializing) ?? .zero,
            nonOperational: try values.decodeIfPresent(Duration.self, forKey: .nonOperational) ?? .zero,
            profile: try values.decodeIfPresent(FencingProfile.self, forKey: .profile))
        rules = try values.decodeIfPresent(Int.self, forKey: .rules) ?? 0
    }
}
