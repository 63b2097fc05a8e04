/// A pure, synchronous, deterministic value: everything a service decides, without I/O, clock, randomness or logging.
///
/// It takes an input and a time, changes its state and returns effects; `handle` only dispatches to one mutating method for each kind of stimulus.
/// Its whole state is `Codable`, so that a snapshot and the journaled inputs after it rebuild it exactly. What is outstanding (a command sent, a
/// case open) is part of that state: after a restart the shell delivers a "started" input, and the engine itself observes and re-validates (I5, I7).
///
/// Rules the shell relies on:
/// * An input that returns nothing but `.wake` changed nothing that matters; for wake-ups the shell then keeps no journal entry.
/// * At every wake the engine asks all its parts, and each names its next one.
/// * The order of a Dictionary or a Set never decides anything.
public protocol Engine: Codable, Sendable {
    associatedtype Input: EngineInput
    associatedtype Action: Sendable

    /// Knows nothing yet.
    init()

    mutating func handle(_ input: Input, at now: Instant) -> [Effect<Action>]

    /// The whole public state: the body of `snapshot`.
    var publicState: any Encodable & Sendable { get }
}

/// What an engine is told: one case for each kind of stimulus.
public protocol EngineInput: Codable, Sendable {
    /// The time an engine asked for has come (an enum's case `wake`).
    static var wake: Self { get }

    /// High-rate observations (heartbeats, renewals) are not journaled, and their effects are not held back; whatever they mean for good must come back as an input
    /// that is journaled, or be rebuilt by observation after a restart. Default: `false`.
    var isEphemeral: Bool { get }

    /// Means nothing after the machine's next boot: its journal entry must survive the process, and need not survive the machine. Default: `false`.
    var isOfThisBoot: Bool { get }

    /// The JSON that `encode(to:)` gives, for inputs that are journaled many times a second; `nil`: made from that. Default: `nil`.
    var quickJSON: [UInt8]? { get }
}

extension EngineInput {
    public var isEphemeral: Bool { false }
    public var isOfThisBoot: Bool { false }
    public var quickJSON: [UInt8]? { nil }
}

/// What an engine wants done. Everything but `.wake` is held back until the journal entry of its input is durable.
public enum Effect<Action: Sendable>: Sendable {
    /// Call me at this time; the shell keeps only the earliest.
    case wake(at: Instant)
    /// Answers a request; stored with the journal entry, so that the same id gets the same reply for 24 h.
    case reply(to: RequestID, Reply)
    case publish(Event)
    /// A decision with its reasons: what `explain` shows.
    case decide(Decision)
    /// To be done by the service's shell; its result comes back as an input.
    case perform(Action)
}

public enum Reply: Sendable {
    case success(any Encodable & Sendable)
    case refused(RequestError)

    /// Done, nothing to tell.
    public static var done: Reply { .success(Nothing()) }
}

/// An event to publish: the topic is `type`, followed by `.subject` if there is one.
public struct Event: Sendable {
    public var type: String
    public var subject: String?
    public var body: any Encodable & Sendable

    public init(_ type: String, subject: String? = nil, body: any Encodable & Sendable) {
        self.type = type
        self.subject = subject
        self.body = body
    }

    public var topic: String { subject.map { "\(type).\($0)" } ?? type }
}

/// What was decided about an object and why, as data.
public struct Decision: Codable, Hashable, Sendable {
    /// `host/host2`, `vm/web1`, `spm/<pool>`, `domain/<uuid>`.
    public var subject: String
    /// The decision in a few words: `fence case opened`, `start on host3`.
    public var what: String
    /// One sentence with the reasons.
    public var why: String
    /// The values it rests on.
    public var evidence: [String: String]
    /// Objects whose own story belongs to this one, such as the fenced host for a restarted VM.
    public var see: [String]
    /// RFC 3339; filled by the shell when it journals the decision.
    public var time: String?
    /// Filled by the shell: the deciding service.
    public var source: String?
    /// Filled by the shell: the journal entry that was decided on, 0 for an observation that is not journaled.
    public var entry: UInt64?

