import Foundation
import Messages
import Testing

/// A frozen host whose BMC acknowledges and does nothing: its VMs stay down until something proves it dead.
@Suite(.serialized) struct StuckBMCTests {
    private func freezeBehindAStuckBMC(_ cluster: TestCluster) throws -> [String] {
        let victims = try cluster.vms(on: "host2")
        try cluster.lab("bmc-stuck", "host2")
        try cluster.lab("hang", "host2")
        try cluster.waitForHost("host2", "NonResponsive", within: 30)
        try cluster.wait("the case says that the BMC does not act", within: 60) {
            let story = try cluster.explain("host", "host2").lowercased()
            return story.contains("still on") || story.contains("failed")
        }
        for vm in try cluster.vms() where victims.contains(vm.name) { #expect(vm.status == "unknown", "\(vm)") }
        return victims
    }

    @Test func theCaseResumesOnceTheBMCWorks() throws {
        try withCluster { cluster in
            _ = try freezeBehindAStuckBMC(cluster)
            try cluster.lab("heal", "host2")
            try cluster.waitForVMsElsewhere(than: "host2", within: 60)
            try cluster.waitForAllUp()
            try cluster.expectOneWriter()
        }
    }

    /// Thawed once the guards' deadline has passed: they end their guests before anything else, and no guest writes again.
    @Test func anOperatorConfirmsAndTheHostThawsPastTheDeadline() throws {
        try withCluster { cluster in
            let victims = try freezeBehindAStuckBMC(cluster)
            struct Case: Codable {
                var id: String
                var incarnation: UInt64
            }
            struct Shown: Codable { var fenceCase: Case? }
            let shown = try JSONDecoder().decode(Shown.self, from: Data(try cluster.bulwark("--json", "host", "show", "host2").text.utf8))
            let fenceCase = try #require(shown.fenceCase)
            try cluster.wait("the operator's word is accepted once no sign of life is left", within: 60) {
                try cluster.bulwark(
                    "host", "confirm-off", "host2", "--case", fenceCase.id, "--incarnation", String(fenceCase.incarnation), "--why", "pulled the plug", "--yes",
                    expecting: nil
                ).status == 0
            }
            try cluster.wait("its VMs run elsewhere", within: 60) {
                try cluster.vms().filter { victims.contains($0.name) }.allSatisfy { $0.status == "up" && $0.host != "host2" }
            }
            try cluster.lab("thaw", "host2")
            try cluster.expectTicking()
            try cluster.expectOneWriter()
            try cluster.lab("heal", "host2")
        }
    }
}
