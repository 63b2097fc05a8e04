import LeaseFormat
import Messages

/// Decides everything about this host's lockspaces and leases; sees disks only through ``VolumeRequest``s.
///
/// | stimulus        | what follows                                                                                              |
/// |-----------------|-----------------------------------------------------------------------------------------------------------|
/// | started         | memberships of this boot are taken up again, others joined anew; grants of other boots are forgotten      |
/// | join            | ``Membership``; the reply comes when joined or refused                                                     |
/// | acquire         | intention noted → each lease in order: ``Acquisition`` → grant noted → `granted`; one refused: all given back |
/// | adopt           | grant of the same leases and generations, membership alive → `granted`; else `refused`                      |
/// | verify          | each lease is read again: ``VerifyWork``; still the holder's → `verified`; another's → `lost`; not known → `unverified` |
/// | release, or locks of a holder without connection free | each lease: ``Retraction`` → end noted → `released`                    |
/// | create, remove, rebuild | one change of an index at a time, by the SPM of the term that is meant: ``CreateWork``, ``RemoveWork``, ``RebuildWork`` |
/// | renewal         | new deadline to every guard that depends on it (S8)                                                        |
/// | lockspace lost  | `lost` to every guard that depends on it; joined anew when they are all reaped (S2)                        |
///
/// Durable are memberships, grants and manager pins; everything else is rebuilt from the disks and from the guards that come back.
public struct LeaseEngine: Engine {
    public typealias Input = LeaseInput
    public typealias Action = LeaseAction
    typealias Effects = [Effect<LeaseAction>]

    // Durable
    var pins = ManagerPins()
    var records: [String: MembershipRecord] = [:]
    var grants: [Holder: Grant] = [:]
    var maintenance: [String: MaintenanceRecord] = [:]

    // Rebuilt
    var host = HostIdentity(name: "", hostID: 1, bootID: "", hardwareID: "")
    var now = Instant(nanoseconds: 0)
    var memberships: [String: Membership] = [:]
    var joinWaiters: [String: [RequestID]] = [:]
    var leaveWaiters: [String: [RequestID]] = [:]
    var links: [Holder: GuardLink] = [:]
    var parked: [ParkedRequest] = []
    /// Holders on the way to the end of their grants that have left a shared lease to others on this host.
    var passedOn: [LeaseName: Set<Holder>] = [:]
    var jobs: [UInt64: Job] = [:]
    var lastJob: UInt64 = 0
    var lastToken: IOToken = 0
    var tokens: [IOToken: TokenOwner] = [:]
    /// Writes to a lease's area that timed out and may still land: nothing else is done to that lease until they have.
    var unlanded: [IOToken: LeaseName] = [:]
    var nextLockTest: Instant?
    /// The record of each lease that was looked up: whoever uses it asks the index whether it still names the lease.
    var places: [LeaseName: Int] = [:]
    var drainWaiters: [String: [RequestID]] = [:]
    /// Notes of ``maintenance`` that are not durable yet.
    var maintenanceNotes: [String: Int] = [:]
    var nextBackups: [String: Instant] = [:]
    /// When repairs that had begun are tried again.
    var nextResume: Instant?
    /// When this life of lease-service began.
    var began = Instant(nanoseconds: 0)
    /// What host-agent said last of the watchdog; `nil`: nothing in this life of lease-service.
    var watchdog: WatchdogReport?
    /// What others asked for last of the leases held here, as their guards were told.
    var demanded: [LeaseName: RequestRecord] = [:]

    /// The membership or job that an I/O belongs to, with the count that tells late answers from expected ones.
    enum TokenOwner: Sendable {
        case membership(String, attempt: UInt64)
        case job(UInt64, attempt: UInt64, lease: LeaseName?, lane: Lane)
        /// What a sanlock daemon was asked for somebody.
        case request(RequestID)
    }

    public init() {}

