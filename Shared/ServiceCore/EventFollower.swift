public import Messages

/// Decides what a subscriber does with an event: pure, so that loss, restarts and late joins are tested without a socket.
///
/// | phase | event | `service.alive` | snapshot |
/// |---|---|---|---|
/// | joining | kept | kept out | → following, then the kept events as if they came now |
/// | following | older or known: dropped; next: delivered; beyond the next: → joining, ask | ahead of us: → joining, ask | ignored |
/// | both, new epoch | → joining, ask | → joining, ask | is the epoch from now on |
///
/// Whatever was received before a snapshot was asked for is covered by it, so that nothing is kept when asking.
///
/// `Payload` is what comes with an event: its frame, or in a simulation the value itself.
public struct EventFollower<Payload> {
    public struct Received {
        public var header: EventHeader
        public var payload: Payload
        public init(header: EventHeader, payload: Payload) {
            self.header = header
            self.payload = payload
        }
    }

    public typealias Position = EventPosition

    public enum Step {
        case deliver(Received)
        case askSnapshot
    }

    fileprivate enum Phase {
        case joining(kept: [Received])
        case following(Position)
    }

    /// Older ones are let go while joining; the gap they leave is then seen.
    private static var mostKept: Int { 10_000 }

    private let topics: [String]
    private var phase = Phase.joining(kept: [])

    /// - Parameter topics: prefixes that are subscribed; `""` is everything.
    public init(topics: [String]) { self.topics = topics }

    public mutating func onEvent(_ event: Received) -> [Step] {
        switch phase {
        case .joining(var kept):
            phase = .joining(kept: [])
            if kept.count >= Self.mostKept { kept.removeFirst(kept.count / 2) }
            kept.append(event)
            phase = .joining(kept: kept)
            return []
        case .following(let position): return follow(event, position)
        }
    }

    public mutating func onAlive(_ alive: ServiceAlive, epoch: String) -> [Step] {
        guard case .following(let position) = phase else { return [] }
        guard epoch == position.epoch else { return Position.isOlder(epoch, than: position.epoch) ? [] : rejoin() }
        let isBehind =
            seesAll ? alive.seq > position.seq : alive.typeSeq.contains { type, number in seesWhole(type) && number > position.typeSeq[type] ?? 0 }
        return isBehind ? rejoin() : []
    }

    public mutating func onSnapshot(_ position: Position) -> [Step] {
        guard case .joining(let kept) = phase else { return [] }
        phase = .following(position)
        var steps: [Step] = []
        for event in kept {
            guard case .following(let position) = phase else { break }
            steps += follow(event, position)
        }
        return steps
    }

    private mutating func follow(_ event: Received, _ known: Position) -> [Step] {
        let header = event.header
        guard header.epoch == known.epoch else { return Position.isOlder(header.epoch, than: known.epoch) ? [] : rejoin() }
        guard header.seq > known.seq else { return [] }
        let isNext =
            seesAll ? header.seq == known.seq + 1 : !seesWhole(header.type) || header.typeSeq <= (known.typeSeq[header.type] ?? 0) + 1
        guard isNext else { return rejoin() }
        var position = known
        position.seq = header.seq
        position.typeSeq[header.type] = header.typeSeq
        phase = .following(position)
        return [.deliver(event)]
    }

    private mutating func rejoin() -> [Step] {
        phase = .joining(kept: [])
        return [.askSnapshot]
    }

    private var seesAll: Bool { topics.contains("") }

    /// Whether every event of the type is subscribed; of the others a gap in `typeSeq` says nothing.
    private func seesWhole(_ type: String) -> Bool { topics.contains { type.hasPrefix($0) } }
}

/// Up to where a subscriber knows a publisher's state.
public struct EventPosition: Hashable, Sendable {
    /// `<journal>.<counter>` of the publisher's life.
    public var epoch: String
    public var seq: UInt64
    public var typeSeq: [String: UInt64]

    public init(epoch: String, seq: UInt64, typeSeq: [String: UInt64]) {
        self.epoch = epoch
        self.seq = seq
        self.typeSeq = typeSeq
    }

    /// Whether an epoch is an earlier life of the same journal. Epochs of different journals have no order.
    public static func isOlder(_ epoch: String, than known: String) -> Bool {
        func parts(_ epoch: String) -> (journal: Substring, counter: UInt64)? {
            guard let dot = epoch.lastIndex(of: "."), let counter = UInt64(epoch[epoch.index(after: dot)...]) else { return nil }
            return (epoch[..<dot], counter)
        }
        guard let mine = parts(epoch), let theirs = parts(known), mine.journal == theirs.journal else { return false }
        return mine.counter < theirs.counter
    }
}

extension EventFollower: Sendable where Payload: Sendable {}
extension EventFollower.Received: Sendable where Payload: Sendable {}
extension EventFollower.Step: Sendable where Payload: Sendable {}
extension EventFollower.Phase: Sendable where Payload: Sendable {}
