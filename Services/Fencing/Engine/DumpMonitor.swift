import Messages

/// A transition of ``DumpMonitor``.
public struct DumpNews: Codable, Hashable, Sendable {
    public var host: String
    /// Messages come; `false`: none has come for `fence.kdumpQuiet`.
    public var isWritten: Bool
    /// Where the last one came from.
    public var address: String
    /// How many came, as far as this listener knows.
    public var messages: Int
    public init(host: String, isWritten: Bool, address: String, messages: Int) {
        self.host = host
        self.isWritten = isWritten
        self.address = address
        self.messages = messages
    }
}

/// Which hosts say that they write a crash dump. Ephemeral, as ``HostLiveness`` is: only its transitions are inputs.
///
/// | state   | message           | wake                                                                |
/// |---------|-------------------|---------------------------------------------------------------------|
/// | quiet   | → dumping: told   | –                                                                   |
/// | dumping | stays             | none for `fence.kdumpQuiet` → quiet: told                           |
/// | dumping | its addresses have changed, or there are none any more → quiet: told at the next wake   |
///
/// * A listener that has just started goes on with what was known last: whoever wrote a dump then has `fence.kdumpQuiet` to say so again.
/// * A wake that comes late means that this listener itself was stopped: the time counts anew.
struct DumpMonitor: Sendable {
    private struct Known {
        var addresses: [String]
        var dump: Dump?
    }

    private struct Dump {
        var address: String
        var messages: Int
        var due: Instant
    }

    private let quiet: Duration
    private var known: [String: Known] = [:]
    /// Anybody may send, and most of that is dropped at once.
    private var expected: Set<String> = []
    /// Dumps that ended because nobody listens to them any more.
    private var untold: [FencingInput] = []

    init(policy: FencingPolicy) { quiet = policy.kdumpQuiet }

    var nextWake: Instant? { untold.isEmpty ? known.values.compactMap { $0.dump?.due }.min() : Instant(nanoseconds: 0) }

    mutating func watch(_ watch: HostWatch, at now: Instant) {
        let before = known[watch.host]
        guard before?.addresses != watch.dumpsFrom else { return }
        var after = Known(addresses: watch.dumpsFrom)
        if before == nil, watch.isDumping, let address = watch.dumpsFrom.first {
            after.dump = Dump(address: address, messages: 0, due: now + quiet)
        } else if watch.isDumping || before?.dump != nil {
            untold.append(.dump(DumpNews(host: watch.host, isWritten: false, address: before?.dump?.address ?? "", messages: before?.dump?.messages ?? 0)))
        }
        known[watch.host] = after
        expected = Set(known.values.flatMap(\.addresses))
    }

    mutating func unwatch(_ host: String) {
        known[host] = nil
        expected = Set(known.values.flatMap(\.addresses))
    }

    func expects(_ address: String) -> Bool { expected.contains(address) }

    mutating func onMessage(from address: String, at now: Instant) -> [FencingInput] {
        guard expects(address) else { return [] }
        return tellUntold() + known.keys.sorted().compactMap { host in
            guard let before = known[host], before.addresses.contains(address) else { return nil }
            let messages = (before.dump?.messages ?? 0) + 1
            known[host]?.dump = Dump(address: address, messages: messages, due: now + quiet)
            return before.dump == nil ? .dump(DumpNews(host: host, isWritten: true, address: address, messages: messages)) : nil
        }
    }

    private mutating func tellUntold() -> [FencingInput] {
        defer { untold = [] }
        return untold
    }

    mutating func onWake(at now: Instant) -> [FencingInput] {
        tellUntold() + known.keys.sorted().compactMap { host in
            guard let dump = known[host]?.dump, dump.due <= now else { return nil }
            if now - dump.due > .seconds(1) {
                known[host]?.dump?.due = now + quiet
                return nil
            }
            known[host]?.dump = nil
            return .dump(DumpNews(host: host, isWritten: false, address: dump.address, messages: dump.messages))
        }
    }
}
