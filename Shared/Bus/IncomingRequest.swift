#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// Where a reply goes: a peer of one of a server's sockets, in the form in which it asked (REQ puts an empty frame before its message, DEALER may).
public struct ReturnPath: Hashable, Sendable {
    let socket: Int
    let identity: Data
    let hasDelimiter: Bool
}

/// A request whose header was read and whose frame is well-formed JSON; the body has not been looked at.
public struct IncomingRequest: Sendable {
    public let header: RequestHeader
    /// The whole JSON object as it came.
    public let frame: Data
    public let caller: Caller
    public let returnPath: ReturnPath
    /// CLOCK_BOOTTIME; the header's timeout counts from here.
    public let receivedAt: Instant
    private let bodyRange: Range<Int>

    init(header: RequestHeader, frame: Data, bodyRange: Range<Int>, caller: Caller, returnPath: ReturnPath, receivedAt: Instant) {
        self.header = header
        self.frame = frame
        self.bodyRange = bodyRange
        self.caller = caller
        self.returnPath = returnPath
        self.receivedAt = receivedAt
    }

    /// The body's JSON, byte for byte.
    public var bodyBytes: Data { frame.subdata(in: frame.startIndex + bodyRange.lowerBound..<frame.startIndex + bodyRange.upperBound) }

    /// - Throws: ``Messages/RequestError`` `request.malformed` that names the field.
    public func body<T: Decodable>(_ type: T.Type) throws -> T { try JSON.decode(type, bodyBytes, under: "body") }
}

/// What a frame says before anybody acts on it.
struct RequestReader {
    /// Above this a request is not read (contract); well above any of ours.
    static let largestRequest = 1 << 20
    static let longestID = 200

    /// As far as it could be read: an error reply names it.
    private(set) var id: RequestID?

    mutating func read(_ frame: Data) throws -> (header: RequestHeader, body: Range<Int>) {
        let object = try JSONScanner.object(frame, fields: ["body", "from", "id", "lineage", "target", "term", "timeout", "type", "v"])
        if let id = try? object.string("id"), id.utf8.count <= Self.longestID { self.id = id }
        let version = try object.integer("v", Int.self)
        guard version == RequestHeader.version else {
            throw RequestError(RequestErrorCode.unknownVersion, "v \(version) is not known, only \(RequestHeader.version) is", details: ["field": "v"])
        }
        let id = try object.string("id")
        guard id.utf8.count <= Self.longestID else { throw JSONScanner.wrong("id", "is longer than \(Self.longestID) bytes") }
        let timeout = try object.optionalInteger("timeout", Int64.self)
        // A year is as good as for ever, and keeps arithmetic on it from overflowing.
        if let timeout, timeout < 0 || timeout > 31_536_000_000 { throw JSONScanner.wrong("timeout", "must be 0 to 31536000000 milliseconds") }
        let header = RequestHeader(
            id: id, type: try object.string("type"), timeout: timeout, target: try object.optionalString("target"),
            from: try object.optionalString("from"), lineage: try object.optionalString("lineage"), term: try object.optionalInteger("term", UInt64.self))
        return (header, try object.object("body"))
    }
}

/// A request as it is sent: written once, so that a resend has the same bytes.
enum RequestFrame {
    static func encode(_ header: RequestHeader, body: Data) -> Data {
        var writer = FrameWriter(capacity: body.count + 300)
        writer.field("body", json: body)
        writer.field("from", header.from)
        writer.field("id", header.id)
        writer.field("lineage", header.lineage)
        writer.field("target", header.target)
        writer.field("term", header.term)
        writer.field("timeout", header.timeout)
        writer.field("type", header.type)
        writer.field("v", header.v)
        return writer.finish()
    }
}

enum RandomID {
    private static let digits = Array("0123456789abcdef".utf8)

    /// A random uuid (version 4), lower case; without the file that Foundation reads for each.
    static func make() -> RequestID {
        var random = SystemRandomNumberGenerator()
        let high = random.next() & 0xFFFF_FFFF_FFFF_0FFF | 0x4000
        let low = random.next() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        return String(unsafeUninitializedCapacity: 36) { text in
            var at = 0
            for (index, half) in [high, low].enumerated() {
                for nibble in 0..<16 {
                    let position = index * 16 + nibble
                    if position == 8 || position == 12 || position == 16 || position == 20 {
                        text[at] = UInt8(ascii: "-")
                        at += 1
                    }
                    text[at] = digits[Int(half >> UInt64(60 - 4 * nibble) & 15)]
                    at += 1
                }
            }
            return at
        }
    }
}
