#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages

/// The `events` endpoint of a process. Never waits: a subscriber that is too slow loses events, and sees that by their numbers.
@ReactorActor
public final class EventPublisher {
    private struct Listener {
        var socket: Socket
        var watch: WatchID
        var domain: String?
    }

    /// Number of the last event; 0 before the first.
    public private(set) var seq: UInt64 = 0
    /// Number of the last event of each type.
    public private(set) var typeSeq: [String: UInt64] = [:]
    /// Events whose body could not be written as JSON: nothing was sent and no number used.
    public private(set) var unwritable = 0

    private let source: String
    private let epoch: String
    private var listeners: [Listener] = []

    /// Binds every endpoint or none, under the rules of ``RequestServer``. It lives until ``close()``.
    /// - Parameter epoch: `<journal uuid>.<start counter>`, another one after every start.
    public init(endpoints: [String], security: BusSecurity?, source: String, epoch: String) throws {
        self.source = source
        self.epoch = epoch
        do {
            for address in endpoints {
                let socket = try Socket(.publisher, in: .reactor)
                let domain = try socket.listen(Endpoint(address), security)
                // Subscriptions come as messages; they are of no interest, and must not pile up.
                let watch = Reactor.shared.attach(socket) { while socket.receive(limit: 0) != nil {} }
                listeners.append(Listener(socket: socket, watch: watch, domain: domain))
            }
        } catch {
            close()
            throw error
        }
    }

    /// Numbers an event and sends it.
    public func publish(_ event: Event) {
        guard let body = try? JSON.encode(event.body) else { return unwritable += 1 }
        seq += 1
        typeSeq[event.type, default: 0] += 1
        send(event.topic, event.type, typeSeq[event.type, default: 0], body)
    }

    /// Sends `service.alive` with the last numbers, itself not counted: once a second, so that silence and loss at the tail are seen.
    public func publishAlive() {
        guard let body = try? JSON.encode(ServiceAlive(seq: seq, typeSeq: typeSeq)) else { return unwritable += 1 }
        send(EventSubscriber.alive, EventSubscriber.alive, 0, body)
    }

    /// Replaces the allow-list for new subscribers.
    public func update(allow: AllowList) {
        for listener in listeners { listener.domain.map { Authenticator.shared.update($0, allow) } }
    }

    /// Idempotent; what was published still goes out for at most half a second.
    public func close() {
        for listener in listeners {
            Reactor.shared.detach(listener.watch)
            listener.domain.map(Authenticator.shared.close)
        }
        listeners = []
    }

    private func send(_ topic: String, _ type: String, _ number: UInt64, _ body: Data) {
        let header = EventHeader(source: source, epoch: epoch, seq: seq, typeSeq: number, time: Clock.rfc3339(), type: type)
        let frame = EventFrame.encode(header, bodyJSON: body)
        let name = Data(topic.utf8)
        for listener in listeners { _ = listener.socket.send(name, frame) }
    }
}
