#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// A request as it is sent: written once, so that a resend has the same bytes.
enum RequestFrame {
    static func encode(_ header: RequestHeader, body: Data) -> Data {
        var writer = JSONWriter(capacity: body.count + 300)
        writer.field("body", json: body)
        writer.field("from", header.from)
        writer.field("id", header.id)
        writer.field("lineage", header.lineage)
        writer.field("target", header.target)
        writer.field("term", header.term)
        writer.field("timeout", header.timeout)
        writer.field("type", header.type)
        writer.field("v", header.v)
        return Data(writer.finish())
    }
}
