public import Messages

/// Idempotent requests: the same id with the same body gets the same reply, with another body it is refused (I6).
///
/// `Stored` is how a reply is kept: its frame, or in a simulation the value itself.
public struct RequestLedger<Stored: Sendable>: Sendable {
    public struct Entry: Sendable {
        /// Of type and body.
        public var digest: UInt64
        /// `nil` while the work is under way.
        public var reply: Stored?
        /// Nanoseconds.
        public var acceptedAt: Int64

        public init(digest: UInt64, reply: Stored?, acceptedAt: Int64) {
            self.digest = digest
            self.reply = reply
            self.acceptedAt = acceptedAt
        }
    }

    public enum Verdict: Sendable {
        /// Not seen before: ``accept(_:digest:at:)`` it, or refuse it.
        case new
        /// Its work is under way: it gets the reply to come.
        case underWay
        case answered(Stored)
    }

    private var entries: [RequestID: Entry] = [:]

    public init() {}

    public subscript(id: RequestID) -> Entry? { entries[id] }

    /// - Throws: `request.id-reused`.
    public func judge(_ id: RequestID, digest: UInt64) throws(RequestError) -> Verdict {
        guard let known = entries[id] else { return .new }
        guard known.digest == digest else { throw RequestError(RequestErrorCode.idReused, "request id \(id) was used for another request; choose a new one") }
        return known.reply.map { .answered($0) } ?? .underWay
    }

    /// Takes up what the journal kept.
    public mutating func restore(_ id: RequestID, _ entry: Entry) { entries[id] = entry }

    public mutating func accept(_ id: RequestID, digest: UInt64, at time: Int64) -> Entry {
        let entry = Entry(digest: digest, reply: nil, acceptedAt: time)
        entries[id] = entry
        return entry
    }

    /// - Returns: the entry with the reply; `nil` if the id is not, or no longer, known.
    public mutating func settle(_ id: RequestID, _ reply: Stored) -> Entry? {
        guard var entry = entries[id] else { return nil }
        entry.reply = reply
        entries[id] = entry
        return entry
    }

    /// Lets go what was answered and accepted so early; what is under way stays.
    public mutating func forget(acceptedThrough time: Int64) {
        entries = entries.filter { $0.value.acceptedAt > time || $0.value.reply == nil }
    }
}
