/// Error codes of repairs to a whole lockspace.
public enum LockspaceErrorCode: String, CaseIterable, Sendable {
    /// An operator drained it on this host: nothing joins and no lease is taken until it is opened again.
    case closed = "lockspace.closed"
    /// Something lives there, or nothing proves that it does not; the details list it.
    case inUse = "lockspace.in-use"
    /// A reinitialisation began and did not finish: resume it, or restore the backup it made.
    case unfinished = "lockspace.unfinished"
    /// The backup is not whole, or is of another lockspace.
    case badBackup = "lockspace.bad-backup"
    /// The volumes do not say that they are this lockspace: nothing is ever written there.
    case notThis = "lockspace.not-this-one"
}

/// Body of `lockspace.drain`: this host leaves, and nothing joins or takes a lease there until it is opened again. Idempotent; guests are not ended by it.
public struct LockspaceDrain: Codable, Hashable, Sendable {
    public var lockspace: String
    /// Ends the drain.
    public var open: Bool
    /// Changes nothing, only tells how far this host is.
    public var onlyLook: Bool
    public var who: String
    public var why: String
    public init(lockspace: String, open: Bool = false, onlyLook: Bool = false, who: String, why: String) {
        self.lockspace = lockspace
        self.open = open
        self.onlyLook = onlyLook
        self.who = who
        self.why = why
    }
}

/// Reply to `lockspace.drain`: how far this host is. It has left when `state` is `left` and nobody holds anything.
public struct LockspaceDrainView: Codable, Hashable, Sendable {
    public var lockspace: String
    public var host: String
    public var hostID: Int
    public var bootID: String
    /// The domain's directory; `nil` if this host never joined it.
    public var path: String?
    public var isClosed: Bool
    public var state: LockspaceState
    /// Guards that hold leases of it on this host, as `role:name:attempt`.
    public var holders: [String]

    public init(lockspace: String, host: String, hostID: Int, bootID: String, path: String?, isClosed: Bool, state: LockspaceState, holders: [String]) {
        self.lockspace = lockspace
        self.host = host
        self.hostID = hostID
        self.bootID = bootID
        self.path = path
        self.isClosed = isClosed
        self.state = state
        self.holders = holders
    }

    public var hasLeft: Bool { isClosed && state == .left && holders.isEmpty }
}

/// What the managers and hosts say about a lockspace's use, collected by whoever asks for its reinitialisation.
public struct LockspaceFacts: Codable, Hashable, Sendable {
    /// A host whose lease-service answered that it has left and lets nothing in.
    public struct Departure: Codable, Hashable, Sendable {
        public var host: String
        public var hostID: Int
        public var bootID: String
        /// Since it answered.
        public var age: Duration
        public init(host: String, hostID: Int, bootID: String, age: Duration) {
            self.host = host
            self.hostID = hostID
            self.bootID = bootID
            self.age = age
        }
    }

    public var departures: [Departure]
    /// Registered hosts by host id; those that neither departed nor are proven dead keep everything from being written.
    public var registered: [Int: String]
    /// Sentences, each of one thing that is under way: storage tasks, VMs that are not down, open fence cases.
    public var underWay: [String]
    /// Services that did not answer: what they know is not known.
    public var silent: [String]

    public init(departures: [Departure] = [], registered: [Int: String] = [:], underWay: [String] = [], silent: [String] = []) {
        self.departures = departures
        self.registered = registered
        self.underWay = underWay
        self.silent = silent
    }
}

/// Body of `lockspace.reinitialize` and `lockspace.restore` (to the lease-service of one host that has left, operators only).
public struct LockspaceRepair: Codable, Hashable, Sendable {
    public var lockspace: String
    /// The domain's directory.
    public var path: String
    /// The backup, a file on that host: written first by `lockspace.reinitialize` (`nil`: a place of the service's choice), read by `lockspace.restore`.
    public var backup: String?
    /// What shall be different afterwards; `nil`: as it was.
    public var ioTimeout: Int?
    public var sectorSize: Int?
    /// Bytes of one lease area.
    public var alignment: Int?
    public var facts: LockspaceFacts
    /// Of hosts that cannot answer any more.
    public var proofs: [SignedProof]
    /// Only assess.
    public var dryRun: Bool
    /// Goes on with what this host began and did not finish; everything else is as it was then.
    public var resume: Bool
    /// Goes on where nothing is proven; never where something lives.
    public var force: Bool
    public var who: String
    public var why: String

