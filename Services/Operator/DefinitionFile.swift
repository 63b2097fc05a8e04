import Foundation
import Messages
import ServiceKit
import Yams

/// Reads a definition file strictly: every key must be known, every value of the right kind; what is wrong is named with file, line and key.
struct DefinitionFile {
    let path: String
    /// What is defined, for messages: `VM`, `disk`, `host`.
    let kind: String
    private let mapping: Node.Mapping

    /// - Throws: `RequestError` `file.invalid`.
    init(path: String, kind: String, keys: [String]) throws {
        self.path = path
        self.kind = kind
        let text: String
        do {
            text = try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            throw OperatorError.badFile.error("\(path) cannot be read: \(error.localizedDescription)")
        }
        do {
            guard let found = try Yams.compose(yaml: text)?.mapping else {
                throw OperatorError.badFile.error("\(path): expected the keys of one \(kind): \(keys.joined(separator: ", "))")
            }
            mapping = found
        } catch let error as YamlError {
            throw OperatorError.badFile.error("\(path): \(error)")
        }
        try check(keys)
    }

    private init(path: String, kind: String, mapping: Node.Mapping, keys: [String]) throws {
        self.path = path
        self.kind = kind
        self.mapping = Self.merged(mapping)
        try check(keys)
    }

    /// With the keys of `<<: *anchor`, unless it has them itself.
    private static func merged(_ mapping: Node.Mapping) -> Node.Mapping {
        guard let found = mapping["<<"] else { return mapping }
        var result = mapping
        result["<<"] = nil
        for base in found.sequence.map({ Array($0) }) ?? [found] {
            for (key, value) in base.mapping.map({ Self.merged($0) }) ?? [:] where result[key] == nil { result[key] = value }
        }
        return result
    }

    private func check(_ keys: [String]) throws {
        let families = keys.compactMap { $0.hasSuffix("*") ? String($0.dropLast()) : nil }
        for key in mapping.keys where !keys.contains(key.string ?? "") && !families.contains(where: { (key.string ?? "").hasPrefix($0) }) {
            throw problem(key, "unknown key '\(key.string ?? "?")' of a \(kind); it has \(keys.joined(separator: ", "))")
        }
    }

    /// The error for a node of this file.
    func problem(_ node: Node?, _ text: String) -> RequestError {
        let line = (node?.mark ?? mapping.mark).map { ":\($0.line)" } ?? ""
        return OperatorError.badFile.error("\(path)\(line): \(text)")
    }

    /// The error for the value of a key.
    func problem(key: String, _ text: String) -> RequestError { problem(mapping[key], "\(key) of the \(kind) \(text)") }

    func has(_ key: String) -> Bool { mapping[key].map { $0.null == nil } ?? false }

    /// The keys below a key, whatever they are, in the order of the file.
    func names(in key: String) throws -> [String] {
        guard let inner = try value(key, "a group of keys", { $0.mapping }) else { throw problem(nil, "the \(kind) has no '\(key)'") }
        return inner.keys.compactMap(\.string)
    }

    func string(_ key: String) throws -> String {
        guard let value = try optionalString(key) else { throw problem(nil, "the \(kind) has no '\(key)'") }
        return value
    }

    func optionalString(_ key: String) throws -> String? {
        try value(key, "a text") { $0.scalar?.string }
    }

    func optionalInt(_ key: String) throws -> Int? { try value(key, "a whole number") { $0.int } }

    func int(_ key: String) throws -> Int {
        guard let value = try optionalInt(key) else { throw problem(nil, "the \(kind) has no '\(key)'") }
        return value
    }

    func optionalBool(_ key: String) throws -> Bool? { try value(key, "true or false") { $0.bool } }

    /// Bytes: a number with K, M, G or T (powers of 1024), or a bare number in `unit` bytes.
    func bytes(_ key: String, unit: UInt64) throws -> UInt64 {
        guard let value = try value(key, "a size such as 512M", { $0.scalar.flatMap { Self.size($0.string, unit: unit) } }) else {
            throw problem(nil, "the \(kind) has no '\(key)'")
        }
        return value
    }

