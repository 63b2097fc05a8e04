import DomainMonitorEngine
import Messages
import Testing

/// A monitor under a clock of our own, with everything it asked for.
struct Bench {
    static let uuid = "6a1e8f5e-0000-4000-8000-000000000001"
    static let failure = Duration.seconds(30)
    static let policy = DomainPolicy(failure: failure)

    var engine = DomainMonitor()
    var now = Instant(nanoseconds: 1_000_000_000)
    var wake: Instant?
    var actions: [DomainAction] = []
    var events: [Event] = []
    var decisions: [Decision] = []
    var replies: [(id: RequestID, reply: Reply)] = []

    static func host(_ number: Int, _ status: HostStatus = .up, incarnation: UInt64 = 1, over: UInt64? = nil) -> MonitoredHost {
        let view = HostView(
            name: "host\(number)", id: number, status: status, reason: "", incarnation: Incarnation(incarnation), bootID: boot(number, incarnation),
            endpoints: HostEndpoints(agentRequests: "a\(number)", agentEvents: "b", leaseRequests: "c", leaseEvents: "d"))
        let proof = over.map {
            Proof(id: "p", kind: .powerOff, host: "host\(number)", hostID: number, incarnations: Incarnation($0), statement: "off")
        }
        return MonitoredHost(view, proof: proof)
    }

    static func boot(_ number: Int, _ incarnation: UInt64 = 1) -> String { "boot\(number)-\(incarnation)" }

    static func create(_ name: String = "data", uuid: String = uuid, directory: String = "/srv/shared") -> DomainCreate {
        DomainCreate(name: name, domain: uuid, directory: directory, ioTimeout: 2)
    }

    /// Started, with these hosts.
    init(_ hosts: [MonitoredHost] = [Bench.host(1), Bench.host(2), Bench.host(3)]) {
        give(.started(Self.policy))
        give(.hosts(hosts))
    }

    mutating func give(_ input: DomainInput) {
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

    mutating func pass(_ duration: Duration) {
        let end = now + duration
        while let at = wake, at <= end {
            now = max(at, now)
            give(.wake)
        }
        now = end
    }

    /// The domain exists, every host is connected and reports it as said.
    mutating func make(_ sights: [Bool?] = [true, true, true]) throws {
        give(.create("c", Self.create()))
        give(.created(try #require(takeCreates().first), .done))
        for (index, ok) in sights.enumerated() { report(index + 1, ok) }
        actions = []
    }

    mutating func report(_ number: Int, _ ok: Bool?, incarnation: UInt64 = 1) {
        let sight = Sight(ok: ok, joined: ok == true, detail: ok == false ? "read timeout" : "")
        give(.report(host: "host\(number)", HostReport(bootID: Self.boot(number, incarnation), domains: [Self.uuid: sight])))
    }

    mutating func reportNothing(_ number: Int, incarnation: UInt64 = 1) {
        give(.report(host: "host\(number)", HostReport(bootID: Self.boot(number, incarnation), domains: [:])))
    }

    mutating func takeCreates() -> [CreateAsk] {
        let asks = actions.compactMap { if case .create(let ask, _) = $0 { ask } else { nil } }
        actions.removeAll { if case .create = $0 { true } else { false } }
        return asks
    }

    mutating func takeConnects() -> [ConnectAsk] {
        let asks = actions.compactMap { if case .connect(let ask, _) = $0 { ask } else { nil } }
        actions.removeAll { if case .connect = $0 { true } else { false } }
        return asks
    }

    mutating func takeFlags() -> [HostSetStatus] {
        let flags = actions.compactMap { if case .flag(let status) = $0 { status } else { nil } }
        actions.removeAll { if case .flag = $0 { true } else { false } }
        return flags
    }

    var view: DomainView? { engine.views.first }

    func refusal(_ id: RequestID) -> RequestError? {
        guard case .refused(let error)? = replies.last(where: { $0.id == id })?.reply else { return nil }
        return error
    }
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
