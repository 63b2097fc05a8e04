import Messages

/// The times that placement goes by; durations are positive.
public struct PlacementPolicy: Codable, Hashable, Sendable {
    /// After its own restart, automatic starts wait at most so long for the reports of all Up hosts; a host that has not reported gets no VM in any case.
    /// When hosts come back that could all not take a VM, it waits at most so long for the last of them.
    public var settle: Duration
    /// Pause after every host refused a VM once; doubled up to ``retryLongest`` after each further round.
    public var retryFirst: Duration
    public var retryLongest: Duration
    /// A VM that was up so long has stopped failing: its next restart is immediate.
    public var stableAfter: Duration
    /// Between two questions about a run whose state is not known.
    public var observeEvery: Duration
    /// A VM waits at most so long, in all, for HA VMs of higher priority.
    public var priorityBlocking: Duration
    /// A run that should be over, or is not in its host's complete report, is judged only after this time: reports and replies travel apart.
    public var doubt: Duration
    /// Recovery begins no further start on a host while so many there are not answered; `nil`: any number, as policies of earlier journals have it.
    public var startsPerHost: Int?
    /// HA VMs that a clean shutdown of their host has ended wait for that host (S19); `nil`: they are started elsewhere at once.
    public var waitsForHost: Bool?
    /// What a host says to be unknown, or starting, counts as what it says to run, if it is to be over; `nil`: it does not, as policies of earlier journals have it.
    public var unknownMayRun: Bool?
    /// `nil`: every host keeps its power.
    public var saving: PowerSavingPolicy?

    public init(
        settle: Duration = .seconds(5), retryFirst: Duration = .seconds(2), retryLongest: Duration = .seconds(30), stableAfter: Duration = .seconds(60),
        observeEvery: Duration = .seconds(2), priorityBlocking: Duration = .seconds(3), doubt: Duration = .seconds(3),
        startsPerHost: Int? = 4, waitsForHost: Bool? = nil, unknownMayRun: Bool? = true,
        saving: PowerSavingPolicy? = nil
    ) {
        self.saving = saving
        self.unknownMayRun = unknownMayRun
        self.waitsForHost = waitsForHost
        self.settle = settle
        self.retryFirst = retryFirst
        self.retryLongest = retryLongest
        self.stableAfter = stableAfter
        self.observeEvery = observeEvery
        self.priorityBlocking = priorityBlocking
        self.doubt = doubt
        self.startsPerHost = startsPerHost
    }

    /// The pause before the next try after so many failures in a row: none before the first failure.
    func pause(afterFailures count: Int) -> Duration {
        guard count > 0 else { return .zero }
        return min(retryFirst * (Int64(1) << Int64(min(count - 1, 16))), retryLongest)
    }
}

/// When empty hosts are powered down, and on again.
public struct PowerSavingPolicy: Codable, Hashable, Sendable {
    /// Hosts that stay on although nothing runs there.
    public var reserveHosts: Int
    /// Memory that stays free on the hosts that are Up, in all.
    public var reserveMemoryMiB: Int
    /// How long a host must have been empty.
    public var emptyFor: Duration
    /// Between two actions, whatever they are; a VM that finds no place does not wait for it.
    public var pause: Duration

    public init(reserveHosts: Int = 1, reserveMemoryMiB: Int = 0, emptyFor: Duration = .seconds(600), pause: Duration = .seconds(300)) {
        self.reserveHosts = reserveHosts
        self.reserveMemoryMiB = reserveMemoryMiB
        self.emptyFor = emptyFor
        self.pause = pause
    }

    /// Shorter ones would keep fencing-service busy with hosts that cannot be switched.
    public static let shortest = Duration.seconds(5)
}
