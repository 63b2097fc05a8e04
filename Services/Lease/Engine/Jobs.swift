import LeaseFormat
import Messages

/// Work of several I/Os, one at a time. The engine's own memory only: after a restart it is begun again by whoever asked.
struct Job: Sendable {
    // Indirect: jobs are handed about far more often than they change.
    indirect enum Work: Sendable {
        case acquire(AcquireWork)
        case release(ReleaseWork)
        case take(TakeWork)
        case drop(DropWork)
        case convert(ConvertWork)
        case value(ValueWork)
        case verify(VerifyWork)
        case demand(DemandWork)
        case hear(HearWork)
        case create(CreateWork)
        case remove(RemoveWork)
        case rebuild(RebuildWork)
        case view(ViewWork)
        case inspect(InspectWork)
        case initialize(InitializeWork)
        case look(LookWork)
        case repair(RepairWork)
        case backup(BackupWork)
        case void(VoidWork)
    }

    var work: Work
    /// Whose leases it takes or gives back; beside the work, so that it is found without taking that apart.
    let holder: Holder?
    /// Counts its I/Os: answers of abandoned ones are recognised.
    var attempt: UInt64 = 0
    /// An I/O is under way.
    var isBusy = false
    var wakeAt: Instant?

    init(_ work: Work) {
        self.work = work
        holder =
            switch work {
            case .acquire(let work): work.holder
            case .take(let work): work.holder
            case .release(let work): work.grant.holder
            case .drop(let work): work.grant.holder
            default: nil
            }
    }

    var changesIndex: Bool {
        switch work {
        case .create, .remove, .rebuild: true
        default: false
        }
    }
}

/// All leases of one guard, in order, or none.
struct AcquireWork: Sendable {
    let holder: Holder
    let request: GuardRequest
    /// Until when leases that others hold are waited for.
    let waitUntil: Instant?
    var won: [GuardLease] = []
    /// The offset of the lease in hand, once the index told it.
    var offset: UInt64?
    /// It is where the lease was found before, and the index has yet to confirm it.
    var unconfirmed: Int?
    var current: Acquisition?
    /// Waits for a look at the lockspace; afterwards it goes on, whatever that brought.
    var awaitsLook = false
    var hasLooked = false
    /// Something was written, or may have been.
    var hasTouched = false
    /// Nobody wants it any more; given back at the next safe moment.
    var cancelled: RequestError?
}

struct ReleaseWork: Sendable {
    let grant: Grant
    let began: Instant
    /// When each lockspace may be written, once its storage has answered (S4).
    var opens: [String: Instant] = [:]
    var index = 0
    var offset: UInt64?
}

/// Reads leases for people: through the index, then each leader.
struct ViewWork: Sendable {
    let id: RequestID
    /// One lease, or all of ``lockspaces``.
    let only: LeaseName?
    /// Indexes still to be read.
    var lockspaces: [String]
    var targets: [(name: LeaseName, offset: UInt64)] = []
    var next = 0
    var views: [LeaseView] = []
    var problems: [LeaseProblem] = []
    var isReadingIndex = false
}

struct InspectWork: Sendable {
    let id: RequestID
    var lockspaces: [String]
    var views: [LockspaceView] = []
    /// When the read under way was.
    var submitted: Instant?
}

/// A read of a whole lockspace, for the ballots to come.
struct LookWork: Sendable {
    let lockspace: String
    let submitted: Instant
}

struct InitializeWork: Sendable {
    let id: RequestID
    let lockspace: String
    let layout: DomainLayout
    /// What remains to be written, in order; the last one is the commit.
    var writes: [VolumeOperation]
    /// What remains to be read before: the host ids first, then wherever another lockspace may have its SDM or its index.
    var looks: [InitializeLook]
}

struct InitializeLook: Sendable {
    var volume: LockspaceImage.Volume
    var offset: UInt64
}
