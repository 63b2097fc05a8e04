import Messages

@testable import PlacementEngine

struct SplitMix64: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// What the model throws when the engine broke a promise.
struct Broken: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// A cluster as it really is: machines, guests, messages that are late, lost, doubled; and an engine that only sees messages.
///
/// It knows the truth, and throws as soon as a start leaves the engine while an earlier run of that VM is alive or could still come to life on a machine that has not ended (I1, I3, I4).
struct World {
    enum Event {
        case toEngine(PlacementEngine.Input, epoch: Int)
        case toAgent(AgentTarget, AgentCall, id: RequestID, last: Bool)
        case report(String)
        case silence(String, incarnation: Incarnation)
        case fence(String, incarnation: Incarnation)
        case boot(String, incarnation: Incarnation)
        case wake
    }
    enum AgentCall { case start(VMStart), stop(VMAttempt), observe(VMAttempt), resume(VMAttempt) }

    struct Guest: Hashable {
        var attempt: UInt64
        var running: Bool
    }
    struct Machine {
        var incarnation = Incarnation(1)
        var powered = true
        var reachable = true
        var fenceWorks = true
        var guests: [String: Guest] = [:]
        var tombstones: [String: UInt64] = [:]
        var replies: [RequestID: AgentAnswer] = [:]
        /// As fencing-service publishes it.
        var status = HostStatus.up
        var proof: SignedProof?
        var bootID: String { "boot-\(incarnation)" }
    }

    var engine = PlacementEngine()
    var random: SplitMix64
    var now = Instant(nanoseconds: 0)
    var queue: [(at: Instant, order: UInt64, event: Event)] = []
    var order: UInt64 = 0
    var machines: [String: Machine] = [:]
    var recoveryAllowed = true
    /// The start counter: answers to an earlier life of the service are lost with it.
    var epoch = 0
    var synced = false
    var channels: [String: Instant] = [:]
    /// Starts that may still reach an agent: id to target, VM and attempt.
    var inFlight: [RequestID: (target: AgentTarget, vm: String, attempt: UInt64)] = [:]
    var wakes: Set<Instant> = []
    var calm = false
    var starts = 0
    var journal: [(PlacementEngine.Input, Instant)] = []
    var decisions: [Decision] = []

    init(seed: UInt64, hosts: [String]) throws {
        random = SplitMix64(seed: seed)
        for host in hosts { machines[host] = Machine() }
        try restartService()
        for host in hosts { schedule(.report(host), after: .milliseconds(10)) }
    }

    mutating func chance(_ percent: UInt64) -> Bool { !calm && random.next() % 100 < percent }
    mutating func delay(_ longest: Int64) -> Duration { .milliseconds(Int64(random.next() % UInt64(longest)) + 1) }

    mutating func schedule(_ event: Event, after: Duration) {
        order += 1
        let entry = (at: now + after, order: order, event: event)
        let index = queue.firstIndex { ($0.at, $0.order) > (entry.at, entry.order) } ?? queue.endIndex
        queue.insert(entry, at: index)
    }

    /// Messages of one channel stay in order, whatever their delays.
    mutating func send(_ input: PlacementEngine.Input, on channel: String) {
        let arrival = max(now + delay(calm ? 20 : 400), channels[channel] ?? now)
        channels[channel] = arrival
        schedule(.toEngine(input, epoch: epoch), after: arrival - now)
    }

    func view(_ name: String) -> HostView? {
        guard let machine = machines[name] else { return nil }
        let number = Int(name.drop { !$0.isNumber }) ?? 0
        return HostView(
            name: name, id: number, status: machine.status, reason: "as the model says", incarnation: machine.incarnation, bootID: machine.bootID,
            generations: ["domain": machine.incarnation.number], endpoints: HostEndpoints(agentRequests: "ipc://\(name)", agentEvents: "", leaseRequests: "", leaseEvents: ""),
            memoryMiB: 4096, proof: machine.proof)
    }

