import Messages

/// Who is SPM of each pool, and the storage work that goes through it.
///
/// A term, the number of one election, is the unit of safety: it names host, incarnation, boot and generations, is journaled before `spm.start` is sent, and no other
/// begins until it is known to be over: refused, released by the agent of that same boot, or proven over (I2, I3).
///
/// | term     | agent: SPM, this term | agent: Free            | start refused        | no answer             | proof covers it |
/// |----------|-----------------------|------------------------|----------------------|-----------------------|-----------------|
/// | none     | –                     | –                      | –                    | –                     | –               |
/// | starting | → serving, elected    | → none, or stopping ¹  | → none, next host    | → asking              | → none          |
/// | asking   | → serving             | → none, or stopping ¹  | –                    | ask again             | → none          |
/// | serving  | stay                  | → none, or stopping ¹  | –                    | 3 times → asking      | → none          |
/// | stopping | stop again            | → none                 | –                    | stop again            | → none          |
///
/// ¹ Free counts as released if the agent of that boot proves that the term ended, or says it in answer to `spm.stop`; else it is told to stop: its storage may not have answered
/// yet (S4), or the `spm.start` may still be on its way and must find the term closed.
///
/// With no term, an election begins when the registry is fresh (I5), no back-off runs, and recovery is allowed or an operator asked for it. After its own restart a term in any phase
/// is asked about first: a living owner is adopted without any action (I7).
public struct SPMCoordinator: Engine {
    /// By name; after a start as last known until the registry is fresh.
    public internal(set) var hosts: [String: SPMHost] = [:]
    /// By name.
    public internal(set) var pools: [String: Pool] = [:]
    /// Open ones, and the newest of the others.
    public internal(set) var tasks: [RequestID: StorageTask] = [:]
    /// `nil` until fencing-service told it since the last start.
    public internal(set) var recovery: HAState?
    var policy = SPMPolicy()
    /// The registry was read since the last start.
    var fresh = false
    var nextTask: UInt64 = 1
    /// When the proof of each host came.
    var proofs: [String: HeldProof] = [:]
    /// The newest `leaseExpired` proof about each host; `nil`: there never was any.
    var leaseProofs: [String: HeldProof]?

    /// Knows nothing yet.
    public init() {}

    public var publicState: any Encodable & Sendable { SPMSnapshot(pools: poolViews, tasks: taskViews) }

    /// Pools by name.
    public var poolViews: [PoolView] { pools.keys.sorted().compactMap { pools[$0]?.view } }

    /// Tasks in the order they were accepted.
    public var taskViews: [TaskView] { tasks.values.sorted { $0.number < $1.number }.map(\.view) }

    /// The pool of that name, or the only one for `nil`.
    public func pool(named name: String?) -> Pool? {
        if let name { return pools[name] }
        return pools.count == 1 ? pools.first?.value : nil
    }

    /// Applies one input; every pool and task then names what it wants next.
    public mutating func handle(_ input: SPMInput, at now: Instant) -> [Effect<SPMAction>] {
        var effects: [Effect<SPMAction>] = []
        switch input {
        case .started(let policy): onStarted(policy, at: now)
        case .wake: break
        case .createPool(let id, let request): onCreatePool(id, request, &effects)
        case .move(let id, let request): onMove(id, request, at: now, &effects)
        case .createVolume(let id, let v):
            onTask(id, .volumeCreate(domain: v.domain, image: v.image, size: v.size, source: v.source), domain: v.domain, &effects)
        case .createLease(let id, let request): onTask(id, .leaseCreate(lease: request.lease), domain: request.lease.lockspace, &effects)
        case .hosts(let hosts, let recovery): onHosts(hosts, recovery, at: now)
        case .host(let host): onHost(host, at: now)
        case .hostRemoved(let name): onHostRemoved(name)
        case .recovery(let state): recovery = state
        case .answer(let ask, let answer): onAnswer(ask, answer, at: now, &effects)
        case .taskAnswer(let ask, let answer): onTaskAnswer(ask, answer, at: now, &effects)
        }
        for name in pools.keys.sorted() { advance(pool: name, at: now, &effects) }
        sendTasks(at: now, &effects)
        if let next = nextWake(after: now) { effects.append(.wake(at: next)) }
        return effects
    }

