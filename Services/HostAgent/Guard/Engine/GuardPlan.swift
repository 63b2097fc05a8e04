public import Messages

/// What one guard is to hold while its payload runs.
public struct GuardPlan: Hashable, Sendable {
    public var holder: Holder
    /// Lock file of the VM, or of the SPM role.
    public var vmLock: String
    /// Lock files of the writable disks, in the order in which they are taken.
    public private(set) var diskLocks: [String]
    /// In the order of their names; empty for a VM that is defined without leases.
    public private(set) var leases: [GuardLease]
    /// `lockspace|G`, passed on as they are.
    public var generations: [String]
    /// Path of the proofs, passed on as it is.
    public var proofs: String?
    public var onLeaseLoss: LeaseLossAction
    /// With ``LeaseLossAction/pause``: how long before the deadline; `nil`: 2 x io_timeout.
    public var pauseBefore: Duration?
    /// The start is called off for ever if its spec is gone once the VM lock is held: the agent removes it, holding that lock.
    public var needsSpec: Bool

    public init(
        holder: Holder, vmLock: String, diskLocks: [String] = [], leases: [GuardLease] = [], generations: [String] = [], proofs: String? = nil,
        onLeaseLoss: LeaseLossAction = .kill, pauseBefore: Duration? = nil, needsSpec: Bool = true
    ) {
        self.holder = holder
        self.vmLock = vmLock
        self.diskLocks = diskLocks.sorted()
        self.leases = leases.sorted { $0.name < $1.name }
        self.generations = generations
        self.proofs = proofs
        self.onLeaseLoss = onLeaseLoss
        self.pauseBefore = pauseBefore
        self.needsSpec = needsSpec
    }
}

/// What a guard's engine is told.
public enum GuardInput: Hashable, Sendable {
    /// The process has begun; `unlocked` is why its memory could not be locked, `nil`: it is.
    case begin(unlocked: String?)
    case lockTaken(String)
    /// Held by another process, or not to be opened.
    case lockHeld(String)
    case specSeen(isThere: Bool)
    /// The control socket is there, or why not.
    case listening(failure: String?)

    case leaseConnected
    /// Not connected, or no longer; also when a message could not be sent.
    case leaseBroken(why: String)
    case leaseMessage(GuardMessage)

    /// What became of ``GuardAction/takeFromSanlock(_:)``.
    case sanlockAnswered(SanlockAnswer)
    /// The daemon has closed the connection over which it held the leases: it died, or takes this process for dead.
    case sanlockGone

    case payloadStarted(pid: Int32)
    /// No process was made.
    case payloadNotStarted(why: String)
    /// Its exec has happened.
    case payloadBegan
    /// Its exec failed; its process is still to be reaped.
    case payloadNotBegun(why: String)
    /// Reaped: nothing that it ever started is left.
    case payloadExited(String)

    case agentMessage(client: Int32, GuardMessage)
    /// The time of ``GuardEngine/nextWake`` has come, or anything else happened.
    case tick
    /// The time of ``GuardEngine/nextWake`` cannot be waited for.
    case timerFailed(why: String)
}

/// What a sanlock daemon said, or why it was not asked.
public struct SanlockAnswer: Hashable, Sendable {
    /// 0: all leases are this process's. Else a negative errno or number of sanlock's.
    public var result: Int32
    public var why: String

    public init(result: Int32, why: String) {
        self.result = result
        self.why = why
    }
}

/// What a guard's engine wants done, in this order.
public enum GuardAction: Hashable, Sendable {
    /// Answered by ``GuardInput/lockTaken(_:)`` or ``GuardInput/lockHeld(_:)``.
    case takeLock(String)
    /// Answered by ``GuardInput/specSeen(isThere:)``.
    case lookForSpec
    /// Listen for the agent; answered by ``GuardInput/listening(failure:)``.
    case listen
    /// Answered by ``GuardInput/leaseConnected`` or ``GuardInput/leaseBroken(why:)``.
    case connectToLeaseService
    /// To lease-service.
    case send(GuardMessage)
    /// Register this process with the sanlock daemon and acquire what lease-service named; answered by ``GuardInput/sanlockAnswered(_:)``.
    case takeFromSanlock(GuardMessage)
    /// The daemon may release them: nothing of the payload is left.
    case dropSanlock
    /// Answered by ``GuardInput/payloadStarted(pid:)`` or ``GuardInput/payloadNotStarted(why:)``. It must not begin after the deadline (``GuardEngine/obstacle(guardLives:deadline:at:)``).
    case startPayload(deadline: Instant?, environment: [String: String])
    /// SIGKILL to the payload and all that it started.
    case killGroup
    /// SIGSTOP to the payload and all that it started.
    case pauseGroup
    /// SIGCONT to the payload and all that it started, unless this time has come when the clock is read once more: the guard itself may have stood still since it decided.
    case resumeGroup(before: Instant)
    case closeDiskLocks
    /// To every connected agent.
    case tell(GuardMessage)
    case answer(client: Int32, GuardMessage)
    /// Leave this result, remove the control socket and end: the VM lock goes with the process.
    ///
    /// Not `isOurs` without the VM lock: result and control socket belong to a living guard of the same holder if one answers there.
    case finish(GuardMessage, isOurs: Bool)
    case log(String)
}
