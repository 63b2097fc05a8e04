public import Messages

/// How one probe process ended.
public enum ProbeEnd: Hashable, Sendable {
    /// Status 0: the domain answers; else the output says what is wrong.
    case exited(Int32, output: String)
    case signalled(Int32)
    /// It was killed at its deadline.
    case timedOut
    case notStarted(String)
}

/// What the preparation of a new domain found in its place.
public enum DomainPreparation: Hashable, Sendable {
    /// Directories are there; lease volumes and metadata are missing.
    case prepared
    /// This domain, whole.
    case isThere
    case failed(RequestError)
}

/// Decides how this host stays joined to its domains, when each is probed, whose storage has answered after a run's end, and in what order a domain is created.
///
/// A probe may hang: there is one at a time for each domain, and a run's end is settled only by one that began after it (S4).
/// After each ``handle(_:at:)`` its steps are done in order, and ``Input/wake`` is due at ``nextWake``.
public struct StorageWatch: Sendable {
    public enum Input: Sendable {
        case keep(StoragePlace)
        case drop(StoragePlace)
        case quiesce(Holder, [StoragePlace])
        case create(RequestID, StorageCreate)
        /// Memberships as lease-service tells them; `nil`: it does not answer.
        case memberships([AgentLockspace]?)
        case probed(UInt64, domain: String, ProbeEnd, took: Duration)
        /// `lockspace.join` was answered, in whatever way, or its time is over.
        case joinAnswered(UInt64, domain: String)
        /// `lockspace.leave` was answered; `nil`: the lockspace is left.
        case leaveAnswered(UInt64, domain: String, RequestError?)
        case prepared(RequestID, DomainPreparation)
        /// Answer to `lockspace.initialize`.
        case initialized(RequestID, RequestError?)
        case published(RequestID, RequestError?)
        case wake
    }

    /// What is to be done. Numbers come back with the results.
    public enum Step: Sendable {
        /// Start a probe in a process of its own, killed at its deadline.
        case probe(UInt64, StoragePlace, deadline: Duration)
        case join(UInt64, LockspaceJoin, timeout: Duration)
        case leave(UInt64, domain: String, timeout: Duration)
        /// Make everything of a new domain but lease volumes and metadata.
        case prepare(RequestID, StorageCreate)
        case initialize(RequestID, LockspaceInitialize, timeout: Duration)
        /// Write the metadata, which says that the domain is whole.
        case publish(RequestID, StorageCreate)
        case tell(AgentInput)
    }

    /// A probe that took this long is told as a failure, while it is waited for.
    public static let patience = Duration.seconds(5)
    static let probeDeadline = Duration.seconds(30)
    static let membershipTimeout = Duration.seconds(30)
    static let initializeTimeout = Duration.seconds(60)
    /// Before a join or leave is asked for again.
    static let retry = Duration.seconds(1)

    private let probeInterval: Duration
    private var joined: [AgentLockspace]?
    private var watches: [String: Watch] = [:]
    private var leaves: [String: Asking] = [:]
    /// Domains that each ended run still waits for.
    private var quiescing: [Holder: Set<String>] = [:]
    private var creations: [RequestID: StorageCreate] = [:]
    private var lastNumber: UInt64 = 0

    private struct Watch: Sendable {
        var place: StoragePlace
        /// Wanted by the engine; others are only here until a run's end is settled.
        var isKept: Bool
        var probe: Probe?
        /// Without a probe: when the next one begins.
        var nextProbe: Instant?
        /// Runs that need a probe that begins after their end.
        var waiting: [Holder] = []
        var join: Asking?
    }

    private struct Probe: Sendable {
        var number: UInt64
        /// When it is told that it does not answer; `nil`: it was.
        var patienceEnds: Instant?
        /// Runs that had ended when it began.
        var serves: [Holder]
    }

    private struct Asking: Sendable {
        var number: UInt64
        /// Answered, and to be looked at again then; `nil`: not answered.
        var again: Instant?
    }

    /// - Parameter probeInterval: time from the end of a probe to the next.
    public init(probeInterval: Duration) { self.probeInterval = probeInterval }

    /// When ``Input/wake`` is due.
    public var nextWake: Instant? {
        let ofDomains = watches.values.flatMap { [$0.nextProbe, $0.probe?.patienceEnds, $0.join?.again] }
        return (ofDomains + leaves.values.map(\.again)).compactMap(\.self).min()
    }

