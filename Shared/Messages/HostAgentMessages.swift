/// Error codes of host-agent.
public enum AgentErrorCode: String, CaseIterable, Sendable {
    /// The attempt is at or below the VM's tombstone: it was superseded or observed stopped (S7).
    case attemptStale = "vm.attempt-stale"
    /// Another attempt of this VM still runs, or its lock is held, on this host.
    case stillHere = "vm.still-here"
    /// The guest was never started, or was ended again; nothing of it remains.
    case startFailed = "vm.start-failed"
    /// The domain of a disk is not connected on this host.
    case notConnected = "storage.not-connected"
    /// The guest was not let go on; the message says what keeps it, or who has its leases.
    case notResumed = "vm.not-resumed"
    /// This host is not the SPM of that pool and term.
    case notSPM = "spm.not-here"
    /// The term is older than one seen before.
    case termStale = "spm.term-stale"
    /// The SPM role could not be taken; nothing of it remains.
    case spmStartFailed = "spm.start-failed"
    /// This host cannot control its hypervisor (``ToolstackReport``): the guest was never started.
    case toolstackDown = "vm.toolstack-down"
    /// The storage task failed; nothing was published.
    case taskFailed = "task.failed"
}

/// Body of the `agent.heartbeat.<host>` event, every heartbeat interval, sent by the agent's own engine loop.
public struct AgentHeartbeat: Codable, Hashable, Sendable {
    public var host: String
    public var hostID: Int
    public var bootID: String
    /// In-band identity: DMI product uuid, or the chassis's hardware id file (S10).
    public var hardwareID: String
    /// Rises by one within one life of the agent.
    public var sequence: UInt64
    /// When that life began, by the clock of this boot; with ``sequence`` it tells which of two heartbeats is older. `nil`: the agent does not say.
    public var startedAt: Instant?
    /// The agent has restarted and still finds out what runs here.
    public var initializing: Bool
    public var watchdogArmed: Bool
    /// Membership of this host in each lockspace, from its lease-service; empty if that does not answer.
    public var lockspaces: [AgentLockspace]
    /// A lockspace is lost while a guard is not reaped (S13).
    public var unreapedGuards: [String]
    /// Runs whose guard is reaped and which this host cannot prove over: their lockspace is lost and their storage does not answer (S4). `nil`: none.
    public var unprovenRuns: [String]?
    public var memoryFreeMiB: Int
    /// How far this host's own shutdown has come; `nil`: it does not shut down (S19).
    public var leaving: Leaving?
    /// It shuts down only to save power; `nil`: no.
    public var leavesToSave: Bool?
    /// The last order of fencing-service about its watchdog; `nil`: it had none.
    public var watchdogOrder: WatchdogOrder?
    /// Its hypervisor cannot be controlled; `nil`: it can, or nothing checks that.
    public var toolstack: ToolstackReport?

    /// A clean shutdown of a host. Until it is called off, nothing is started there in that boot.
    public enum Leaving: String, Codable, Hashable, Sendable {
        /// Its guests are being ended.
        case ending
        /// It has said goodbye: every run is over and proven over, and their leases are released.
        case over
    }

    public init(
        host: String, hostID: Int, bootID: String, hardwareID: String, sequence: UInt64, startedAt: Instant? = nil, initializing: Bool, watchdogArmed: Bool,
        lockspaces: [AgentLockspace], unreapedGuards: [String], unprovenRuns: [String]? = nil, memoryFreeMiB: Int, leaving: Leaving? = nil, leavesToSave: Bool? = nil, watchdogOrder: WatchdogOrder? = nil,
        toolstack: ToolstackReport? = nil
    ) {
        self.toolstack = toolstack
        self.leavesToSave = leavesToSave
        self.watchdogOrder = watchdogOrder
        self.leaving = leaving
        self.host = host
        self.hostID = hostID
        self.bootID = bootID
        self.hardwareID = hardwareID
        self.sequence = sequence
        self.startedAt = startedAt
        self.initializing = initializing
        self.watchdogArmed = watchdogArmed
        self.lockspaces = lockspaces
        self.unreapedGuards = unreapedGuards
        self.unprovenRuns = unprovenRuns
        self.memoryFreeMiB = memoryFreeMiB
    }
}

public struct AgentLockspace: Codable, Hashable, Sendable {
    public var lockspace: String
    public var state: LockspaceState
    public var generation: UInt64
    /// What the own sector said before this boot's first join; `nil` until it was read.
    public var generationBefore: UInt64?
    /// Programs that are no guests hold leases there; `nil`: none.
    public var hasOtherHolders: Bool?

    public init(lockspace: String, state: LockspaceState, generation: UInt64, generationBefore: UInt64?, hasOtherHolders: Bool? = nil) {
        self.hasOtherHolders = hasOtherHolders
        self.lockspace = lockspace
        self.state = state
        self.generation = generation
        self.generationBefore = generationBefore
    }
}

