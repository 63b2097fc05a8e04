import Invariants
import Messages

extension Simulation {
    /// A scenario with the same broken promise and less in it: without the happenings, rates and VMs that are not needed for it.
    ///
    /// - Parameter limit: how many runs it may take.
    public static func shrink(_ scenario: Scenario, limit: Int = 400) -> Scenario {
        guard let broken = run(scenario).violations.first?.invariant else { return scenario }
        var runs = 0
        func fails(_ candidate: Scenario) -> Bool {
            guard runs < limit else { return false }
            runs += 1
            return run(candidate).violations.contains { $0.invariant == broken }
        }
        var best = scenario
        // What comes after the violation is not needed for it, if that is not that nothing came.
        best = withoutMoments(best, fails)
        best = withoutRates(best, fails)
        best = withoutVMs(best, fails)
        best = shorter(best, fails)
        return withoutMoments(best, fails)
    }

    /// Leaves out ever smaller runs of moments (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002).
    private static func withoutMoments(_ scenario: Scenario, _ fails: (Scenario) -> Bool) -> Scenario {
        var best = scenario
        var size = max(1, best.timeline.count / 2)
        while true {
            var start = 0
            while start < best.timeline.count {
                var candidate = best
                candidate.timeline.removeSubrange(start..<min(start + size, best.timeline.count))
                if fails(candidate) { best = candidate } else { start += size }
            }
            guard size > 1 else { return best }
            size /= 2
        }
    }

    private static func withoutRates(_ scenario: Scenario, _ fails: (Scenario) -> Bool) -> Scenario {
        var best = scenario
        for rate in Scenario.Chaos.rates where best.chaos[keyPath: rate.path] > 0 {
            var candidate = best
            candidate.chaos[keyPath: rate.path] = 0
            if fails(candidate) { best = candidate }
        }
        return best
    }

    private static func withoutVMs(_ scenario: Scenario, _ fails: (Scenario) -> Bool) -> Scenario {
        var best = scenario
        for vm in scenario.vms where best.vms.count > 1 {
            var candidate = best
            candidate.vms.removeAll { $0.name == vm.name }
            if fails(candidate) { best = candidate }
        }
        return best
    }

    /// Ends soon after its last moment.
    private static func shorter(_ scenario: Scenario, _ fails: (Scenario) -> Bool) -> Scenario {
        var candidate = scenario
        candidate.end = (scenario.timeline.last?.at ?? .zero) + .seconds(120)
        return candidate.end < scenario.end && fails(candidate) ? candidate : scenario
    }
}
