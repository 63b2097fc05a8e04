/// Error codes of lease-service.
public enum LeaseErrorCode: String, CaseIterable, Sendable {
    /// Another host holds it and nothing proves that its holder is gone; details name owner, generation and age.
    case held = "lease.held"
    /// The area of this lease has no room for a value.
    case noValue = "lease.no-value"
    /// Nobody holds what was asked for.
    case notHeld = "lease.not-held"
    /// What was asked for is over: the lease has a later version.
    case stale = "lease.stale-request"
    /// Another guard on this host holds it (S3).
    case heldHere = "lease.held-here"
    /// No such lease in the index of this domain.
    case notFound = "lease.not-found"
    case exists = "lease.exists"
    /// The index is full.
    case noSpace = "lease.no-space"
    /// The lockspace is not joined (yet) on this host.
    case notJoined = "lockspace.not-joined"
    /// The host id is in use by another host.
    case hostIDBusy = "lockspace.host-id-busy"
    /// The lockspace was lost: its renewals failed or its sector was overwritten.
    case lost = "lockspace.lost"
    /// The request was made for another generation of this host's membership.
    case generationMismatch = "lockspace.generation-mismatch"
    /// Another host won the ballot.
    case lostBallot = "lease.lost-ballot"
    /// A sector cannot be believed: bad magic, checksum or name.
    case corrupt = "lease.corrupt"
    /// The index says that an update did not finish; rebuild it.
    case indexUpdating = "lease.index-updating"
    /// Storage did not answer in time or with an error; the outcome of a write is unknown.
    case io = "lease.io"
    /// Only the current SPM may do this; the term given is not its.
    case notSPM = "spm.not-here"
    /// A proof's signature, key or maker is not acceptable.
    case badProof = "proof.unacceptable"
    /// The proof is younger than the domain's settle time; ask again later.
    case settling = "proof.settling"
    /// This host's hardware watchdog is not armed, or fires too late: nothing is granted (S6).
    case watchdog = "lease.no-watchdog"
    /// The configured lease engine cannot do it.
    case notSupported = "engine.not-supported"
}

public enum LockspaceState: String, Codable, Sendable { case joining, joined, leaving, left, lost }

/// What another host's delta sector says, from this host's own observation.
public enum LockspaceHostState: String, Codable, Sendable { case free, unknown, live, fail, dead }

/// Body of `lockspace.initialize`: writes the lease volumes of a new domain. Refused if one exists.
public struct LockspaceInitialize: Codable, Hashable, Sendable {
    /// Domain uuid.
    public var lockspace: String
    /// The domain's directory.
    public var path: String
    /// Seconds; recorded in the sectors.
    public var ioTimeout: Int
    public init(lockspace: String, path: String, ioTimeout: Int) {
        self.lockspace = lockspace
        self.path = path
        self.ioTimeout = ioTimeout
    }
}

/// Body of `lockspace.join`: idempotent; replies when joined or refused.
public struct LockspaceJoin: Codable, Hashable, Sendable {
    public var lockspace: String
    /// The domain's directory.
    public var path: String
    public init(lockspace: String, path: String) {
        self.lockspace = lockspace
        self.path = path
    }
}

/// Body of `lockspace.leave`, `lockspace.inspect` (`nil`: all), `lease.list`.
public struct LockspaceRequest: Codable, Hashable, Sendable {
    public var lockspace: String?
    public init(lockspace: String?) { self.lockspace = lockspace }
}

/// One used slot of a lockspace.
public struct LockspaceHost: Codable, Hashable, Sendable {
    public var hostID: Int
    public var name: String
    public var generation: UInt64
    /// Seconds of the owner's CLOCK_MONOTONIC; only "changed or not" means anything.
    public var timestamp: UInt64
    public var ioTimeout: Int
    public var state: LockspaceHostState
    /// Since this host last saw the sector change; `nil` if it never did.
    public var lastChange: Duration?
    /// For how long this host has read the same there: since the last change, or since it first read the sector if it never saw one.
    public var unchangedFor: Duration?
    /// When it is dead if it goes on like this: 8 x its io_timeout and the time that a watchdog has to fire; zero: it is. `nil`: its slot is free, or not told.
    public var deadIn: Duration?