/// running / stopped / unknown, and why it is believed.
public enum RunState: String, Codable, Sendable {
    case starting, running, paused, stopped, unknown

    /// Its guest was seen.
    public var isAlive: Bool { self == .running || self == .paused }
}

/// What the agent knows of one attempt of one VM.
public struct VMObservation: Codable, Hashable, Sendable {
    public var vm: String
    public var attempt: UInt64
    public var state: RunState
    /// How it is known: `guard answers, QEMU 1234 runs`, `guard reaped its group, exit 0`, `lock is free and no process has its uuid`.
    public var evidence: String
    public var pid: Int32?
    /// With `stopped`: the proof that this attempt is over, once its storage has answered.
    public var ended: SignedProof?
    /// It was ended because its host shuts down; `nil`: it was not.
    public var hostLeaves: Bool?
    /// Its guard proves that it runs, but its hypervisor's monitor (QMP) does not answer; `nil`: it does.
    public var isMute: Bool?
    /// With `unknown`: it ran on another machine, of which this one has the disk, or a copy of it; it is not here. `nil`: it was started here.
    public var leftElsewhere: Bool?

    public init(
        vm: String, attempt: UInt64, state: RunState, evidence: String, pid: Int32? = nil, ended: SignedProof? = nil, hostLeaves: Bool? = nil, isMute: Bool? = nil,
        leftElsewhere: Bool? = nil
    ) {
        self.leftElsewhere = leftElsewhere
        self.hostLeaves = hostLeaves
        self.isMute = isMute
        self.vm = vm
        self.attempt = attempt
        self.state = state
        self.evidence = evidence
        self.pid = pid
        self.ended = ended
    }
}

/// Body of the `agent.vms.<host>` event: every attempt the agent knows, and as unknown with attempt 0 every guest that runs without one; on each change and every 5 s.
public struct AgentVMs: Codable, Hashable, Sendable {
    public var host: String
    public var bootID: String
    /// The agent has looked at everything that could run here since it started: what is not listed does not run here.
    public var complete: Bool
    public var vms: [VMObservation]
    /// What runs there in words, roles, programs with leases and work for others too: nobody may take it for idle. Empty: nothing; `nil`: this agent does not say.
    public var busyWith: [String]?
    public init(host: String, bootID: String, complete: Bool, vms: [VMObservation], busyWith: [String]? = nil) {
        self.busyWith = busyWith
        self.host = host
        self.bootID = bootID
        self.complete = complete
        self.vms = vms
    }
}

/// One domain as one host's probe sees it.
public struct DomainProbe: Codable, Hashable, Sendable {
    public var domain: String
    public var path: String
    /// `nil`: the probe has not answered yet; it may hang alone.
    public var ok: Bool?
    public var latency: Duration?
    public var detail: String
    public var lockspace: LockspaceState?
    public init(domain: String, path: String, ok: Bool?, latency: Duration?, detail: String, lockspace: LockspaceState?) {
        self.domain = domain
        self.path = path
        self.ok = ok
        self.latency = latency
        self.detail = detail
        self.lockspace = lockspace
    }
}

/// Body of the `agent.storage.<host>` event.
public struct AgentStorage: Codable, Hashable, Sendable {
    public var host: String
    public var bootID: String
    public var domains: [DomainProbe]
    public init(host: String, bootID: String, domains: [DomainProbe]) {
        self.host = host
        self.bootID = bootID
        self.domains = domains
    }
}

/// Body of `snapshot` of host-agent.
public struct AgentSnapshot: Codable, Sendable {
    public var heartbeat: AgentHeartbeat
    public var vms: AgentVMs
    public var storage: AgentStorage
    public var spm: SPMRoleStatus?
    /// Ed25519 public key that signs this host's `ended` proofs.
    public var signingKey: String
    public init(heartbeat: AgentHeartbeat, vms: AgentVMs, storage: AgentStorage, spm: SPMRoleStatus?, signingKey: String) {
        self.heartbeat = heartbeat
        self.vms = vms
        self.storage = storage
        self.spm = spm
        self.signingKey = signingKey
    }
}

/// Body of `vm.start` to an agent; `target` of the request is the boot id. Replies ``VMObservation`` with state running, or an error after which nothing of it remains.
/// No reply in time: unknown, ask with `vm.observe`.
public struct VMStart: Codable, Hashable, Sendable {
    public var vm: VMDefinition
    public var attempt: UInt64
    /// The generations that the sender journaled for this run; a lease-service of another generation refuses (S9).
    public var generations: [String: UInt64]
    /// Proofs about earlier runs: they open the leases that those left behind.
    public var proofs: [SignedProof]
    public init(vm: VMDefinition, attempt: UInt64, generations: [String: UInt64], proofs: [SignedProof]) {
        self.vm = vm
        self.attempt = attempt
        self.generations = generations
        self.proofs = proofs
    }
}