    public init(
        lockspace: String, path: String, backup: String? = nil, ioTimeout: Int? = nil, sectorSize: Int? = nil, alignment: Int? = nil, facts: LockspaceFacts = LockspaceFacts(),
        proofs: [SignedProof] = [], dryRun: Bool = false, resume: Bool = false, force: Bool = false, who: String, why: String
    ) {
        self.lockspace = lockspace
        self.path = path
        self.backup = backup
        self.ioTimeout = ioTimeout
        self.sectorSize = sectorSize
        self.alignment = alignment
        self.facts = facts
        self.proofs = proofs
        self.dryRun = dryRun
        self.resume = resume
        self.force = force
        self.who = who
        self.why = why
    }
}

/// Body of `lockspace.backup`: writes the used sectors to a file of this host, beside whatever lives there.
public struct LockspaceBackup: Codable, Hashable, Sendable {
    public var lockspace: String
    /// The domain's directory; `nil`: where this host has joined it.
    public var path: String?
    /// Absolute path of the file on this host; `nil`: a place of the service's choice.
    public var file: String?
    public init(lockspace: String, path: String? = nil, file: String? = nil) {
        self.lockspace = lockspace
        self.path = path
        self.file = file
    }
}

/// Reply to `lockspace.backup`: the file was written, read again and verified.
public struct LockspaceBackupView: Codable, Hashable, Sendable {
    public var lockspace: String
    public var file: String
    public var bytes: Int
    public var leases: Int
    /// What could not be read as what it should be; it is in the backup as it is.
    public var unreadable: [String]
    public init(lockspace: String, file: String, bytes: Int, leases: Int, unreadable: [String]) {
        self.lockspace = lockspace
        self.file = file
        self.bytes = bytes
        self.leases = leases
        self.unreadable = unreadable
    }
}

/// Something that keeps a lockspace from being written anew.
public struct LockspaceObstacle: Codable, Hashable, Sendable {
    /// `host/4`, `lease/<name>`, `service/<name>`, `area`.
    public var subject: String
    /// One sentence with the evidence.
    public var why: String
    /// How old the evidence is; `nil`: there is none.
    public var age: Duration?
    /// Whether an operator may go on all the same: nothing proves that it lives, and nothing that it does not.
    public var canBeForced: Bool

    public init(_ subject: String, _ why: String, age: Duration? = nil, canBeForced: Bool = false) {
        self.subject = subject
        self.why = why
        self.age = age
        self.canBeForced = canBeForced
    }
}

/// What was found out about a lockspace, and what writing it anew means. Reply to `lockspace.reinitialize` and `.restore`.
public struct LockspaceAssessment: Codable, Hashable, Sendable {
    public struct Slot: Codable, Hashable, Sendable {
        public var hostID: Int
        public var name: String
        public var generation: UInt64
        /// `free`, `left`, `proven gone`, `silent`, `live`, `unreadable`.
        public var state: String
        public var evidence: String
        public var age: Duration?
        public init(hostID: Int, name: String, generation: UInt64, state: String, evidence: String, age: Duration? = nil) {
            self.hostID = hostID
            self.name = name
            self.generation = generation
            self.state = state
            self.evidence = evidence
            self.age = age
        }
    }

    public struct Lease: Codable, Hashable, Sendable {
        public var resource: String
        public var place: String
        public var lver: UInt64
        /// `free`, `void`, `held`, `unreadable`.
        public var state: String
        public var evidence: String
        public init(resource: String, place: String, lver: UInt64, state: String, evidence: String) {
            self.resource = resource
            self.place = place
            self.lver = lver
            self.state = state
            self.evidence = evidence
        }
    }