    mutating func announce(_ name: String) {
        if let view = view(name) { send(.host(view), on: "fencing") }
    }

    mutating func run(for duration: Duration, disturb: (inout World) throws -> Void = { _ in }) throws {
        let end = now + duration
        while let next = queue.first, next.at <= end {
            queue.removeFirst()
            now = next.at
            try happen(next.event)
            try disturb(&self)
        }
        now = end
    }

    mutating func happen(_ event: Event) throws {
        switch event {
        case .wake:
            wakes.remove(now)
            try feed(.wake)
        case .toEngine(let input, let epoch):
            guard epoch == self.epoch else { return }
            try feed(input)
        case .toAgent(let target, let call, let id, let last):
            deliver(call, to: target, id: id)
            if last { inFlight[id] = nil }
        case .report(let host):
            report(host)
            schedule(.report(host), after: .milliseconds(1000))
        case .silence(let host, let incarnation):
            guard let machine = machines[host], machine.incarnation == incarnation, machine.status != .nonResponsive else { return }
            guard !machine.powered || !machine.reachable else { return }
            machines[host]?.status = .nonResponsive
            announce(host)
            schedule(.fence(host, incarnation: incarnation), after: .seconds(1))
        case .fence(let host, let incarnation):
            guard let machine = machines[host], machine.incarnation == incarnation, machine.status == .nonResponsive else { return }
            guard machine.fenceWorks else { return schedule(.fence(host, incarnation: incarnation), after: .seconds(2)) }
            powerOff(host)
            machines[host]?.proof = Self.proof(host, machine.incarnation)
            machines[host]?.status = .reboot
            announce(host)
            if let proof = machines[host]?.proof { send(.proof(proof), on: "fencing") }
            schedule(.boot(host, incarnation: incarnation), after: .seconds(3))
        case .boot(let host, let incarnation):
            guard let machine = machines[host], machine.incarnation == incarnation, !machine.powered else { return }
            machines[host]?.incarnation = incarnation.next
            machines[host]?.powered = true
            machines[host]?.reachable = true
            machines[host]?.status = .up
            announce(host)
        }
    }

    static func proof(_ host: String, _ incarnation: Incarnation) -> SignedProof {
        let proof = Proof(
            id: "p-\(host)-\(incarnation)", kind: .powerOff, host: host, hostID: 1, incarnations: incarnation, generations: ["domain": incarnation.number],
            caseID: "\(host)-\(incarnation)-1", statement: "\(host) read off after off")
        return SignedProof(proof: proof, statement: "powerOff \(host) \(incarnation)", signature: "", key: "")
    }

    // MARK: Faults

    mutating func powerOff(_ host: String) {
        machines[host]?.powered = false
        machines[host]?.guests = [:]
        machines[host]?.replies = [:]
        machines[host]?.tombstones = [:]
    }

    mutating func crash(_ host: String) {
        guard let machine = machines[host], machine.powered else { return }
        powerOff(host)
        schedule(.silence(host, incarnation: machine.incarnation), after: .seconds(2))
    }

    mutating func cut(_ host: String) {
        guard let machine = machines[host], machine.reachable else { return }
        machines[host]?.reachable = false
        schedule(.silence(host, incarnation: machine.incarnation), after: .seconds(2))
    }

    /// Heard again in the same life: fencing-service takes it back unless it has fenced it.
    mutating func heal(_ host: String) {
        guard let machine = machines[host], !machine.reachable else { return }
        machines[host]?.reachable = true
        if machine.powered, machine.status == .nonResponsive {
            machines[host]?.status = .up
            announce(host)
        }
    }

    mutating func restartService() throws {
        epoch += 1
        synced = false
        channels = [:]
        queue.removeAll { if case .wake = $0.event { true } else { false } }
        wakes = []
        engine = try copy(engine)
        try feed(.started(PlacementPolicy(), lineage: "journal"))
        let views = machines.keys.sorted().compactMap { view($0) }
        send(.fencing(FencingSnapshot(hosts: views, cases: [], ha: HAState(enabled: true, hold: nil, recoveryAllowed: recoveryAllowed), signingKey: "")), on: "fencing")
    }

