import Bus
import Foundation
import Messages
import ServiceKit

/// What a replay did, held against what the journal says was done.
public struct Comparison: Sendable {
    /// What of an engine can be told from its journal alone.
    public enum Compared: Sendable {
        case decisions
        /// Decisions rest on what is not journaled; the durable state does not.
        case states
    }

    /// Something that came out differently.
    public struct Difference: Codable, Hashable, Sendable {
        public enum Kind: String, Codable, Sendable { case decision, reply, state, gap }
        public var kind: Kind
        public var entry: UInt64?
        /// RFC 3339.
        public var time: String?
        /// `nil`: nothing.
        public var recorded: String?
        public var replayed: String?
    }

    public let compared: Compared
    public private(set) var differences: [Difference] = []
    public private(set) var decisions = 0
    public private(set) var replies = 0
    public private(set) var states = 0
    /// Recorded decisions that nothing was compared with: of observations that are not journaled, or from before the first replayed entry.
    public var decisionsLeftOut: Int { recordedDecisions - decisions }

    /// Entry to the wall-clock time of a decision on it, for entries that do not say when they were.
    private(set) var anchors: [UInt64: String] = [:]
    private let base: UInt64
    private let recordedDecisions: Int
    private let lacksOldDecisions: Bool
    private let byEntry: [UInt64: [Decision]]
    /// Of versions that did not say on which entry they decided: only their order is known.
    private let unlinked: [Decision]
    private var unlinkedReplayed: [(entry: UInt64, decision: Decision)] = []
    private let recordedReplies: [RequestID: String]
    /// Of decisions on entries up to this one some may be gone.
    private let incomplete: UInt64

    init(_ history: JournalHistory, _ compared: Compared, after base: UInt64) {
        self.compared = compared
        self.base = base
        recordedDecisions = history.decisions.count
        lacksOldDecisions = history.lacksOldDecisions
        byEntry = Dictionary(grouping: history.decisions.filter { $0.entry ?? 0 > 0 }) { $0.entry ?? 0 }
        unlinked = history.decisions.filter { $0.entry == nil }
        incomplete = history.lacksOldDecisions ? history.decisions.lazy.compactMap(\.entry).first { $0 > 0 } ?? 0 : 0
        recordedReplies = history.replies.reduce(into: [:]) { known, reply in
            guard let frame = reply.frame, let outcome = try? JSON.decode(Outcome.self, frame) else { return }
            known[reply.id] = outcome.error?.code ?? "ok"
        }
    }

    private struct Outcome: Decodable {
        struct Refusal: Decodable { var code: String }
        var error: Refusal?
    }

    mutating func foundGap(after: UInt64, before: UInt64) {
        // Entries of one boot may be gone with the machine; the states after them tell whether anything rested on them.
        guard compared == .decisions else { return }
        differences.append(Difference(kind: .gap, entry: before, recorded: "no entries from \(after + 1) to \(before - 1)"))
    }

    mutating func add(_ entry: JournalEntry, decisions replayed: [Decision], replies outcomes: [RequestID: String]) {
        for (id, outcome) in outcomes.sorted(by: { $0.key < $1.key }) {
            guard let recorded = recordedReplies[id] else { continue }
            replies += 1
            if recorded != outcome {
                differences.append(Difference(kind: .reply, entry: entry.sequence, recorded: "\(id): \(recorded)", replayed: "\(id): \(outcome)"))
            }
        }
        guard compared == .decisions else { return }
        guard entry.wallTime != nil else {
            unlinkedReplayed += replayed.map { (entry.sequence, $0) }
            return
        }
        guard entry.sequence > incomplete else { return }
        let recorded = byEntry[entry.sequence] ?? []
        decisions += recorded.count
        compare(recorded[...], replayed.map { (entry.sequence, $0) }[...])
    }

    /// - Parameters:
    ///   - recorded: a state that the journal holds.
    ///   - replayed: what the entries before it led to.
    mutating func compareStates(after entry: JournalEntry, _ recorded: any Encodable, _ replayed: any Encodable) {
        guard compared == .states, let before = try? JSONValue(encoding: recorded).canonical, let after = try? JSONValue(encoding: replayed).canonical else { return }
        states += 1
        if before != after { differences.append(Difference(kind: .state, entry: entry.sequence, recorded: before, replayed: after)) }
    }

    /// Every entry was run: what is known by order alone can be compared.
    mutating func finish() {
        guard compared == .decisions else { return }
        // Both lists end with the last entry of those versions; either may begin later than the other.
        let recorded = base > 0 ? unlinked.suffix(unlinkedReplayed.count) : unlinked[...]
        let replayed = lacksOldDecisions ? unlinkedReplayed.suffix(recorded.count) : unlinkedReplayed[...]
        decisions += recorded.count
        compare(recorded, replayed)
    }

    private mutating func compare(_ recorded: ArraySlice<Decision>, _ replayed: ArraySlice<(entry: UInt64, decision: Decision)>) {
        let before = recorded.map(\.bare)
        let after = replayed.map(\.decision.bare)
        let times = recorded.map(\.time)
        let entries = replayed.map(\.entry)
        let known = recorded.map(\.entry)
        let same = zip(before, after).prefix { $0 == $1 }.count
        let sameEnd = zip(before.dropFirst(same).reversed(), after.dropFirst(same).reversed()).prefix { $0 == $1 }.count
        for index in 0..<same { anchors[entries[index]] = times[index] }
        for index in 0..<sameEnd { anchors[entries[entries.count - 1 - index]] = times[times.count - 1 - index] }

        // What lies between, aligned; where everything differs the beginning is enough.
        var (left, right) = (same, same)
        let (leftEnd, rightEnd) = (min(before.count - sameEnd, same + 1000), min(after.count - sameEnd, same + 1000))
        let edits = after[right..<rightEnd].difference(from: before[left..<leftEnd])
        let gone = Set(edits.removals.map { $0.place + same })
        let new = Set(edits.insertions.map { $0.place + same })
        while left < leftEnd || right < rightEnd {
            let was = gone.contains(left) ? left : nil
            let now = new.contains(right) ? right : nil
            if was != nil || now != nil {
                differences.append(Difference(
                    kind: .decision, entry: now.map { entries[$0] } ?? was.flatMap { known[$0] }, time: was.flatMap { times[$0] }, recorded: was.map { before[$0].text },
                    replayed: now.map { after[$0].text }))
            } else {
                anchors[entries[right]] = times[left]
            }
            // A change is a removal and an insertion at one place.
            if was != nil || now == nil { left += 1 }
            if now != nil || was == nil { right += 1 }
        }
    }
}

extension CollectionDifference.Change {
    fileprivate var place: Int {
        switch self {
        case .remove(let place, _, _), .insert(let place, _, _): place
        }
    }
}

extension Decision {
    /// Without what the shell filled in.
    fileprivate var bare: Decision { Decision(subject, what, why: why, evidence: evidence, see: see) }

    fileprivate var text: String {
        let facts = evidence.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" } + see.map { "see \($0)" }
        return "\(subject): \(what) - \(why)" + (facts.isEmpty ? "" : " (\(facts.joined(separator: ", ")))")
    }
}

extension JSONValue {
    init(encoding value: any Encodable) throws { self = try JSON.decode(JSONValue.self, try JSON.encode(value)) }

    /// Text without the order of lists: a Set writes its own in any.
    fileprivate var canonical: String {
        switch self {
        case .array(let elements): "[\(elements.map(\.canonical).sorted().joined(separator: ","))]"
        case .object(let members): "{\(members.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value.canonical)" }.joined(separator: ","))}"
        default: (try? JSON.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? ""
        }
    }
}