    public var lockspace: String
    public var path: String
    /// As it is, and as it shall be: sector size, alignment, io_timeout.
    public var now: String
    public var then: String
    public var slots: [Slot]
    public var leases: [Lease]
    public var obstacles: [LockspaceObstacle]
    /// Remarks that decide nothing.
    public var notes: [String]
    public var writes: Int
    public var bytes: Int
    /// `nil`: none was written.
    public var backup: String?
    public var isDone: Bool

    public init(
        lockspace: String, path: String, now: String, then: String, slots: [Slot] = [], leases: [Lease] = [], obstacles: [LockspaceObstacle] = [], notes: [String] = [],
        writes: Int = 0, bytes: Int = 0, backup: String? = nil, isDone: Bool = false
    ) {
        self.lockspace = lockspace
        self.path = path
        self.now = now
        self.then = then
        self.slots = slots
        self.leases = leases
        self.obstacles = obstacles
        self.notes = notes
        self.writes = writes
        self.bytes = bytes
        self.backup = backup
        self.isDone = isDone
    }
}

/// Body of `lease.void`: frees the host id of a host that is gone, and with it every lease it held in one domain. For foreign sanlock daemons only, that no proof covers.
public struct LeaseVoid: Codable, Hashable, Sendable {
    public var lockspace: String
    public var hostID: Int
    /// The life that is meant: another one is not touched.
    public var generation: UInt64
    /// Needed if SDM is among its leases.
    public var spm: Bool
    /// Only tells what it would affect.
    public var dryRun: Bool
    public var who: String
    public var why: String
    public init(lockspace: String, hostID: Int, generation: UInt64, spm: Bool, dryRun: Bool, who: String, why: String) {
        self.lockspace = lockspace
        self.hostID = hostID
        self.generation = generation
        self.spm = spm
        self.dryRun = dryRun
        self.who = who
        self.why = why
    }
}

/// Reply to `lease.void`.
public struct LeaseVoidView: Codable, Hashable, Sendable {
    public var lockspace: String
    public var hostID: Int
    public var name: String
    public var generation: UInt64
    public var state: LockspaceHostState
    /// Since this host last saw the sector change, or first saw it.
    public var unchangedFor: Duration
    /// Leases that are void with it.
    public var leases: [String]
    public var isDone: Bool
    public init(lockspace: String, hostID: Int, name: String, generation: UInt64, state: LockspaceHostState, unchangedFor: Duration, leases: [String], isDone: Bool) {
        self.lockspace = lockspace
        self.hostID = hostID
        self.name = name
        self.generation = generation
        self.state = state
        self.unchangedFor = unchangedFor
        self.leases = leases
        self.isDone = isDone
    }
}

/// Something about a lockspace that a person should know. Body of `lockspace.anomaly` events, part of ``LockspaceView``.
public struct LockspaceAnomaly: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Sendable, CaseIterable {
        /// A host's sector cannot be read as what it should be.
        case unreadableSector
        /// Two names take turns on one host id.
        case twoNames
        /// A generation went back.
        case generationWentBack
        /// Hosts keep refusing each other the same lease.
        case repeatedRefusals
        /// A lease's sectors or the index cannot be believed.
        case corruptLease
        /// Renewals take 2 x io_timeout and more.
        case slowRenewals
    }
    public var lockspace: String
    public var kind: Kind
    /// `host/4`, `lease/<name>`, or empty for the whole lockspace.
    public var subject: String
    /// What was seen.
    public var what: String
    /// What to do next.
    public var advice: String
    /// It is seen no more.
    public var isOver: Bool
    public init(lockspace: String, kind: Kind, subject: String, what: String, advice: String, isOver: Bool = false) {
        self.lockspace = lockspace
        self.kind = kind
        self.subject = subject
        self.what = what
        self.advice = advice
        self.isOver = isOver
    }
}
