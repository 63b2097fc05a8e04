import Messages

/// The numbers that holders keep beside their leases; each asks for a higher one than all before.
struct Values: Sendable {
    private struct Value: Sendable {
        /// Acknowledged, or read; `nil`: not known.
        var kept: UInt64?
        /// Asked for since, without an answer: any of them may be there.
        var possible: Set<UInt64> = []
    }

    private var values: [LeaseName: Value] = [:]

    mutating func ask(_ lease: LeaseName, _ run: Run, _ value: UInt64) { values[lease, default: Value()].possible.insert(value) }

    /// Numbers rise: what was asked for before it, and not answered, was overwritten.
    mutating func keep(_ lease: LeaseName, _ value: UInt64) { values[lease] = Value(kept: value, possible: values[lease]?.possible.filter { $0 > value } ?? []) }

    mutating func forget(_ lease: LeaseName) { values[lease] = nil }

    /// Whoever reads it holds the lease: what earlier holders had asked for is there or never comes.
    mutating func judgeRead(_ lease: LeaseName, _ run: Run, _ value: UInt64, _ judgement: inout Judgement) {
        if let known = values[lease], let kept = known.kept, kept != value, !known.possible.contains(value) {
            judgement.violation(.I6, "\(run) reads \(value) beside lease \(lease.resource), where \(kept) was written")
        }
        values[lease] = Value(kept: value)
    }
}
