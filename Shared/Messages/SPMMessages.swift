/// Error codes of spm-coordinator.
public enum SPMErrorCode: String, CaseIterable, Sendable {
    /// No SPM serves now; details say what the election waits for.
    case noSPM = "spm.none"
    case poolExists = "pool.exists"
    case poolNotFound = "pool.not-found"
    case taskNotFound = "task.not-found"
    case taskFailed = "task.failed"
}

/// Body of `pool.create`; idempotent for the same master.
public struct PoolCreate: Codable, Hashable, Sendable {
    public var pool: String
    /// Uuid of the master domain.
    public var master: String
    public init(pool: String, master: String) {
        self.pool = pool
        self.master = master
    }
}

public enum PoolStatus: String, Codable, Sendable {
    case up = "Up"
    case contend = "Contend"
    /// No SPM, and none can be elected yet.
    case nonResponsive = "NonResponsive"
}

/// A pool: body of `pool.status`, of `spm.elected` and `spm.lost`, reply to `pool.show`.
public struct PoolView: Codable, Hashable, Sendable {
    public var pool: String
    public var master: String
    public var status: PoolStatus
    /// The host that serves, or is being started.
    public var spm: String?
    public var incarnation: Incarnation?
    public var term: UInt64
    public var lver: UInt64
    /// One sentence: who serves, or what the election waits for.
    public var reason: String
    public init(pool: String, master: String, status: PoolStatus, spm: String?, incarnation: Incarnation?, term: UInt64, lver: UInt64, reason: String) {
        self.pool = pool
        self.master = master
        self.status = status
        self.spm = spm
        self.incarnation = incarnation
        self.term = term
        self.lver = lver
        self.reason = reason
    }
}

/// What a storage task does.
public enum TaskWork: Codable, Hashable, Sendable {
    /// Creates the only volume of a disk, raw. `source`, if given, is a file whose bytes it begins with. Done already: success.
    case volumeCreate(domain: String, image: String, size: UInt64, source: String?)
    /// Creates the disk's lease. Exists already: success.
    case leaseCreate(lease: LeaseName)
}

public enum TaskStatus: String, Codable, Sendable { case created, running, finished, failed }

public struct TaskView: Codable, Hashable, Sendable {
    public var task: String
    public var work: TaskWork
    public var status: TaskStatus
    public var detail: String
    public init(task: String, work: TaskWork, status: TaskStatus, detail: String) {
        self.task = task
        self.work = work
        self.status = status
        self.detail = detail
    }
}

/// Body of `volume.create` to spm-coordinator. Replies ``TaskView`` once finished or failed.
public struct VolumeCreate: Codable, Hashable, Sendable {
    public var domain: String
    public var image: String
    /// Bytes; see ``isPossible(size:)``.
    public var size: UInt64
    public var source: String?
    public init(domain: String, image: String, size: UInt64, source: String? = nil) {
        self.domain = domain
        self.image = image
        self.size = size
        self.source = source
    }

    /// Whether a volume can have so many bytes: a positive multiple of 512 below 2^60.
    public static func isPossible(size: UInt64) -> Bool { size > 0 && size % 512 == 0 && size < 1 << 60 }
}

/// Body of `snapshot` of spm-coordinator.
public struct SPMSnapshot: Codable, Sendable {
    public var pools: [PoolView]
    public var tasks: [TaskView]
    public init(pools: [PoolView], tasks: [TaskView]) {
        self.pools = pools
        self.tasks = tasks
    }
}

/// Body of `pool.show`, `spm.select`, `spm.move`, `spm.stop` to spm-coordinator.
public struct PoolRequest: Codable, Hashable, Sendable {
    /// `nil`: the only pool.
    public var pool: String?
    public var host: String?
    public init(pool: String? = nil, host: String? = nil) {
        self.pool = pool
        self.host = host
    }
}

/// Body of `task.show`; `task.list` takes an empty body.
public struct TaskRequest: Codable, Hashable, Sendable {
    public var task: String
    public init(task: String) { self.task = task }
}

public struct TaskList: Codable, Sendable {
    public var tasks: [TaskView]
    public init(tasks: [TaskView]) { self.tasks = tasks }
}
