import Invariants
import Messages
import Simulation
import Testing

@testable import bulwark

/// Every scenario file of this repository goes as it says, and breaks nothing.
@Suite struct ScenarioTests {
    @Test(arguments: ScenarioFileTests.files) func goesAsExpected(_ path: String) throws {
        let outcome = Simulation.run(try Scenario(file: path))
        #expect(outcome.violations.isEmpty, "\(outcome.violations.map(\.description).joined(separator: "\n"))")
        #expect(outcome.unmet.isEmpty, "\(outcome.unmet.joined(separator: "\n"))")
    }
}
