import CLinux
import Foundation
import Messages
import Testing

/// Toolstack down is not VM down (I4): a check command that fails or hangs takes no VM for stopped, a restart command brings it back, and only a policy has the host fenced.
@Suite(.serialized) struct ToolstackTests {
    /// Commands of every host: they go by files that are named like it.
    private final class Commands {
        let directory = NSTemporaryDirectory() + "bulwark-toolstack-" + UUID().uuidString

        init() throws {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            try script("check", "if [ -e \(directory)/$BULWARK_HOST.hangs ]; then sleep 600; fi\nif [ -e \(directory)/$BULWARK_HOST.down ]; then echo 'Failed to connect socket: Connection refused' >&2; exit 1; fi")
            try script("restart", "echo $BULWARK_HOST >> \(directory)/restarts\nif [ -e \(directory)/$BULWARK_HOST.broken ]; then exit 5; fi\nrm -f \(directory)/$BULWARK_HOST.hangs \(directory)/$BULWARK_HOST.down")
        }

        deinit { try? FileManager.default.removeItem(atPath: directory) }

        private func script(_ name: String, _ text: String) throws {
            try Data("#!/bin/sh\n\(text)\n".utf8).write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
            chmod("\(directory)/\(name)", 0o755)
        }

        func set(_ name: String) throws { try Data().write(to: URL(fileURLWithPath: "\(directory)/\(name)")) }
        func remove(_ name: String) { unlink("\(directory)/\(name)") }

        var restarts: [String] {
            String(decoding: FileManager.default.contents(atPath: "\(directory)/restarts") ?? Data(), as: UTF8.self).split(separator: "\n").map(String.init)
        }
    }

    private struct HostRow: Codable {
        var name: String
        var status: String
        var reason: String
        var incarnation: UInt64?
    }

    private func host(_ cluster: TestCluster, _ name: String) throws -> HostRow? {
        try JSONDecoder().decode([HostRow].self, from: Data(try cluster.bulwark("--json", "host", "list").text.utf8)).first { $0.name == name }
    }

    private func withCommands(_ more: String..., function: String = #function, _ scenario: (TestCluster, Commands) throws -> Void) throws {
        let commands = try Commands()
        let cluster = try TestCluster(
            grace: "5s", overriding: [
                "host-agent.toolstack.check=\(commands.directory)/check", "host-agent.toolstack.restart=\(commands.directory)/restart", "host-agent.toolstack.every=1s",
                "host-agent.toolstack.timeout=2s", "host-agent.toolstack.pause=1s", "host-agent.toolstack.restarts=2",
            ] + more, function: function)
        defer { cluster.down() }
        try scenario(cluster, commands)
        try cluster.expectSameDecisionsAgain()
    }

    /// Its check hangs, then fails for good; then somebody mends it.
    @Test func guestsOutliveTheirToolstackAndNothingIsStartedElsewhere() throws {
        try withCommands { cluster, commands in
            let before = try cluster.quietState()
            let switched = cluster.powerActions()
            let there = try cluster.vms(on: "host2")
            #expect(!there.isEmpty)
            try commands.set("host2.hangs")
            try cluster.wait("its VMs are unknown", within: 20) { try cluster.vms().filter { there.contains($0.name) }.allSatisfy { $0.status == "unknown" } }
            try cluster.wait("it is restarted", within: 30) { commands.restarts == ["host2"] }
            try cluster.waitForAllUp(within: 20)
            #expect(try cluster.quietState() == before, "the same guests, nothing switched")

            try commands.set("host2.broken")
            try commands.set("host2.down")
            try cluster.wait("its control is lost", within: 40) {
                let host = try host(cluster, "host2")
                return host?.status == "NonOperational" && host?.reason.contains("in vain") == true && host?.reason.contains("Connection refused") == true
            }
            #expect(commands.restarts == ["host2", "host2"], "two restarts in all, since it did not work for an hour")
            let vms = try cluster.vms()
            #expect(vms.filter { there.contains($0.name) }.allSatisfy { $0.status == "unknown" } && vms.filter { !there.contains($0.name) }.allSatisfy { $0.status == "up" })
            // One that an operator stops is down on its guard's evidence, which needs no toolstack; it is not started there.
            let stopped = try #require(there.first)
            try cluster.bulwark("vm", "stop", stopped)
            try cluster.wait("\(stopped) is down", within: 20) { try cluster.vms().first { $0.name == stopped }?.status == "down" }
            try cluster.bulwark("vm", "start", stopped)
            try cluster.wait("\(stopped) is up elsewhere", within: 30) {
                let vm = try cluster.vms().first { $0.name == stopped }
                return vm?.status == "up" && vm?.host != "host2"
            }
            #expect(cluster.powerActions() == switched, "nobody is fenced for it by default")

            commands.remove("host2.down")
            try cluster.waitForAllUp(within: 20)
            #expect(try cluster.quietState().filter { !$0.hasPrefix(stopped + " ") } == before.filter { !$0.hasPrefix(stopped + " ") })
            #expect(try cluster.explain("host", "host2").contains("hypervisor controlled again"))
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }

    @Test func aHostWhoseToolstackIsLostIsFencedByPolicy() throws {
        try withCommands("fencing-service.fence.toolstackLost=6s") { cluster, commands in
            let switched = cluster.powerActions()
            let victims = try cluster.vms(on: "host2")
            #expect(!victims.isEmpty)
            try commands.set("host2.broken")
            try commands.set("host2.down")
            try cluster.wait("it is switched off", within: 60) { cluster.powerActions().count > switched.count }
            commands.remove("host2.down")
            try cluster.wait("its VMs are up elsewhere", within: 60) { try cluster.vms().filter { victims.contains($0.name) }.allSatisfy { $0.status == "up" && $0.host != "host2" && $0.attempt == 2 } }
            try cluster.waitForAllUp(within: 60)
            #expect(cluster.powerActions().filter { !switched.contains($0) }.allSatisfy { $0.hasPrefix("host2:") })
            #expect(try cluster.explain("host", "host2").contains("toolstackLost"))
            try cluster.expectOneWriter()
        }
    }
}
