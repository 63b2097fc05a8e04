import Foundation
public import Messages
import Yams

/// A value that a service can be given: its place in the YAML file (`section.key`), its kind, its default and what it does.
public struct ConfigurationKey: Sendable {
    public enum Kind: String, Sendable { case string, integer, boolean, duration }

    public var name: String
    public var kind: Kind
    /// `nil`: must be given.
    public var standard: String?
    public var meaning: String
    /// Another key that decides the default: by its value, where that is another than ``standard``.
    public var decider: (key: String, defaults: [String: String])?

    public init(_ name: String, _ kind: Kind, default standard: String?, by decider: (key: String, defaults: [String: String])? = nil, _ meaning: String) {
        self.name = name
        self.kind = kind
        self.standard = standard
        self.decider = decider
        self.meaning = meaning
    }

    /// `liveness.grace` is `BULWARK_LIVENESS_GRACE`; capitals inside a word begin a new one (`bootIDFile` is `BOOT_ID_FILE`).
    public var environmentName: String {
        var text = "BULWARK_"
        var previousIsLower = false
        for character in name {
            if character == "." {
                text += "_"
                previousIsLower = false
                continue
            }
            if character.isUppercase && previousIsLower { text += "_" }
            text += character.uppercased()
            previousIsLower = character.isLowercase || character.isNumber
        }
        return text
    }
}

/// The values of one service: environment above file above defaults. Checked as a whole when it is loaded.
public struct Configuration: Sendable {
    public struct Value: Sendable {
        public var text: String
        /// `default`, `file <path>`, `environment <NAME>`, or the key that decided and its value.
        public var origin: String
    }

    /// By `section.key`, all keys of the schema.
    public let values: [String: Value]
    public let schema: [ConfigurationKey]

    /// - Throws: `RequestError` (`config.invalid`) that names every key that is unknown, missing or not of its kind.
    public init(schema: [ConfigurationKey], file: String?, environment: [String: String] = ProcessInfo.processInfo.environment) throws {
        self.schema = schema
        var found: [String: String] = [:]
        if let file { found = try Self.flatten(file) }
        var values: [String: Value] = [:]
        var problems = found.keys.sorted().filter { name in !schema.contains { $0.name == name } }.map { "unknown key \"\($0)\"" }
        for key in schema {
            if let text = environment[key.environmentName] {
                values[key.name] = Value(text: text, origin: "environment \(key.environmentName)")
            } else if let text = found[key.name] {
                values[key.name] = Value(text: text, origin: "file \(file ?? "")")
            } else if let text = key.standard {
                values[key.name] = Value(text: text, origin: "default")
            } else {
                problems.append("missing key \"\(key.name)\" (\(key.meaning))")
                continue
            }
            if let value = values[key.name], !Self.fits(value.text, key.kind) {
                problems.append("\"\(key.name)\" is \"\(value.text)\" (\(value.origin)), not a \(key.kind.rawValue)")
            }
        }
        for key in schema where values[key.name]?.origin == "default" {
            guard let decider = key.decider, let decision = values[decider.key]?.text, let text = decider.defaults[decision] else { continue }
            values[key.name] = Value(text: text, origin: "\(decider.key) \(decision)")
        }
        guard problems.isEmpty else {
            throw RequestError(code: "config.invalid", message: "\(file ?? "configuration"): " + problems.joined(separator: "; "))
        }
        self.values = values
    }

    public func string(_ name: String) -> String { values[name]?.text ?? "" }
    public func integer(_ name: String) -> Int { Int(string(name)) ?? 0 }
    public func boolean(_ name: String) -> Bool { ["true", "yes", "on"].contains(string(name).lowercased()) }
    public func duration(_ name: String) -> Duration { Duration(text: string(name)) ?? .zero }

    private static func fits(_ text: String, _ kind: ConfigurationKey.Kind) -> Bool {
        switch kind {
        case .string: true
        case .integer: Int(text) != nil
        case .boolean: ["true", "false", "yes", "no", "on", "off"].contains(text.lowercased())
        case .duration: Duration(text: text) != nil
        }
    }

    private static func flatten(_ file: String) throws -> [String: String] {
        guard let data = FileManager.default.contents(atPath: file) else {
            throw RequestError(code: "config.unreadable", message: "\(file) cannot be read")
        }
        let node: Node?
        do {
            node = try Yams.compose(yaml: String(decoding: data, as: UTF8.self))
        } catch {
            throw RequestError(code: "config.invalid", message: "\(file): \(error)")
        }
        var found: [String: String] = [:]
        func walk(_ node: Node, _ path: String) throws {
            if let mapping = node.mapping {
                for (key, value) in mapping { try walk(value, path.isEmpty ? key.string ?? "" : "\(path).\(key.string ?? "")") }
            } else if let scalar = node.scalar {
                found[path] = scalar.string
            } else {
                throw RequestError(code: "config.invalid", message: "\(file): \"\(path)\" must be a single value")
            }
        }
        if let node, node.mapping != nil || node.scalar?.string.isEmpty == false { try walk(node, "") }
        return found
    }
}

extension Duration {
    /// `30s`, `500ms`, `2m`, `1h`, `1.5s`; a bare number is seconds. `nil` if it is none of these or negative.
    public init?(text: String) {
        let units: [(String, Double)] = [("ms", 1e6), ("h", 3600e9), ("m", 60e9), ("s", 1e9), ("", 1e9)]
        for (unit, factor) in units where text.hasSuffix(unit) {
            guard let number = Double(text.dropLast(unit.count)) else { continue }
            guard number >= 0, number * factor < 9e18 else { return nil }
            self.init(nanoseconds: Int64((number * factor).rounded()))
            return
        }
        return nil
    }
}
