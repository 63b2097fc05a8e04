#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// Hears events on the calling thread, without snapshots: for the command and for tests, never on the reactor. For one thread at a time.
public final class BlockingSubscriber {
    private let socket: Socket

    /// - Parameter topics: prefixes; `[""]` is everything.
    public init(endpoint: String, topics: [String], serverKey: String? = nil, security: BusSecurity? = nil) throws {
        socket = try Socket(.subscriber, in: .blocking)
        for topic in topics { try socket.subscribe(topic) }
        try socket.connect(Endpoint(endpoint), serverKey: serverKey, keys: security?.keys)
    }

    /// The next event, its topic and its JSON frame; `nil` if none came in time.
    public func next(timeout: Duration) -> (topic: String, frame: Data)? {
        let deadline = Clock.boottime() + timeout
        while true {
            if let message = socket.receive() {
                guard message.count == 2 else { continue }
                return (String(decoding: message.frames[0], as: UTF8.self), message.frames[1])
            }
            let left = deadline - Clock.boottime()
            guard left > .zero else { return nil }
            socket.wait(atMost: left)
        }
    }

    /// Idempotent; dropping the subscriber does it, too.
    public func close() { socket.close() }
}
