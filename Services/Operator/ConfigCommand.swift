import ArgumentParser
import Bus
import Foundation
import Messages
import ServiceKit

/// `bulwark config`: configuration files.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "config", abstract: "Configuration files: check.", subcommands: [Check.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Every value of a configuration file with its origin, and what the values do not guarantee; unknown keys and unusable values are refused by name.",
            discussion: "The service is known by the file's name (fencing-service.yaml), or by --service. A cluster file (cluster.yaml) is checked too.")
        @Argument(help: "Configuration file.") var file: String
        @Option(help: "Whose configuration it is.") var service: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let name = service ?? URL(fileURLWithPath: file).deletingPathExtension().lastPathComponent
            if name == "cluster" { return try checkClusterFile() }
            let reply = try checkedByService(name)
            try options.show(reply) {
                var table = Table("KEY", "VALUE", "ORIGIN", "MEANING")
                for value in reply["values"]?.elements ?? [] {
                    table.add(value["name"]?.string ?? "", value["value"]?.string ?? "", value["origin"]?.string ?? "", value["meaning"]?.string ?? "")
                }
                let gaps = (reply["notGuaranteed"]?.elements ?? []).compactMap(\.string).map { "\n  - \($0)" }
                return table.text(empty: "\(name) has no configuration keys") + "\n\n\(file) can be used by \(name)"
                    + (gaps.isEmpty ? "" : "\n\nnot guaranteed with these values:" + gaps.joined())
            }
        }

        /// The service itself knows its keys: it is asked, not running, as `NAME --config FILE --check-config`.
        private func checkedByService(_ name: String) throws -> JSONValue {
            let executable = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().appendingPathComponent(name)
            let known = ClusterFile.managerServices + ["lease-service", "host-agent"]
            guard known.contains(name), FileManager.default.isExecutableFile(atPath: executable.path) else {
                throw OperatorError.serviceUnknown.error("\(file) is not named after a service (\(known.joined(separator: ", "))); say which with --service")
            }
            let process = Process()
            process.executableURL = executable
            process.arguments = ["--config", file, "--check-config"]
            let output = Pipe()
            let complaints = Pipe()
            process.standardOutput = output
            process.standardError = complaints
            try process.run()
            let printed = output.fileHandleForReading.readDataToEndOfFile()
            let complained = complaints.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            guard process.terminationStatus == 0 else {
                if let error = try? JSON.decode(RequestError.self, complained) { throw error }
                throw OperatorError.badFile.error(String(decoding: complained, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
            }
            return try JSON.decode(JSONValue.self, printed)
        }

        private func checkClusterFile() throws {
            let cluster = try ClusterFile.load(file.contains("/") ? file : "./\(file)")
            let missing = ClusterFile.managerServices.filter { cluster.services[$0] == nil }
            guard missing.isEmpty else { throw OperatorError.badFile.error("\(file) names no endpoints of \(missing.joined(separator: ", "))") }
            let long = cluster.services.values.flatMap { [$0.requests, $0.events] }.filter { $0.hasPrefix("ipc://") && $0.utf8.count - 6 > 107 }
            guard long.isEmpty else { throw OperatorError.badFile.error("socket paths must be below 108 bytes: \(long.joined(separator: ", "))") }
            let json = try JSONValue(encoding: cluster)
            try options.show(json) { json.outline() + "\n\n\(file) can be used" }
        }
    }
}