    public init(_ subject: String, _ what: String, why: String, evidence: [String: String] = [:], see: [String] = []) {
        self.subject = subject
        self.what = what
        self.why = why
        self.evidence = evidence
        self.see = see
    }
}

/// The sender of a request, as the bus saw it.
public struct Caller: Codable, Hashable, Sendable {
    public var role: Role
    /// For agents: the host that the sender's key belongs to.
    public var host: String?
    public var from: String?
    public var lineage: String?
    public var term: UInt64?

    public init(role: Role, host: String? = nil, from: String? = nil, lineage: String? = nil, term: UInt64? = nil) {
        self.role = role
        self.host = host
        self.from = from
        self.lineage = lineage
        self.term = term
    }
}

/// The manager lineages that an agent or a lease-service obeys, one for each manager service, with the highest term seen (S16).
///
/// The first lineage seen of a service is pinned; another one, or a lower term, is refused until an operator re-pins. Durable: part of the engine's state.
public struct ManagerPins: Codable, Hashable, Sendable {
    public struct Pin: Codable, Hashable, Sendable {
        public var lineage: String
        public var term: UInt64
    }

    public private(set) var pins: [String: Pin] = [:]

    public init() {}

    /// Whether the caller may command; `nil` if so. Local operators (no lineage) are not a manager and always may.
    public mutating func refusal(of caller: Caller) -> RequestError? {
        guard let from = caller.from, let lineage = caller.lineage, let term = caller.term else {
            guard caller.role == .service else { return nil }
            return RequestError(RequestErrorCode.managerForeign, "a manager service must name itself, its lineage and its term")
        }
        guard let pin = pins[from] else {
            pins[from] = Pin(lineage: lineage, term: term)
            return nil
        }
        guard pin.lineage == lineage else {
            return RequestError(
                RequestErrorCode.managerForeign,
                "\(from) of lineage \(lineage) is not the one this host obeys (\(pin.lineage)); if its journal was made anew or restored on purpose, `bulwark host repin`, given there, makes this host obey it")
        }
        guard term >= pin.term else {
            return RequestError(
                RequestErrorCode.managerForeign,
                "\(from) term \(term) was superseded by term \(pin.term); if its journal was restored on purpose, `bulwark host repin`, given there, makes this host obey it")
        }
        pins[from] = Pin(lineage: lineage, term: term)
        return nil
    }

    /// An operator's re-pin: from now on this lineage from this term on is obeyed, whatever was obeyed before.
    /// - Returns: what was obeyed before.
    /// - Throws: `request.invalid` for a service that is no manager, an empty lineage or term 0.
    @discardableResult
    public mutating func replace(_ pin: ManagerPin) throws(RequestError) -> Pin? {
        guard ManagerPin.services.contains(pin.service), !pin.lineage.isEmpty, pin.term > 0 else {
            throw RequestError(RequestErrorCode.invalid, "service is one of \(ManagerPin.services.joined(separator: ", ")), lineage its journal's uuid, term its start counter, from 1")
        }
        return pins.updateValue(Pin(lineage: pin.lineage, term: pin.term), forKey: pin.service)
    }
}

extension Decision {
    /// Of a host that obeys another lineage of a manager service from now on.
    public init(repin pin: ManagerPin, instead before: ManagerPins.Pin?, on host: String) {
        self.init(
            "host/\(host)", "obeys another \(pin.service)", why: "an operator re-pinned it (S16)",
            evidence: ["obeys": "\(pin.lineage) from term \(pin.term)", "before": before.map { "\($0.lineage) from term \($0.term)" } ?? "nobody"])
    }
}

/// `manager.pin`: whom of a service a host is to obey (S16). Operators alone may send it.
public struct ManagerPin: Codable, Hashable, Sendable {
    public var service: String
    /// UUID of its journal.
    public var lineage: String
    /// Of its starts, from 1; earlier ones are refused.
    public var term: UInt64

    public init(service: String, lineage: String, term: UInt64) {
        self.service = service
        self.lineage = lineage
        self.term = term
    }

    /// Who commands hosts.
    public static let services = ["fencing-service", "spm-coordinator", "placement-service", "domain-monitor"]
}
