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

    /// Its first device is at an address where nothing answers, its second level is its real BMC: fenced through that, without a person.
    @Test func aDeadFirstLevelIsFollowedByTheSecond() throws {
        try withCluster { cluster in
            let file = cluster.directory + "/host2-with-two-levels.yaml"
            let dead = cluster.device("fence_ipmilan", "10.77.1.250", secret: "\(cluster.directory)/host2/bmc/secret", ["lanplus": "1", "cipher": "3", "power_timeout": "2"])
            let definition = try cluster.definition(of: "host2", [dead, cluster.ownDevice("host2", level: 2)])
            try definition.replacingOccurrences(of: "power_timeout", with: "power_timout").write(toFile: file, atomically: true, encoding: .utf8)
            #expect(try cluster.bulwark("host", "update", file, expecting: nil).errorText.contains("fence_ipmilan has no option \"power_timout\""))
            try definition.write(toFile: file, atomically: true, encoding: .utf8)
            _ = try cluster.bulwark("host", "update", file)
            let rehearsal = try cluster.bulwark("fence", "rehearse", "host2").text
            #expect(rehearsal.contains("host2 can be fenced in 1 way"), "\(rehearsal)")
            try cluster.lab("crash", "host2")
            try cluster.waitForVMsElsewhere(than: "host2", within: 60)
            try cluster.waitForAllUp()
            let history = try cluster.bulwark("fence", "history", "host2", "--steps").text
            #expect(history.contains("status at 10.77.1.250: failed") && history.contains("status at 10.77.1.2: off"), "\(history)")
            try cluster.expectOneWriter()
        }
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
            let hasty = try cluster.bulwark(
                "host", "confirm-off", "host2", "--case", fenceCase.id, "--incarnation", String(fenceCase.incarnation), "--why", "I believe so", "--yes", expecting: nil)
            #expect(hasty.status != 0, "its BMC reads on")
            try cluster.wait("the operator's word is accepted once no sign of life is left", within: 60) {
                try cluster.bulwark(
                    "host", "confirm-off", "host2", "--case", fenceCase.id, "--incarnation", String(fenceCase.incarnation), "--why", "pulled the plug", "--yes-i-checked", "--yes",
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
