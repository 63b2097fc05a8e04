#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// Asks one process and waits on the calling thread: for the command and for tests, never on the reactor. For one thread at a time.
public final class BlockingClient {
    private static let resend = Duration.seconds(1)

    private let socket: Socket
    private let endpoint: String
    private let from: String?

    /// Connects in the background.
    /// - Parameter serverKey: the process's CURVE key (Z85); `nil` for ipc:// and loopback without keys.
    public init(endpoint: String, serverKey: String? = nil, security: BusSecurity? = nil, from: String? = nil) throws {
        self.endpoint = endpoint
        self.from = from
        socket = try Socket(.dealer, in: .blocking)
        try socket.connect(Endpoint(endpoint), serverKey: serverKey, keys: security?.keys)
    }

    /// Asks, again every second under the same id, and returns the reply frame of a success.
    /// - Throws: the ``Messages/RequestError`` of a refusal, `outcome.unknown` if no reply came in time.
    public func call(_ type: String, _ body: any Encodable, id: RequestID? = nil, target: String? = nil, timeout: Duration) throws -> Data {
        let id = id ?? RandomID.make()
        let header = RequestHeader(id: id, type: type, timeout: max(timeout.milliseconds, 1), target: target, from: from)
        let frame = RequestFrame.encode(header, body: try JSON.encode(body))
        let deadline = Clock.boottime() + timeout
        var sendAt = Clock.boottime()
        while true {
            let now = Clock.boottime()
            guard now < deadline else {
                throw RequestError(RequestErrorCode.unknownOutcome, "no reply of \(endpoint) to \(type) within \(timeout.seconds) s; it may have been done")
            }
            if now >= sendAt, socket.send(frame) == .sent { sendAt = now + Self.resend }
            while let message = socket.receive() {
                // A reply to an earlier call that gave up is not ours.
                guard let reply = message.frames.last, let header = try? ReplyFrame.decodeHeader(reply), header.id == id || header.id == nil else { continue }
                if let error = header.error { throw error }
                return reply
            }
            socket.wait(atMost: min(deadline, max(sendAt, now + .milliseconds(1))) - now, orToSend: now >= sendAt)
        }
    }

    /// Idempotent; dropping the client does it, too.
    public func close() { socket.close() }
}
