@testable import FencingAgents
import Foundation
import Messages
import Testing

/// What fence agents say of their own options, and what is found wrong with a definition by it.
@Suite struct MetadataTests {
    private static let xml = """
        <?xml version="1.0" ?>
        <resource-agent name="fence_x" shortdesc="x > y" >
        <parameters>
        \t<parameter name="action" unique="0" required="1"><getopt mixed="-o" /><content type="string" default="reboot"  /></parameter>
        \t<parameter name="auth" unique="0" required="0"><content type="select"  ><option value="md5" /><option value="none" /></content></parameter>
        \t<parameter name="ip" unique="0" required="1" obsoletes="ipaddr"><content type="string"  /></parameter>
        \t<parameter name="ipaddr" unique="0" required="1" deprecated="1"><content type="string"  /></parameter>
        \t<parameter name="ipport" unique="0" required="0"><content type="integer" default="623"  /></parameter>
        \t<parameter name="lanplus" unique="0" required="0"><content type="boolean" default="0"  /></parameter>
        \t<parameter name="plug" unique="0" required="1" obsoletes="port"><content type="string"  /></parameter>
        \t<parameter name="port" unique="0" required="1" deprecated="1"><content type="string"  /></parameter>
        \t<parameter name="power_wait" unique="0" required="0"><content type="second" default="0"  /></parameter>
        </parameters>
        <actions><action name="on" automatic="0"/><action name="off" /><action name="status" /></actions>
        </resource-agent>
        """

    private func problems(_ options: [String: String]) throws -> [String] {
        try #require(FenceMetadata(xml: Self.xml)).problems(with: FenceDevice(agent: "fence_x", address: "a", options: options))
    }

    @Test(arguments: [
        (["plug": "1"], ""), (["port": "1"], ""), (["plug": "1", "power-wait": "0.5", "lanplus": "1", "auth": "md5"], ""),
        ([:], "needs the option \"plug\""), (["plug": "1", "power_wiat": "2"], "has no option \"power_wiat\""),
        (["plug": "1", "powerwait": "2"], "did you mean \"power_wait\"?"), (["plug": "1", "lanplus": "maybe"], "not yes or no"),
        (["plug": "1", "ipport": "snmp"], "not a whole number"), (["plug": "1", "auth": "sha"], "one of md5, none"), (["plug": "1", "power_wait": "-1"], "not seconds"),
    ]) func mistakesAreFound(options: [String: String], problem: String) throws {
        let found = try problems(options)
        #expect(problem.isEmpty ? found == [] : found.count == 1 && found[0].contains(problem), "\(found)")
    }

    @Test func whatCannotSwitchIsNoFenceAgent() throws {
        let metadata = try #require(FenceMetadata(xml: Self.xml.replacingOccurrences(of: "<action name=\"off\" />", with: "")))
        #expect(metadata.problems(with: FenceDevice(agent: "fence_x", address: "a", options: ["plug": "1"])) == ["fence_x cannot do \"off\""])
        #expect(FenceMetadata(xml: "Usage: fence_x") == nil)
    }

    /// The real ones, as Debian installs them; `make test` sees to it that they are there.
    @Test(arguments: ["fence_ipmilan", "fence_redfish", "fence_apc", "fence_virsh", "fence_dummy"]) func realAgentsAreUnderstood(agent: String) throws {
        guard case .metadata(let metadata) = FenceMetadata.ask(agent, directory: "/usr/sbin") else { return #expect(Bool(false), "\(agent) tells nothing") }
        #expect(metadata.parameters.count > 5 && metadata.actions.isSuperset(of: ["on", "off", "status"]))
        var device = FenceDevice(agent: agent, address: "10.0.0.1", username: "admin", secretFile: "/etc/secret", options: agent == "fence_dummy" ? ["type": "file"] : ["plug": "1"])
        #expect(metadata.problems(with: device) == [])
        device.options?["no_such_option"] = "1"
        #expect(metadata.problems(with: device).count == 1)
    }

    @Test func anAgentThatIsNotThereIsSaidToBeSo() {
        guard case .notInstalled = FenceMetadata.ask("fence_nowhere", directory: "/usr/sbin") else { return #expect(Bool(false)) }
        guard case .unreadable = FenceMetadata.ask("../bin/true", directory: "/usr/sbin") else { return #expect(Bool(false)) }
    }
}
