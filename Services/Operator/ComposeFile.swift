import Foundation
import Messages
import ServiceKit
import Yams

/// The part of a compose file that `bulwark supervise` honours. Keys that it does not honour are rejected by name, so that nothing in the file is silently ignored.
struct ComposeFile: Sendable {
    /// What happens when a process ends by itself.
    enum Restart: String, Sendable {
        case no
        case onFailure = "on-failure"
        case always
        case unlessStopped = "unless-stopped"

        /// - Parameter status: how it ended; `nil` for a signal.
        func applies(toExit status: Int32?) -> Bool {
            switch self {
            case .no: false
            case .onFailure: status != 0
            case .always, .unlessStopped: true
            }
        }
    }

    struct Healthcheck: Sendable {
        /// Program and arguments; status 0 is healthy.
        var test: [String]
        var interval = Duration.seconds(30)
        var timeout = Duration.seconds(30)
        /// So many failures in a row are unhealthy.
        var retries = 3
        /// Failures so soon after the start do not count.
        var startPeriod = Duration.zero
        /// Instead of `interval` during the start period.
        var startInterval = Duration.seconds(5)
    }

    struct Service: Sendable {
        var name: String
        var command: [String]
        var environment: [String: String] = [:]
        var restart = Restart.no
        var stopGracePeriod = Duration.seconds(10)
        var healthcheck: Healthcheck?
        /// `deploy.replicas`; of the service `host`: the number of hosts.
        var replicas = 1
    }

    /// The service that stands for a host: its replicas are the chassis, which only their BMCs start and stop.
    static let host = "host"

    var services: [Service]

    /// Processes of the manager side, in the order of the file.
    var managerServices: [Service] { services.filter { $0.name != Self.host } }
    var hosts: Int? { services.first { $0.name == Self.host }?.replicas }

    /// - Parameter variables: values of `${NAME}`; `${NAME:-default}` takes the default for others.
    /// - Throws: `RequestError` `file.invalid` that names file, line and key.
    init(path: String, variables: [String: String]) throws {
        let file = try DefinitionFile(path: path, kind: "compose file", keys: ["name", "services"])
        _ = try file.optionalString("name")
        let names = try file.names(in: "services")
        let section = try file.section("services", kind: "list of services", keys: names)
        services = try names.map { name in
            try Self.service(
                try section.section(
                    name, kind: "service \(name)", keys: ["command", "environment", "restart", "stop_grace_period", "healthcheck", "deploy"]), name: name, variables)
        }
    }

    private static func service(_ file: DefinitionFile, name: String, _ variables: [String: String]) throws -> Service {
        func fill(_ text: String, _ key: String) throws -> String {
            do { return try Template.fill(text, variables) } catch let error as RequestError { throw file.problem(key: key, "uses \(error.message)") }
        }
        var service = Service(name: name, command: try file.strings("command").map { try fill($0, "command") })
        guard !service.command.isEmpty else { throw file.problem(nil, "service \(name) has no command (a list of program and arguments)") }
        service.environment = try (file.texts("environment") ?? [:]).mapValues { try fill($0, "environment") }
        if let text = try file.optionalString("restart") {
            guard let restart = Restart(rawValue: text) else { throw file.problem(key: "restart", "must be no, on-failure, always or unless-stopped") }
            service.restart = restart
        }
        service.stopGracePeriod = try file.duration("stop_grace_period") ?? service.stopGracePeriod
        if file.has("deploy") { service.replicas = try file.section("deploy", kind: "deployment", keys: ["replicas"]).int("replicas") }
        guard file.has("healthcheck") else { return service }
        let check = try file.section(
            "healthcheck", kind: "health check", keys: ["test", "interval", "timeout", "retries", "start_period", "start_interval"])
        let test = try check.strings("test").map { try fill($0, "healthcheck") }
        switch test.first {
        case "NONE": return service
        case "CMD" where test.count > 1: service.healthcheck = Healthcheck(test: Array(test.dropFirst()))
        case "CMD-SHELL" where test.count == 2: service.healthcheck = Healthcheck(test: ["/bin/sh", "-c", test[1]])
        default: throw check.problem(key: "test", "must be a list that begins with CMD, CMD-SHELL or NONE")
        }
        service.healthcheck?.interval = try check.duration("interval") ?? .seconds(30)
        service.healthcheck?.timeout = try check.duration("timeout") ?? .seconds(30)
        service.healthcheck?.retries = try check.optionalInt("retries") ?? 3
        service.healthcheck?.startPeriod = try check.duration("start_period") ?? .zero
        service.healthcheck?.startInterval = try check.duration("start_interval") ?? .seconds(5)
        return service
    }
}

/// Fills `${NAME}` and `${NAME:-default}` in a text; `$$` is a dollar sign.
enum Template {
    /// - Throws: `RequestError` that names a variable without a value.
    static func fill(_ text: String, _ variables: [String: String]) throws -> String {
        var result = ""
        var rest = text[...]
        while let dollar = rest.firstIndex(of: "$") {
            result += rest[..<dollar]
            rest = rest[rest.index(after: dollar)...]
            if rest.first == "$" {
                result += "$"
                rest = rest.dropFirst()
            } else if rest.first == "{", let end = rest.firstIndex(of: "}") {
                let inside = rest[rest.index(after: rest.startIndex)..<end]
                let name = inside.prefix { $0 != ":" }
                let fallback = inside.dropFirst(name.count)
                guard let value = variables[String(name)] ?? (fallback.hasPrefix(":-") ? String(fallback.dropFirst(2)) : nil) else {
                    throw RequestError(code: "file.invalid", message: "the unknown variable ${\(name)}; known are \(variables.keys.sorted().joined(separator: ", "))")
                }
                result += value
                rest = rest[rest.index(after: end)...]
            } else {
                result += "$"
            }
        }
        return result + rest
    }
}

extension DefinitionFile {
    /// `30s`, `500ms`, `2m`.
    func duration(_ key: String) throws -> Duration? {
        guard let text = try optionalString(key) else { return nil }
        guard let duration = Duration(text: text) else { throw problem(key: key, "must be a duration such as 30s or 500ms") }
        return duration
    }
}
