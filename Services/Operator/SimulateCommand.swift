import ArgumentParser
import Bus
import Foundation
import Messages
import ServiceKit
import Simulation

/// `bulwark simulate`: every service of a cluster in one process under virtual time.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate", abstract: "Run a scenario, random faults, or a failure in your own cluster, in a simulator.",
        discussion: """
            The simulator runs the very engines of the services and touches nothing real.

              bulwark simulate --scenario failure.yaml        what a scenario file describes, and whether it went as expected
              bulwark simulate --seed 7 --hours 2             two hours of random faults; the seed alone decides what happens
              bulwark simulate --cluster demo --host-down host2
                                                              what would happen to this cluster; instead of a running one, a file with
                                                              what `bulwark --json status` printed

            Exit status 1 if an invariant was broken or an expectation was not met.
            """)

    @Option(parsing: .upToNextOption, help: "Scenario files.") var scenario: [String] = []
    @Option(help: "Random faults from this seed.") var seed: UInt64?
    @Option(help: "With --seed: so many seeds, one after the other.") var count: UInt64 = 1
    @Option(help: "With --seed: virtual hours of each.") var hours = 1.0
    @Flag(help: "With --seed: what broke an invariant, as short as it still does.") var shrink = false
    @Option(help: "What if this host lost its power now? May be repeated.") var hostDown: [String] = []
    @Option(help: "With --host-down: a policy value by its configuration key, such as liveness.grace=10s. May be repeated.") var set: [String] = []
    @Option(help: "Write the scenario that was run (shrunk, if asked for) to this file.") var save: String?
    @Flag(help: "Print every event and decision also where a summary is printed by itself.") var timeline = false
    @Flag(help: "Print the sentences that scenarios are made of.") var sentences = false
    @OptionGroup var options: GlobalOptions

    func validate() throws {
        let modes = [!scenario.isEmpty, seed != nil, !hostDown.isEmpty, sentences].count { $0 }
        guard modes == 1 else { throw ValidationError("Name one of --scenario, --seed, --host-down and --sentences.") }
        guard hours > 0, count >= 1 else { throw ValidationError("--hours is positive, --count at least 1.") }
    }

    func run() throws {
        if sentences { return print(Self.grammar) }
        if let seed { return try runSeeds(seed..<(seed &+ count)) }
        if !hostDown.isEmpty { return try runHostDown() }
        let scenarios = try scenario.map { try Scenario(file: $0) }
        var bad = 0
        for (scenario, file) in zip(scenarios, scenario) {
            let outcome = Simulation.run(scenario, verbose: true)
            if !outcome.isGood { bad += 1 }
            try options.show(outcome.json(of: scenario)) { outcome.report(of: scenario, timeline: timeline || scenarios.count == 1, checks: true) }
            if !outcome.violations.isEmpty, !options.json { print("again: bulwark simulate --scenario \(file)") }
        }
        if let save, let first = scenarios.first { try Self.write(first, to: save) }
        try fail(bad, of: scenarios.count, "scenarios")
    }

    private func runSeeds(_ seeds: Range<UInt64>) throws {
        var bad = 0
        for seed in seeds {
            var scenario = Scenario.random(seed: seed, hours: hours)
            var outcome = Simulation.run(scenario, verbose: timeline)
            if !outcome.isGood {
                bad += 1
                if shrink { scenario = Simulation.shrink(scenario) }
                outcome = Simulation.run(scenario, verbose: true)
            }
            try options.show(outcome.json(of: scenario)) { outcome.report(of: scenario, timeline: timeline || !outcome.isGood, checks: false) }
            if !outcome.isGood, !options.json {
                print("again: bulwark simulate --seed \(seed) --hours \(hours)")
                if shrink { print("\nshrunk:\n\n\(try scenario.yaml())") }
            }
            if let save, !outcome.isGood || seeds.count == 1 { try Self.write(scenario, to: save) }
        }
        try fail(bad, of: seeds.count, "seeds")
    }

    private func runHostDown() throws {
        let picture = try ClusterPicture(options, settings: set)
        for host in hostDown where !picture.scenario.hosts.contains(where: { $0.name == host }) {
            throw OperatorError.badFile.error("\(host) is not a host that is Up; those are \(picture.scenario.hosts.map(\.name).joined(separator: ", "))")
        }
        let scenario = picture.losing(hostDown)
        if let save { try Self.write(scenario, to: save) }
        let outcome = Simulation.run(scenario, verbose: true)
        try options.show(outcome.json(of: scenario)) { picture.answer(outcome, losing: hostDown, timeline: timeline) }
        try fail(outcome.violations.isEmpty ? 0 : 1, of: 1, "runs")
    }

    private func fail(_ bad: Int, of count: Int, _ what: String) throws {
        guard bad > 0 else { return }
        throw OperatorError.simulationFailed.error("\(bad) of \(count) \(what) broke an invariant or did not go as expected")
    }

    private static func write(_ scenario: Scenario, to path: String) throws {
        do {
            try scenario.yaml().write(toFile: path, atomically: true, encoding: .utf8)
        } catch let error as CocoaError {
            throw OperatorError.badFile.error("\(path) cannot be written: \(error.localizedDescription)")
        }
    }

    private static var grammar: String {
        """
        what can happen (do):
        \(Happening.patterns.map { "  \($0)" }.joined(separator: "\n"))

        what can be expected (expect):
        \(Scenario.Expectation.patterns.map { "  \($0)" }.joined(separator: "\n"))

        occurrences, since the cluster was ready:
        \(Occurrence.patterns.map { "  \($0)" }.joined(separator: "\n"))
        """
    }
}

