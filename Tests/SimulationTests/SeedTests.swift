import Foundation
import Invariants
import Messages
import Simulation
import Testing

/// Random scenarios: the whole cluster under faults of every kind. `make nightly` runs thousands; the mutants of Tests/Mutation show that a broken rule is seen.
@Suite struct SeedTests {
    @Test(arguments: UInt64(1)...12) func noInvariantBreaksAndAllIsWellAfterwards(seed: UInt64) {
        let outcome = Simulation.run(Scenario.random(seed: seed, hours: 0.05))
        #expect(outcome.violations.isEmpty, "again: bulwark simulate --seed \(seed) --hours 0.05 --timeline")
        #expect(outcome.unmet.isEmpty)
    }

    /// Swift orders dictionaries differently in each process: two processes that agree let none of them decide.
    @Test(arguments: [UInt64(3), 9]) func aSeedDecidesEverythingInEveryProcess(seed: UInt64) throws {
        let here = Simulation.run(Scenario.random(seed: seed, hours: 0.1)).hash
        #expect(try hashElsewhere(seed) == here)
        #expect(try hashElsewhere(seed) == here)
        #expect(try hashElsewhere(seed + 1) != here)
    }

    private func hashElsewhere(_ seed: UInt64) throws -> UInt64? {
        let process = Process()
        process.executableURL = Bundle.main.bundleURL.appending(path: "bulwark")
        process.arguments = ["--json", "simulate", "--seed", String(seed), "--hours", "0.1"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        struct Said: Decodable { var hash: String }
        return UInt64(try JSONDecoder().decode(Said.self, from: data).hash, radix: 16)
    }

    /// A run that breaks an invariant is made small, and the small one breaks the same.
    @Test func aBrokenPromiseIsShrunk() {
        // What a verified device says while its machine runs is beyond what can be survived.
        var scenario = Scenario(vms: [Scenario.VM("vm1", host: "host1"), Scenario.VM("vm2", host: "host2"), Scenario.VM("vm3", host: "host3")], end: .seconds(300))
        scenario.timeline = [
            Scenario.Moment(at: .seconds(10), .guestCrash(vm: "vm2")), Scenario.Moment(at: .seconds(20), .bmc(host: "host1", .saysOff)),
            Scenario.Moment(at: .seconds(21), .isolate("host1")), Scenario.Moment(at: .seconds(30), .spmMove), Scenario.Moment(at: .seconds(40), .kill(.placementService)),
            Scenario.Moment(at: .seconds(200), .healNetwork),
        ]
        let broken = Simulation.run(scenario).violations.first?.invariant
        #expect(broken != nil)
        let small = Simulation.shrink(scenario, limit: 60)
        #expect(small.timeline.map(\.what) == [.bmc(host: "host1", .saysOff), .isolate("host1")])
        #expect(small.vms.count == 1)
        #expect(Simulation.run(small).violations.contains { $0.invariant == broken })
    }
}
