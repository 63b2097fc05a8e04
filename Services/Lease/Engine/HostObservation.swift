import LeaseFormat
import Messages

/// Another host's sector, as this host saw it over time.
struct HostObservation: Sendable {
    var record: LeaderRecord
    var firstSeen: Instant
    var lastChange: Instant?

    /// Whether it is alive, in sanlock's terms: only "changed or not" counts, timed by the owner's own timeout.
    func state(firing: Duration, at now: Instant) -> LockspaceHostState {
        guard !record.isFree else { return .free }
        let patience = Duration.seconds(8 * Int64(max(record.ioTimeout, 1)))
        let silence = now - (lastChange ?? firstSeen)
        if silence > patience + firing { return .dead }
        if lastChange == nil { return .unknown }
        return silence > patience ? .fail : .live
    }
}
