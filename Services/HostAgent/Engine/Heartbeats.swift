public import Messages

/// When the agent's heart beats.
///
/// The first heartbeat waits a moment for the first look at guests and memberships: a restart of this process is then no news to anybody (I7).
public struct Heartbeats: Sendable {
    private var interval: Duration
    /// When the first one comes at the latest: a second after it was first asked for.
    private var latest: Instant?
    private var sequence: UInt64 = 0
    /// When ``beat(isInitializing:hasMemberships:at:)`` is due again; at first, it is due at once.
    public private(set) var nextWake = Instant(nanoseconds: 0)

    public init(every interval: Duration) { self.interval = interval }

    /// Another interval from the next heartbeat on.
    public mutating func change(to interval: Duration) { self.interval = interval }

    /// - Parameters:
    ///   - isInitializing: the engine still finds out what runs here.
    ///   - hasMemberships: lease-service has answered.
    /// - Returns: the sequence number of the heartbeat that is due; `nil`: not yet.
    public mutating func beat(isInitializing: Bool, hasMemberships: Bool, at now: Instant) -> UInt64? {
        let latest = latest ?? now + .seconds(1)
        self.latest = latest
        guard sequence > 0 || (!isInitializing && hasMemberships) || now >= latest else {
            nextWake = now + .milliseconds(20)
            return nil
        }
        sequence += 1
        nextWake = now + interval
        return sequence
    }
}