    public mutating func handle(_ input: Input, at now: Instant) -> [Step] {
        switch input {
        case .keep(let place): keep(place, now)
        case .drop(let place): drop(place.domain)
        case .quiesce(let holder, let places): quiesce(holder, places, now)
        case .create(let id, let create): begin(id, create)
        case .memberships(let seen): onMemberships(seen)
        case .probed(let number, let domain, let end, let took): onProbed(number, domain, end, took, now)
        case .joinAnswered(let number, let domain): onJoinAnswered(number, domain, now)
        case .leaveAnswered(let number, let domain, let error): onLeaveAnswered(number, domain, error, now)
        case .prepared(let id, let found): onPrepared(id, found)
        case .initialized(let id, let error): onInitialized(id, error)
        case .published(let id, let error): ended(id, error)
        case .wake: onWake(now)
        }
    }

    private mutating func onWake(_ now: Instant) -> [Step] {
        var steps: [Step] = []
        for domain in leaves.keys.sorted() where isDue(leaves[domain]?.again, now) { steps += leave(domain) }
        for domain in watches.keys.sorted() {
            if isDue(watches[domain]?.join?.again, now) {
                watches[domain]?.join = nil
                steps += join(domain)
            }
            if isDue(watches[domain]?.probe?.patienceEnds, now) {
                watches[domain]?.probe?.patienceEnds = nil
                steps += report(domain, ok: false, nil, Self.unanswered)
            }
            if isDue(watches[domain]?.nextProbe, now) { steps += probe(domain, now) }
        }
        return steps
    }

    private func isDue(_ time: Instant?, _ now: Instant) -> Bool { time.map { $0 <= now } ?? false }

    private mutating func number() -> UInt64 {
        lastNumber += 1
        return lastNumber
    }

    // MARK: Domains

    private mutating func keep(_ place: StoragePlace, _ now: Instant) -> [Step] {
        watches[place.domain, default: Watch(place: place, isKept: true)].place = place
        watches[place.domain]?.isKept = true
        // A leave that is under way is overtaken: what it answers says nothing any more.
        leaves[place.domain] = nil
        return join(place.domain) + probe(place.domain, now)
    }

    private mutating func drop(_ domain: String) -> [Step] {
        watches[domain]?.isKept = false
        forgetIfUnused(domain)
        return leave(domain)
    }

    private mutating func forgetIfUnused(_ domain: String) {
        guard let watch = watches[domain], !watch.isKept, watch.waiting.isEmpty, watch.probe == nil else { return }
        watches[domain] = nil
    }

    // MARK: Lockspaces

    private mutating func onMemberships(_ seen: [AgentLockspace]?) -> [Step] {
        joined = seen
        return watches.keys.sorted().flatMap { join($0) }
    }

    private mutating func join(_ domain: String) -> [Step] {
        guard let watch = watches[domain], watch.isKept, watch.join == nil, let joined else { return [] }
        if let membership = joined.first(where: { $0.lockspace == domain }), membership.state == .joined || membership.state == .joining { return [] }
        let asking = Asking(number: number())
        watches[domain]?.join = asking
        return [.join(asking.number, LockspaceJoin(lockspace: domain, path: watch.place.path), timeout: Self.membershipTimeout)]
    }

    private mutating func onJoinAnswered(_ number: UInt64, _ domain: String, _ now: Instant) -> [Step] {
        if watches[domain]?.join?.number == number { watches[domain]?.join?.again = now + Self.retry }
        return []
    }

    /// Until lease-service says that it is done: it may be away now, or still give back leases of a guard that has just ended.
    private mutating func leave(_ domain: String) -> [Step] {
        let asking = Asking(number: number())
        leaves[domain] = asking
        return [.leave(asking.number, domain: domain, timeout: Self.membershipTimeout)]
    }

    private mutating func onLeaveAnswered(_ number: UInt64, _ domain: String, _ error: RequestError?, _ now: Instant) -> [Step] {
        guard leaves[domain]?.number == number else { return [] }
        if error != nil {
            leaves[domain]?.again = now + Self.retry
            return []
        }
        leaves[domain] = nil
        return [.tell(.left(domain))]
    }
}

// MARK: Probes

