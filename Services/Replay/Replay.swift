public import Bus
import Foundation
public import Messages
import ServiceKit

/// Why a journal cannot be replayed at all.
public struct ReplayError: Error, CustomStringConvertible {
    public var description: String
}

/// A journal run through its engine.
public struct Replayed: Sendable {
    /// The first entry that has a state before it; the entries before that are not replayed.
    public var first: UInt64
    /// The last entry that was run.
    public var last: UInt64
    /// The engine's public state after it.
    public var state: JSONValue
    /// What the last entry said and brought about.
    public var lastStep: ReplayedStep?
    public var comparison: Comparison
}

/// One input and its effects, for people.
public struct ReplayedStep: Codable, Sendable {
    public var entry: UInt64
    public var input: JSONValue
    public var decisions: [Decision]
    /// Request id to `ok` or the error code.
    public var replies: [String: String]
    public var events: [String]
    public var actions: [String]
}

/// Re-runs a journal: a state before its oldest entry, then every input in order, each at its own time, and compares what follows with what is recorded.
struct Replay<E: Engine> {
    private let history: JournalHistory
    private let compared: Comparison.Compared

    init(_ history: JournalHistory, comparing compared: Comparison.Compared = .decisions) {
        self.history = history
        self.compared = compared
    }

    func run(through end: UInt64) throws -> Replayed {
        var (engine, base) = try base()
        let entries = history.entries.drop { $0.sequence <= base }.prefix { $0.sequence <= end }
        var comparison = Comparison(history, compared, after: base)
        let states = Dictionary(history.snapshots.map { ($0.sequence, $0.state) }) { $1 }
        var lastStep: ReplayedStep?
        var sequence = base
        for entry in entries {
            if entry.sequence != sequence + 1 { comparison.foundGap(after: sequence, before: entry.sequence) }
            sequence = entry.sequence
            let effects: [Effect<E.Action>]
            do {
                effects = engine.handle(try JSON.decode(E.Input.self, entry.input), at: entry.time)
            } catch {
                throw ReplayError(description: "entry \(entry.sequence) is not one that this version understands: \(error)")
            }
            comparison.add(entry, decisions: Self.decisions(effects), replies: Self.outcomes(effects))
            if let recorded = states[sequence], let known = try? JSON.decode(E.self, recorded) { comparison.compareStates(after: entry, known, engine) }
            if entry.sequence == entries.last?.sequence { lastStep = Self.step(entry, effects) }
        }
        if end >= history.entries.last?.sequence ?? 0 { comparison.finish() }
        return Replayed(first: base + 1, last: sequence, state: try JSONValue(encoding: engine.publicState), lastStep: lastStep, comparison: comparison)
    }

    /// The oldest state from which entries go on without a gap.
    private func base() throws -> (E, UInt64) {
        let first = history.entries.first?.sequence
        if first == 1 || (first == nil && history.snapshots.isEmpty) { return (E(), 0) }
        guard let snapshot = history.snapshots.first(where: { $0.sequence + 1 >= first ?? 0 }) else {
            throw ReplayError(description: "it begins with entry \(first ?? 0) and holds no state from before that")
        }
        do {
            return (try JSON.decode(E.self, snapshot.state), snapshot.sequence)
        } catch {
            throw ReplayError(description: "the state after entry \(snapshot.sequence) is not one that this version understands: \(error)")
        }
    }

    private static func decisions(_ effects: [Effect<E.Action>]) -> [Decision] {
        effects.compactMap { if case .decide(let decision) = $0 { decision } else { nil } }
    }

    private static func outcomes(_ effects: [Effect<E.Action>]) -> [RequestID: String] {
        effects.reduce(into: [:]) { outcomes, effect in
            guard case .reply(let id, let reply) = effect else { return }
            outcomes[id] = if case .refused(let error) = reply { error.code } else { "ok" }
        }
    }

    private static func step(_ entry: JournalEntry, _ effects: [Effect<E.Action>]) -> ReplayedStep {
        ReplayedStep(
            entry: entry.sequence, input: (try? JSON.decode(JSONValue.self, entry.input)) ?? .null, decisions: decisions(effects), replies: outcomes(effects),
            events: effects.compactMap { if case .publish(let event) = $0 { event.topic } else { nil } },
            actions: effects.compactMap { if case .perform(let action) = $0 { "\(action)" } else { nil } })
    }
}
