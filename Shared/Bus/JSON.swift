#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// JSON as it stands on the wire and under signatures: sorted keys, unescaped slashes.
public enum JSON {
    /// The same value gives the same bytes in every process.
    public static func encode(_ value: any Encodable) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(value)
    }

    /// - Throws: ``Messages/RequestError`` with code `request.malformed`, whose message names the field.
    public static func decode<T: Decodable>(_ type: T.Type, _ data: Data) throws -> T {
        try decode(type, data, under: "")
    }

    static func decode<T: Decodable>(_ type: T.Type, _ data: Data, under root: String) throws -> T {
        do {
            return try JSONDecoder().decode(type, from: data)
        } catch let error as DecodingError {
            throw malformed(error, under: root)
        }
    }

    private static func malformed(_ error: DecodingError, under root: String) -> RequestError {
        func name(_ path: [any CodingKey]) -> String {
            let parts = (root.isEmpty ? [] : [root]) + path.map { $0.intValue.map(String.init) ?? $0.stringValue }
            return parts.isEmpty ? "the document" : parts.joined(separator: ".")
        }
        let (field, problem): (String, String) =
            switch error {
            case .keyNotFound(let key, let context): (name(context.codingPath + [key]), "is missing")
            case .valueNotFound(_, let context): (name(context.codingPath), "must not be null")
            case .typeMismatch(let type, let context): (name(context.codingPath), "is not of type \(type)")
            case .dataCorrupted(let context): (name(context.codingPath), "cannot be read: \(context.debugDescription)")
            @unknown default: (name([]), "cannot be read")
            }
        return RequestError(RequestErrorCode.malformed, "\(field) \(problem)", details: ["field": field])
    }
}
