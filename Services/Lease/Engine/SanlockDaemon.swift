import Messages

/// A real sanlock daemon of this machine that does what the native engine does itself: renewals, ballots, releases.
public struct SanlockSettings: Codable, Hashable, Sendable {
    /// Where its socket is.
    public var run: String
    /// Stands for an answer that does not come in time.
    public static let noAnswer = SanlockCode.timedOut
    /// libsanlock_client, as the dynamic loader finds it.
    public var library: String

    public init(run: String, library: String) {
        self.run = run
        self.library = library
    }
}

/// One question to the daemon, which blocks a thread until it answers.
public enum SanlockCall: Hashable, Codable, Sendable {
    /// Become a host of the lockspace, by all of sanlock's waits.
    case add(SanlockLockspace, ioTimeout: Int64)
    /// Unless a process holds a lease of it.
    case remove(SanlockLockspace)
    /// Whether it is a host of it.
    case has(SanlockLockspace)
    /// Ask the holders of a lease for it.
    case request(LeaseName, path: String, offset: UInt64, lver: UInt64, LeaseDemand.Mode)
    case sendEvent(LockspaceNotice)
}

public struct SanlockLockspace: Hashable, Codable, Sendable {
    public var name: String
    public var hostID: Int
    public var ids: String
}

public struct SanlockRequest: Hashable, Codable, Sendable {
    public var token: IOToken
    /// Those of one lane wait for each other.
    public var lane: String
    public var call: SanlockCall
    public var timeout: Duration
}

/// What the daemon's numbers mean here.
enum SanlockCode {
    static let noSuchFile: Int32 = -2
    static let invalid: Int32 = -22
    static let again: Int32 = -11
    static let busy: Int32 = -16
    static let exists: Int32 = -17
    static let refusedConnection: Int32 = -111
    static let inProgress: Int32 = -115
    /// No answer in time: not a number of sanlock's.
    static let timedOut: Int32 = -110
    static let lockspaceGone: Int32 = -241
    static let ownerLives: Int32 = -243
    static let owned: Int32 = -244
    static let other: Int32 = -245
    static let shared: Int32 = -246
    static let ownerExpires: Int32 = -247
    static let hostIDBusy: Int32 = -262
    static let oldRequest: Int32 = -272

    static func sentence(_ code: Int32) -> String {
        switch code {
        case noSuchFile, refusedConnection: "no sanlock daemon listens there"
        case invalid: "it does not take that: it may be in the lockspace with another host id or path"
        case again: "it is busy with that; try again"
        case busy: "processes hold leases of it through sanlock"
        case exists: "another process of this host holds it through sanlock"
        case inProgress: "it is still joining or leaving"
        case timedOut: "it does not answer"
        case lockspaceGone: "it is not in that lockspace any more"
        case ownerLives, owned, other, shared: "another host holds it and is alive"
        case ownerExpires: "its owner is not dead yet by sanlock's own clock (8 x io_timeout + watchdog_fire_timeout after its last renewal); a proof does not shorten that"
        case hostIDBusy: "the host id is in use by another host"
        case oldRequest: "the lease has that version or a later one"
        default: "see sanlock's log"
        }
    }

    static func error(_ code: Int32, _ what: String) -> RequestError {
        let kind: LeaseErrorCode = switch code {
        case exists: .heldHere
        case ownerLives, owned, other, shared, ownerExpires: .held
        case lockspaceGone: .lost
        case hostIDBusy: .hostIDBusy
        case oldRequest: .stale
        default: .io
        }
        return RequestError(kind, "\(what): sanlock says \(code), \(sentence(code))", details: ["sanlock": String(code)])
    }
}
