import Messages

/// When and where this host writes backups of its lockspaces.
public struct BackupPolicy: Codable, Hashable, Sendable {
    /// Absolute; where backups go that name no file of their own.
    public var directory: String
    /// `nil`: only when asked.
    public var every: Duration?
    /// Scheduled ones of each lockspace; the oldest is overwritten.
    public var keep: Int

    public init(directory: String, every: Duration? = nil, keep: Int = 7) {
        self.directory = directory
        self.every = every
        self.keep = keep
    }
}

/// Who this host is, for the life of the process.
public struct HostIdentity: Codable, Hashable, Sendable {
    public var name: String
    /// In every lockspace, 1...2000.
    public var hostID: Int
    public var bootID: String
    public var hardwareID: String
    /// sanlock's watchdog_fire_timeout F: added to 8 x io_timeout before a silent host counts as dead.
    public var firing: Duration
    /// What every proof waits before it opens a lease (S4).
    public var settle: Duration
    /// By lockspace; others refuse.
    public var expiredOwners: [String: ExpiredOwners]?
    /// `nil`: no place for them is configured.
    public var backups: BackupPolicy?
    /// The longest timeout of the hardware watchdog that must be armed before anything is granted (S6); `nil`: there is none.
    public var watchdog: Duration?
    /// The daemon that is the engine; `nil`: this service itself.
    public var sanlock: SanlockSettings?

    public init(
        name: String, hostID: Int, bootID: String, hardwareID: String, firing: Duration = .seconds(60), settle: Duration = .zero, expiredOwners: [String: ExpiredOwners]? = nil,
        backups: BackupPolicy? = nil, watchdog: Duration? = nil, sanlock: SanlockSettings? = nil
    ) {
        self.name = name
        self.hostID = hostID
        self.bootID = bootID
        self.hardwareID = hardwareID
        self.firing = firing
        self.settle = settle
        self.expiredOwners = expiredOwners
        self.backups = backups
        self.watchdog = watchdog
        self.sanlock = sanlock
    }
}

/// What is done about a lease whose owner has not renewed for its whole dead time (8 x io_timeout + F), without a proof (S6).
public enum ExpiredOwners: String, Codable, Sendable, CaseIterable {
    case refuse
    /// An operator vouches: every host of the lockspace, foreign sanlock hosts among them, is reset by a watchdog within that time.
    case watchdogPromised
}
