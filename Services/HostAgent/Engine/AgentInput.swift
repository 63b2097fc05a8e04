public import Messages

/// Who this agent is, delivered once at each start of its process.
public struct AgentIdentity: Codable, Hashable, Sendable {
    public var host: String
    /// 1...2000, in every lockspace.
    public var hostID: Int
    /// Made by the init whose end ends all guards (S14).
    public var bootID: String
    public var hardwareID: String
    /// Ed25519 public key that signs this host's `ended` proofs, hexadecimal.
    public var signingKey: String
    /// How old a proof must be before it opens disks without leases (S4).
    public var settle: Duration

    public init(host: String, hostID: Int, bootID: String, hardwareID: String, signingKey: String, settle: Duration) {
        self.host = host
        self.hostID = hostID
        self.bootID = bootID
        self.hardwareID = hardwareID
        self.signingKey = signingKey
        self.settle = settle
    }
}

/// What was seen of one guard. Only ``ended``, ``refused`` and ``gone`` say that nothing runs, and each of them was seen with the VM lock free.
public enum GuardSighting: Codable, Hashable, Sendable {
    /// It has its locks and waits for its leases.
    case acquiring
    /// The payload runs; `lver` is the version of its first lease, 0 without leases. `why`: if it is paused, and that is known.
    case running(pid: Int32, lver: UInt64, paused: Bool, why: PauseCause? = nil)
    case ending(why: String)
    /// It reaped its group and said so.
    case ended(exit: String, why: String)
    /// Nothing was ever started.
    case refused(code: String, message: String)
    /// No result, but its lock was taken (and the start called off under it), and a complete scan found no process of its.
    case gone(evidence: String)
    /// Neither the one nor the other: it does not answer, but its lock is held; or the scan was not complete.
    case unclear(evidence: String)

    /// Nothing of it runs, and nothing of it ever will.
    public var isFinal: Bool {
        switch self {
        case .ended, .refused, .gone: true
        case .acquiring, .running, .ending, .unclear: false
        }
    }
}

/// Why a guest that is there does not run.
public enum PauseCause: Codable, Hashable, Sendable {
    /// Its guard has stopped all of it, since its leases are about to be lost; as it says.
    case leaseLoss(String)
    /// Its hypervisor met an error of its storage.
    case ioError

    var evidence: String {
        switch self {
        case .leaseLoss(let why): "its guard has stopped it: \(why)"
        case .ioError: "its hypervisor has paused it: an I/O error of its storage"
        }
    }
}

/// What came of an operator's wish that a paused guest goes on.
public enum ResumeOutcome: Codable, Hashable, Sendable {
    /// Its leases were read again, and it runs.
    case goesOn
    /// It was not let go on, or did not.
    case stays(why: String)
}

/// A guest that a look at every process and lock found.
public struct ScannedGuest: Codable, Hashable, Sendable {
    public var vm: String
    /// `nil`: only its lock is held; by its guard before the guest began, or by threads of it that do not end.
    public var pid: Int32?
    public init(vm: String, pid: Int32?) {
        self.vm = vm
        self.pid = pid
    }

    var evidence: String { "\(pid.map { "process \($0) has its uuid" } ?? "its lock is held"), but no attempt of it is known to this agent" }
}

/// What an agent's engine is told.
public enum AgentInput: EngineInput {
    case wake
    case started(AgentIdentity)
    /// Time for a heartbeat: rises by one within one life of the agent.
    case pulse(sequence: UInt64, memoryFreeMiB: Int)

    case vmStart(RequestID, Caller, VMStart)
    case vmStop(RequestID, Caller, VMAttempt)
    case vmObserve(RequestID, Caller, VMAttempt)
    /// An operator lets a guest go on that its hypervisor has paused.
    case vmResume(RequestID, Caller, VMAttempt)
    case spmStart(RequestID, Caller, SPMStart)
    case spmStop(RequestID, Caller, SPMTerm)
    case spmStatus(RequestID, Caller, SPMTerm)
    case taskRun(RequestID, Caller, TaskRun)
    case storageConnect(RequestID, Caller, StorageConnect)
    case storageDisconnect(RequestID, Caller, StorageConnect)
    case storageCreate(RequestID, Caller, StorageCreate)
    case fenceAccept(RequestID, Caller, FenceAccept)
    case fencePrepare(RequestID, Caller, FencePrepare)
    case fenceRun(RequestID, Caller, FenceProxyRun)
    /// Shut down to save power, if nothing runs here; and call that off.
    case saveShutdown(RequestID, Caller)
    case saveCalledOff(RequestID, Caller)
    case fenceIdentify(RequestID, Caller, FenceIdentify)
    /// A manager service introduces itself, so that its lineage and term are pinned before anybody else comes (S16).
    case hello(RequestID, Caller, ManagerWords? = nil)
    case watchdogOrder(RequestID, Caller, WatchdogOrder)
    /// An operator says which lineage of a manager service to obey.
    case pin(RequestID, ManagerPin)
    case shutdown(RequestID, Caller)
    case shutdownCalledOff(RequestID, Caller)

    case sighted(Holder, GuardSighting)
    /// What came of an operator's wish that it goes on.
    case resumed(Holder, ResumeOutcome)
    /// Every process and lock was looked at: these guests run here, and these hypervisor processes that are none of Bulwark's; `nil`: none, or nobody looked for them.
    case scanned([ScannedGuest], others: [String]? = nil)
    /// Each of the run's domains answered a probe that began after the run's end.
    case quiesced(Holder)
    case signed(Holder, SignedProof)
    case taskDone(RequestID, TaskResult?, RequestError?)
    /// The fence agents that were run for another host have ended.
    case fenceRan(RequestID, FenceProxyResult)
    /// A device of another host has told who it is, or not.
    case fenceIdentified(RequestID, FenceIdentity)
    /// `nil`: it exists.
    case storageCreated(RequestID, RequestError?)
    /// This host's lease-service has left the lockspace of this domain.
    case left(String)
    /// From this host's lease-service; empty if it does not answer.
    case lockspaces([AgentLockspace])
    case probed(DomainProbe)
    /// Whether an armed watchdog covers this host's leases.
    case watchdog(covers: Bool, why: String)
    /// Whether the hypervisor can be controlled, whenever that changes (``Toolstack``); `nil`: it can.
    case toolstack(ToolstackReport?)
    /// Whether the QMP monitor of a guest answers, whenever that changes.
    case monitor(Holder, answers: Bool)

    public var isEphemeral: Bool {
        switch self {
        case .pulse, .lockspaces, .probed, .watchdog: true
        default: false
        }
    }
}
