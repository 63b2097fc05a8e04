import Bus
import Foundation

/// Replies are printed with `--json` exactly as the service gave them.
extension JSONValue {
    init(encoding value: any Encodable) throws {
        self = try JSON.decode(JSONValue.self, try JSON.encode(value))
    }

    /// Sorted keys, unescaped slashes, indented.
    var text: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        return (try? encoder.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "null"
    }

    /// The same on one line.
    var line: String { (try? JSON.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "null" }

    subscript(key: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members[key]
    }

    var elements: [JSONValue] {
        guard case .array(let elements) = self else { return [] }
        return elements
    }

    var string: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }

    /// The object with these members added or replaced.
    func adding(_ members: [String: JSONValue]) -> JSONValue {
        guard case .object(let mine) = self else { return self }
        return .object(mine.merging(members) { $1 })
    }

    /// Each element with member `name` copied from another member: every listed object has `name` and `status`.
    func naming(by key: String) -> JSONValue {
        .array(elements.map { element in element.adding(["name": element[key] ?? .null]) })
    }

    /// Reads it as a message.
    func decoded<T: Decodable>(as type: T.Type) throws -> T { try JSON.decode(type, try JSON.encode(self)) }

    /// For people: one `key: value` line for each leaf, nested ones indented.
    func outline(indent: String = "") -> String {
        switch self {
        case .object(let members):
            return members.sorted { $0.key < $1.key }.compactMap { key, value in
                switch value {
                case .null: nil
                case .object(let inner) where inner.isEmpty: nil
                case .array(let inner) where inner.isEmpty: nil
                case .object, .array: "\(indent)\(key):\n\(value.outline(indent: indent + "  "))"
                default: "\(indent)\(key): \(value.scalarText)"
                }
            }.joined(separator: "\n")
        case .array(let elements):
            return elements.map { element in
                switch element {
                case .object, .array: "\(indent)-\n\(element.outline(indent: indent + "  "))"
                default: "\(indent)- \(element.scalarText)"
                }
            }.joined(separator: "\n")
        default:
            return indent + scalarText
        }
    }

    private var scalarText: String { string ?? line }
}
