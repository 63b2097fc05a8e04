import Foundation
import Messages
import ServiceKit
import Yams

/// The part of a compose file that `bulwark supervise` honours: programs, restarts, health. What only a container engine can do (images, users, capabilities,
/// networks, volumes) is known by name and left to it; every other key is rejected, so that nothing in the file is silently ignored.
struct ComposeFile: Sendable {
    /// Of a service, for engines.
    private static let engineKeys = [
        "image", "build", "entrypoint", "user", "init", "read_only", "tmpfs", "cap_drop", "cap_add", "security_opt", "cgroup", "devices", "networks",
        "network_mode", "volumes", "depends_on", "mem_limit", "pids_limit", "logging", "x-engine-only",
    ]

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
        /// `deploy.replicas`; of a host: the number of hosts like it.
        var replicas = 1
    }

    /// The services that are run here: without those marked `x-engine-only`, whose work `bulwark up` does itself.
    var services: [Service]

    /// Processes of the manager side, in the order of the file.
    var managerServices: [Service] { services.filter { !Self.isHost($0.name) } }
    /// How many hosts the file has.
    var hosts: Int? {
        let found = services.filter { Self.isHost($0.name) }
        return found.isEmpty ? nil : found.map(\.replicas).reduce(0, +)
    }

    /// `host`, `host1`, ...: a chassis, which only its BMC starts and stops.
    private static func isHost(_ name: String) -> Bool { name.hasPrefix("host") && name.dropFirst(4).allSatisfy(\.isNumber) }

    /// - Parameter variables: values of `${NAME}`; `${NAME:-default}` takes the default for others.
    /// - Throws: `RequestError` `file.invalid` that names file, line and key.
    init(path: String, variables: [String: String]) throws {
        let file = try DefinitionFile(path: path, kind: "compose file", keys: ["name", "services", "networks", "volumes", "x-*"])
        _ = try file.optionalString("name")
        let names = try file.names(in: "services")
        let section = try file.section("services", kind: "list of services", keys: names)
        let keys = ["command", "environment", "restart", "stop_grace_period", "healthcheck", "deploy"] + Self.engineKeys
        services = try names.compactMap { name in
            let service = try section.section(name, kind: "service \(name)", keys: keys)
            return try service.optionalBool("x-engine-only") == true ? nil : try Self.service(service, name: name, variables)
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
