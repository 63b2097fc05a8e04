public import Messages

/// Journal before effect, as a value: in what order a service's engine, its journal, its effects and its one timer act, without sockets, timers and disks (S15).
///
/// An input changes the engine at once. If it is journaled, its replies, events and actions are held back until ``durable(through:)`` covers its record, and leave in
/// order. Ephemeral inputs, and wake-ups that returned nothing but wakes, leave no record; nothing holds their effects back.
public struct ShellCore<E: Engine>: Sendable {
    /// What the shell must do now, in this order.
    public enum Step: Sendable {
        /// Append this to the journal; call ``ShellCore/durable(through:)`` with its number once it is durable.
        case journal(Record)
        /// Decisions of an input that leaves no entry: append them, nothing waits for them.
        case note([Decision])
        /// Only `.reply`, `.publish` and `.perform`.
        case effect(Effect<E.Action>)
        /// What was asked with ``ShellCore/ask(_:)`` may be answered: everything that it rests on is durable.
        case answer(UInt64)
        /// Arm the only timer for this time, instead of what it was armed for; ``ShellCore/wakeUp(at:)`` when it fires.
        case wake(at: Instant)
    }

    /// One input as it was applied, for the journal.
    public struct Record: Sendable {
        /// Rises by one for each record of this life of the service.
        public var number: UInt64
        /// Rises by one over all lives of the service.
        public var sequence: UInt64
        public var time: Instant
        public var input: E.Input
        public var decisions: [Decision]
        /// They become durable with the input.
        public var replies: [(id: RequestID, reply: Reply)]

        @inlinable
        init(number: UInt64, sequence: UInt64, time: Instant, input: E.Input) {
            self.number = number
            self.sequence = sequence
            self.time = time
            self.input = input
            decisions = []
            replies = []
        }
    }

    /// The public state as it was when it was asked for: see ``ShellCore/stands(_:)``.
    public struct Capture: Sendable {
        public let state: any Encodable & Sendable
        @usableFromInline let publishedAtOnce: UInt64

        @inlinable
        init(state: any Encodable & Sendable, publishedAtOnce: UInt64) {
            self.state = state
            self.publishedAtOnce = publishedAtOnce
        }
    }

    @usableFromInline
    struct Held: Sendable {
        @usableFromInline let number: UInt64
        @usableFromInline let step: Step

        @inlinable
        init(number: UInt64, step: Step) {
            self.number = number
            self.step = step
        }
    }

    // Inlinable, so that a simulator runs engines without the price of generics.
    @usableFromInline var machine: E
    @usableFromInline var lastSequence: UInt64
    @usableFromInline var lastNumber: UInt64 = 0
    @usableFromInline var lastDurable: UInt64 = 0
    @usableFromInline var outbox: [Held] = []
    @usableFromInline var armed: Instant?
    /// Counts events of inputs that leave no record.
    @usableFromInline var publishedAtOnce: UInt64 = 0

    /// - Parameter sequence: of the last entry that the engine was rebuilt from.
    @inlinable
    public init(engine: E, sequence: UInt64) {
        machine = engine
        lastSequence = sequence
    }

    @inlinable public var engine: E { machine }
    /// Of the last record.
    @inlinable public var sequence: UInt64 { lastSequence }
    /// Number of the last record.
    @inlinable public var heldThrough: UInt64 { lastNumber }
    @inlinable public var durableThrough: UInt64 { lastDurable }
    @inlinable public var isAllDurable: Bool { lastDurable >= lastNumber }
    /// What the timer is armed for.
    @inlinable public var nextWake: Instant? { armed }

    /// Applies an input at once.
    @inlinable
    public mutating func submit(_ input: E.Input, at now: Instant) -> [Step] {
        let effects = machine.handle(input, at: now)
        if input.isEphemeral { return effects.isEmpty ? [] : unrecorded(effects) }
        return recorded(input, effects, at: now)
    }

    /// The timer fired.
    @inlinable
    public mutating func wakeUp(at now: Instant) -> [Step] {
        armed = nil
        let effects = machine.handle(.wake, at: now)
        if effects.isEmpty { return [] }
        let onlyWakes = effects.allSatisfy { if case .wake = $0 { true } else { false } }
        return onlyWakes || E.Input.wake.isEphemeral ? unrecorded(effects) : recorded(.wake, effects, at: now)
    }

    /// Records up to this number are durable: their effects leave.
    @inlinable
    public mutating func durable(through number: UInt64) -> [Step] {
        guard number > lastDurable else { return [] }
        lastDurable = number
        let ready = outbox.firstIndex { $0.number > number } ?? outbox.count
        if ready == 0 { return [] }
        // Not a key path: in a generic type it is made anew each time.
        let steps = outbox[..<ready].map { $0.step }
        outbox.removeFirst(ready)
        return steps
    }

    /// A question about the state as it is now: ``Step/answer(_:)`` comes at once, or in order with the effects of what it rests on.
    @inlinable
    public mutating func ask(_ question: UInt64) -> [Step] {
        if isAllDurable { return [.answer(question)] }
        outbox.append(Held(number: lastNumber, step: .answer(question)))
        return []
    }

    /// For a snapshot: to be sent with the number of the newest event once an ``ask(_:)`` is answered, if it then still ``stands(_:)``.
    @inlinable
    public func capture() -> Capture { Capture(state: machine.publicState, publishedAtOnce: publishedAtOnce) }

    /// Whether the state knows every event that left until now. If not, one left at once meanwhile, ahead of what was held back: capture and ask again, not before the
    /// steps at hand are carried out.
    @inlinable
    public func stands(_ capture: Capture) -> Bool { capture.publishedAtOnce == publishedAtOnce }

    @inlinable
    mutating func recorded(_ input: E.Input, _ effects: [Effect<E.Action>], at now: Instant) -> [Step] {
        lastNumber += 1
        lastSequence += 1
        var record = Record(number: lastNumber, sequence: lastSequence, time: now, input: input)
        var wake: Instant?
        for effect in effects {
            switch effect {
            case .wake(let at): wake = min(wake ?? at, at)
            case .decide(let decision): record.decisions.append(decision)
            case .reply(let id, let reply):
                record.replies.append((id, reply))
                outbox.append(Held(number: lastNumber, step: .effect(effect)))
            case .publish, .perform: outbox.append(Held(number: lastNumber, step: .effect(effect)))
            }
        }
        if let wake, arm(wake) { return [.wake(at: wake), .journal(record)] }
        return [.journal(record)]
    }

    @inlinable
    mutating func unrecorded(_ effects: [Effect<E.Action>]) -> [Step] {
        var steps: [Step] = []
        var decisions: [Decision] = []
        var wake: Instant?
        for effect in effects {
            switch effect {
            case .wake(let at): wake = min(wake ?? at, at)
            case .decide(let decision): decisions.append(decision)
            case .publish:
                publishedAtOnce += 1
                steps.append(.effect(effect))
            case .reply, .perform: steps.append(.effect(effect))
            }
        }
        if !decisions.isEmpty { steps.append(.note(decisions)) }
        // First: an effect may bring an input at once that asks for an earlier one.
        if let wake, arm(wake) { steps.insert(.wake(at: wake), at: 0) }
        return steps
    }

    /// Whether the timer must be armed anew: only for an earlier time, the engine names the later ones again when it wakes.
    @inlinable
    mutating func arm(_ at: Instant) -> Bool {
        if let armed, at >= armed { return false }
        armed = at
        return true
    }
}
