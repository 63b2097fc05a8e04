#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// What survives the processes of one service: its journal, as the real ones keep it.
///
/// Snapshots are kept as values, which costs nothing; only a restart takes the way through JSON, as it does in reality.
struct StableJournal<E: Engine> {
    struct Entry {
        var input: E.Input
        var time: Instant
    }

    let lineage: String
    /// A cluster in use has seen its services start many times; a backup is older than the last of them.
    private(set) var term: UInt64 = 1000
    private(set) var sequence: UInt64 = 0
    private(set) var lastInstant: Instant?
    private(set) var replies: [RequestID: Reply?] = [:]
    private var snapshot = E()
    private var entries: [Entry] = []

    static var entriesBetweenSnapshots: UInt64 { 50 }

    init(lineage: String) { self.lineage = lineage }

    /// Counts a start and rebuilds the engine.
    ///
    /// - Parameter throughJSON: as in reality; without it the same values are used as they are, which is faster and as good for whatever is not lost in writing.
    mutating func open(throughJSON: Bool) throws -> E {
        term += 1
        var engine = try Self.throughJSON(snapshot)
        for entry in entries { _ = engine.handle(throughJSON ? try Self.throughJSON(entry.input) : entry.input, at: entry.time) }
        return engine
    }

    /// - Parameter snapshot: the engine as it was right after this input, now and then.
    mutating func append(_ input: E.Input, sequence: UInt64, at time: Instant, snapshot: E?) {
        self.sequence = sequence
        lastInstant = time
        if let snapshot {
            self.snapshot = snapshot
            entries = []
        } else {
            entries.append(Entry(input: input, time: time))
        }
    }

    /// As a backup of long ago has it: with this state, before many starts.
    var backup: StableJournal {
        var copy = self
        copy.term = 0
        return copy
    }

    /// What need not outlive the machine has not.
    mutating func machineRebooted() { entries.removeAll { $0.input.isOfThisBoot } }

    mutating func accept(_ id: RequestID) { replies[id] = .some(nil) }
    mutating func answer(_ id: RequestID, _ reply: Reply) { replies[id] = reply }

    private static func throughJSON<T: Codable>(_ value: T) throws -> T { try JSONDecoder().decode(T.self, from: JSONEncoder().encode(value)) }
}
