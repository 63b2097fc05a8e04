import LeaseFormat
import Messages

/// What the lease engine is told. Only ``started(_:)`` and ``noted(_:)`` are journaled: whatever must be durable is first asked for by ``LeaseAction/note(_:)`` and
/// acted upon when it comes back, so that renewals never wait for a commit.
public enum LeaseInput: EngineInput {
    case started(HostIdentity)
    case wake
    case noted(LeaseFact)

    // Requests. All of them can be repeated, so a restarted process simply does them again when they are resent.
    /// `time`: wall-clock seconds for people, written to the index.
    case initialize(RequestID, Caller, LockspaceInitialize, time: UInt64)
    case join(RequestID, Caller, LockspaceJoin)
    case leave(RequestID, Caller, LockspaceRequest)
    case inspect(RequestID, LockspaceRequest)
    case create(RequestID, Caller, LeaseRequest)
    case lookup(RequestID, LeaseRequest)
    case list(RequestID, LockspaceRequest)

    // Guards
    case acquire(connection: UInt64, GuardRequest)
    case adopt(connection: UInt64, GuardRequest)
    case release(connection: UInt64, Holder)
    case disconnected(connection: UInt64)
    /// Whether every lock file of a holder without connection could be taken: its process group is gone (S3).
    case locksTested(Holder, free: Bool)

    // I/O
    case completed(IOToken, IOResult)
    /// An I/O that was reported as timed out has ended: it can no longer change the disk.
    case landed(IOToken)

    public var isEphemeral: Bool {
        switch self {
        case .started, .noted: false
        default: true
        }
    }
}

/// What a guard asks for, its proofs already verified.
public struct GuardRequest: Codable, Hashable, Sendable {
    public var holder: Holder
    /// Lock file of the VM or role.
    public var lock: String
    public var diskLocks: [String]
    public var leases: [GuardLease]
    /// Generation of this host's membership that the run was planned for, per lockspace (S9).
    public var generations: [String: UInt64]
    public var proofs: [AcceptedProof]

    public init(holder: Holder, lock: String, diskLocks: [String], leases: [GuardLease], generations: [String: UInt64] = [:], proofs: [AcceptedProof] = []) {
        self.holder = holder
        self.lock = lock
        self.diskLocks = diskLocks
        self.leases = leases
        self.generations = generations
        self.proofs = proofs
    }
}

/// What is durable about leases given to one guard.
public struct Grant: Codable, Hashable, Sendable {
    public enum State: String, Codable, Sendable, CaseIterable, Comparable {
        /// Ballots may be under way: something of ours may be on disk.
        case acquiring
        case granted
        /// The holder is gone, or gave back: sectors are being freed.
        case releasing

        private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
        public static func < (a: Self, b: Self) -> Bool { a.rank < b.rank }
    }
    public var holder: Holder
    public var bootID: String
    public var lock: String
    public var diskLocks: [String]
    /// Sorted; lver 0 while acquiring.
    public var leases: [GuardLease]
    public var state: State

    var locks: [String] { [lock] + diskLocks }
}

/// A change of what must survive the process.
public enum LeaseFact: Codable, Hashable, Sendable {
    case membership(MembershipRecord)
    case grant(Grant)
    /// Nothing of this holder is left, neither on disk nor on this machine.
    case ended(Holder)
    case pins(ManagerPins)
}

/// What the lease engine wants done.
public enum LeaseAction: Sendable {
    case io(VolumeRequest)
    /// Journal this and hand it back as ``LeaseInput/noted(_:)``.
    case note(LeaseFact)
    case tell(connection: UInt64, GuardMessage)
    /// Try all of these lock files without waiting; the answer is ``LeaseInput/locksTested(_:free:)``.
    case testLocks(Holder, [String])
}
