/// Body of `watchdog.report`, which host-agent sends to the lease-service of its host (S6).
///
/// Armed: from now on it resets this host unless it is fed. Not armed: a question, whether it may be disarmed; done: no lease is held, and none is granted before the next report
/// that says armed.
public struct WatchdogReport: Codable, Hashable, Sendable {
    public var armed: Bool
    /// How long after its last feeding it fires.
    public var timeout: Duration
    /// CLOCK_BOOTTIME of this machine when it was said: what is older than the last report changes nothing.
    public var at: Instant
    /// With not armed: fencing-service has ordered it (``WatchdogOrder``) and counts no lease of this host as covered, so leases are held and granted without it.
    public var released: Bool?

    public init(armed: Bool, timeout: Duration, at: Instant, released: Bool? = nil) {
        self.released = released
        self.armed = armed
        self.timeout = timeout
        self.at = at
    }
}

/// Body of `watchdog.disarm`, which fencing-service sends to an agent: whether its watchdog is to be disarmed although leases are held, because automatic recovery is off or held (S6).
///
/// Before the first copy of an order to disarm leaves fencing-service, it has durably noted that nothing may be concluded from this host's watchdog until a heartbeat says that a later order
/// to arm is obeyed.
public struct WatchdogOrder: Codable, Hashable, Sendable {
    /// Rises with each order for that host; an older one changes nothing.
    public var serial: UInt64
    public var disarm: Bool

    public init(serial: UInt64, disarm: Bool) {
        self.serial = serial
        self.disarm = disarm
    }
}

/// What lease-service wants of its host's watchdog.
public struct LeaseWatchdogView: Codable, Hashable, Sendable {
    /// host-agent has said so, and was not told since that it may be disarmed.
    public var armed: Bool
    /// Leases are held, or asked for.
    public var needed: Bool
    /// Grants wait until a watchdog with this timeout, or a shorter one, is armed; `nil`: they wait for none.
    public var limit: Duration?
    /// Who has leases, or asks for them: each needs a guard that host-agent watches; `nil`: it does not say.
    public var holders: [Holder]?
    /// host-agent has said that fencing-service ordered it to be disarmed.
    public var released: Bool?

    public init(armed: Bool, needed: Bool, limit: Duration?, holders: [Holder]? = nil, released: Bool? = nil) {
        self.released = released
        self.armed = armed
        self.needed = needed
        self.limit = limit
        self.holders = holders
    }
}

/// What must fit so that a watchdog has reset a silent host before anybody else may take its leases (S6).
public struct WatchdogTiming: Hashable, Sendable {
    /// Of the watchdog.
    public var timeout: Duration
    /// The longest time that a write of a dead host can be under way (`lease.settle`).
    public var inFlight: Duration
    /// sanlock's watchdog_fire_timeout F.
    public var firing: Duration
    /// Of the lockspace.
    public var ioTimeout: Duration

    public init(timeout: Duration, inFlight: Duration, firing: Duration, ioTimeout: Duration) {
        self.timeout = timeout
        self.inFlight = inFlight
        self.firing = firing
        self.ioTimeout = ioTimeout
    }

    /// After the last renewal's submission nobody takes a lease before this, without a proof.
    public var takeover: Duration { ioTimeout * 8 + firing }
    /// What the clocks of two hosts, and the watchdog's own, may differ by over that time: one percent of it.
    public var drift: Duration { Duration(nanoseconds: takeover.nanoseconds / 100) }
    /// The last feeding is not after the holder's stop deadline; then it fires, and what was on its way to the disk may still land.
    public var latestWrite: Duration { ioTimeout * 8 + timeout + drift + inFlight }

    /// The numbers that clash, and the way out; `nil`: they fit.
    public var clash: String? {
        guard latestWrite >= takeover else { return nil }
        let longest = firing - drift - inFlight
        let way = longest > .seconds(1) ? "use a watchdog timeout below \(Self.text(longest)), or raise lease.watchdogFire on all hosts" : "raise lease.watchdogFire on all hosts"
        return "a silent host could still write when its leases are taken: 8 x io_timeout \(Self.text(ioTimeout * 8)) + watchdog timeout \(Self.text(timeout)) + clock drift \(Self.text(drift))"
            + " + longest I/O in flight (lease.settle) \(Self.text(inFlight)) = \(Self.text(latestWrite)) is not below 8 x io_timeout + lease.watchdogFire = \(Self.text(takeover)): \(way)"
    }

    private static func text(_ duration: Duration) -> String {
        let tenths = (duration.nanoseconds + 50_000_000) / 100_000_000
        return tenths % 10 == 0 ? "\(tenths / 10) s" : "\(tenths / 10).\(tenths % 10) s"
    }
}