    enum CodingKeys: String, CodingKey { case pins, records, grants, maintenance }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        pins = try container.decode(ManagerPins.self, forKey: .pins)
        records = try container.decode([String: MembershipRecord].self, forKey: .records)
        for grant in try container.decode([Grant].self, forKey: .grants) { grants[grant.holder] = grant }
        maintenance = try container.decodeIfPresent([String: MaintenanceRecord].self, forKey: .maintenance) ?? [:]
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(pins, forKey: .pins)
        try container.encode(records, forKey: .records)
        try container.encode(sortedGrants, forKey: .grants)
        try container.encode(maintenance, forKey: .maintenance)
    }

    public mutating func handle(_ input: LeaseInput, at now: Instant) -> [Effect<LeaseAction>] {
        self.now = now
        var effects = dispatch(input)
        // What a journaled input brings about is held back until it is durable; renewals may not be. They come with the wake-up that follows at once.
        guard input.isEphemeral else { return effects + (wakeUp(after: input).map { [.wake(at: $0)] } ?? []) }
        effects += tick()
        if let next = nextWake { effects.append(.wake(at: max(next, now))) }
        return effects
    }

    /// At once, but for what is journaled with every lease: most of that leaves nothing to do but I/O that is under way.
    private func wakeUp(after input: LeaseInput) -> Instant? {
        guard case .noted(.grant) = input, parked.isEmpty, !jobs.values.contains(where: { !$0.isBusy && $0.wakeAt == nil }) else { return now }
        return nextWake.map { max($0, now) }
    }

    private mutating func dispatch(_ input: LeaseInput) -> Effects {
        switch input {
        case .started(let host): onStarted(host)
        case .wake: []
        case .noted(let fact): onNoted(fact)
        case .initialize(let id, let caller, let body, let time): onInitialize(id, caller, body, time: time)
        case .join(let id, let caller, let body): onJoin(id, caller, body)
        case .leave(let id, let caller, let body): onLeave(id, caller, body)
        case .pin(let id, let pin): onPin(id, pin)
        case .inspect(let id, let body): onInspect(id, body)
        case .create(let id, let caller, let body): onCreate(id, caller, body)
        case .remove(let id, let caller, let body): onRemove(id, caller, body)
        case .rebuild(let id, let caller, let body, let time): onRebuild(id, caller, body, time: time)
        case .lookup(let id, let body): onLookup(id, body)
        case .demand(let id, let caller, let body): onDemand(id, caller, body)
        case .notify(let id, let caller, let body): onNotify(id, caller, body)
        case .list(let id, let body): onList(id, body)
        case .drain(let id, let body): onDrain(id, body)
        case .repair(let id, let body, let proofs, let restores, let time): onRepair(id, body, proofs, restores: restores, time: time)
        case .backup(let id, let body, let time): onBackup(id, body, time: time)
        case .void(let id, let body): onVoid(id, body)
        case .watchdog(let id, let report): onWatchdog(id, report)
        case .acquire(let connection, let request): onAcquire(connection, request)
        case .adopt(let connection, let request): onAdopt(connection, request)
        case .release(let connection, let holder): onRelease(connection, holder)
        case .convert(let connection, let holder, let lease): onConvert(connection, holder, lease)
        case .value(let connection, let holder, let lease, let value): onValue(connection, holder, lease, value)
        case .taken(let connection, let holder): onTaken(connection, holder)
        case .notTaken(let connection, let holder, let result, let why): onNotTaken(connection, holder, result, why)
        case .verify(let connection, let holder, let number): onVerify(connection, holder, number)
        case .disconnected(let connection): onDisconnected(connection)
        case .locksTested(let holder, let free): onLocksTested(holder, free: free)
        case .completed(let token, let result): onCompleted(token, result)
        case .landed(let token): onLanded(token)
        case .daemonAnswered(let token, let result): onDaemonAnswered(token, result)
        }
    }

    // MARK: Life

    private mutating func onStarted(_ host: HostIdentity) -> Effects {
        self.host = host
        began = now
        watchdog = nil
        demanded = [:]
        grants = grants.filter { $0.value.bootID == host.bootID }
        memberships = [:]
        joinWaiters = [:]
        leaveWaiters = [:]
        links = [:]
        parked = []
        passedOn = [:]
        jobs = [:]
        tokens = [:]
        unlanded = [:]
        places = [:]
        nextLockTest = now
        drainWaiters = [:]
        maintenanceNotes = [:]
        nextBackups = [:]
        nextResume = nil
        for lockspace in records.keys.sorted() {
            guard let record = records[lockspace] else { continue }
            memberships[lockspace] = Membership(record: record, host: host)
        }
        for grant in sortedGrants where grant.state == .releasing { startRelease(grant) }
        resumeRepairs()
        return []
    }

    private mutating func onNoted(_ fact: LeaseFact) -> Effects {
        switch fact {
        case .membership(let record):
            records[record.lockspace] = record
            guard let membership = memberships[record.lockspace] else { return [] }
            if !membership.record.wanted { return answerLeave(record.lockspace, .done) }
            return withMembership(record.lockspace) { membership, now in membership.onNoted(record, at: now) }
        case .grant(let grant):
            // What was noted meanwhile is further on: states only move forward.
            if let known = grants[grant.holder], known.state > grant.state { return [] }
            grants[grant.holder] = grant
            if links[grant.holder]?.connection == nil { nextLockTest = now }
            return onGrantNoted(grant)
        case .ended(let holder):
            guard let grant = grants.removeValue(forKey: holder) else { return [] }
            return onEndNoted(grant)
        case .pins(let pins):
            self.pins = pins
            return []
        case .maintenance(let record):
            return onMaintenanceNoted(record)
        }
    }

    /// Every part that waits for a time looks at the clock.
    private mutating func tick() -> Effects {
        var effects = Effects()
        for lockspace in memberships.keys.sorted() {
            effects += withMembership(lockspace) { membership, now in membership.tick(at: now) }
            effects += beginIfPossible(lockspace)
        }
        for id in jobs.lazy.filter({ !$0.value.isBusy }).map(\.key).sorted() { effects += wakeJob(id) }
        effects += tickMaintenance() + tellAnomalies()
        effects += tickParked()
        effects += testLocks()
        return effects
    }

    private var nextWake: Instant? {
        let times = memberships.values.compactMap(\.nextWake) + jobs.values.compactMap(\.wakeAt) + parked.map(\.until) + nextBackups.values + [nextLockTest, nextResume].compactMap { $0 }
        return times.min()
    }

    // MARK: Memberships

    /// Lets one membership act and turns its steps into effects.
    mutating func withMembership(_ lockspace: String, _ act: (inout Membership, Instant) -> [Membership.Step]) -> Effects {
        guard let index = memberships.index(forKey: lockspace) else { return [] }
        // In place: of a copy, the first change of one host's observation would copy them all.
        let steps = act(&memberships.values[index], now)
        guard !steps.isEmpty, let membership = memberships[lockspace] else { return [] }
        return steps.reduce(into: Effects()) { effects, step in effects += carryOut(step, of: membership) }
    }

    private mutating func carryOut(_ step: Membership.Step, of membership: Membership) -> Effects {
        let lockspace = membership.record.lockspace
        switch step {
        case .io(let operation):
            lastToken += 1
            tokens[lastToken] = .membership(lockspace, attempt: membership.attempt)
            return [.perform(.io(VolumeRequest(token: lastToken, lane: .renewal(lockspace: lockspace), work: .one(operation), timeout: .seconds(membership.ioTimeout))))]
        case .note(let record):
            return [.perform(.note(.membership(record)))]
        case .joined(let again):
            let view = view(of: membership)
            return [
                .publish(Event("lockspace.joined", subject: lockspace, body: view)),
                .decide(Decision(
                    "lockspace/\(lockspace)", again ? "taken up again" : "joined",
                    why: "host id \(host.hostID), generation \(membership.record.generation)" + (again ? ", its last renewal is still valid" : ""))),
            ] + answerJoin(lockspace, .success(view)) + tellDeadlines(lockspace) + answerAdoptions()
        case .refused(let error):
            // A membership that keeps trying answers the operator now; the next attempt is its own.
            return answerJoin(lockspace, .refused(error))
        case .lost(let why):
            return [
                .publish(Event("lockspace.lost", subject: lockspace, body: view(of: membership))),
                .decide(Decision("lockspace/\(lockspace)", "lost", why: why, evidence: ["generation": String(membership.record.generation)])),
            ] + onLost(lockspace, why)
        case .renewed(let sample):
            memberships[lockspace]?.anomalies.renewed(latency: sample.latency, ok: sample.ok, ioTimeout: membership.ioTimeout)
            let body = LockspaceRenewal(lockspace: lockspace, latency: sample.latency, ok: sample.ok, isLate: sample.isLate)
            return [.publish(Event("lockspace.renewal", subject: lockspace, body: body))] + warn(of: sample, in: membership) + (sample.ok ? tellDeadlines(lockspace) : [])
        case .asked(let host):
            return onAsked(lockspace, by: host)
        case .event(let host, let event):
            return onHostEvent(lockspace, from: host, event)
        case .daemon(let call):
            lastToken += 1
            tokens[lastToken] = .membership(lockspace, attempt: membership.attempt)
            return [.perform(.daemon(SanlockRequest(token: lastToken, lane: lockspace, call: call, timeout: membership.daemonPatience)))]
        case .stayed(let error):
            return answerLeave(lockspace, .refused(error))
        case .left(let error):
            var record = membership.record
            record.wanted = false
            memberships[lockspace]?.record.wanted = false
            // Without an error the answer waits until the wish is durable.
            return (error.map { answerLeave(lockspace, .refused($0)) } ?? []) + [
                .perform(.closeFiles(under: record.path)), .perform(.note(.membership(record))), .publish(Event("lockspace.left", subject: lockspace, body: view(of: membership))),
            ]
        }
    }

    /// Joins, or joins again, as soon as nobody lives on what was lost (S2).
    mutating func beginIfPossible(_ lockspace: String) -> Effects {
        guard let membership = memberships[lockspace], membership.record.wanted, membership.isOut, membership.retryAt ?? now <= now else { return [] }
        guard membership.mayAdopt || !grants.values.contains(where: { $0.leases.contains { $0.name.lockspace == lockspace } }) else { return [] }
        places = places.filter { $0.key.lockspace != lockspace }
        return withMembership(lockspace) { membership, _ in membership.begin() }
    }

    mutating func answerJoin(_ lockspace: String, _ reply: Reply) -> Effects {
        (joinWaiters.removeValue(forKey: lockspace) ?? []).map { .reply(to: $0, reply) }
    }

    mutating func answerLeave(_ lockspace: String, _ reply: Reply) -> Effects {
        (leaveWaiters.removeValue(forKey: lockspace) ?? []).map { .reply(to: $0, reply) }
    }

    func view(of membership: Membership, withRenewals: Bool = false) -> LockspaceView {
        LockspaceView(
            lockspace: membership.record.lockspace, path: membership.record.path, state: membership.state, hostID: host.hostID,
            generation: membership.isJoined || membership.isLost ? membership.record.generation : 0, generationBefore: membership.record.generationBefore,
            renewalAge: membership.verified.map { now - $0 }, reason: membership.reason,
            hosts: membership.hosts.keys.sorted().compactMap { id in
                membership.hosts[id].map { seen in
                    LockspaceHost(
                        hostID: id, name: seen.record.name, generation: seen.record.ownerGeneration, timestamp: seen.record.timestamp,
                        ioTimeout: Int(seen.record.ioTimeout), state: seen.state(firing: host.firing, at: now), lastChange: seen.lastChange.map { now - $0 },
                        unchangedFor: now - seen.unchangedSince, deadIn: seen.deadIn(firing: host.firing, at: now))
                }
            },
            renewals: withRenewals ? membership.renewals.map { LockspaceView.Renewal(age: now - $0.at, latency: $0.latency, ok: $0.ok, isLate: $0.isLate) } : nil,
            anomalies: membership.anomalies.current.isEmpty ? nil : membership.anomalies.current)
    }

    /// Each lockspace's state, and what its membership has met.
    public var conditions: [(lockspace: String, state: LockspaceState, reason: String)] {
        memberships.keys.sorted().compactMap { name in memberships[name].map { (name, $0.state, $0.reason) } }
    }

    public var publicState: any Encodable & Sendable { snapshot }

    /// This host's lockspaces and the leases held through it.
    public var snapshot: LeaseSnapshot {
        LeaseSnapshot(
            host: host.name, hostID: host.hostID, bootID: host.bootID,
            lockspaces: memberships.keys.sorted().compactMap { name in memberships[name].map { view(of: $0) } },
            leases: sorted(grants.values.filter { $0.state == .granted }).flatMap { grant in
                grant.leases.map { lease in
                    LeaseView(
                        lease: lease.name, path: memberships[lease.name.lockspace].map { path(of: lease.name, in: $0) } ?? "", offset: 0, status: lease.mode.status,
                        ownerID: host.hostID, ownerName: host.name, ownerGeneration: lease.generation, lver: lease.lver, holder: grant.holder.description)
                }
            }, watchdog: watchdogView)
    }

    func path(of name: LeaseName, in membership: Membership) -> String {
        let layout = DomainLayout(root: membership.record.path)
        return name.resource == DomainLayout.sdm ? layout.leases : layout.xleases
    }

    var sortedGrants: [Grant] { sorted(Array(grants.values)) }
    func sorted(_ grants: [Grant]) -> [Grant] { grants.sorted { $0.holder < $1.holder } }

    // MARK: I/O

    private mutating func onCompleted(_ token: IOToken, _ result: IOResult) -> Effects {
        guard let owner = tokens[token] else { return [] }
        if result != .timedOut { tokens[token] = nil }
        switch owner {
        case .membership(let lockspace, let attempt):
            guard memberships[lockspace]?.attempt == attempt else { return [] }
            return withMembership(lockspace) { membership, now in membership.onResult(result, at: now) }
        case .job(let id, let attempt, let lease, _):
            if result == .timedOut, let lease { unlanded[token] = lease }
            guard jobs[id]?.attempt == attempt else { return [] }
            return onJobResult(id, result)
        case .request: return []
        }
    }

    private mutating func onLanded(_ token: IOToken) -> Effects {
        tokens[token] = nil
        unlanded[token] = nil
        return []
    }
}
