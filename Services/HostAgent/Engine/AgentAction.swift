public import Messages

/// Where a domain is on this host.
public struct StoragePlace: Codable, Hashable, Sendable {
    /// Uuid.
    public var domain: String
    public var path: String
    public init(domain: String, path: String) {
        self.domain = domain
        self.path = path
    }
}

/// All that one guard is started with.
public struct GuardSpec: Codable, Hashable, Sendable {
    public enum Payload: Codable, Hashable, Sendable {
        /// A guest; `volumes` in the order of its disks.
        case guest(VMDefinition, volumes: [String])
        /// The SPM's worker, for this pool and the master domain at this path.
        case worker(pool: String, master: StoragePlace)
    }

    public var holder: Holder
    /// Sorted; empty for a VM that is defined without leases.
    public var leases: [LeaseName]
    /// Those of ``leases`` that it shares with others; `nil`: none.
    public var shared: [LeaseName]?
    /// Image uuids of the writable disks, sorted.
    public var diskLocks: [String]
    public var generations: [String: UInt64]
    public var proofs: [SignedProof]
    public var payload: Payload
    /// Domains that it writes to: they must answer after its end before anything is freed (S4).
    public var places: [StoragePlace]

    /// As its guard asks for them.
    public var requests: [GuardLease] { leases.map { GuardLease(name: $0, mode: shared?.contains($0) == true ? .shared : .exclusive) } }
}

/// What an agent's engine wants done.
public enum AgentAction: Sendable {
    /// Start this guard, unless a process of that VM is seen; watch it from then on.
    case spawn(GuardSpec)
    /// Find out what became of this guard, and watch it.
    case watch(GuardSpec)
    /// Tell this guard to end its group.
    case stop(Holder, why: String)
    /// Let a guest go on that its hypervisor has paused, once its guard has verified its leases. `asked`: an operator waits for what comes of it (``AgentInput/resumed(_:_:)``).
    case resume(Holder, asked: Bool)
    /// Look at every process of this machine, until that succeeds; a look that is under way counts.
    case scan
    /// Probe these domains, until each has answered a probe that began after now.
    case quiesce(Holder, [StoragePlace])
    case sign(Holder, Proof)
    /// Disarm this host's watchdog although leases are held, or arm it again.
    case releaseWatchdog(Bool)
    /// Run the command that restarts the toolstack; its end is ``Toolstack/Input/restarted(failure:)``.
    case restartToolstack
    /// Stay joined to this domain's lockspace and probe it, from now on.
    case keep(StoragePlace)
    /// No longer; leave its lockspace, until that succeeds.
    case drop(StoragePlace)
    case create(RequestID, StorageCreate)
    /// Run these fence agents for another host; ends as ``AgentInput/fenceRan(_:_:)``.
    case fence(RequestID, FenceProxyRun)
    /// Read who this device of another host says that it is; ends as ``AgentInput/fenceIdentified(_:_:)``.
    case identify(RequestID, FenceDevice)
    /// Hand this to the SPM's worker; `path` is where the domain of a new volume is.
    case task(RequestID, TaskRun, path: String?)
}