extension Outcome {
    /// - Parameter checks: whether expectations are counted.
    func report(of scenario: Scenario, timeline showsTimeline: Bool, checks: Bool) -> String {
        var lines = ["\(scenario.name)\(scenario.about.isEmpty ? "" : ": \(scenario.about)")"]
        if showsTimeline { lines += [""] + timeline.map(\.words) + [""] }
        lines += violations.map { "BROKEN \($0)" }
        lines += unmet
        let met = checks ? "\(scenario.expect.count - unmet.count) of \(scenario.expect.count) expectations met, " : ""
        lines.append(
            "\(isGood ? "good" : "NOT GOOD"): \(met)\(violations.isEmpty ? "no invariant broken" : "\(violations.count) violations"); \(statistics.simulated.clock) simulated, \(statistics.events) events, hash \(String(hash, radix: 16))"
        )
        return scenario.named(lines.joined(separator: "\n"))
    }

    func json(of scenario: Scenario) throws -> JSONValue {
        .object([
            "scenario": .string(scenario.name), "seed": .unsigned(scenario.seed), "good": .bool(isGood), "hash": .string(String(hash, radix: 16)),
            "violations": try JSONValue(encoding: violations), "unmet": .array(unmet.map(JSONValue.string)),
            "events": .signed(Int64(statistics.events)), "simulated": .signed(statistics.simulated.nanoseconds),
            "timeline": .array(
                timeline.map { .object(["at": .signed($0.at.nanoseconds), "who": .string($0.who), "what": .string($0.what), "why": .string($0.why)]) }),
        ])
    }
}

extension Scenario {
    /// With the names of domains and disks instead of their uuids.
    func named(_ text: String) -> String {
        identifiers.reduce(text) { $0.replacingOccurrences(of: $1.id, with: $1.name) }
    }
}

extension TimelineLine {
    var words: String {
        let clock = at.clock
        return String(repeating: " ", count: max(0, 12 - clock.count)) + clock + "  " + who
            + String(repeating: " ", count: max(0, 20 - who.count)) + "  " + what + (why.isEmpty ? "" : ": \(why)")
    }
}

extension Duration {
    /// `1:02.345`, `1:00:02.345`.
    var clock: String {
        let total = abs(milliseconds)
        let minutes = (total / 60_000) % 60, hours = total / 3_600_000
        func pad(_ number: Int64, _ digits: Int) -> String { String(repeating: "0", count: max(0, digits - "\(number)".count)) + "\(number)" }
        let front = hours > 0 ? "\(hours):\(pad(minutes, 2))" : "\(minutes)"
        return (nanoseconds < 0 ? "-" : "") + "\(front):\(pad(total / 1000 % 60, 2)).\(pad(total % 1000, 3))"
    }
}