extension StorageWatch {
    private static var unanswered: String { "has not answered a probe for \(patience.milliseconds / 1000) s" }

    private mutating func quiesce(_ holder: Holder, _ places: [StoragePlace], _ now: Instant) -> [Step] {
        guard !places.isEmpty else { return [.tell(.quiesced(holder))] }
        quiescing[holder] = Set(places.map(\.domain))
        return places.flatMap { place in
            watches[place.domain, default: Watch(place: place, isKept: false)].waiting.append(holder)
            return probe(place.domain, now)
        }
    }

    private mutating func probe(_ domain: String, _ now: Instant) -> [Step] {
        guard let watch = watches[domain], watch.probe == nil else { return [] }
        let probe = Probe(number: number(), patienceEnds: now + Self.patience, serves: watch.waiting)
        watches[domain]?.waiting = []
        watches[domain]?.probe = probe
        watches[domain]?.nextProbe = nil
        return [.probe(probe.number, watch.place, deadline: Self.probeDeadline)]
    }

    private mutating func onProbed(_ number: UInt64, _ domain: String, _ end: ProbeEnd, _ took: Duration, _ now: Instant) -> [Step] {
        guard let probe = watches[domain]?.probe, probe.number == number else { return [] }
        watches[domain]?.probe = nil
        let problem = Self.problem(end)
        var steps = report(domain, ok: problem == nil, problem == nil ? took : nil, problem ?? "answers")
        if problem == nil {
            for holder in probe.serves { steps += settle(holder, domain) }
        } else {
            watches[domain]?.waiting += probe.serves
        }
        // A run that ended while this probe was under way needs one of its own, at once.
        if problem == nil, watches[domain]?.waiting.isEmpty == false { return steps + self.probe(domain, now) }
        let isWaitedFor = problem != nil && !probe.serves.isEmpty
        watches[domain]?.nextProbe = now + (isWaitedFor ? min(.seconds(1), probeInterval) : probeInterval)
        forgetIfUnused(domain)
        return steps
    }

    /// `nil`: the domain answers.
    private static func problem(_ end: ProbeEnd) -> String? {
        switch end {
        case .exited(0, _): nil
        case .exited(_, let output):
            output.split(separator: "\n").isEmpty ? "the probe failed" : output.split(separator: "\n").joined(separator: " ")
        case .signalled(let signal): "the probe ended by signal \(signal)"
        case .timedOut: unanswered
        case .notStarted(let why): "no probe could be started: \(why)"
        }
    }

    private mutating func settle(_ holder: Holder, _ domain: String) -> [Step] {
        quiescing[holder]?.remove(domain)
        guard quiescing[holder]?.isEmpty == true else { return [] }
        quiescing[holder] = nil
        return [.tell(.quiesced(holder))]
    }

    private func report(_ domain: String, ok: Bool, _ latency: Duration?, _ detail: String) -> [Step] {
        guard let watch = watches[domain], watch.isKept else { return [] }
        return [.tell(.probed(DomainProbe(domain: domain, path: watch.place.path, ok: ok, latency: latency, detail: detail, lockspace: nil)))]
    }
}

// MARK: Creation

extension StorageWatch {
    private mutating func begin(_ id: RequestID, _ create: StorageCreate) -> [Step] {
        creations[id] = create
        return [.prepare(id, create)]
    }

    private mutating func onPrepared(_ id: RequestID, _ found: DomainPreparation) -> [Step] {
        guard let create = creations[id] else { return [] }
        return switch found {
        case .failed(let error): ended(id, error)
        case .isThere: ended(id, nil)
        case .prepared:
            [.initialize(id, LockspaceInitialize(lockspace: create.domain, path: create.path, ioTimeout: create.ioTimeout), timeout: Self.initializeTimeout)]
        }
    }

    private mutating func onInitialized(_ id: RequestID, _ error: RequestError?) -> [Step] {
        guard let create = creations[id] else { return [] }
        // Without metadata the domain was not whole: lease volumes that are there are its own, of a creation that was cut off.
        if let error, error.code != LeaseErrorCode.exists.rawValue { return ended(id, error) }
        return [.publish(id, create)]
    }

    private mutating func ended(_ id: RequestID, _ error: RequestError?) -> [Step] {
        creations[id] = nil
        return [.tell(.storageCreated(id, error))]
    }
}
