public import Messages

/// What a ``Watchdog`` is told, and what it wants done.
extension Watchdog {
    /// What an open device is.
    public struct Device: Hashable, Sendable {
        /// As its driver calls it.
        public var identity: String
        /// How long after its last feeding it fires.
        public var timeout: Duration
        /// It counts on when the process that opened it ends.
        public var outlivesProcess: Bool
        /// It can be closed so that it does not fire.
        public var canDisarm: Bool

        public init(identity: String, timeout: Duration, outlivesProcess: Bool, canDisarm: Bool) {
            self.identity = identity
            self.timeout = timeout
            self.outlivesProcess = outlivesProcess
            self.canDisarm = canDisarm
        }
    }

    public enum Input: Sendable {
        /// `isCounting`: an earlier life of this agent has opened it in this boot, and did not close it.
        case begin(isCounting: Bool)
        /// The agent knows what runs here.
        case looked
        /// A guard that holds leases or is to take some; `isNew`: it was started just now.
        case watching(Holder, isNew: Bool)
        /// The guard's answer to `status`.
        case said(Holder, GuardMessage)
        /// The guard and its group are gone.
        case over(Holder)
        case leaseService(LeaseWatchdogView)
        /// `at`: when that was over, by which it was fed, too.
        case opened(Device, at: Instant)
        case openFailed(String)
        /// `at`: when that was over; `nil`: it was too late to begin.
        case fed(failure: String?, at: Instant?)
        case closed(failure: String?)
        /// lease-service's answer to a report; `nil`: done.
        case answered(armed: Bool, RequestError?)
        /// fencing-service has ordered it to be disarmed whatever is held, or takes that back.
        case released(Bool)
        /// This life of the agent ends: what nobody needs is disarmed at once.
        case ending
        case wake
    }

    public enum Step: Hashable, Sendable {
        /// Which feeds it, so not later than this; answered by ``Input/opened(_:at:)`` or ``Input/openFailed(_:)``.
        case open(timeout: Duration, notAfter: Instant)
        /// Unless it is later than this when it comes to that; answered by ``Input/fed(failure:at:)``.
        case feed(notAfter: Instant)
        /// Let it fire as soon as it can; not answered.
        case shorten
        /// Disarm it; answered by ``Input/closed(failure:)``.
        case close
        /// To lease-service; answered by ``Input/answered(armed:_:)``.
        case report(WatchdogReport)
        /// Whether this host's leases are covered by it now.
        case covers(Bool, why: String)
        /// What people should know; `nil`: nothing.
        case problem(String?)
    }
}
