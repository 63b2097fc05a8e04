import Foundation
import Messages
public import ServiceKit

/// When each entry was, by the wall clock.
public struct Timeline: Sendable {
    /// Entry and wall-clock nanoseconds, in order.
    public private(set) var moments: [(entry: UInt64, wallTime: Int64)] = []

    /// Entries of old versions do not say when they were, but their decisions do; the logical clock leads from one to the next.
    public init(_ history: JournalHistory, _ comparison: Comparison) {
        var entries = history.entries
        for index in entries.indices where entries[index].wallTime == nil {
            entries[index].wallTime = comparison.anchors[entries[index].sequence].flatMap(Self.nanoseconds)
        }
        let known = entries.indices.filter { entries[$0].wallTime != nil }
        var next = known.startIndex
        for (index, entry) in entries.enumerated() {
            while next < known.endIndex, known[next] < index { next += 1 }
            // The known one before, which is on the same boot of the machine more likely than not; at the beginning the one after.
            let exact = next < known.endIndex && known[next] == index
            let near = exact ? known[next] : next > known.startIndex ? known[next - 1] : known.first
            guard let near, let wallTime = entries[near].wallTime else { return }
            let guess = wallTime + (entry.time.nanoseconds - entries[near].time.nanoseconds)
            moments.append((entry.sequence, max(guess, moments.last?.wallTime ?? guess)))
        }
    }

    /// Wall-clock nanoseconds of an RFC 3339 text; `nil` if it is none.
    public static func nanoseconds(_ text: String) -> Int64? {
        let date = try? Date(text, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: text.contains(".")))
        return date.map { Int64(($0.timeIntervalSince1970 * 1000).rounded()) * 1_000_000 }
    }

    /// The last entry at or before a moment; `nil` before the first.
    public func entry(at wallTime: Int64) -> UInt64? { moments.last { $0.wallTime <= wallTime }?.entry }

    public func wallTime(of entry: UInt64) -> Int64? { moments.first { $0.entry == entry }?.wallTime }
}
