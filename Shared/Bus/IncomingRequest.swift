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
