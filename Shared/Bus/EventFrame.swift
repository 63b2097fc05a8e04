#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// The second frame of an event.
public enum EventFrame {
    public static func encode(_ header: EventHeader, bodyJSON: Data) -> Data {
        var writer = JSONWriter(capacity: bodyJSON.count + 250)
        writer.field("body", json: bodyJSON)
        writer.field("epoch", header.epoch)
        writer.field("seq", header.seq)
        writer.field("source", header.source)
        writer.field("time", header.time)
        writer.field("type", header.type)
        writer.field("typeSeq", header.typeSeq)
        writer.field("v", header.v)
        return Data(writer.finish())
    }

    /// - Throws: ``Messages/RequestError`` `request.malformed` that names the field.
    public static func decodeHeader(_ frame: Data) throws -> EventHeader {
        let object = try JSONScanner.object(frame, fields: ["epoch", "seq", "source", "time", "type", "typeSeq", "v"])
        let version = try object.integer("v", Int.self)
        guard version == RequestHeader.version else { throw RequestError(RequestErrorCode.unknownVersion, "v \(version) is not known") }
        return EventHeader(
            source: try object.string("source"), epoch: try object.string("epoch"), seq: try object.integer("seq", UInt64.self),
            typeSeq: try object.integer("typeSeq", UInt64.self), time: try object.optionalString("time") ?? "", type: try object.string("type"))
    }

    /// - Throws: ``Messages/RequestError`` `request.malformed` that names the field.
    public static func body<T: Decodable>(_ type: T.Type, _ frame: Data) throws -> T {
        let object = try JSONScanner.object(frame, fields: ["body"])
        return try JSON.decode(type, object.bytes(object.object("body")), under: "body")
    }

    /// An event's frame, to be read when its type is known.
    public struct Body: MessageBody {
        private let frame: Data
        public init(_ frame: Data) { self.frame = frame }
        public func read<T: Decodable & Sendable>(_ type: T.Type) throws -> T { try EventFrame.body(type, frame) }
    }
}
