import LeaseFormat
import Messages

/// Another host's sector, as this host saw it over time.
struct HostObservation: Hashable, Codable, Sendable {
    var record: LeaderRecord
    var firstSeen: Instant
    var lastChange: Instant?
    /// Since it is read with this generation, in use or free.
    var lifeSeen: Instant

    init(record: LeaderRecord, firstSeen: Instant) {
        self.record = record
        self.firstSeen = firstSeen
        lifeSeen = firstSeen
    }

    mutating func see(_ seen: LeaderRecord, at now: Instant) {
        if record != seen { lastChange = now }
        if !isOfSameLife(seen) { lifeSeen = now }
        record = seen
    }

    func isOfSameLife(_ other: LeaderRecord) -> Bool {
        record.ownerID == other.ownerID && record.ownerGeneration == other.ownerGeneration && record.isFree == other.isFree
    }

    var unchangedSince: Instant { lastChange ?? firstSeen }

    /// Its own 8 x io_timeout: what it holds has ended by then, if somebody ends it.
    private var patience: Duration { .seconds(8 * Int64(max(record.ioTimeout, 1))) }

    /// When it is dead unless it is seen to change until then; `nil`: the slot is free.
    func deadIn(firing: Duration, at now: Instant) -> Duration? {
        if record.isFree { return nil }
        return state(firing: firing, at: now) == .dead ? .zero : unchangedSince + patience + firing - now + .milliseconds(1)
    }

    /// Whether it is alive, in sanlock's terms: only "changed or not" counts, timed by the owner's own timeout.
    func state(firing: Duration, at now: Instant) -> LockspaceHostState {
        guard !record.isFree else { return .free }
        let silence = now - unchangedSince
        if silence > patience + firing { return .dead }
        if lastChange == nil { return .unknown }
        return silence > patience ? .fail : .live
    }
}
