#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// A reply on the wire.
public enum ReplyFrame {
    /// A body that cannot be written as JSON (a number that is not finite) becomes a refusal that says so: a caller always gets an answer.
    public static func encode(id: RequestID?, _ reply: Reply) -> Data {
        switch reply {
        case .success(let body):
            do {
                return encode(id: id, bodyJSON: try JSON.encode(body))
            } catch {
                return refusal(id: id, RequestError(RequestErrorCode.invalid, "the reply cannot be written as JSON: \(error)"))
            }
        case .refused(let error): return refusal(id: id, error)
        }
    }

    /// A success whose body is JSON already.
    public static func encode(id: RequestID?, bodyJSON: Data) -> Data {
        var writer = JSONWriter(capacity: bodyJSON.count + 80)
        writer.field("body", json: bodyJSON)
        writer.field("id", id)
        writer.field("ok", true)
        writer.field("v", RequestHeader.version)
        return Data(writer.finish())
    }

    private static func refusal(id: RequestID?, _ error: RequestError) -> Data {
        var writer = JSONWriter(capacity: 400)
        // A value of strings always encodes.
        writer.field("error", json: (try? JSON.encode(error)) ?? Data(#"{"code":"request.invalid","message":""}"#.utf8))
        writer.field("id", id)
        writer.field("ok", false)
        writer.field("v", RequestHeader.version)
        return Data(writer.finish())
    }

    /// - Throws: ``Messages/RequestError`` `request.malformed` that names the field.
    public static func decodeHeader(_ frame: Data) throws -> ReplyHeader {
        let object = try JSONScanner.object(frame, fields: ["error", "id", "ok", "v"])
        var header = ReplyHeader(id: try object.optionalString("id"), error: nil)
        header.v = try object.integer("v", Int.self)
        header.ok = try object.boolean("ok")
        if !header.ok { header.error = try JSON.decode(RequestError.self, object.bytes(object.object("error")), under: "error") }
        return header
    }

    /// The body of a success.
    /// - Throws: the ``Messages/RequestError`` of a refusal, `request.malformed` that names the field.
    public static func body<T: Decodable>(_ type: T.Type, _ frame: Data) throws -> T {
        if let error = try decodeHeader(frame).error { throw error }
        return try JSON.decode(type, bodyBytes(frame), under: "body")
    }

    /// What came of a request, read; a reply that cannot be read says nothing (I4).
    public static func body<T: Decodable>(_ type: T.Type, _ result: Result<Data, RequestError>, from sender: String) -> Result<T, RequestError> {
        result.flatMap { frame in
            do {
                return .success(try body(type, frame))
            } catch {
                return .failure(RequestError(RequestErrorCode.unknownOutcome, "the reply of \(sender) cannot be read: \(error)"))
            }
        }
    }

    /// The body's JSON, byte for byte.
    public static func bodyBytes(_ frame: Data) throws -> Data {
        let object = try JSONScanner.object(frame, fields: ["body"])
        return try object.bytes(object.object("body"))
    }
}
