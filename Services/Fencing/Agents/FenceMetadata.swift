import Foundation
public import Messages
import ServiceKit

/// What a fence agent says of its own options (`-o metadata`, the XML of the FenceAgentAPI), to find mistakes in a definition before they matter: agents ignore what they do not know.
public struct FenceMetadata: Sendable {
    struct Parameter: Hashable, Sendable {
        var type = "string"
        var isRequired = false
        var hasDefault = false
        /// Values of a `select`.
        var choices: [String] = []
        /// The older name of the same parameter.
        var obsoletes: String?
    }

    private(set) var parameters: [String: Parameter] = [:]
    private(set) var actions: Set<String> = []

    /// What came of asking an agent.
    public enum Answer: Sendable {
        case metadata(FenceMetadata)
        /// It is not on this machine.
        case notInstalled
        case unreadable(String)
    }

    /// Blocking: call it on a thread of its own.
    ///
    /// - Parameter directory: where the executables are, such as `/usr/sbin`.
    public static func ask(_ agent: String, directory: String, deadline: Duration = .seconds(15)) -> Answer {
        guard FenceAgent.isAgentName(agent) else { return .unreadable("\"\(agent)\" is not the name of a fence agent") }
        let path = "\(directory)/\(agent)"
        guard FileManager.default.isExecutableFile(atPath: path) else { return .notInstalled }
        var child = ChildProcess(path, environment: FenceAgent.environment, input: Data("action=metadata\n".utf8), deadline: deadline)
        child.ownPIDNamespace = true
        child.outputLimit = 1 << 20
        let outcome = child.run()
        guard outcome.end == .exited(0), let metadata = FenceMetadata(xml: outcome.output) else {
            return .unreadable("\(agent) tells no metadata (\(outcome.end))")
        }
        return .metadata(metadata)
    }

    /// Reads the tags that matter; their order is that of the API: `content` and its `option`s within their `parameter`.
    ///
    /// - Returns: `nil` if it has no parameters and no actions.
    init?(xml: String) {
        let tag = #/<(?<name>parameter|content|option|action)\s(?<attributes>[^>]*)>/#
        let attribute = #/(?<key>[\w-]+)\s*=\s*"(?<value>[^"]*)"/#
        var current: String?
        for match in xml.matches(of: tag) {
            var values: [String: String] = [:]
            for found in match.attributes.matches(of: attribute) { values[String(found.key)] = String(found.value) }
            switch match.name {
            case "parameter":
                current = values["name"].map(Self.plain)
                guard let current else { continue }
                parameters[current] = Parameter(isRequired: values["required"] == "1", obsoletes: values["obsoletes"].map(Self.plain))
            case "content":
                guard let current else { continue }
                parameters[current]?.type = values["type"] ?? "string"
                parameters[current]?.hasDefault = values["default"] != nil
            case "option":
                guard let current, let value = values["value"] else { continue }
                parameters[current]?.choices.append(value)
            default:
                if let name = values["name"] { actions.insert(name) }
            }
        }
        if parameters.isEmpty || actions.isEmpty { return nil }
    }

    /// Agents take `-` for `_`.
    private static func plain(_ name: String) -> String { name.replacingOccurrences(of: "-", with: "_") }

    /// What is wrong with this device's definition, one sentence each; empty: nothing that the agent's metadata could tell.
    public func problems(with device: FenceDevice) -> [String] {
        var found: [String] = []
        for action in ["off", "on", "status"] where !actions.contains(action) { found.append("\(device.agent) cannot do \"\(action)\"") }
        let options = device.options ?? [:]
        for name in options.keys.sorted() {
            guard let parameter = parameters[Self.plain(name)] else {
                found.append("\(device.agent) has no option \"\(name)\": it would be ignored\(suggestion(name))")
                continue
            }
            if let problem = parameter.problem(options[name] ?? "") { found.append("option \"\(name)\" of \(device.agent) is \"\(options[name] ?? "")\", not \(problem)") }
        }
        var given = Set(options.keys.map(Self.plain)).union(["ip", "action"])
        if device.username != nil { given.insert("username") }
        if device.secretFile != nil { given.insert("password") }
        for name in parameters.keys.sorted() {
            guard let parameter = parameters[name], parameter.isRequired, !parameter.hasDefault, !given.contains(name) else { continue }
            if let old = parameter.obsoletes, given.contains(old) { continue }
            // The older name of another: that one is needed.
            if parameters.values.contains(where: { $0.obsoletes == name }) { continue }
            found.append("\(device.agent) needs the option \"\(name)\"")
        }
        return found
    }

    private func suggestion(_ name: String) -> String {
        let plain = Self.plain(name).replacingOccurrences(of: "_", with: "")
        let near = parameters.keys.sorted().first { $0.replacingOccurrences(of: "_", with: "") == plain || $0.hasPrefix(Self.plain(name)) }
        return near.map { "; did you mean \"\($0)\"?" } ?? ""
    }
}

extension FenceMetadata.Parameter {
    /// What the value should be; `nil`: it fits.
    func problem(_ value: String) -> String? {
        switch type {
        case "boolean": ["0", "1", "yes", "no", "on", "off", "true", "false"].contains(value.lowercased()) ? nil : "yes or no"
        case "integer": Int(value) != nil ? nil : "a whole number"
        case "second": Double(value).map { $0 >= 0 } == true ? nil : "seconds"
        case "select": choices.isEmpty || choices.contains(value) ? nil : "one of \(choices.joined(separator: ", "))"
        default: nil
        }
    }
}
