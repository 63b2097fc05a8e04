import Bus
import Foundation
import Messages

/// Tells apart two requests under one id: FNV-1a (64 bit) over the type and the body, whose keys are sorted first.
enum RequestDigest {
    private struct BodyOnly: Decodable {
        var body: JSONValue
    }

    static func of(_ request: IncomingRequest) throws -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func add(_ bytes: some Sequence<UInt8>) {
            for byte in bytes {
                hash ^= UInt64(byte)
                hash &*= 0x100_0000_01b3
            }
        }
        add(request.header.type.utf8)
        add(try JSON.encode(JSON.decode(BodyOnly.self, request.frame).body))
        return hash
    }
}