    /// Forgets what was on its way: every term is asked about before anything is concluded, every open task is sent again to the SPM that then serves.
    mutating func onStarted(_ policy: SPMPolicy, at now: Instant) {
        self.policy = policy
        fresh = false
        recovery = nil
        for name in pools.keys {
            pools[name]?.term?.inFlight = false
            pools[name]?.term?.askAt = now
            pools[name]?.term?.missed = 0
            if pools[name]?.term?.phase != .stopping { pools[name]?.term?.phase = .asking }
        }
        for id in tasks.keys {
            tasks[id]?.sentIn = nil
            tasks[id]?.retryAt = nil
        }
    }

    mutating func onCreatePool(_ id: RequestID, _ request: PoolCreate, _ effects: inout [Effect<SPMAction>]) {
        if let pool = pools[request.pool] {
            guard pool.master == request.master else {
                let text = "pool \(request.pool) exists with master domain \(pool.master)"
                effects.append(.reply(to: id, .refused(RequestError(SPMErrorCode.poolExists, text))))
                return
            }
            effects.append(.reply(to: id, .success(pool.view)))
            return
        }
        if let other = poolViews.first(where: { $0.master == request.master }) {  // its lease SDM would be that of two pools
            let text = "domain \(request.master) is the master of pool \(other.pool); a pool needs a master domain of its own"
            effects.append(.reply(to: id, .refused(RequestError(SPMErrorCode.poolExists, text, details: ["pool": other.pool]))))
            return
        }
        let pool = Pool(request)
        pools[pool.name] = pool
        effects.append(.publish(Event("pool.status", subject: pool.name, body: pool.view)))
        effects.append(.decide(Decision("spm/\(pool.name)", "pool created", why: "requested, with master domain \(pool.master)")))
        effects.append(.reply(to: id, .success(pool.view)))
    }

    /// The whole registry: hosts that are missing in it are gone.
    mutating func onHosts(_ all: [SPMHost], _ state: HAState, at now: Instant) {
        fresh = true
        recovery = state
        let named = Set(all.map(\.name))
        for name in hosts.keys.sorted() where !named.contains(name) { onHostRemoved(name) }
        for host in all { onHost(host, at: now) }
    }

    mutating func onHost(_ host: SPMHost, at now: Instant) {
        hosts[host.name] = host
        // None: there was none, or it was revoked.
        proofs[host.name] = held(host.proof, proofs[host.name], at: now)
        let expired = held(host.leaseProof, leaseProofs?[host.name], at: now)
        if expired != nil || leaseProofs != nil { leaseProofs = (leaseProofs ?? [:]).filter { $0.key != host.name }.merging(expired.map { [host.name: $0] } ?? [:]) { $1 } }
    }

    /// The same proof is as old as it was when it first came.
    private func held(_ signed: SignedProof?, _ known: HeldProof?, at now: Instant) -> HeldProof? {
        guard let signed else { return nil }
        return known?.signed.statement == signed.statement ? known : HeldProof(signed: signed, since: now)
    }

    /// A forgotten host that holds a term stays known as Down: only its proof or its own word ends the term.
    mutating func onHostRemoved(_ name: String) {
        if pools.values.contains(where: { $0.term?.host == name }) {
            hosts[name]?.status = .down
        } else {
            hosts[name] = nil
            proofs[name] = nil
            leaseProofs?[name] = nil
        }
    }

    /// The earliest moment at which any part wants to act.
    func nextWake(after now: Instant) -> Instant? {
        var moments: [Instant] = []
        for pool in pools.values {
            if let term = pool.term {
                if !term.inFlight { moments.append(term.askAt) }
            } else if let notBefore = pool.notBefore {
                moments.append(notBefore)
            }
        }
        for task in tasks.values where task.isOpen && task.sentIn == nil {
            if let retryAt = task.retryAt { moments.append(retryAt) }
        }
        return moments.filter { $0 > now }.min()
    }
}
