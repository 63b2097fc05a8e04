import Foundation
import Messages
import ServiceKit
import Testing

private let schema = [
    ConfigurationKey("liveness.grace", .duration, default: "30s", "silence that is forgiven"),
    ConfigurationKey("liveness.minimumMissed", .integer, default: "3", "missed heartbeats"),
    ConfigurationKey("host.bootIDFile", .string, default: nil, "file with the boot id"),
]

@Suite struct ConfigurationTests {
    private func load(_ yaml: String, _ environment: [String: String] = [:]) throws -> Configuration {
        let directory = try ScratchDirectory()
        let file = directory.path + "/service.yaml"
        try yaml.write(toFile: file, atomically: true, encoding: .utf8)
        return try Configuration(schema: schema, file: file, environment: environment)
    }

    @Test func theEnvironmentIsAboveTheFileAndTheFileAboveDefaults() throws {
        let configuration = try load(
            "liveness:\n  grace: 5s\nhost: {bootIDFile: /x}\n", ["BULWARK_LIVENESS_GRACE": "1500ms", "BULWARK_HOST_BOOT_IDFILE": "/ignored"])
        #expect(configuration.duration("liveness.grace") == .milliseconds(1500))
        #expect(configuration.integer("liveness.minimumMissed") == 3)
        #expect(configuration.values["liveness.minimumMissed"]?.origin == "default")
        #expect(configuration.values["liveness.grace"]?.origin == "environment BULWARK_LIVENESS_GRACE")
    }

    @Test func anotherKeyMayDecideADefaultAndSingleKeysGoAboveIt() throws {
        let schema = [
            ConfigurationKey("fence.profile", .string, default: "default", "a set of defaults"),
            ConfigurationKey("liveness.grace", .duration, default: "30s", by: ("fence.profile", ["fast": "3s"]), "silence that is forgiven"),
        ]
        let table: [(environment: [String: String], grace: Duration, origin: String)] = [
            ([:], .seconds(30), "default"),
            (["BULWARK_FENCE_PROFILE": "default"], .seconds(30), "default"),
            (["BULWARK_FENCE_PROFILE": "fast"], .seconds(3), "fence.profile fast"),
            (["BULWARK_FENCE_PROFILE": "fast", "BULWARK_LIVENESS_GRACE": "4s"], .seconds(4), "environment BULWARK_LIVENESS_GRACE"),
        ]
        for row in table {
            let configuration = try Configuration(schema: schema, file: nil, environment: row.environment)
            #expect(configuration.duration("liveness.grace") == row.grace && configuration.values["liveness.grace"]?.origin == row.origin, "\(row)")
        }
    }

    @Test func everythingWrongIsNamedAtOnce() {
        #expect { try load("liveness: {grace: soon, colour: red}\n") } throws: { error in
            let text = (error as? RequestError)?.message ?? ""
            return text.contains("unknown key \"liveness.colour\"") && text.contains("\"liveness.grace\" is \"soon\"") && text.contains("missing key \"host.bootIDFile\"")
        }
    }

    @Test(arguments: [("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000), ("1.5s", 1500), ("7", 7000)])
    func durationsAreRead(text: String, milliseconds: Int64) {
        #expect(Duration(text: text) == .milliseconds(milliseconds))
    }

    @Test(arguments: ["", "s", "-1s", "ten", "5d"]) func badDurationsAreNot(text: String) {
        #expect(Duration(text: text) == nil)
    }
}
