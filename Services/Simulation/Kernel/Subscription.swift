import Messages
import ServiceCore

/// What a subscriber needs of the process it follows.
protocol Publisher: Process {
    var source: String { get }
    var epoch: String { get }
    var seq: UInt64 { get }
    var typeSeq: [String: UInt64] { get }
    func subscribe(_ subscription: Subscription)
    func unsubscribe(_ subscription: Subscription)
    func snapshot(_ completion: @escaping (any Sendable, EventPosition) -> Void)
    var isEnrolled: Bool { get }
    /// Others at the same address.
    var publishersBeside: [any Publisher] { get }
}

/// One process follows another's events, as `EventSubscriber` does: with a snapshot first, and anew after a loss or a restart, decided by ``EventFollower``.
///
/// `service.alive` is sent only when it can matter: after a loss or a start, every second until the subscriber has caught up.
final class Subscription {
    let publisher: any Publisher
    let subscriber: Process
    private let topics: [String]
    private let onSnapshot: ((any Sendable) -> Void)?
    private let onEvent: (Event) -> Void
    private var follower: EventFollower<Event>
    private let life: Int
    private var isAsking = false
    private var isBehind = false
    private(set) var lastHeard: Instant
    /// The same subscription to others at the same address.
    private var besides: [Subscription] = []

    /// - Parameter onSnapshot: without it events are handed on as they come, losses included.
    init(
        of publisher: any Publisher, by subscriber: Process, topics: [String], onSnapshot: ((any Sendable) -> Void)? = nil, onEvent: @escaping (Event) -> Void
    ) {
        self.publisher = publisher
        self.subscriber = subscriber
        self.topics = topics
        self.onSnapshot = onSnapshot
        self.onEvent = onEvent
        follower = EventFollower(topics: topics)
        life = subscriber.life
        lastHeard = subscriber.clock
        publisher.subscribe(self)
        ask()
        for other in publisher.publishersBeside { follow(other) }
    }

    /// Another machine is heard at the same address.
    func follow(_ other: any Publisher) {
        guard isOpen else { return }
        besides.append(Subscription(of: other, by: subscriber, topics: topics, onSnapshot: onSnapshot, onEvent: onEvent))
    }

    func leave(_ other: any Publisher) {
        for subscription in besides where subscription.publisher === other { subscription.close() }
        besides.removeAll { $0.publisher === other }
    }

    /// Belongs to a life of the subscriber that goes on.
    private var isOpen: Bool { subscriber.isAlive && subscriber.life == life }

    func close() {
        publisher.unsubscribe(self)
        for subscription in besides { subscription.close() }
        besides = []
    }

    func wants(_ event: Event) -> Bool {
        guard publisher.isEnrolled else { return false }
        return topics.contains { topic in
            topic.utf8.count <= event.type.utf8.count ? event.type.hasPrefix(topic) : event.topic.hasPrefix(topic)
        }
    }

    // MARK: At the publisher

    func send(_ event: Event, _ header: EventHeader) {
        guard isOpen else { return close() }
        publisher.world.network.send(from: publisher.machine, to: subscriber, lost: { [self] in fallBehind() }) { [self] in hear(event, header) }
    }

    func publisherStarted() { fallBehind() }

    private func fallBehind() {
        guard onSnapshot != nil, !isBehind, publisher.isAlive else { return }
        isBehind = true
        keepAlive()
    }

    private func keepAlive() {
        publisher.after(.seconds(1)) { [self] in
            guard isOpen, isBehind else { return isBehind = false }
            let alive = ServiceAlive(seq: publisher.seq, typeSeq: publisher.typeSeq)
            let epoch = publisher.epoch
            publisher.world.network.send(from: publisher.machine, to: subscriber) { [self] in
                guard isOpen else { return }
                lastHeard = subscriber.clock
                isBehind = false
                perform(follower.onAlive(alive, epoch: epoch))
            }
            keepAlive()
        }
    }

    // MARK: At the subscriber

    private func hear(_ event: Event, _ header: EventHeader) {
        guard isOpen else { return }
        lastHeard = subscriber.clock
        guard onSnapshot != nil else { return onEvent(event) }
        perform(follower.onEvent(.init(header: header, payload: event)))
    }

    private func perform(_ steps: [EventFollower<Event>.Step]) {
        for step in steps where isOpen {
            switch step {
            case .deliver(let event): onEvent(event.payload)
            case .askSnapshot: ask()
            }
        }
    }

    private func ask() {
        guard let onSnapshot, isOpen, !isAsking else { return }
        isAsking = true
        let publisher = publisher
        let network = publisher.world.network
        network.send(from: subscriber.machine, to: publisher) { [self] in
            guard publisher.isEnrolled else { return }
            publisher.snapshot { [self] state, position in
                network.send(from: publisher.machine, to: subscriber) { [self] in
                    guard isOpen, isAsking else { return }
                    isAsking = false
                    lastHeard = subscriber.clock
                    onSnapshot(state)
                    perform(follower.onSnapshot(position))
                }
            }
        }
        // Sent again under the same id every second in reality: a further question is as good.
        subscriber.after(.seconds(1)) { [self] in
            guard isAsking else { return }
            isAsking = false
            ask()
        }
    }
}
