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
    /// An operator says which lineage of a manager service to obey.
    case pin(RequestID, ManagerPin)
    case inspect(RequestID, LockspaceRequest)
    case create(RequestID, Caller, LeaseRequest)
    case remove(RequestID, Caller, LeaseRequest)
    case rebuild(RequestID, Caller, IndexRebuildRequest, time: UInt64)
    case lookup(RequestID, LeaseRequest)
    case demand(RequestID, Caller, LeaseDemand)
    case notify(RequestID, Caller, LockspaceNotice)
    case list(RequestID, LockspaceRequest)

    case drain(RequestID, LockspaceDrain)
    /// `restores`: from a backup; else from what is there.
    case repair(RequestID, LockspaceRepair, [AcceptedProof], restores: Bool, time: UInt64)
    case backup(RequestID, LockspaceBackup, time: UInt64)
    case void(RequestID, LeaseVoid)
    /// Of this host's own, from its agent.
    case watchdog(RequestID, WatchdogReport)

    // Guards
    case acquire(connection: UInt64, GuardRequest)
    case adopt(connection: UInt64, GuardRequest)
    case release(connection: UInt64, Holder)
    /// Its lease of this name, to be held in this way.
    case convert(connection: UInt64, Holder, GuardLease)
    /// Reads the value of a lease that it holds, or writes it.
    case value(connection: UInt64, Holder, LeaseName, [UInt8]?)
    /// A sanlock daemon holds for this guard what it was told to take, or does not (``SanlockCode``).
    case taken(connection: UInt64, Holder)
    case notTaken(connection: UInt64, Holder, result: Int32, why: String)
    /// Reads again whether the leases of this holder are its own; `number` comes back with the answer.
    case verify(connection: UInt64, Holder, number: String)
    case disconnected(connection: UInt64)
    /// Whether every lock file of a holder without connection could be taken: its process group is gone (S3).
    case locksTested(Holder, free: Bool)

    // I/O
    case completed(IOToken, IOResult)
    /// An I/O that was reported as timed out has ended: it can no longer change the disk.
    case landed(IOToken)
    /// A sanlock daemon's number.
    case daemonAnswered(IOToken, Int32)

    public var isEphemeral: Bool {
        switch self {
        case .started, .noted, .pin: false
        default: true
        }
    }

    /// Guards, and what they hold, end with the machine.
    public var isOfThisBoot: Bool {
        switch self {
        case .noted(.grant), .noted(.ended): true
        default: false
        }
    }

    public var quickJSON: [UInt8]? {
        guard case .noted(let fact) = self, isOfThisBoot else { return nil }
        var writer = JSONWriter(capacity: 512)
        writer.field("noted") { $0.field("_0") { fact.write(to: &$0) } }
        return writer.finish()
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
    /// How long it waits for leases that others hold; `nil`: it does not.
    public var wait: Duration?

    public init(
        holder: Holder, lock: String, diskLocks: [String], leases: [GuardLease], generations: [String: UInt64] = [:], proofs: [AcceptedProof] = [], wait: Duration? = nil
    ) {
        self.holder = holder
        self.lock = lock
        self.diskLocks = diskLocks
        self.leases = leases
        self.generations = generations
        self.proofs = proofs
        self.wait = wait
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
    case maintenance(MaintenanceRecord)
}

extension LeaseFact {
    fileprivate func write(to writer: inout JSONWriter) {
        switch self {
        case .grant(let grant): writer.field("grant") { $0.field("_0") { grant.write(to: &$0) } }
        case .ended(let holder): writer.field("ended") { $0.field("_0") { holder.write(to: &$0) } }
        case .membership, .pins, .maintenance: break
        }
    }
}

extension Grant {
    fileprivate func write(to writer: inout JSONWriter) {
        writer.field("bootID", bootID)
        writer.field("diskLocks", diskLocks)
        writer.field("holder") { holder.write(to: &$0) }
        writer.field("leases", leases) { writer, lease in lease.write(to: &writer) }
        writer.field("lock", lock)
        writer.field("state", state.rawValue)
    }
}

/// What the lease engine wants done.
public enum LeaseAction: Sendable {
    case io(VolumeRequest)
    /// Ask the sanlock daemon; answered by ``LeaseInput/daemonAnswered(_:_:)``, in case of need with ``SanlockSettings/noAnswer``.
    case daemon(SanlockRequest)
    /// Journal this and hand it back as ``LeaseInput/noted(_:)``.
    case note(LeaseFact)
    case tell(connection: UInt64, GuardMessage)
    /// Try all of these lock files without waiting; the answer is ``LeaseInput/locksTested(_:free:)``.
    case testLocks(Holder, [String])
    /// The lockspace in this directory was left: no file of it stays open.
    case closeFiles(under: String)
}

extension LeaseInput {
    /// What a guard's message means. Locks that are free say that their sender lies, or is an earlier run's ghost (S3).
    ///
    /// - Parameters:
    ///   - isFree: whether nobody holds this lock file.
    ///   - proofs: the acceptable ones of those at this path.
    /// - Throws: why it is refused; nothing was changed.
    public init(
        _ message: GuardMessage, on connection: UInt64, isFree: (String) -> Bool, proofs: (String) throws(RequestError) -> [AcceptedProof]
    ) throws(RequestError) {
        guard let holder = message["holder"].flatMap(Holder.init) else { throw RequestError(RequestErrorCode.malformed, "\(message.verb) without a holder") }
        switch message.verb {
        case "acquire": self = .acquire(connection: connection, try GuardRequest(message, holder, isFree, proofs))
        case "adopt": self = .adopt(connection: connection, try GuardRequest(message, holder, isFree, proofs))
        case "release": self = .release(connection: connection, holder)
        case "taken": self = .taken(connection: connection, holder)
        case "nottaken":
            self = .notTaken(connection: connection, holder, result: message["result"].flatMap(Int32.init) ?? SanlockCode.timedOut, why: message["message"] ?? "")
        case "convert":
            guard let lease = message["lease"].flatMap(GuardLease.init) else { throw RequestError(RequestErrorCode.malformed, "convert names its lease as lockspace|resource|mode") }
            self = .convert(connection: connection, holder, lease)
        case "value":
            guard let lease = message["lease"].flatMap(GuardLease.init) else { throw RequestError(RequestErrorCode.malformed, "value names its lease as lockspace|resource") }
            let value = message["data"].map(Hexadecimal.bytes)
            if let value, value == nil { throw RequestError(RequestErrorCode.malformed, "data is written in hexadecimal digits") }
            self = .value(connection: connection, holder, lease.name, value ?? nil)
        case "verify": self = .verify(connection: connection, holder, number: message["number"] ?? "")
        default: throw RequestError(RequestErrorCode.unknownType, "lease-service does not know \"\(message.verb)\"")
        }
    }
}

extension GuardRequest {
    fileprivate init(
        _ message: GuardMessage, _ holder: Holder, _ isFree: (String) -> Bool, _ proofs: (String) throws(RequestError) -> [AcceptedProof]
    ) throws(RequestError) {
        guard let lock = message["lock"] else { throw RequestError(RequestErrorCode.malformed, "\(message.verb) without a lock") }
        let leases = message.all("lease").compactMap(GuardLease.init)
        guard leases.count == message.all("lease").count else { throw RequestError(RequestErrorCode.malformed, "a lease is lockspace|resource") }
        self.init(holder: holder, lock: lock, diskLocks: message.all("disklock"), leases: leases)
        guard message.verb == "acquire" else { return }
        for text in message.all("generation") {
            let parts = text.split(separator: "|")
            guard parts.count == 2, let generation = UInt64(parts[1]) else { throw RequestError(RequestErrorCode.malformed, "a generation is lockspace|number") }
            generations[String(parts[0])] = generation
        }
        if let wait = message["wait"] {
            guard let seconds = Int64(wait), (0...86400).contains(seconds) else { throw RequestError(RequestErrorCode.malformed, "wait is a number of seconds, at most a day") }
            self.wait = .seconds(seconds)
        }
        // Whoever holds these locks has outlived every earlier holder of them (S3).
        if let open = ([lock] + diskLocks).first(where: isFree) { throw RequestError(RequestErrorCode.invalid, "\(holder) does not hold its lock \(open)") }
        if let path = message["proofs"], !path.isEmpty { self.proofs = try proofs(path) }
    }
}
