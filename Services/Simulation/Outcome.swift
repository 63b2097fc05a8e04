public import Invariants
public import Messages

/// What came of a scenario.
public struct Outcome: Sendable {
    public var timeline: [TimelineLine]
    public var violations: [Violation]
    /// Expectations that were not met, each with what was true instead.
    public var unmet: [String]
    /// Of everything that happened, in its order: equal for equal scenarios.
    public var hash: UInt64
    public var statistics: Statistics
    /// At the end.
    public var observed: Observed

    public init(timeline: [TimelineLine], violations: [Violation], unmet: [String], hash: UInt64, statistics: Statistics, observed: Observed) {
        self.timeline = timeline
        self.violations = violations
        self.unmet = unmet
        self.hash = hash
        self.statistics = statistics
        self.observed = observed
    }

    public var isGood: Bool { violations.isEmpty && unmet.isEmpty }

    public struct Statistics: Hashable, Sendable {
        /// Virtual time that passed.
        public var simulated = Duration.zero
        /// Events of the simulator.
        public var events = 0
        public var messages = 0
        public var storageOperations = 0
        public var guestStarts = 0
        public var powerOffs = 0
        public init() {}
    }
}

/// One line of a story.
public struct TimelineLine: Hashable, Sendable {
    /// Since the cluster was ready.
    public var at: Duration
    /// `scenario`, a service, a host or an operator.
    public var who: String
    public var what: String
    public var why: String

    public init(at: Duration, who: String, what: String, why: String = "") {
        self.at = at
        self.who = who
        self.what = what
        self.why = why
    }
}

extension Scenario.Check {
    /// What is true instead, for people; `nil`: it is met.
    public func unmet(in observed: Observed) -> String? {
        what.unmet(in: observed).map { "expected\(at.map { " at \($0.seconds) s" } ?? ""): \(what.sentence); but \($0)" }
    }
}
