import Messages

/// Work for the SPM; its id is the id of the request that asked for it, so that a repeated request is the same task.
public struct StorageTask: Codable, Hashable, Sendable {
    public var id: RequestID
    /// Order of acceptance.
    public var number: UInt64
    public var pool: String
    public var work: TaskWork
    public var status: TaskStatus = .created
    public var detail = ""
    /// The term it was last sent in and whose answer is outstanding.
    var sentIn: UInt64?
    /// Refusals that said nothing about the work.
    var refusals: UInt64 = 0
    /// Not before.
    var retryAt: Instant?

    /// As it is shown and replied.
    public var view: TaskView { TaskView(task: id, work: work, status: status, detail: detail) }
    var isOpen: Bool { status == .created || status == .running }
}

extension TaskWork {
    /// The thing on storage that it makes; tasks for the same thing run one after another.
    var object: String {
        switch self {
        case .volumeCreate(let domain, let image, _, _): "volume \(image) in domain \(domain)"
        case .leaseCreate(let lease): "lease \(lease.resource) in domain \(lease.lockspace)"
        }
    }
}
