import DomainMonitorEngine
import Foundation
import Messages
import Testing

/// Hosts that lose storage, boots and answers; it throws when the monitor concludes something that its reports do not support.
private struct World {
    struct Violation: Error, CustomStringConvertible { var description: String }

    struct Machine {
        var incarnation: UInt64 = 1
        var status = HostStatus.up
        var over: UInt64 = 0
        var connected = false
        var ok = true
        /// Last delivered report of this boot since the last start of the monitor, and since when it says so.
        var said: Bool?
        var since = Instant(nanoseconds: 0)
        /// When it last was heard to see the domain well; a decision made before a restart or a boot still stands.
        var lastGood = Instant(nanoseconds: 0)
        var flag: String?
    }

    var random: SplitMix64
    var bench = Bench([])
    var machines: [Int: Machine] = [1: Machine(), 2: Machine(), 3: Machine()]
    var life = 0
    var pending: [(life: Int, action: DomainAction)] = []
    var makers: [(host: Int, incarnation: UInt64)] = []
    var refusedBy: Set<Int> = []
    var calm = false

    init(seed: UInt64) { random = SplitMix64(seed: seed) }

    func view(_ n: Int) -> MonitoredHost {
        let m = machines[n] ?? Machine()
        return Bench.host(n, m.status, incarnation: m.incarnation, over: m.over)
    }

    func number(_ host: String) -> Int { Int(host.dropFirst(4)) ?? 0 }

    mutating func give(_ input: DomainInput) throws {
        let before = bench.view?.status
        bench.give(input)
        try collect(before)
    }

    mutating func pass(_ duration: Duration) throws {
        let end = bench.now + duration
        while let at = bench.wake, at <= end {
            bench.now = max(at, bench.now)
            try give(.wake)
        }
        bench.now = end
    }

    mutating func collect(_ before: DomainStatus?) throws {
        let up = machines.filter { $0.value.status == .up }
        if bench.view?.status == .inactive, before != .inactive {
            for (n, m) in up where m.said != false || bench.now - m.since < Bench.failure {
                throw Violation(description: "Inactive although host\(n) says \(String(describing: m.said)) since \(m.since), now \(bench.now)")
            }
        }
        for action in bench.actions {
            switch action {
            case .flag(let status) where status.reason != nil:
                let n = number(status.host)
                guard let m = machines[n], m.said == false else { throw Violation(description: "\(status.host) is set aside without a bad report") }
                if m.flag == nil, bench.now - m.lastGood < Bench.failure { throw Violation(description: "\(status.host) is set aside too soon") }
            case .create(let ask, _):
                let n = number(ask.host)
                for maker in makers where maker.host != n && !refusedBy.contains(maker.host) && (machines[maker.host]?.over ?? 0) < maker.incarnation {
                    throw Violation(description: "host\(n) makes it while host\(maker.host) may still do")
                }
                makers.append((n, machines[n]?.incarnation ?? 0))
            default: break
            }
            pending.append((life, action))
        }
        bench.actions = []
    }

    mutating func answer(_ index: Int) throws {
        let (sender, action) = pending.remove(at: index)
        var result = Answer.unanswered
        let lost = !calm && random.chance(25)
        switch action {
        case .create(let ask, _):
            let m = machines[number(ask.host)] ?? Machine()
            if m.status == .up, ask.bootID == Bench.boot(number(ask.host), m.incarnation) {
                result = .done
                if !calm, random.chance(20) {
                    result = .refused(RequestError(RequestErrorCode.journalFull, "full"))
                    if !lost, sender == life { refusedBy.insert(number(ask.host)) }
                }
            }
            if sender == life { try give(.created(ask, lost ? .unanswered : result)) }
        case .connect(let ask, _):
            let n = number(ask.host)
            if machines[n]?.status != .nonResponsive, ask.bootID == Bench.boot(n, machines[n]?.incarnation ?? 0) {
                machines[n]?.connected = true
                result = .done
            }
            if sender == life { try give(.connected(ask, lost ? .unanswered : result)) }
        case .flag(let status):
            let n = number(status.host)
            machines[n]?.flag = status.reason
            if let m = machines[n], m.status == .up || m.status == .nonOperational { machines[n]?.status = status.reason == nil ? .up : .nonOperational }
            if sender == life { try give(.flagged(status, lost ? .unanswered : .done)) }
            try give(.host(view(n)))
        }
    }

    mutating func report(_ n: Int) throws {
        guard var m = machines[n], m.status != .nonResponsive else { return }
        let says = m.connected ? m.ok : nil
        if m.said != says { m.since = bench.now }
        m.said = says
        if says == true { m.lastGood = bench.now }
        machines[n] = m
        if m.connected { bench.report(n, m.ok, incarnation: m.incarnation) } else { bench.reportNothing(n, incarnation: m.incarnation) }
        try collect(bench.view?.status)
    }

    mutating func boot(_ n: Int) {
        guard var m = machines[n] else { return }
        m.over = m.incarnation
        m.incarnation += 1
        m.status = m.flag == nil ? .up : .nonOperational
        (m.connected, m.said) = (false, nil)
        machines[n] = m
    }

    mutating func restart() throws {
        life += 1
        bench.engine = try JSONDecoder().decode(DomainMonitor.self, from: JSONEncoder().encode(bench.engine))
        for n in machines.keys { machines[n]?.said = nil }
        try give(.started(Bench.policy))
        try give(.hosts([view(1), view(2), view(3)]))
    }

    mutating func step() throws {
        let n = 1 + random.below(3)
        switch random.below(16) {
        case 0...3 where !pending.isEmpty: try answer(random.below(pending.count))
        case 4...6: try report(n)
        case 7, 8: try pass(.milliseconds(Int64(random.below(20_000))))
        case 9:
            machines[n]?.ok.toggle()
            try report(n)
        case 10:
            machines[n]?.status = .nonResponsive
            try give(.host(view(n)))
        case 11:
            boot(n)
            try give(.host(view(n)))
        case 12 where random.chance(20): try restart()
        case 13: try give(.hosts([view(1), view(2), view(3)]))
        case 14 where machines[n]?.status == .nonResponsive:
            let flag = machines[n]?.flag
            machines[n]?.status = flag == nil ? .up : .nonOperational
            try give(.host(view(n)))
        default: break
        }
    }

    mutating func run(steps: Int) throws {
        try give(.hosts([view(1), view(2), view(3)]))
        for index in 0..<steps {
            if bench.engine.views.isEmpty {
                (makers, refusedBy) = ([], [])
                try give(.create("c\(index)", Bench.create()))
            }
            try step()
        }
        calm = true
        for n in 1...3 {
            machines[n]?.ok = true
            if machines[n]?.status == .nonResponsive { boot(n) }
            try give(.host(view(n)))
        }
        if bench.engine.views.isEmpty { try give(.create("last", Bench.create())) }
        for _ in 0..<300 {
            while !pending.isEmpty { try answer(0) }
            for n in 1...3 { try report(n) }
            try pass(.seconds(1))
        }
        guard bench.view?.status == .active, bench.view?.hosts.allSatisfy({ $0.ok == true }) == true, machines.values.allSatisfy({ $0.status == .up }) else {
            throw Violation(description: "calm, but \(String(describing: bench.view)), \(machines)")
        }
    }
}

/// Nothing is called Inactive, set aside or made twice without the reports and proofs for it, and all is well again once the weather is calm.
@Test(arguments: 0..<150) func walksConcludeOnlyWhatReportsSupport(seed: UInt64) throws {
    var world = World(seed: seed)
    try world.run(steps: 400)
}
