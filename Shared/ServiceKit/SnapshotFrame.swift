import Bus
import Foundation
import Messages

/// The reply to `snapshot`: the public state with the place in the event stream that it belongs to.
enum SnapshotFrame {
    private struct Body: Encodable, Sendable {
        var epoch: String
        var seq: UInt64
        var typeSeq: [String: UInt64]
        var body: any Encodable & Sendable

        enum CodingKeys: String, CodingKey { case epoch, seq, typeSeq, body }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(epoch, forKey: .epoch)
            try container.encode(seq, forKey: .seq)
            try container.encode(typeSeq, forKey: .typeSeq)
            try body.encode(to: container.superEncoder(forKey: .body))
        }
    }

    static func encode(id: RequestID, epoch: String, seq: UInt64, typeSeq: [String: UInt64], body: any Encodable & Sendable) -> Data {
        ReplyFrame.encode(id: id, .success(Body(epoch: epoch, seq: seq, typeSeq: typeSeq, body: body)))
    }
}