    public init(
        hostID: Int, name: String, generation: UInt64, timestamp: UInt64, ioTimeout: Int, state: LockspaceHostState, lastChange: Duration?, unchangedFor: Duration? = nil,
        deadIn: Duration? = nil
    ) {
        self.hostID = hostID
        self.name = name
        self.generation = generation
        self.timestamp = timestamp
        self.ioTimeout = ioTimeout
        self.state = state
        self.lastChange = lastChange
        self.unchangedFor = unchangedFor
        self.deadIn = deadIn
    }
}

/// One lockspace as this host sees it: in the snapshot, as reply to `lockspace.join` and `.inspect`, body of `lockspace.joined`, `.lost`, `.left`.
public struct LockspaceView: Codable, Hashable, Sendable {
    public var lockspace: String
    public var path: String
    public var state: LockspaceState
    public var hostID: Int
    /// Generation of this membership; 0 before the first write.
    public var generation: UInt64
    /// What the own sector said before this boot's first join (for `rebooted` proofs); `nil` until read.
    public var generationBefore: UInt64?
    /// Since the submission of the last verified renewal.
    public var renewalAge: Duration?
    public var reason: String
    /// The used slots, freshly read for `.inspect` replies (S9: "read after the off command").
    public var hosts: [LockspaceHost]
    /// In `.inspect` replies: this host's last renewals, oldest first.
    public var renewals: [Renewal]?
    /// What a person should know; `nil`: nothing.
    public var anomalies: [LockspaceAnomaly]?

    /// One renewal, or one try that failed.
    public struct Renewal: Codable, Hashable, Sendable {
        /// Since it ended.
        public var age: Duration
        public var latency: Duration
        public var ok: Bool
        /// It took 2 x io_timeout or longer.
        public var isLate: Bool
        public init(age: Duration, latency: Duration, ok: Bool, isLate: Bool) {
            self.age = age
            self.latency = latency
            self.ok = ok
            self.isLate = isLate
        }
    }

    public init(
        lockspace: String, path: String, state: LockspaceState, hostID: Int, generation: UInt64, generationBefore: UInt64? = nil,
        renewalAge: Duration? = nil, reason: String = "", hosts: [LockspaceHost] = [], renewals: [Renewal]? = nil, anomalies: [LockspaceAnomaly]? = nil
    ) {
        self.lockspace = lockspace
        self.path = path
        self.state = state
        self.hostID = hostID
        self.generation = generation
        self.generationBefore = generationBefore
        self.renewalAge = renewalAge
        self.reason = reason
        self.hosts = hosts
        self.renewals = renewals
        self.anomalies = anomalies
    }
}

/// Reply to `lockspace.inspect`. Every lockspace in it was read from disk after the request arrived, or is left out.
public struct LockspaceList: Codable, Sendable {
    public var lockspaces: [LockspaceView]
    public init(lockspaces: [LockspaceView]) { self.lockspaces = lockspaces }
}

/// Body of `lockspace.renewal` events.
public struct LockspaceRenewal: Codable, Hashable, Sendable {
    public var lockspace: String
    public var latency: Duration
    public var ok: Bool
    /// It took 2 x io_timeout or longer, with all its tries.
    public var isLate: Bool?
    public init(lockspace: String, latency: Duration, ok: Bool, isLate: Bool? = nil) {
        self.lockspace = lockspace
        self.latency = latency
        self.ok = ok
        self.isLate = isLate
    }
}

/// A lease by name: lockspace (domain uuid) and resource (image uuid, or `SDM`).
public struct LeaseName: Codable, Hashable, Sendable, Comparable {
    public var lockspace: String
    public var resource: String
    public init(lockspace: String, resource: String) {
        self.lockspace = lockspace
        self.resource = resource
    }
    public static func < (a: LeaseName, b: LeaseName) -> Bool { (a.lockspace, a.resource) < (b.lockspace, b.resource) }
}