/// Body of `vm.stop`, `vm.pause`, `vm.resume` and `vm.observe`; replies ``VMObservation``.
///
/// `vm.observe` of an attempt that never arrived writes the tombstone before it answers stopped (S7).
public struct VMAttempt: Codable, Hashable, Sendable {
    public var vm: String
    public var attempt: UInt64
    public init(vm: String, attempt: UInt64) {
        self.vm = vm
        self.attempt = attempt
    }
}

/// Body of `spm.start`: take lease SDM of the master domain and serve as SPM. `target` is the boot id. Replies ``SPMRoleStatus``.
public struct SPMStart: Codable, Hashable, Sendable {
    public var pool: String
    /// Master domain.
    public var domain: String
    /// Number of this election, journaled by the coordinator; agents refuse an older one.
    public var term: UInt64
    public var generations: [String: UInt64]
    public var proofs: [SignedProof]
    public init(pool: String, domain: String, term: UInt64, generations: [String: UInt64], proofs: [SignedProof]) {
        self.pool = pool
        self.domain = domain
        self.term = term
        self.generations = generations
        self.proofs = proofs
    }
}

/// Body of `spm.stop` and `spm.status`.
public struct SPMTerm: Codable, Hashable, Sendable {
    public var pool: String
    public var term: UInt64?
    public init(pool: String, term: UInt64?) {
        self.pool = pool
        self.term = term
    }
}

public enum SPMRole: String, Codable, Sendable {
    case free = "Free"
    case contend = "Contend"
    case spm = "SPM"
    case unknown = "Unknown"
}

/// Whether this host is SPM, and by which lease version.
public struct SPMRoleStatus: Codable, Hashable, Sendable {
    public var pool: String
    public var role: SPMRole
    public var term: UInt64
    /// Version of lease SDM under which it serves.
    public var lver: UInt64
    public var evidence: String
    public var ended: SignedProof?
    public init(pool: String, role: SPMRole, term: UInt64, lver: UInt64, evidence: String, ended: SignedProof? = nil) {
        self.pool = pool
        self.role = role
        self.term = term
        self.lver = lver
        self.evidence = evidence
        self.ended = ended
    }
}

/// Body of `storage.connect` and `storage.disconnect`: see a domain, join its lockspace, probe it. Replies at once; progress is in `agent.storage`.
public struct StorageConnect: Codable, Hashable, Sendable {
    public var domain: String
    public var path: String
    public init(domain: String, path: String) {
        self.domain = domain
        self.path = path
    }
}

/// Body of `storage.create` to an agent: makes directories, metadata and (by its lease-service) the lease volumes of a new file domain.
public struct StorageCreate: Codable, Hashable, Sendable {
    public var domain: String
    public var path: String
    public var name: String
    public var ioTimeout: Int
    public init(domain: String, path: String, name: String, ioTimeout: Int) {
        self.domain = domain
        self.path = path
        self.name = name
        self.ioTimeout = ioTimeout
    }
}

/// Body of `task.run`: a storage task for the SPM's worker. Replies ``TaskResult`` when its result is published.
public struct TaskRun: Codable, Hashable, Sendable {
    public var pool: String
    public var task: String
    public var term: UInt64
    public var lver: UInt64
    public var work: TaskWork
    public init(pool: String, task: String, term: UInt64, lver: UInt64, work: TaskWork) {
        self.pool = pool
        self.task = task
        self.term = term
        self.lver = lver
        self.work = work
    }
}

public struct TaskResult: Codable, Hashable, Sendable {
    public var task: String
    public var detail: String
    public init(task: String, detail: String) {
        self.task = task
        self.detail = detail
    }
}

/// Body of `agent.shutdown`: end every run, prove each over, then say goodbye (S19). Replies when that is done; nothing is started on the host any more in this boot.
public struct AgentShutdown: Codable, Hashable, Sendable {
    /// Call it off: what has ended stays ended, and the host may be given guests again.
    public var cancel: Bool?
    /// To save power: refused unless nothing runs there; with ``cancel``, what an operator has asked for stays.
    public var saving: Bool?
    public init(cancel: Bool? = nil, saving: Bool? = nil) {
        self.cancel = cancel
        self.saving = saving
    }
}

/// Body of `fence.accept`: does this agent, which is not the suspect, obey the sender's lineage and term (S16)?
public struct FenceAccept: Codable, Hashable, Sendable {
    public var host: String
    public var caseID: String
    public init(host: String, caseID: String) {
        self.host = host
        self.caseID = caseID
    }
}

/// Body of `manager.hello`.
public struct ManagerWords: Codable, Hashable, Sendable {
    /// fencing-service: how often it wants to hear the agent; `nil`: it does not say.
    public var heartbeat: Duration?
    public init(heartbeat: Duration? = nil) { self.heartbeat = heartbeat }
}
