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
        /// What its peers want: beginnings of topics.
        var subscriptions: Subscriptions
    }

    @ReactorActor private final class Subscriptions {
        private var prefixes: Set<Data> = []

        /// Takes what has come in. A socket tells the first subscription to a topic and the end of the last.
        func read(_ socket: Socket) {
            while let message = socket.receive(limit: EventPublisher.longestTopic) {
                guard let text = message.frames.first, let verb = text.first else {
                    // Longer than any topic, or nothing at all: whoever asks so gets all there is.
                    prefixes.insert(Data())
                    continue
                }
                if verb == 1 { prefixes.insert(text.dropFirst()) } else if verb == 0 { prefixes.remove(text.dropFirst()) }
            }
        }

        func want(_ topic: String) -> Bool { prefixes.contains { topic.utf8.starts(with: $0) } }
    }

    private static let longestTopic = 1024


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
                let subscriptions = Subscriptions()
                let watch = Reactor.shared.attach(socket) { subscriptions.read(socket) }
                listeners.append(Listener(socket: socket, watch: watch, domain: domain, subscriptions: subscriptions))
            }
        } catch {
            close()
            throw error
        }
    }

    /// Numbers an event and sends it; what nobody has subscribed to is only numbered.
    public func publish(_ event: Event) {
        let topic = event.topic
        let wanting = listeners.filter { $0.subscriptions.want(topic) }
        var body = Data()
        if !wanting.isEmpty {
            guard let encoded = try? JSON.encode(event.body) else { return unwritable += 1 }
            body = encoded
        }
        seq += 1
        typeSeq[event.type, default: 0] += 1
        if !wanting.isEmpty { send(topic, event.type, typeSeq[event.type, default: 0], body, to: wanting) }
    }

    /// Sends `service.alive` with the last numbers, itself not counted: once a second, so that silence and loss at the tail are seen.
    public func publishAlive() {
        guard let body = try? JSON.encode(ServiceAlive(seq: seq, typeSeq: typeSeq)) else { return unwritable += 1 }
        send(EventSubscriber.alive, EventSubscriber.alive, 0, body, to: listeners)
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

    private func send(_ topic: String, _ type: String, _ number: UInt64, _ body: Data, to listeners: [Listener]) {
        let header = EventHeader(source: source, epoch: epoch, seq: seq, typeSeq: number, time: Clock.rfc3339(), type: type)
        let frame = EventFrame.encode(header, bodyJSON: body)
        let name = Data(topic.utf8)
        for listener in listeners { _ = listener.socket.send(name, frame) }
    }
}
