/// A host as the operator defines it (`host.add`).
public struct HostDefinition: Codable, Hashable, Sendable {
    public var name: String
    /// Host id in every lockspace, 1...2000; never shared, never reused without proof (S20).
    public var id: Int
    public var endpoints: HostEndpoints
    /// CURVE public key (Z85) of the host's agent and lease-service; `nil` only with ipc:// endpoints.
    public var key: String?
    /// Ed25519 public key (hexadecimal) that signs the host's `ended` proofs.
    public var signingKey: String?
    /// -1 (never) ... 10, default 5.
    public var spmPriority: Int?
    /// Whether a hardware watchdog guards the host's leases.
    public var watchdog: Bool?
    /// `false`: it is never powered down to save power.
    public var powerSaving: Bool?
    /// Fence devices: those of one level act together (`off` needs all of them off: two power supplies), levels in turn when one fails.
    public var fence: [FenceDevice]
    /// It writes a crash dump when its kernel crashes, and says so with `fence_kdump_send` from these IP addresses; empty: from that of ``HostEndpoints/agentRequests``. `nil`: it does not.
    public var kdump: [String]?

    public init(
        name: String, id: Int, endpoints: HostEndpoints, key: String? = nil, signingKey: String? = nil, spmPriority: Int? = nil, watchdog: Bool? = nil,
        powerSaving: Bool? = nil, fence: [FenceDevice] = [], kdump: [String]? = nil
    ) {
        self.powerSaving = powerSaving
        self.name = name
        self.id = id
        self.endpoints = endpoints
        self.key = key
        self.signingKey = signingKey
        self.spmPriority = spmPriority
        self.watchdog = watchdog
        self.fence = fence
        self.kdump = kdump
    }

    /// From where its crash kernel sends; empty: from nowhere that is known.
    public var kdumpAddresses: [String] {
        guard let kdump, kdump.isEmpty else { return kdump ?? [] }
        let endpoint = endpoints.agentRequests
        guard endpoint.hasPrefix("tcp://"), let colon = endpoint.lastIndex(of: ":") else { return [] }
        return [endpoint[..<colon].dropFirst(6).filter { $0 != "[" && $0 != "]" }]
    }
}

/// The four endpoints of a host.
public struct HostEndpoints: Codable, Hashable, Sendable {
    public var agentRequests: String
    public var agentEvents: String
    public var leaseRequests: String
    public var leaseEvents: String

    public init(agentRequests: String, agentEvents: String, leaseRequests: String, leaseEvents: String) {
        self.agentRequests = agentRequests
        self.agentEvents = agentEvents
        self.leaseRequests = leaseRequests
        self.leaseEvents = leaseEvents
    }
}

/// One fence agent of a host: an executable of the FenceAgentAPI.
public struct FenceDevice: Codable, Hashable, Sendable {
    /// Executable name, such as `fence_ipmilan`.
    public var agent: String
    public var address: String
    public var username: String?
    /// File with the password, mode 0600; never the password itself.
    public var secretFile: String?
    /// Further agent options, passed over stdin as they are.
    public var options: [String: String]?
    /// 1...9, lower ones first; `nil` is 1.
    public var level: Int?
    /// Set when an operator vouched that the device belongs to this host (S10).
    public var vouched: Bool?
    /// Who runs the agent; `nil` is ``FenceRoute/manager``.
    public var via: FenceRoute?
    /// How long a case waits before it sends the first `off`, so that two sets of managers, or hosts that fence each other by other means, do not shoot at the same time; heard meanwhile, the host is spared.
    public var delay: Duration?

    public init(
        agent: String, address: String, username: String? = nil, secretFile: String? = nil, options: [String: String]? = nil, level: Int? = nil,
        vouched: Bool? = nil, via: FenceRoute? = nil, delay: Duration? = nil
    ) {
        self.agent = agent
        self.address = address
        self.username = username
        self.secretFile = secretFile
        self.options = options
        self.level = level
        self.vouched = vouched
        self.via = via
        self.delay = delay
    }
}

/// From where a fence device is reached.
public enum FenceRoute: String, Codable, Hashable, Sendable, CaseIterable {
    case manager
    /// Another host that answers runs the agent as a proxy (`fence.run`); its secret file lies there, at the same path.
    case hosts
}

public enum HostStatus: String, Codable, Sendable, CaseIterable {
    case unassigned = "Unassigned"
    case initializing = "Initializing"
    case up = "Up"
    case connecting = "Connecting"
    case nonResponsive = "NonResponsive"
    case nonOperational = "NonOperational"
    case error = "Error"
    case preparingForMaintenance = "PreparingForMaintenance"
    case maintenance = "Maintenance"
    case reboot = "Reboot"
    case kdumping = "Kdumping"
    case down = "Down"
}

/// Of a host, as to power saving.
public enum PowerSavingState: String, Codable, Hashable, Sendable {
    /// Its definition forbids it, or no device could switch it on again.
    case never
    /// It is being powered down.
    case leaving
    /// It was powered down, and is switched on when it is needed.
    case off
}

/// A host as fencing-service publishes it: in its snapshot, in `host.list` and as the body of `host.status`.
public struct HostView: Codable, Hashable, Sendable {
    public var name: String
    public var id: Int
    public var status: HostStatus
    /// The status before, in `host.status` events.
    public var previous: HostStatus?
    /// Why it has this status, one sentence.
    public var reason: String
    public var incarnation: Incarnation
    public var bootID: String?
    /// Generation of this incarnation in each lockspace it has joined, from its last heartbeat.
    public var generations: [String: UInt64]
    public var endpoints: HostEndpoints
    public var key: String?
    public var signingKey: String?
    public var spmPriority: Int
    public var watchdogArmed: Bool
    /// Free memory that the agent last reported, MiB.
    public var memoryMiB: Int?
    /// The newest proof about this host; covers everything older ones covered.
    public var proof: SignedProof?
    /// The newest `leaseExpired` proof about this host, unless ``proof`` covers as much: it says nothing of incarnations.
    public var leaseProof: SignedProof?
    /// The open fence case, if any.
    public var fenceCase: FenceCaseView?
    /// Its hypervisor cannot be controlled, as its agent last said.
    public var toolstack: ToolstackReport?
    /// `nil`: it runs, and may be powered down while it is empty.
    public var powerSaving: PowerSavingState?

    public init(
        name: String, id: Int, status: HostStatus, previous: HostStatus? = nil, reason: String, incarnation: Incarnation, bootID: String? = nil,
        generations: [String: UInt64] = [:], endpoints: HostEndpoints, key: String? = nil, signingKey: String? = nil, spmPriority: Int = 5,
        watchdogArmed: Bool = false, memoryMiB: Int? = nil, proof: SignedProof? = nil, leaseProof: SignedProof? = nil,
        fenceCase: FenceCaseView? = nil, toolstack: ToolstackReport? = nil, powerSaving: PowerSavingState? = nil
    ) {
        self.toolstack = toolstack
        self.powerSaving = powerSaving
        self.name = name
        self.id = id
        self.status = status
        self.previous = previous
        self.reason = reason
        self.incarnation = incarnation
        self.bootID = bootID
        self.generations = generations
        self.endpoints = endpoints
        self.key = key
        self.signingKey = signingKey
        self.spmPriority = spmPriority
        self.watchdogArmed = watchdogArmed
        self.memoryMiB = memoryMiB
        self.proof = proof
        self.leaseProof = leaseProof
        self.fenceCase = fenceCase
    }
}
