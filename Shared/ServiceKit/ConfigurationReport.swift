import ArgumentParser
import Bus
import Foundation
import Messages

/// What `--check-config` prints, and `bulwark config check` shows: every value with its origin.
struct ConfigurationReport: Encodable {
    struct Value: Encodable {
        var name: String
        var value: String
        /// See ``Configuration/Value/origin``.
        var origin: String
        var kind: String
        var meaning: String
        /// The variable that overrides the file.
        var environment: String
    }

    var service: String
    var values: [Value]
    var notGuaranteed: [String]

    init<S: ServiceCommand>(_ command: S.Type, configuration: Configuration) {
        service = command.service
        notGuaranteed = command.notGuaranteed(configuration)
        values = configuration.schema.compactMap { key in
            configuration.values[key.name].map { value in
                Value(
                    name: key.name, value: value.text, origin: value.origin, kind: key.kind.rawValue, meaning: key.meaning, environment: key.environmentName)
            }
        }
    }

    /// Prints the report to stdout; what cannot be used goes to stderr as a `RequestError` in JSON, with exit status 1.
    static func print<S: ServiceCommand>(_ command: S.Type, file: String?) throws {
        do {
            let configuration = try Configuration(schema: command.schema, file: file)
            try command.check(configuration)
            let report = ConfigurationReport(command, configuration: configuration)
            FileHandle.standardOutput.write(try JSON.encode(report))
        } catch let error as RequestError {
            FileHandle.standardError.write(try JSON.encode(error))
            throw ExitCode(1)
        }
    }
}