/// Body of `lease.create` and `lease.remove` (to lease-service, only with the current SPM term) and `lease.lookup`, `lease.inspect`.
public struct LeaseRequest: Codable, Hashable, Sendable {
    public var lease: LeaseName
    /// For `lease.create` and `lease.remove`: the SDM lease version that the sender means; must be held by this host now.
    public var lver: UInt64?
    public init(lease: LeaseName, lver: UInt64? = nil) {
        self.lease = lease
        self.lver = lver
    }
}

/// How a lease is held: by one guard alone, or by any number on any hosts that all share it.
public enum LeaseMode: String, Codable, Sendable {
    case exclusive, shared

    /// Of a lease that is held in this way.
    public var status: LeaseStatus { self == .shared ? .shared : .exclusive }
}

public enum LeaseStatus: String, Codable, Sendable { case free, exclusive, shared }

/// A lease as its sectors say: "held by host 3, node-c, generation 7".
public struct LeaseView: Codable, Hashable, Sendable {
    public var lease: LeaseName
    public var path: String
    public var offset: UInt64
    public var status: LeaseStatus
    public var ownerID: Int?
    public var ownerName: String?
    public var ownerGeneration: UInt64?
    public var lver: UInt64
    /// `role:name:attempt` of the guard on this host that holds it.
    public var holder: String?
    /// Who shares it, if it is shared.
    public var sharers: [Sharer]?

    /// A host that shares a lease, however many of its guards do.
    public struct Sharer: Codable, Hashable, Sendable {
        public var hostID: Int
        public var name: String
        public var generation: UInt64
        /// As this host sees it.
        public var state: LockspaceHostState
        public init(hostID: Int, name: String, generation: UInt64, state: LockspaceHostState) {
            self.hostID = hostID
            self.name = name
            self.generation = generation
            self.state = state
        }
    }

    public init(
        lease: LeaseName, path: String, offset: UInt64, status: LeaseStatus, ownerID: Int? = nil, ownerName: String? = nil,
        ownerGeneration: UInt64? = nil, lver: UInt64, holder: String? = nil, sharers: [Sharer]? = nil
    ) {
        self.lease = lease
        self.path = path
        self.offset = offset
        self.status = status
        self.ownerID = ownerID
        self.ownerName = ownerName
        self.ownerGeneration = ownerGeneration
        self.lver = lver
        self.holder = holder
        self.sharers = sharers
    }
}

/// Reply to `lease.list`.
public struct LeaseList: Codable, Sendable {
    public var leases: [LeaseView]
    /// What stands where a lease should be and is none; `nil` from older services.
    public var problems: [LeaseProblem]?
    public init(leases: [LeaseView], problems: [LeaseProblem] = []) {
        self.leases = leases
        self.problems = problems
    }
}

/// A record of an index, a lease area or a whole index that is of no use until it is rebuilt.
public struct LeaseProblem: Codable, Hashable, Sendable {
    public enum State: String, Codable, Sendable {
        /// A change of it was begun and not finished.
        case updating
        /// It cannot be read as what it should be.
        case corrupt
        /// Storage gave no answer.
        case unread
    }
    public var lockspace: String
    /// `nil` if its name cannot be read, or it concerns the whole index.
    public var resource: String?
    public var path: String
    public var offset: UInt64
    public var state: State
    public var reason: String
    public init(lockspace: String, resource: String?, path: String, offset: UInt64, state: State, reason: String) {
        self.lockspace = lockspace
        self.resource = resource
        self.path = path
        self.offset = offset
        self.state = state
        self.reason = reason
    }
}

/// Body of `index.rebuild`: makes the index of a domain's leases and the leases agree again. Only with the current SPM term.
public struct IndexRebuildRequest: Codable, Hashable, Sendable {
    public var lockspace: String
    /// The SDM lease version that the sender means; must be held by this host now.
    public var lver: UInt64?
    public init(lockspace: String, lver: UInt64?) {
        self.lockspace = lockspace
        self.lver = lver
    }
}

