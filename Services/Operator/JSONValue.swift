import Bus
import Foundation

/// Any JSON: replies are printed with `--json` exactly as the service gave them, also what this version of the command does not know.
enum JSONValue: Codable, Hashable, Sendable {
    case null
    case bool(Bool)
    case signed(Int64)
    case unsigned(UInt64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    init(encoding value: any Encodable) throws {
        self = try JSON.decode(JSONValue.self, try JSON.encode(value))
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .signed(value)
        } else if let value = try? container.decode(UInt64.self) {
            self = .unsigned(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .signed(let value): try container.encode(value)
        case .unsigned(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
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
