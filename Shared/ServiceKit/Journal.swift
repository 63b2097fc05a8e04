import Foundation
public import Messages

/// One input of an engine, as it was applied.
public struct JournalEntry: Codable, Sendable {
    /// Rises by one for each journaled input, over all lives of the service.
    public var sequence: UInt64
    /// When the engine handled it, on the service's logical clock.
    public var time: Instant
    /// JSON of the input.
    public var input: Data
    /// Wall-clock nanoseconds, for people; filled by the shell. `nil`: written by 0.1.0 or older, whose decisions do not name their entry either.
    public var wallTime: Int64?

    public init(sequence: UInt64, time: Instant, input: Data, wallTime: Int64? = nil) {
        self.sequence = sequence
        self.time = time
        self.input = input
        self.wallTime = wallTime
    }
}

/// An accepted request and, once it is known, its reply: the same id is answered from here (I6).
public struct StoredReply: Codable, Sendable {
    public var id: RequestID
    /// Of type and body: another body under the same id is refused.
    public var digest: UInt64
    /// The whole reply frame; `nil` while the work is under way.
    public var frame: Data?
    /// Wall-clock nanoseconds of acceptance; kept for 24 h.
    public var acceptedAt: Int64

    public init(id: RequestID, digest: UInt64, frame: Data?, acceptedAt: Int64) {
        self.id = id
        self.digest = digest
        self.frame = frame
        self.acceptedAt = acceptedAt
    }

    /// How long the same id is recognised; attempt and term numbers decide after that.
    public static let keptNanoseconds: Int64 = 24 * 3600 * 1_000_000_000
}

/// What becomes durable together.
public struct JournalBatch: Codable, Sendable {
    public var entries: [JournalEntry] = []
    /// Entries that need not survive the machine, see `EngineInput.isOfThisBoot`.
    public var bootEntries: [JournalEntry] = []
    public var replies: [StoredReply] = []
    public var decisions: [Decision] = []
    /// The engine's whole state after the entry with this sequence number.
    public var snapshot: JournalSnapshot?

    private enum CodingKeys: String, CodingKey { case entries, replies, decisions, snapshot }

    public init() {}

    /// The batch with what replay needs, where it is not told yet: its entry's wall-clock time, and that entry's number in each decision (0: what was decided on is not journaled).
    func stamped(at wallTime: Int64) -> JournalBatch {
        var batch = self
        for index in batch.entries.indices { batch.entries[index].wallTime = batch.entries[index].wallTime ?? wallTime }
        for index in batch.bootEntries.indices { batch.bootEntries[index].wallTime = batch.bootEntries[index].wallTime ?? wallTime }
        for index in batch.decisions.indices {
            batch.decisions[index].entry = batch.decisions[index].entry ?? entries.last?.sequence ?? bootEntries.last?.sequence ?? 0
        }
        return batch
    }

    public var isEmpty: Bool { entries.isEmpty && bootEntries.isEmpty && replies.isEmpty && decisions.isEmpty && snapshot == nil }
}

public struct JournalSnapshot: Codable, Sendable {
    public var sequence: UInt64
    public var state: Data
    public init(sequence: UInt64, state: Data) {
        self.sequence = sequence
        self.state = state
    }
}

/// One start of the service.
public struct JournalLife: Codable, Hashable, Sendable {
    public var term: UInt64
    public var service: String
    public var version: String
    /// The first entry that this life could write.
    public var firstSequence: UInt64
    /// Wall-clock nanoseconds.
    public var startedAt: Int64

    public init(term: UInt64, service: String, firstSequence: UInt64, startedAt: Int64, version: String = Version.text) {
        self.term = term
        self.service = service
        self.version = version
        self.firstSequence = firstSequence
        self.startedAt = startedAt
    }
}