/// Reply to `index.rebuild`.
public struct IndexRebuildReport: Codable, Hashable, Sendable {
    public var lockspace: String
    /// Leases in the index now.
    public var leases: Int
    /// What was changed, a sentence each.
    public var steps: [String]
    /// What was left as it is, because somebody may use it; a sentence each.
    public var refused: [String]
    public init(lockspace: String, leases: Int, steps: [String], refused: [String]) {
        self.lockspace = lockspace
        self.leases = leases
        self.steps = steps
        self.refused = refused
    }
}

/// Body of `lease.request`: asks whoever holds a lease to give it up.
public struct LeaseDemand: Codable, Hashable, Sendable {
    public enum Mode: String, Codable, Sendable {
        /// The holder is told, and does what it is set up to do.
        case graceful
        /// The holder's guest is ended at once.
        case force
    }
    public var lease: LeaseName
    public var mode: Mode
    /// The version that is wanted, above the lease's own; `nil`: the next one.
    public var lver: UInt64?
    public init(lease: LeaseName, mode: Mode, lver: UInt64? = nil) {
        self.lease = lease
        self.mode = mode
        self.lver = lver
    }
}

/// Body of `lease.requested` events of the holder's host.
public struct LeaseDemanded: Codable, Hashable, Sendable {
    public var lease: LeaseName
    public var mode: LeaseDemand.Mode
    /// The version that is wanted.
    public var lver: UInt64
    /// `role:name:attempt` of the guard that was told.
    public var holder: String
    /// Who asks, as far as its sector tells.
    public var by: String
    public init(lease: LeaseName, mode: LeaseDemand.Mode, lver: UInt64, holder: String, by: String) {
        self.lease = lease
        self.mode = mode
        self.lver = lver
        self.holder = holder
        self.by = by
    }
}

/// Body of `lockspace.notify`: leaves an event for another host in this host's sector.
public struct LockspaceNotice: Codable, Hashable, Sendable {
    public var lockspace: String
    public var hostID: Int
    /// The life of that host that is meant; 0: any.
    public var generation: UInt64
    public var event: UInt64
    public var data: UInt64
    public init(lockspace: String, hostID: Int, generation: UInt64 = 0, event: UInt64, data: UInt64) {
        self.lockspace = lockspace
        self.hostID = hostID
        self.generation = generation
        self.event = event
        self.data = data
    }
}

/// Body of `lockspace.event` events: what another host left for this one.
public struct LockspaceHostEvent: Codable, Hashable, Sendable {
    public var lockspace: String
    public var from: Int
    public var name: String
    public var event: UInt64
    public var data: UInt64
    public init(lockspace: String, from: Int, name: String, event: UInt64, data: UInt64) {
        self.lockspace = lockspace
        self.from = from
        self.name = name
        self.event = event
        self.data = data
    }
}

/// Body of `lease.acquired`, `.released`, `.lost`.
public struct LeaseEvent: Codable, Hashable, Sendable {
    public var lease: LeaseName
    public var holder: String
    public var lver: UInt64
    public var generation: UInt64
    public var reason: String
    public init(lease: LeaseName, holder: String, lver: UInt64, generation: UInt64, reason: String) {
        self.lease = lease
        self.holder = holder
        self.lver = lver
        self.generation = generation
        self.reason = reason
    }
}

/// Body of `snapshot` of lease-service.
public struct LeaseSnapshot: Codable, Sendable {
    public var host: String
    public var hostID: Int
    public var bootID: String
    public var lockspaces: [LockspaceView]
    public var leases: [LeaseView]
    /// `nil`: a version that knows of none.
    public var watchdog: LeaseWatchdogView?
    public init(host: String, hostID: Int, bootID: String, lockspaces: [LockspaceView], leases: [LeaseView], watchdog: LeaseWatchdogView? = nil) {
        self.host = host
        self.hostID = hostID
        self.bootID = bootID
        self.lockspaces = lockspaces
        self.leases = leases
        self.watchdog = watchdog
    }
}
