public import Messages

/// The promise, by its names (see the README's section 2), and what goes beside it.
public enum Invariant: String, Codable, Sendable, CaseIterable {
    /// A writable disk has at most one writer.
    case I1
    /// At most one host acts as SPM of a pool.
    case I2
    /// What ran on a host is started elsewhere only when it is proven over.
    case I3
    /// Unknown is never treated as stopped.
    case I4
    /// Decisions are made on state that is complete and fresh.
    case I5
    /// What was acknowledged is durable; what was done is not done again.
    case I6
    /// Restarts cause no action of their own.
    case I7
    /// Something that should have happened by a computed time did not. Judged by the simulator.
    case liveness
}

/// A broken promise, with what shows it.
public struct Violation: Hashable, Codable, Sendable, CustomStringConvertible {
    public var invariant: Invariant
    /// One sentence for people.
    public var what: String
    /// The facts that contradict each other, the last one is what broke the promise.
    public var facts: [Fact]
    public var at: Instant

    public init(_ invariant: Invariant, _ what: String, facts: [Fact], at: Instant) {
        self.invariant = invariant
        self.what = what
        self.facts = facts
        self.at = at
    }

    public var description: String { "\(invariant.rawValue): \(what)" }
}
