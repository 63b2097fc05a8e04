public import Messages

/// Judges facts by the promise (I1-I7), knowing nothing of how it is kept.
///
/// Pure; one dictionary look-up or a few for each fact, however long the story. The time is the source's own.
///
/// | invariant | broken by |
/// |---|---|
/// | I1 | two live runs that write one disk; a write that lands after another run began on that disk; a live run whose lease the leader sector gives to somebody else; anybody beside one who holds a lease alone |
/// | I2 | two live workers of a pool; a worker whose lease is somebody else's; a result published by a deposed worker |
/// | I3 | a start sent elsewhere, or a run begun, while the last run lives or without a proof that covers it; a superseded attempt that begins; a proof about a run that lives |
/// | I4 | a guest stopped by a command that nobody wanted, or for no reason; a start elsewhere with nothing but the silence of the last run's host |
/// | I5 | a power-off for silence of a host that was heard within the grace; one within a grace of the service's own start for a case younger than that |
/// | I6 | something acknowledged that is not so any more; a value beside a lease that is not the last one written; an attempt that begins twice; an effect done again; a start against an acknowledged stop |
/// | I7 | a guest ended, or power switched, for no cause but a restart; an off that comes to a host which is Up, or was switched on, since it was sent, or to one that answers and whose guests run |
public struct InvariantChecker: Sendable {
    /// What it measures by.
    public struct Settings: Sendable {
        /// Silence that is forgiven.
        public var grace: Duration
        /// A heartbeat that came so shortly before an off may have crossed it.
        public var crossing: Duration
        /// Silence after which a host counts as unknown.
        public var silence: Duration
        /// The source knows when services really start: then cases that were open before wait for a full grace, too. Else a start may only be when the source began to listen.
        public var knowsStarts: Bool
        /// How long the toolstack of a host must be down before the host may be fenced for that; zero: it may not. `nil`: the source cannot tell.
        public var toolstackLost: Duration?

        public init(
            grace: Duration, crossing: Duration = .milliseconds(500), silence: Duration = .seconds(3), knowsStarts: Bool = false, toolstackLost: Duration? = nil
        ) {
            self.knowsStarts = knowsStarts
            self.toolstackLost = toolstackLost
            self.grace = grace
            self.crossing = crossing
            self.silence = silence
        }
    }

    public var settings: Settings
    /// Facts seen so far.
    public private(set) var factCount = 0
    /// Violations so far.
    public private(set) var violationCount = 0

    var runs = Runs()
    var storage = Writers()
    var power = Power()
    var promises = Promises()
    var values = Values()

    public init(_ settings: Settings) { self.settings = settings }

    /// Guests and workers that live now, as far as the facts say.
    public var liveRunCount: Int { runs.liveCount }

    /// Takes in one fact; what it breaks.
    @discardableResult
    public mutating func note(_ fact: Fact, at now: Instant) -> [Violation] {
        factCount += 1
        var judgement = Judgement(fact: fact, now: now)
        judge(fact, &judgement)
        violationCount += judgement.violations.count
        return judgement.violations
    }

    private mutating func judge(_ fact: Fact, _ judgement: inout Judgement) {
        switch fact {
        case .bootNumbered(let host, let boot, let incarnation): runs.number(host, boot, incarnation)
        case .bootEnded(let host, let boot): for run in runs.endBoot(host, boot) { storage.end(run) }
        case .hostHeard(let host, _): power.heard(host, judgement.now)
        case .toolstack(let host, let works): power.toolstack(host, works, judgement.now)
        case .powerCommanded(let host, let action, let cause): onPower(host, action, cause, &judgement)
        case .deviceCommanded(let host, let action, let sent): onDevice(host, action, sent: sent, &judgement)
        case .hostUp(let host): power.up(host, judgement.now)
        case .caseOpened(let id, let host, let cause): power.open(id, host, cause, judgement.now)
        case .caseClosed(let id, let host): power.close(id, host)
        case .serviceStarted(let service): power.started(service, judgement.now)
        case .startSent(let run, let incarnation): onStartSent(run, incarnation, &judgement)
        case .saidOver(let run): runs.cover(run.holder)
        case .guestBegan(let run, let writes, let leases): onBegan(run, writes: writes, leases: leases, &judgement)
        case .workerBegan(let run, let lease): onBegan(run, writes: [], leases: [lease], &judgement)
        case .guestEnded(let run, let cause): onEnded(run, cause, &judgement)
        case .workerEnded(let run): end(run)
        case .outlived(let run, let writes): onOutlived(run, writes: writes, &judgement)
        case .writeLanded(let run, let disk): storage.judgeWrite(run, disk, &judgement)
        case .published(let run, let lver, let what): onPublished(run, lver, what, &judgement)
        case .leaseUsed(let run, let lease, let writes): storage.begin(run, writes: writes, leases: [lease], &judgement)
        case .leaseUnused(let run): storage.end(run)
        case .valueAsked(let lease, let run, let value): values.ask(lease, run, value)
        case .valueWritten(let lease, _, let value): values.keep(lease, value)
        case .leaseMade(let lease): values.forget(lease)
        case .valueRead(let lease, let run, let value): values.judgeRead(lease, run, value, &judgement)
        case .leaseChanged(let lease, let owner): storage.change(lease, owner, &judgement)
        case .proofMade(let proof):
            runs.take(proof, &judgement)
            storage.take(proof, &judgement)
        case .proofRevoked(let proof):
            runs.revoke(proof)
            storage.revoke(proof)
        case .asked(let id, let promise): promises.ask(id, promise)
        case .acknowledged(let id): promises.acknowledge(id)
        case .refused(let id): promises.refuse(id)
        case .found(let promise): promises.judgeFound(promise, &judgement)
        case .effectBegan(let name): promises.judgeBegin(name, &judgement)
        case .effectDone(let name): promises.done(name)
        }
    }
}

/// One fact under judgement.
struct Judgement {
    let fact: Fact
    let now: Instant
    private(set) var violations: [Violation] = []

    init(fact: Fact, now: Instant) {
        self.fact = fact
        self.now = now
    }

    /// - Parameter earlier: what the fact contradicts.
    mutating func violation(_ invariant: Invariant, _ what: String, earlier: Fact? = nil) {
        violations.append(Violation(invariant, what, facts: (earlier.map { [$0] } ?? []) + [fact], at: now))
    }
}
