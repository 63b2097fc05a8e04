import Foundation
import Messages
import Testing

/// Hosts that leave: with a goodbye, and for good.
@Suite(.serialized) struct DepartureTests {
    @Test func aHostSaysGoodbyeAndNobodyFencesIt() throws {
        try withCluster { cluster in
            let leaving = try #require(try cluster.spm())
            let guests = try cluster.vms(on: leaving)
            #expect(!guests.isEmpty, "at least one VM on each host")
            let switched = cluster.powerActions()
            try cluster.bulwark("host", "shutdown", leaving, "--yes")
            try cluster.waitForVMsElsewhere(than: leaving, within: 40)
            try cluster.wait("\(leaving) said goodbye, and another host is SPM", within: 30) {
                let spm = try cluster.spm()
                return try cluster.bulwark("host", "list").text.contains("all that ran there is over") && spm != nil && spm != leaving
            }
            // Its machine goes off by itself.
            try cluster.lab("crash", leaving)
            try cluster.waitForHost(leaving, "Down", within: 30)
            try cluster.wait("its life is proven over by its device, which reads off", within: 40) { try cluster.explain("host", leaving).contains("proven over") }
            #expect(cluster.powerActions() == switched, "nobody switched anything")
            let before = try cluster.vms()

            // One that comes back is a host again, and what went elsewhere stays there.
            try cluster.bulwark("power", "on", leaving)
            try cluster.waitForAllUp()
            #expect(try cluster.vms() == before)

            // Called off: it may be given guests again.
            try cluster.bulwark("host", "shutdown", leaving, "--yes")
            try cluster.waitForHost(leaving, "PreparingForMaintenance", within: 20)
            try cluster.bulwark("host", "shutdown", leaving, "--cancel", "--yes")
            try cluster.waitForAllUp()
            try cluster.bulwark("vm", "stop", guests[0])
            try cluster.wait("\(guests[0]) is down", within: 20) { try cluster.vms().first { $0.name == guests[0] }?.status == "down" }
            try cluster.bulwark("vm", "start", guests[0], "--host", leaving)
            try cluster.waitForAllUp()
            #expect(try cluster.vms(on: leaving) == [guests[0]])
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }

    /// As in a pool without HA: a person's word frees what a dead member had, and the machine is refused when it returns.
    @Test func aDeadHostIsForgottenOnAPersonsWord() throws {
        try withCluster { cluster in
            let file = cluster.directory + "/host2-again.yaml"
            try cluster.definition(of: "host2", [cluster.ownDevice("host2")]).write(toFile: file, atomically: true, encoding: .utf8)
            let victims = try cluster.vms(on: "host2")
            #expect(!victims.isEmpty, "at least one VM on each host")
            func forget() throws -> TestCluster.Output {
                try cluster.bulwark("host", "forget", "host2", "--yes", "--who", "alice", "--why", "its mainboard is dead", "--yes-i-checked", expecting: nil)
            }
            try cluster.lab("bmc-dead", "host2")
            #expect(try forget().errorText.contains("ha disable"), "while HA is enabled it is HA that proves it")
            try cluster.bulwark("ha", "disable")
            #expect(try forget().errorText.contains("heartbeats of host2 come"))
            try cluster.lab("crash", "host2")
            try cluster.waitForHost("host2", "NonResponsive", within: 30)
            let unsaid = try cluster.bulwark("host", "forget", "host2", "--yes", expecting: 1).errorText
            #expect(unsaid.contains("--yes-i-checked"), "\(unsaid)")
            try cluster.wait("its guards' deadline is over and it is forgotten", within: 90) {
                let answer = try forget()
                if answer.status != 0 { throw TestCluster.Failure(answer.errorText) }
                return true
            }
            #expect(try cluster.hosts()["host2"] == nil)
            for vm in try cluster.vms() where victims.contains(vm.name) { #expect(vm.status == "down" && vm.attempt == 1, "HA is disabled: \(vm)") }
            try cluster.bulwark("ha", "enable")
            try cluster.waitForVMsElsewhere(than: "host2", within: 40)

            // It returns with its key, and is not the host it was.
            let before = try cluster.vms()
            try cluster.lab("heal", "host2")
            try cluster.lab("power-on", "host2")
            try cluster.wait("the machine runs again", within: 60) { try String(contentsOfFile: "\(cluster.directory)/logs/host2/console.log", encoding: .utf8).components(separatedBy: "host2 boots as").count == 3 }
            let refusal = try cluster.bulwark("host", "add", file, "--reinstalled", expecting: 1).errorText
            #expect(refusal.contains("this key belonged to the forgotten host host2"), "\(refusal)")
            try cluster.expectTicking()
            let names = try cluster.hosts().keys.sorted()
            #expect(names == ["host1", "host3"])
            #expect(try cluster.vms() == before)
            try cluster.expectOneWriter()
        }
    }
}