    // MARK: The agents

    mutating func report(_ host: String) {
        guard let machine = machines[host], machine.powered, machine.reachable else { return }
        let vms = machine.guests.keys.sorted().compactMap { name in machine.guests[name].map { Self.observation(name, $0, host) } }
        send(.report(AgentVMs(host: host, bootID: machine.bootID, complete: true, vms: vms)), on: "report-\(host)")
    }

    static func observation(_ vm: String, _ guest: Guest, _ host: String) -> VMObservation {
        guard !guest.running else { return VMObservation(vm: vm, attempt: guest.attempt, state: .running, evidence: "guard answers", pid: 42) }
        return VMObservation(vm: vm, attempt: guest.attempt, state: .stopped, evidence: "guard reaped its group", ended: ended(vm, guest.attempt, host))
    }

    static func ended(_ vm: String, _ attempt: UInt64, _ host: String) -> SignedProof {
        let proof = Proof(id: "e-\(vm)-\(attempt)", kind: .ended, host: host, hostID: 1, holder: vm, attempt: attempt, statement: "\(vm) \(attempt) ended")
        return SignedProof(proof: proof, statement: "ended \(vm) \(attempt)", signature: "", key: "")
    }

    mutating func deliver(_ call: AgentCall, to target: AgentTarget, id: RequestID) {
        let host = target.host
        guard let machine = machines[host], machine.powered, machine.reachable else { return }
        let vm: String
        let attempt: UInt64
        switch call {
        case .start(let start): (vm, attempt) = (start.vm.name, start.attempt)
        case .stop(let order), .observe(let order), .resume(let order): (vm, attempt) = (order.vm, order.attempt)
        }
        let answer: AgentAnswer
        if machine.bootID != target.bootID {
            answer = .failed(RequestError(RequestErrorCode.wrongTarget, "another boot"))
        } else if let stored = machine.replies[id] {
            answer = stored
        } else {
            let guest = machine.guests[vm]
            switch call {
            case .start:
                if attempt <= machine.tombstones[vm] ?? 0 {
                    answer = .failed(RequestError(AgentErrorCode.attemptStale, "superseded"))
                } else if guest?.running == true {
                    answer = .failed(RequestError(AgentErrorCode.stillHere, "another attempt runs here"))
                } else if chance(20) {
                    machines[host]?.tombstones[vm] = attempt
                    let codes: [String] = [AgentErrorCode.startFailed.rawValue, LeaseErrorCode.held.rawValue, LeaseErrorCode.settling.rawValue]
                    answer = .failed(RequestError(code: codes[Int(random.next() % 3)], message: "the model refuses"))
                } else {
                    machines[host]?.guests[vm] = Guest(attempt: attempt, running: true)
                    answer = .observed(VMObservation(vm: vm, attempt: attempt, state: .running, evidence: "started", pid: 42))
                }
            case .resume:
                if let guest, guest.attempt == attempt {
                    answer = .observed(Self.observation(vm, guest, host))
                } else {
                    answer = .failed(RequestError(AgentErrorCode.notResumed, "nothing of it is here"))
                }
            case .stop, .observe:
                if case .stop = call, guest?.attempt == attempt { machines[host]?.guests[vm]?.running = false }
                if let guest = machines[host]?.guests[vm], guest.attempt == attempt {
                    answer = .observed(Self.observation(vm, guest, host))
                } else {
                    machines[host]?.tombstones[vm] = max(attempt, machine.tombstones[vm] ?? 0)
                    answer = .observed(VMObservation(vm: vm, attempt: attempt, state: .stopped, evidence: "never arrived", ended: Self.ended(vm, attempt, host)))
                }
            }
            machines[host]?.replies[id] = answer
        }
        if !chance(15) { schedule(.toEngine(.answered(vm: vm, id: id, answer), epoch: epoch), after: delay(300)) }
    }
}
