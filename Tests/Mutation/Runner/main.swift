import Glibc
import Invariants
import Messages
import Simulation

// Runs seeds of a world, with the guard switched off that BULWARK_MUTANT names. One line for each seed, one for the first broken promise of each.
//
// mutant --world NAME --first SEED --count N [--all]; world `random` is what `bulwark simulate --seed` runs, for --hours H

func value(_ name: String) -> String? {
    let arguments = CommandLine.arguments
    guard let index = arguments.firstIndex(of: name), index + 1 < arguments.count else { return nil }
    return arguments[index + 1]
}

let first = value("--first").flatMap { UInt64($0) } ?? 1
let count = value("--count").flatMap { UInt64($0) } ?? 1
let hours = value("--hours").flatMap { Double($0) } ?? 1
let made: ((UInt64) -> Scenario)? = value("--world") == "random" ? { Scenario.random(seed: $0, hours: hours) } : worlds[value("--world") ?? "plain"]
guard let make = made else { fatalError("there is no such world") }

for seed in first..<(first + count) {
    let scenario = make(seed)
    let isVerbose = CommandLine.arguments.contains("--verbose")
    let outcome = Simulation.run(scenario, verbose: isVerbose)
    if isVerbose { for line in outcome.timeline { print(line.at.seconds, line.who, line.what, line.why, separator: "\t") } }
    print("seed", seed, outcome.statistics.simulated.seconds, separator: "\t")
    // What was found is not lost if a later seed never ends.
    fflush(nil)
    if let text = outcome.unmet.first, outcome.violations.isEmpty { print("unmet", seed, text, separator: "\t") }
    guard let violation = outcome.violations.first else { continue }
    print("broken", seed, violation.invariant.rawValue, violation.what, separator: "\t")
    if !CommandLine.arguments.contains("--all") { break }
}
