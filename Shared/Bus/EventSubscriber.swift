#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Messages
import ServiceCore

/// Follows the public state of one process: a snapshot, then every event after it, in order and once.
///
/// It subscribes first, asks for the snapshot, drops what that covers, and asks again when events are missing (a gap, or `service.alive` ahead of what came)
/// or when the process has started anew. Then ``onSnapshot`` is called again, with the whole state.
@ReactorActor
public final class EventSubscriber {
    static let alive = "service.alive"
    private static let largestBatch = 256
    private static let snapshotTimeout = Duration.seconds(5)
    /// Between two snapshots, so that a publisher that always loses something is not flooded.
    private static let shortestPause = Duration.milliseconds(50)
    private static let pauseAfterRefusal = Duration.seconds(1)

    /// CLOCK_BOOTTIME of the last message of the process, whatever it was; `nil` before the first. A hint, not liveness.
    public private(set) var lastHeard: Instant?
    /// How often the state was taken anew after the first time: gaps, new epochs, loss at the tail.
    public private(set) var rejoins = 0
    /// Input that was no event.
    public private(set) var malformedCount = 0

    private let topics: [String]
    private let onSnapshot: (@ReactorActor (Data) -> Void)?
    private let onEvent: @ReactorActor (EventHeader, Data) -> Void
    private let socket: Socket
    private let client: RequestClient?
    private var watch: WatchID?
    private var follower: EventFollower<Data>
    private var lastAsked: Instant?

    /// Connects in the background. It lives until ``close()``.
    ///
    /// - Parameters:
    ///   - events, requests: the process's endpoints; without `requests` or `onSnapshot` events are handed on as they come, losses included.
    ///   - serverKey: its CURVE key (Z85); `nil` for ipc:// and loopback without keys.
    ///   - topics: prefixes; `[""]` is everything. Loss is seen for types that are subscribed whole (`host.`, `host.status`), not for one object of a type (`host.status.h2`).
    ///   - onSnapshot: gets the reply frame; ``ReplyFrame/body(_:_:)`` reads its body, whose own `body` is the state.
    ///   - onEvent: gets the header and the JSON frame; ``EventFrame/body(_:_:)`` reads the body.
    public init(
        events: String, requests: String?, serverKey: String?, security: BusSecurity?, topics: [String],
        onSnapshot: (@ReactorActor (Data) -> Void)?, onEvent: @escaping @ReactorActor (EventHeader, Data) -> Void
    ) throws {
        self.topics = topics
        self.onSnapshot = onSnapshot
        self.onEvent = onEvent
        follower = EventFollower(topics: topics)
        socket = try Socket(.subscriber, in: .reactor)
        for topic in topics + [Self.alive] { try socket.subscribe(topic) }
        try socket.connect(Endpoint(events), serverKey: serverKey, keys: security?.keys)
        client =
            if let requests, onSnapshot != nil {
                try RequestClient(endpoint: requests, serverKey: serverKey, security: security, from: nil, lineage: nil, term: nil)
            } else {
                nil
            }
        watch = Reactor.shared.attach(socket) { [self] in drain() }
        ask()
    }

    /// No handler is called after this. Idempotent.
    public func close() {
        guard let watch else { return }
        self.watch = nil
        Reactor.shared.detach(watch)
        client?.close()
    }

    private func drain() {
        for _ in 0..<Self.largestBatch {
            // A handler may have closed this subscriber.
            guard watch != nil, let message = socket.receive() else { return }
            lastHeard = Clock.boottime()
            guard message.count == 2, let header = try? EventFrame.decodeHeader(message.frames[1]) else {
                malformedCount += 1
                continue
            }
            accept(.init(header: header, payload: message.frames[1]), topic: String(decoding: message.frames[0], as: UTF8.self))
        }
    }

    private func accept(_ event: EventFollower<Data>.Received, topic: String) {
        let isWanted = topics.contains { topic.hasPrefix($0) }
        if event.header.type == Self.alive {
            guard let alive = try? EventFrame.body(ServiceAlive.self, event.payload) else { return malformedCount += 1 }
            if isWanted { onEvent(event.header, event.payload) }
            if client != nil { perform(follower.onAlive(alive, epoch: event.header.epoch)) }
        } else if client == nil {
            if isWanted { onEvent(event.header, event.payload) }
        } else {
            perform(follower.onEvent(event))
        }
    }

    private func perform(_ steps: [EventFollower<Data>.Step]) {
        for step in steps where watch != nil {
            switch step {
            case .deliver(let event): onEvent(event.header, event.payload)
            case .askSnapshot:
                rejoins += 1
                ask()
            }
        }
    }

    private func ask() {
        guard let client, watch != nil else { return }
        let now = Clock.boottime()
        if let lastAsked, now - lastAsked < Self.shortestPause {
            Reactor.shared.after(Self.shortestPause - (now - lastAsked)) { [self] in ask() }
            return
        }
        lastAsked = now
        client.request("snapshot", bodyJSON: Data("{}".utf8), timeout: Self.snapshotTimeout) { [self] result in
            guard watch != nil else { return }
            switch result {
            case .success(let frame): take(frame)
            case .failure(let error) where error.code == RequestErrorCode.unknownOutcome.rawValue: ask()
            case .failure: Reactor.shared.after(Self.pauseAfterRefusal) { [self] in ask() }
            }
        }
    }

    private func take(_ frame: Data) {
        guard let position = try? Self.position(frame) else {
            malformedCount += 1
            Reactor.shared.after(Self.pauseAfterRefusal) { [self] in ask() }
            return
        }
        onSnapshot?(frame)
        perform(follower.onSnapshot(position))
    }

    /// Reads a snapshot's numbers without its state, which may be large.
    private static func position(_ frame: Data) throws -> EventPosition {
        let body = try JSONScanner.object(ReplyFrame.bodyBytes(frame), fields: ["epoch", "seq", "typeSeq"])
        return EventPosition(
            epoch: try body.string("epoch"), seq: try body.integer("seq", UInt64.self),
            typeSeq: try JSON.decode([String: UInt64].self, body.bytes(body.object("typeSeq")), under: "typeSeq"))
    }
}
