#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

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
