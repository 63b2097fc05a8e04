import Foundation
import Messages
import SPMEngine
import Testing

/// A cluster that loses, delays and repeats messages, loses hosts and restarts the coordinator; it throws when the coordinator breaks a promise.
private struct World {
    struct Violation: Error, CustomStringConvertible { var description: String }

    /// What really is on a host.
    struct Machine {
        var incarnation: UInt64 = 1
        var powered = true
        /// Hung or cut off: requests wait in front of it.
        var silent = false
        var proof: SignedProof?
        /// The term that really runs here.
        var running: UInt64?
        /// Its guard is gone, its storage has not answered: the term is not over yet.
        var quiescing: UInt64?
        var lver: UInt64 = 0
        var heard: UInt64 = 0
        var closed: UInt64 = 0
        var bootID: String { "x-\(incarnation)" }
    }

    var random: SplitMix64
    var bench: Bench
    var machines: [Int: Machine] = [1: Machine(), 2: Machine(), 3: Machine()]
    /// Requests that left the coordinator and have not reached their host, with the coordinator's life that sent them.
    var transit: [(life: Int, action: SPMAction, answered: Bool)] = []
    var life = 0
    /// The weather at the end of a walk: everything arrives, nothing dies.
    var calm = false
    var nextLver: UInt64 = 1
    var made: Set<String> = []
    var wanted: [RequestID] = []
    var answered: [RequestID: Int] = [:]
    /// Terms whose start left the coordinator, and those of them known to be over by what was delivered to it.
    var sentTerms: [UInt64: (host: Int, incarnation: UInt64)] = [:]
    var over: Set<UInt64> = []

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
        bench = Bench([], pool: false)
    }

    func number(_ host: String) -> Int { Int(host.dropFirst(4)) ?? 0 }

    func view(_ n: Int) -> SPMHost {
        let m = machines[n] ?? Machine()
        let status: HostStatus = !m.powered ? .down : m.silent ? .nonResponsive : .up
        var host = Bench.host(n, status, incarnation: m.incarnation, proof: m.proof)
        host.bootID = m.bootID
        return host
    }

    mutating func give(_ input: SPMInput) throws {
        bench.give(input)
        try collect()
    }

    mutating func collect() throws {
        for (id, _) in bench.replies { answered[id, default: 0] += 1 }
        bench.replies = []
        for id in wanted where (answered[id] ?? 0) > 1 { throw Violation(description: "\(id) was answered twice") }
        let lost = !calm && random.chance(2)  // killed between commit and effects
        for action in bench.actions where !lost {
            if case .start(let ask, _) = action {
                for (term, run) in sentTerms where term != ask.term && !over.contains(term) {
                    throw Violation(description: "term \(ask.term) on \(ask.host) starts while term \(term) on host\(run.host) is not proven over")
                }
                sentTerms[ask.term] = (number(ask.host), machines[number(ask.host)]?.incarnation ?? 0)
            }
            transit.append((life, action, false))
        }
        bench.actions = []
        if lost { try restart() }
    }

    mutating func restart() throws {
        life += 1
        bench.engine = try JSONDecoder().decode(SPMCoordinator.self, from: JSONEncoder().encode(bench.engine))
        bench.give(.started(SPMPolicy()))
        if random.chance(50) { try publish() }
        try collect()
    }

    mutating func publish() throws {
        for (term, run) in sentTerms {
            if let proof = machines[run.host]?.proof?.proof, proof.covers(host: "host\(run.host)", incarnation: Incarnation(run.incarnation)) { over.insert(term) }
        }
        bench.give(.hosts([view(1), view(2), view(3)], Bench.allowed))
    }

    /// One request reaches its host (perhaps long after the coordinator gave up on it), or its sender gives up.
    mutating func deliver(_ index: Int) throws {
        let (sender, action, wasAnswered) = transit[index]
        let host: String
        let boot: String
        switch action {
        case .start(let ask, _), .ask(let ask): (host, boot) = (ask.host, ask.bootID)
        case .run(let ask, _): (host, boot) = (ask.host, ask.bootID)
        }
        var m = machines[number(host)] ?? Machine()
        let reaches = m.powered && !m.silent && (calm || random.chance(80))
        transit.remove(at: index)
        guard reaches else {
            if !calm && random.chance(50) { transit.append((sender, action, true)) }  // it may still arrive
            if !wasAnswered { try answer(action, sender: sender, role: .unanswered, task: .unanswered) }
            return
        }
        let replyArrives = !wasAnswered && (calm || random.chance(85))
        let wrong = boot != m.bootID
        var role = RoleAnswer.refused(RequestError(RequestErrorCode.wrongTarget, "other boot"))
        var task = TaskAnswer.refused(RequestError(RequestErrorCode.wrongTarget, "other boot"))
        if !wrong {
            switch action {
            case .start(let ask, _):
                if ask.term <= m.closed || ask.term < m.heard || (m.running != nil && m.running != ask.term) || m.quiescing != nil {
                    role = .refused(RequestError(AgentErrorCode.termStale, "stale"))
                } else if m.running != ask.term && !calm && random.chance(20) {
                    m.heard = ask.term
                    m.closed = ask.term
                    role = .refused(RequestError(AgentErrorCode.spmStartFailed, "no"))
                } else {
                    m.heard = ask.term
                    if m.running == nil {
                        m.running = ask.term
                        m.lver = nextLver
                        nextLver += 1
                    }
                    role = Bench.status(.spm, term: ask.term, lver: m.lver)
                }
            case .ask(let ask) where ask.kind == .stop:
                m.heard = max(m.heard, ask.term)
                m.closed = max(m.closed, ask.term)
                if m.running == ask.term { (m.running, m.quiescing) = (nil, ask.term) }
                if calm { m.quiescing = nil }
                role = m.quiescing == ask.term ? .unanswered : Bench.status(.free, term: ask.term)
            case .ask(let ask):
                if let running = m.running {
                    role = Bench.status(.spm, term: running, lver: m.lver)
                } else if m.quiescing == ask.term || random.chance(30) {
                    role = Bench.status(.free, term: ask.term)
                } else {
                    m.closed = max(m.closed, ask.term)
                    role = Bench.status(.free, term: ask.term, ended: Bench.ended(ask.term, host: number(host)))
                }
            case .run(let ask, let run):
                if m.running == ask.term && m.lver == run.lver {
                    made.insert(run.task)
                    task = .finished(TaskResult(task: run.task, detail: "made"))
                } else {
                    task = .refused(RequestError(AgentErrorCode.notSPM, "not here"))
                }
            }
            machines[number(host)] = m
        }
        let running = machines.values.filter { $0.powered && ($0.running ?? $0.quiescing) != nil }
        if running.count > 1 { throw Violation(description: "two hosts serve: \(running.map(\.bootID))") }
        if wasAnswered { return }
        try answer(action, sender: sender, role: replyArrives ? role : .unanswered, task: replyArrives ? task : .unanswered)
    }

    mutating func answer(_ action: SPMAction, sender: Int, role: RoleAnswer, task: TaskAnswer) throws {
        guard sender == life else { return }
        switch action {
        case .start(let ask, _), .ask(let ask):
            switch role {
            case .status(let status) where status.role == .free && (ask.kind == .stop || status.ended != nil): over.insert(ask.term)
            case .refused(let error) where error.code == AgentErrorCode.spmStartFailed.rawValue && ask.kind == .start: over.insert(ask.term)
            default: break
            }
            try give(.answer(ask, role))
        case .run(let ask, _): try give(.taskAnswer(ask, task))
        }
    }

    mutating func step(_ index: Int) throws {
        switch random.below(20) {
        case 0...7 where !transit.isEmpty: try deliver(random.below(transit.count))
        case 8...10:
            bench.pass(.milliseconds(Int64(random.below(4000))))
            try collect()
        case 11:
            let n = 1 + random.below(3)
            machines[n]?.silent.toggle()
            try publish()
        case 12:  // power lost; fencing proves it, at once or later
            let n = 1 + random.below(3)
            machines[n]?.powered = false
            machines[n]?.running = nil
            machines[n]?.quiescing = nil
            let incarnation = machines[n]?.incarnation ?? 0
            if random.chance(60) { machines[n]?.proof = Bench.proof(n, through: incarnation) }
            try publish()
        case 13, 14:
            let n = 1 + random.below(3)
            guard var m = machines[n], !m.powered else { return }
            m.proof = Bench.proof(n, through: m.incarnation, kind: .rebooted)
            m.incarnation += 1
            m.powered = true
            m.silent = false
            (m.heard, m.closed, m.running, m.quiescing) = (0, 0, nil, nil)
            machines[n] = m
            try publish()
        case 15:
            let id = "task\(index)"
            wanted.append(id)
            try give(.createVolume(id, VolumeCreate(domain: Bench.master, image: "image\(random.below(6))", size: 512)))
        case 16 where random.chance(30): try give(.move("move\(index)", PoolRequest(host: "host\(1 + random.below(3))")))
        case 17 where random.chance(30): try restart()
        case 18: try publish()
        case 19:  // the role ends by itself (its storage, its lease)
            let n = 1 + random.below(3)
            machines[n]?.quiescing = nil
            if random.chance(20) {
                let ended = machines[n]?.running
                machines[n]?.quiescing = ended
                machines[n]?.running = nil
            }
        default: break
        }
        try collect()
    }

    mutating func run(steps: Int) throws {
        try publish()
        try give(.createPool("create", PoolCreate(pool: "p", master: Bench.master)))
        for index in 0..<steps { try step(index) }
        for n in 1...3 {
            guard var m = machines[n] else { continue }
            if !m.powered {
                m.proof = Bench.proof(n, through: m.incarnation, kind: .rebooted)
                m.incarnation += 1
                (m.heard, m.closed, m.running, m.quiescing) = (0, 0, nil, nil)
            }
            (m.powered, m.silent) = (true, false)
            machines[n] = m
        }
        calm = true
        try publish()
        for _ in 0..<600 {
            try collect()
            while !transit.isEmpty { try deliver(0) }
            bench.pass(.seconds(1))
        }
        try collect()
        if bench.view.status != .up { throw Violation(description: "calm, but \(bench.view)") }
        for id in wanted where answered[id] != 1 || !made.contains(id) { throw Violation(description: "\(id) was lost: \(bench.engine.taskViews)") }
    }
}

/// Never two terms that are not proven over, never two hosts that serve, no task lost or answered twice, and everything well again once the weather is calm.
@Test(arguments: 0..<150) func walksKeepThePromise(seed: UInt64) throws {
    var world = World(seed: seed)
    try world.run(steps: 400)
}
