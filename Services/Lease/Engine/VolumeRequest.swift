import Messages

/// Names one I/O for its whole life; never used twice by one process.
public typealias IOToken = UInt64

/// Which thread does an I/O: renewals of a lockspace share theirs with nothing else.
public enum Lane: Hashable, Codable, Sendable {
    case renewal(lockspace: String)
    case work(lockspace: String, slot: Int)

    /// Work on leases of one lockspace that is under way at once: most of a synced write is waiting, and file systems sync what waits together.
    static let workSlots = 16

    /// In ``LaneOrder``.
    public var name: String {
        switch self {
        case .renewal(let lockspace): "renew-\(lockspace)"
        case .work(let lockspace, let slot): "work-\(slot)-\(lockspace)"
        }
    }
}

/// One aligned direct I/O of whole sectors.
public enum VolumeOperation: Hashable, Codable, Sendable {
    /// Exactly `length` bytes, or it fails.
    case read(path: String, offset: UInt64, length: Int)
    /// Not begun after `notAfter`: the thread reads the clock just before it submits, so that a thawed host does not finish what it began (S8).
    /// - `create`: makes the file if there is none.
    case write(path: String, offset: UInt64, bytes: [UInt8], notAfter: Instant, create: Bool)

    /// S8, asked with the clock as it is right before the I/O is submitted.
    public static func mayWrite(at now: Instant, notAfter: Instant) -> Bool { now < notAfter }

    /// Whether it may be submitted now; a write that may not has ``IOResult/expired``.
    public func mayBegin(at now: Instant) -> Bool { if case .write(_, _, _, let notAfter, _) = self { Self.mayWrite(at: now, notAfter: notAfter) } else { true } }

    var isWrite: Bool { if case .write = self { true } else { false } }
}

/// What a lane does in one turn.
public enum VolumeWork: Hashable, Codable, Sendable {
    case one(VolumeOperation)
    /// Its result is ``IOResult/sequence(_:)``.
    indirect case sequence(VolumeSequence)
}

public struct VolumeRequest: Hashable, Codable, Sendable {
    public var token: IOToken
    public var lane: Lane
    public var work: VolumeWork
    /// After this long without the end of an I/O the result is reported as ``IOResult/timedOut`` and the I/O abandoned to its thread.
    public var timeout: Duration

    public init(token: IOToken, lane: Lane, work: VolumeWork, timeout: Duration) {
        self.token = token
        self.lane = lane
        self.work = work
        self.timeout = timeout
    }
}

public enum IOResult: Hashable, Codable, Sendable {
    case data([UInt8])
    case written
    /// The file does not exist, or ends before what was to be read.
    case missing(String)
    /// It ended with an error. A write may or may not have reached the disk, but nothing is under way any more.
    case failed(String)
    /// A write was not begun, because its `notAfter` had passed.
    case expired
    /// No answer in time. A write may still land; ``LeaseEngine/Input/landed(_:)`` tells when it can no longer.
    case timedOut
    /// Everything of a sequence that came before its end, which it tells.
    indirect case sequence(VolumeSequence)

    /// Something of a ballot may be on disk.
    var mayHaveWritten: Bool { if case .sequence(let sequence) = self { sequence.hasWritten } else { true } }
}