    func strings(_ key: String) throws -> [String] {
        try value(key, "a list of texts") { node in
            let items = node.sequence.map { $0.map { $0.scalar?.string } }
            return items.flatMap { $0.contains(nil) ? nil : $0.compactMap { $0 } }
        } ?? []
    }

    func texts(_ key: String) throws -> [String: String]? {
        try value(key, "keys with texts") { node in
            guard let inner = node.mapping else { return nil }
            var found: [String: String] = [:]
            for (key, value) in inner {
                guard let name = key.string, let text = value.scalar?.string else { return nil }
                found[name] = text
            }
            return found
        }
    }

    /// The keys below a key.
    /// - Parameter keys: those that are known; a name that ends in `*` stands for all that begin so.
    func section(_ key: String, kind: String, keys: [String]) throws -> DefinitionFile {
        guard let inner = try value(key, "a group of keys", { $0.mapping }) else { throw problem(nil, "the \(self.kind) has no '\(key)'") }
        return try DefinitionFile(path: path, kind: kind, mapping: inner, keys: keys)
    }

    /// The elements of a list, each with its own keys; none if the key is missing.
    func sections(_ key: String, kind: String, keys: [String]) throws -> [DefinitionFile] {
        let nodes = try value(key, "a list", { $0.sequence.map { Array($0) } }) ?? []
        return try nodes.map { node in
            guard let inner = node.mapping else { throw problem(node, "an element of \(key) is not a \(kind) with \(keys.joined(separator: ", "))") }
            return try DefinitionFile(path: path, kind: kind, mapping: inner, keys: keys)
        }
    }

    func optionalDuration(_ key: String) throws -> Duration? { try value(key, "a duration such as 500ms, 30s or 5m") { $0.scalar.flatMap { Duration(text: $0.string) } } }

    func optionalNumber(_ key: String) throws -> Double? { try value(key, "a number") { $0.float } }

    /// One of the words of a choice.
    func optionalChoice<Choice: RawRepresentable<String> & CaseIterable>(_ key: String) throws -> Choice? {
        try value(key, "one of " + Choice.allCases.map(\.rawValue).joined(separator: ", ")) { $0.scalar.flatMap { Choice(rawValue: $0.string) } }
    }

    /// One element of a list that is either a bare text or has keys of its own.
    enum Element {
        case text(String, Node)
        case section(DefinitionFile)
    }

    /// The elements of a list; a bare text instead is a list of one. Empty if the key is missing.
    func elements(_ key: String, kind: String, keys: [String]) throws -> [Element] {
        let nodes = try value(key, "a text or a list", { node in node.scalar == nil ? node.sequence.map { Array($0) } : [node] }) ?? []
        return try nodes.map { node in
            if let text = node.scalar?.string { return .text(text, node) }
            guard let inner = node.mapping else { throw problem(node, "an element of \(key) is neither a text nor a \(kind) with \(keys.joined(separator: ", "))") }
            return .section(try DefinitionFile(path: path, kind: kind, mapping: inner, keys: keys))
        }
    }

    private func value<Value>(_ key: String, _ expected: String, _ read: (Node) -> Value?) throws -> Value? {
        guard let node = mapping[key], node.null == nil else { return nil }
        guard let value = read(node) else { throw problem(key: key, "must be \(expected)") }
        return value
    }

    private static func size(_ text: String, unit: UInt64) -> UInt64? {
        let units: [Character: UInt64] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let digits = text.prefix { $0.isNumber }
        guard let number = UInt64(digits) else { return nil }
        let rest = text.dropFirst(digits.count).uppercased()
        let factor: UInt64?
        if let letter = rest.first {
            factor = ["", "B", "IB"].contains(rest.dropFirst()) ? units[letter] : nil
        } else {
            factor = unit
        }
        guard let factor else { return nil }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : bytes
    }
}
