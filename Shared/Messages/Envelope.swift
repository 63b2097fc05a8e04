/// The request's id, chosen by the client (a UUID): the same id sent twice gets the stored reply and has one effect (I6).
public typealias RequestID = String

/// Who may send a request type; every public key of the allow-list is mapped to one.
public enum Role: String, Codable, Sendable, CaseIterable {
    /// A manager service of this cluster.
    case service
    /// The agent or the lease-service of one host; its key names the host.
    case agent
    /// A person's command; also everything that reaches an ipc:// endpoint, which the file system guards.
    case operator_ = "operator"
    /// May read, may not change anything.
    case observer
}

/// Everything of a request but its body. One JSON object on the wire, `body` beside these fields.
public struct RequestHeader: Codable, Sendable {
    public static let version = 1

    public var v: Int
    public var id: RequestID
    public var type: String
    /// Milliseconds from receipt within which work must have begun; 30000 if absent.
    public var timeout: Int64?
    /// If given, must equal the receiver's boot id (agents, lease-services) or epoch.
    public var target: String?
    /// The sending service.
    public var from: String?
    /// Journal of the sending manager service and its start counter (S16).
    public var lineage: String?
    public var term: UInt64?

    public init(
        id: RequestID, type: String, timeout: Int64? = nil, target: String? = nil,
        from: String? = nil, lineage: String? = nil, term: UInt64? = nil
    ) {
        v = Self.version
        self.id = id
        self.type = type
        self.timeout = timeout
        self.target = target
        self.from = from
        self.lineage = lineage
        self.term = term
    }
}

/// Why a request was refused or failed, in words that tell an operator what happened, to which object and what to do next.
public struct RequestError: Error, Codable, Hashable, Sendable, CustomStringConvertible {
    /// `area.reason` in lower case; see the enums of the owners.
    public var code: String
    public var message: String
    public var details: [String: String]?

    public init(_ code: some RawRepresentable<String>, _ message: String, details: [String: String]? = nil) {
        self.init(code: code.rawValue, message: message, details: details)
    }

    public init(code: String, message: String, details: [String: String]? = nil) {
        self.code = code
        self.message = message
        self.details = details
    }

    public var description: String { "\(code): \(message)" }
    /// Whether it says nothing of what came of the request (I4).
    public var isUnknownOutcome: Bool { code == RequestErrorCode.unknownOutcome.rawValue }
}

/// Error codes that any process may answer.
public enum RequestErrorCode: String, CaseIterable, Sendable {
    /// The frames or the JSON cannot be read; the message names the field.
    case malformed = "request.malformed"
    /// Above 1 MiB.
    case tooLarge = "request.too-large"
    /// `v` is not 1.
    case unknownVersion = "request.unknown-version"
    /// This process does not know the type.
    case unknownType = "request.unknown-type"
    /// The sender's role may not send this type.
    case forbidden = "request.forbidden"
    /// The same id was used with another body.
    case idReused = "request.id-reused"
    /// Its time ran out before work began; it had no effect.
    case timeout = "request.timeout"
    /// `target` names another life of this process.
    case wrongTarget = "request.wrong-target"
    /// The sender belongs to a manager lineage, or an older term, that this process does not obey (S16).
    case managerForeign = "manager.foreign"
    /// The journal cannot be written (disk full): nothing is accepted until it can.
    case journalFull = "journal.full"
    /// An argument is not usable; the message says which and why.
    case invalid = "request.invalid"
    /// The named object does not exist.
    case notFound = "object.not-found"
    /// The object exists already with other properties.
    case exists = "object.exists"
    /// The object's state does not allow this now.
    case conflict = "object.conflict"
    /// No reply came: the outcome is unknown (made by clients, never sent).
    case unknownOutcome = "outcome.unknown"
}

/// The reply frame without its body.
public struct ReplyHeader: Codable, Sendable {
    public var v: Int
    public var id: RequestID?
    public var ok: Bool
    public var error: RequestError?

    public init(id: RequestID?, error: RequestError?) {
        v = RequestHeader.version
        self.id = id
        ok = error == nil
        self.error = error
    }
}

/// The second frame of an event, without its body.
public struct EventHeader: Codable, Sendable {
    public var v: Int
    public var source: String
    /// `<journal uuid>.<start counter>`.
    public var epoch: String
    /// Rises by one over all events of a source.
    public var seq: UInt64
    /// Rises by one over the events of one type.
    public var typeSeq: UInt64
    /// RFC 3339, for people only.
    public var time: String
    public var type: String

    public init(source: String, epoch: String, seq: UInt64, typeSeq: UInt64, time: String, type: String) {
        v = RequestHeader.version
        self.source = source
        self.epoch = epoch
        self.seq = seq
        self.typeSeq = typeSeq
        self.time = time
        self.type = type
    }
}

/// Body of `service.alive` (every second, not counted in `seq`): reveals silence and loss at the tail.
public struct ServiceAlive: Codable, Sendable {
    public var seq: UInt64
    public var typeSeq: [String: UInt64]
    public init(seq: UInt64, typeSeq: [String: UInt64]) {
        self.seq = seq
        self.typeSeq = typeSeq
    }
}

/// Body of `service.started` and `service.stopping`.
public struct ServiceLife: Codable, Sendable {
    public var version: String
    public var pid: Int32
    public init(version: String, pid: Int32) {
        self.version = version
        self.pid = pid
    }
}

/// An empty body.
public struct Nothing: Codable, Hashable, Sendable {
    public init() {}
}

/// Reply to `health`.
public struct Health: Codable, Sendable {
    public enum Status: String, Codable, Sendable { case ok, degraded }
    public var service: String
    public var status: Status
    public var version: String
    public var pid: Int32
    public var epoch: String
    /// Plain sentences, one for each thing that is not as it should be.
    public var problems: [String]

    public init(service: String, status: Status, version: String, pid: Int32, epoch: String, problems: [String]) {
        self.service = service
        self.status = status
        self.version = version
        self.pid = pid
        self.epoch = epoch
        self.problems = problems
    }
}

/// Body of `explain` and its reply: what was decided about an object and why, oldest first.
public struct ExplainRequest: Codable, Sendable {
    /// `vm/web1`, `host/host2`, `domain/<uuid>`, `spm/<pool>`; `nil`: everything.
    public var subject: String?
    /// At most so many of the newest (default 200).
    public var limit: Int?
    public init(subject: String?, limit: Int? = nil) {
        self.subject = subject
        self.limit = limit
    }
}

public struct Explanation: Codable, Sendable {
    public var decisions: [Decision]
    public init(decisions: [Decision]) { self.decisions = decisions }
}
