import Messages
import SPMEngine
import Testing

/// A coordinator under a clock of our own, with everything it ever asked for.
struct Bench {
    var engine = SPMCoordinator()
    var now = Instant(nanoseconds: 1_000_000_000)
    var wake: Instant?
    var actions: [SPMAction] = []
    var events: [Event] = []
    var decisions: [Decision] = []
    var replies: [(id: RequestID, reply: Reply)] = []

    static let master = "6a1e8f5e-0000-4000-8000-000000000001"
    static let hold = HAState(enabled: true, hold: "maintenance window", recoveryAllowed: false)
    static let allowed = HAState(enabled: true, hold: nil, recoveryAllowed: true)

    static func host(
        _ number: Int, _ status: HostStatus = .up, incarnation: UInt64 = 1, priority: Int = 5, joined: Bool = true, proof: SignedProof? = nil
    ) -> SPMHost {
        var view = HostView(
            name: "host\(number)", id: number, status: status, reason: "", incarnation: Incarnation(incarnation), bootID: "boot\(number)-\(incarnation)",
            generations: joined ? [master: incarnation] : [:],
            endpoints: HostEndpoints(agentRequests: "a\(number)", agentEvents: "b", leaseRequests: "c", leaseEvents: "d"), spmPriority: priority)
        if proof?.proof.kind == .leaseExpired { view.leaseProof = proof } else { view.proof = proof }
        return SPMHost(view)
    }

    static func proof(_ number: Int, through incarnation: UInt64, kind: ProofKind = .powerOff) -> SignedProof {
        let proof = Proof(
            id: "proof-host\(number)-\(incarnation)", kind: kind, host: "host\(number)", hostID: number, incarnations: Incarnation(incarnation),
            generations: [master: incarnation], statement: "host\(number) is off")
        return SignedProof(proof: proof, statement: proof.id, signature: "", key: "")
    }

    /// Started, with these hosts; the pool `p` is created if wanted.
    init(_ hosts: [SPMHost] = [Bench.host(1), Bench.host(2), Bench.host(3)], _ ha: HAState = Bench.allowed, pool: Bool = true) {
        give(.started(SPMPolicy()))
        give(.hosts(hosts, ha))
        if pool { give(.createPool("create", PoolCreate(pool: "p", master: Self.master))) }
    }

    mutating func give(_ input: SPMInput) {
        wake = nil
        for effect in engine.handle(input, at: now) {
            switch effect {
            case .wake(let at): wake = at
            case .reply(let id, let reply): replies.append((id, reply))
            case .publish(let event): events.append(event)
            case .decide(let decision): decisions.append(decision)
            case .perform(let action): actions.append(action)
            }
        }
    }

    /// Lets time pass, waking the engine whenever it asked for it.
    mutating func pass(_ duration: Duration) {
        let end = now + duration
        while let at = wake, at <= end {
            now = max(at, now)
            give(.wake)
        }
        now = end
    }

    /// Takes the only outstanding start.
    mutating func takeStart() throws -> (ask: RoleAsk, start: SPMStart) {
        let starts = actions.compactMap { if case .start(let ask, let start) = $0 { (ask, start) } else { nil } }
        actions.removeAll { if case .start = $0 { true } else { false } }
        #expect(starts.count == 1)
        return try #require(starts.first)
    }

    mutating func takeAsk(_ kind: RoleAsk.Kind) throws -> RoleAsk {
        let asks = actions.compactMap { if case .ask(let ask) = $0, ask.kind == kind { ask } else { nil } }
        actions.removeAll { if case .ask = $0 { true } else { false } }
        return try #require(asks.last, "no spm.\(kind.rawValue) was sent")
    }

    mutating func takeTasks() -> [(ask: TaskAsk, run: TaskRun)] {
        let runs = actions.compactMap { if case .run(let ask, let run) = $0 { (ask, run) } else { nil } }
        actions.removeAll { if case .run = $0 { true } else { false } }
        return runs
    }

    var starts: Int { actions.count { if case .start = $0 { true } else { false } } }

    /// What the agent of `host` signs once nothing of the term is left.
    static func ended(_ term: UInt64, host: Int = 1) -> SignedProof {
        let proof = Proof(id: "ended-\(term)", kind: .ended, host: "host\(host)", hostID: host, holder: "spm/p", attempt: term, statement: "reaped")
        return SignedProof(proof: proof, statement: proof.id, signature: "", key: "")
    }

    static func status(_ role: SPMRole, term: UInt64, lver: UInt64 = 7, ended: SignedProof? = nil) -> RoleAnswer {
        .status(SPMRoleStatus(pool: "p", role: role, term: term, lver: lver, evidence: "test", ended: ended))
    }

    /// The pool elects, and the chosen host serves.
    mutating func serve() throws -> RoleAsk {
        let (ask, _) = try takeStart()
        give(.answer(ask, Self.status(.spm, term: ask.term, lver: ask.term)))
        return ask
    }

    var view: PoolView { engine.poolViews[0] }
}

struct SplitMix64 {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
    mutating func below(_ n: Int) -> Int { Int(next() % UInt64(n)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}