/// All that a journal still holds, read without changing it, also while its service runs: what replay needs.
public struct JournalHistory: Sendable {
    public var lineage: String
    /// Of starts that still have entries; none of 0.1.0 and older.
    public var lives: [JournalLife] = []
    /// Oldest first, as are the entries and decisions.
    public var snapshots: [JournalSnapshot] = []
    public var entries: [JournalEntry] = []
    public var decisions: [Decision] = []
    /// Older decisions were there and are gone.
    public var lacksOldDecisions = false
    public var replies: [StoredReply] = []

    public init(lineage: String) { self.lineage = lineage }
}

/// How much past a journal keeps, so that all of it can be replayed from a snapshot before it.
package struct JournalRetention: Sendable {
    /// At least so many entries are kept.
    let entries: UInt64
    /// Of the snapshots within so many entries the first is kept.
    let spread: UInt64

    package init(entries: UInt64, spread: UInt64) {
        self.entries = entries
        self.spread = spread
    }

    /// - Parameter snapshots: sequence numbers, rising; the newest always stays.
    /// - Returns: those to keep, and the entry after which everything is kept.
    package func kept(of snapshots: [UInt64]) -> (snapshots: [UInt64], after: UInt64) {
        guard let newest = snapshots.last else { return ([], 0) }
        let base = snapshots.last { $0 + entries <= newest } ?? 0
        var kept: [UInt64] = []
        for snapshot in snapshots where snapshot >= base {
            if snapshot == newest || kept.last.map({ $0 / spread != snapshot / spread }) ?? true { kept.append(snapshot) }
        }
        return (kept, base)
    }
}

/// What a journal holds when its service starts.
public struct JournalContents: Sendable {
    /// Uuid of the journal: the lineage of the service.
    public var lineage: String
    /// Start counter, this start included: the term. Durable before it is returned.
    public var term: UInt64
    public var snapshot: JournalSnapshot?
    /// Entries after the snapshot, in order.
    public var entries: [JournalEntry]
    public var lastSequence: UInt64
    public var lastInstant: Instant?
    public var replies: [StoredReply]

    public init(
        lineage: String, term: UInt64, snapshot: JournalSnapshot?, entries: [JournalEntry], lastSequence: UInt64, lastInstant: Instant?, replies: [StoredReply]
    ) {
        self.lineage = lineage
        self.term = term
        self.snapshot = snapshot
        self.entries = entries
        self.lastSequence = lastSequence
        self.lastInstant = lastInstant
        self.replies = replies
    }
}

public enum JournalError: Error, CustomStringConvertible {
    /// No space, or a quota: effects stop until it can be written again.
    case full(String)
    /// Anything else: the process must end, for what it knows may not be what is on disk.
    case failed(String)

    public var description: String {
        switch self {
        case .full(let detail): "the journal's file system is full: \(detail)"
        case .failed(let detail): "the journal cannot be written: \(detail)"
        }
    }
}

/// The durable memory of one service. Used by one thread at a time: opened at start, then only by the writer thread, but for ``immediate``.
public protocol Journal: AnyObject {
    /// Opens or creates it and counts this start of the service.
    func open(as service: String) throws -> JournalContents
    /// Durable (flushed to the device, boot entries known to the kernel) when it returns.
    func append(_ batch: JournalBatch) throws(JournalError)
    /// The newest decisions about a subject (`nil`: all), oldest first.
    func decisions(subject: String?, limit: Int) throws -> [Decision]
    /// How many entries there may be before the shell writes a snapshot.
    var entriesBetweenSnapshots: Int { get }
    /// The same for boot entries; `nil`: they are entries like others.
    var bootEntriesBetweenSnapshots: Int? { get }
    /// Appends one boot entry from any thread, without waiting for a device; `nil`: there is no such way. To be asked for once it is open.
    var immediate: (@Sendable (JournalEntry) throws(JournalError) -> Void)? { get }
}

extension Journal {
    public var bootEntriesBetweenSnapshots: Int? { nil }
    public var immediate: (@Sendable (JournalEntry) throws(JournalError) -> Void)? { nil }
}
