@testable import FencingEngine
import Foundation
import Messages
import Testing

/// Machines, BMCs, a shared lockspace and the engine with its detectors under virtual time; every effect is checked against what is true in this world.
final class World {
    enum BMC: Equatable {
        case works, stuck, dead
        /// Another machine's: always reads off.
        case lies
        /// Another machine's, which it switches.
        case another(isOff: Bool)
    }

    struct Machine {
        var powered = true
        var boot = 1
        var frozen = false
        var cut = false
        var bmc = BMC.works
        /// What its BMC tells of itself.
        var guid: String?
        var identityTakes = Duration.milliseconds(200)
        var hardwareID: String
        var sequence: UInt64 = 0
        var readyAt = Instant(nanoseconds: 0)
        var joinedAt = Instant(nanoseconds: 0)
        var generation: UInt64 = 1
        var generationBefore: UInt64?
        var lastRenewal = Instant(nanoseconds: 0)
        var initializing = false
        var unreaped: [String] = []
        var unproven: [String]?
        /// It cannot reach the shared storage.
        var storageCut = false
        /// Its lease-service sees nothing change any more: what it reads of others looks old.
        var staleReads = false
        /// Its lease-service began to read others' sectors then.
        var readsSince: Instant?
        var obeys = true
        /// A second power supply with a device of its own, of the same level.
        var pair: BMC?
        /// A device of the second level: a switched outlet for the whole machine.
        var outlet: BMC?
        /// Its devices are reached through other hosts.
        var via: FenceRoute?
        /// Of its first device.
        var delay: Duration?
        /// From where its crash kernel sends.
        var kdump: [String]?
        /// Who sends kdump messages from there, every 5 s.
        var sendsDumpMessages = false
        /// As a proxy it can reach no device.
        var reachesNoDevice = false
        /// Its outlet is off: its BMC has no power either.
        var outletIsOff = false
        /// Power alone does not start it: its BMC must.
        var waitsForItsBMC = false
        /// Supplies that are switched off.
        var suppliesOff: Set<String> = []
        /// Armed: it resets the machine when that has not renewed for 11 s.
        var watchdog = false
        /// What its agent was told of its watchdog, and obeys.
        var order: WatchdogOrder?
        /// How far its own shutdown has come.
        var leaving: AgentHeartbeat.Leaving?
        /// What its agent says of its hypervisor.
        var toolstack: ToolstackReport?
        var leavesToSave: Bool?
        /// Something runs there: it does not shut down to save power.
        var isBusy = false
        /// Delays of the fence agent.
        var latency = Duration.milliseconds(300)
        var bootIDOverride: String?
    }

    let lockspace = "d1"
    var engine = FencingEngine()
    var monitor: LivenessMonitor
    var policy = FencingPolicy(grace: .seconds(5), bootTimeout: .seconds(60))
    var now = Instant(nanoseconds: 1_000_000_000)
    var machines: [String: Machine] = [:]
    var leasesAnswer = true
    var running = true
    var violations: [String] = []

    /// What the journal would hold: wakes that did nothing are not in it.
    var inputs: [(Instant, FencingInput)] = []
    var replies: [RequestID: Reply] = [:]
    var events: [Event] = []
    var decisions: [Decision] = []
    var offs: [String: Int] = [:]
    var ons: [String: Int] = [:]
    var proofs: [Proof] = []
    var nextWake: Instant?
    var pending: [(at: Instant, order: Int, input: FencingInput)] = []
    var order = 0
    var runs: [String: FenceRun] = [:]
    /// Own bookkeeping of open outcomes, independent of the engine's.
    var openOutcome: [String: FenceAction] = [:]
    var statusOffSince: [String: Instant] = [:]
    var bootsOf: [String: [UInt64: String]] = [:]
    var requests = 0

    init(hosts: Int = 3, prepare: (World) -> Void = { _ in }) {
        monitor = LivenessMonitor(policy: policy)
        for index in 1...hosts {
            let id = String(repeating: "0", count: 31) + String(index)
            machines["host\(index)"] = Machine(guid: id, hardwareID: id)
        }
        prepare(self)
        monitor = LivenessMonitor(policy: policy)
        start()
        for index in 1...hosts { submit(.hostAdd(request(), definition(index))) }
        run(3)
    }

    func definition(_ index: Int, vouched: Bool? = nil) -> HostDefinition {
        HostDefinition(
            name: "host\(index)", id: index,
            endpoints: HostEndpoints(agentRequests: "a\(index)", agentEvents: "e\(index)", leaseRequests: "l\(index)", leaseEvents: "m\(index)"),
            key: "key\(index)", fence: devices(index, vouched), kdump: machines["host\(index)"]?.kdump)
    }

    func devices(_ index: Int, _ vouched: Bool?) -> [FenceDevice] {
        let machine = machines["host\(index)"]
        var devices = [FenceDevice(agent: "fence_ipmilan", address: "10.0.0.\(index)", vouched: vouched, via: machine?.via, delay: machine?.delay)]
        if machine?.pair != nil { devices.append(FenceDevice(agent: "fence_apc", address: "pair", vouched: true)) }
        if machine?.outlet != nil { devices.append(FenceDevice(agent: "fence_apc", address: "outlet", level: 2, vouched: true)) }
        return devices
    }

    func request() -> RequestID {
        requests += 1
        return "request-\(requests)"
    }

    // MARK: Time

    func run(_ seconds: Double) {
        let end = now + Duration(nanoseconds: Int64(seconds * 1e9))
        while now < end { tick() }
    }

    /// Runs until it holds; records a violation if it does not within so many seconds.
    func run(until seconds: Double, _ what: String, _ done: () -> Bool) {
        let end = now + Duration(nanoseconds: Int64(seconds * 1e9))
        while now < end {
            if done() { return }
            tick()
        }
        if !done() { violations.append("not within \(seconds) s: \(what)") }
    }

    func tick() {
        now = now + .milliseconds(100)
        thawProxies()
        actOfBMCs()
        for name in machines.keys.sorted() where isDueForReset(name) { reboot(name) }
        for name in machines.keys.sorted() { live(name) }
        for delivery in pending.filter({ $0.at <= now }).sorted(by: { ($0.at, $0.order) < ($1.at, $1.order) }) {
            pending.removeAll { $0.order == delivery.order }
            submit(delivery.input)
        }
        guard running else { return }
        if now.nanoseconds % 5_000_000_000 == 0 {
            for name in machines.keys.sorted() where machines[name]?.sendsDumpMessages == true {
                for input in monitor.onDumpMessage(from: machines[name]?.kdump?.first ?? "", at: now) { submit(input) }
            }
        }
        for input in monitor.onWake(at: now) { submit(input) }
        if let at = nextWake, at <= now {
            nextWake = nil
            submit(.wake)
        }
    }

    func bootID(_ name: String) -> String { machines[name].map { $0.bootIDOverride ?? "\(name)-boot-\($0.boot)" } ?? "" }

    func live(_ name: String) {
        guard var machine = machines[name], machine.powered, !machine.frozen else { return }
        let joined = now >= machine.joinedAt && !machine.storageCut
        if joined, machine.generationBefore == nil {
            machine.generationBefore = machine.generation
            machine.generation += 1
        }
        if joined { machine.lastRenewal = now }
        if now.nanoseconds % 1_000_000_000 == 0, now >= machine.readyAt {
            machine.sequence += 1
            if running, !machine.cut {
                let spaces =
                    joined || machine.storageCut
                    ? [AgentLockspace(lockspace: lockspace, state: joined ? .joined : .lost, generation: machine.generation, generationBefore: machine.generationBefore)]
                    : []
                machines[name] = machine
                beat(name, bootID: bootID(name), sequence: machine.sequence, lockspaces: spaces)
            }
        }
        if let changed = machines[name], changed.boot == machine.boot, changed.powered { machines[name] = machine }
    }

    func beat(_ name: String, bootID: String, sequence: UInt64, lockspaces: [AgentLockspace] = []) {
        guard let machine = machines[name], let id = Int(name.dropFirst(4)) else { return }
        let heartbeat = AgentHeartbeat(
            host: name, hostID: id, bootID: bootID, hardwareID: machine.hardwareID, sequence: sequence, initializing: machine.initializing,
            watchdogArmed: machine.watchdog && machine.order?.disarm != true, lockspaces: lockspaces, unreapedGuards: machine.unreaped, unprovenRuns: machine.unproven, memoryFreeMiB: 1000,
            leaving: machine.leaving, leavesToSave: machine.leavesToSave, watchdogOrder: machine.order, toolstack: machine.toolstack)
        for input in monitor.onHeartbeat(heartbeat, of: heartbeat.host, at: now) { submit(input) }
    }

    /// Its guards are past their deadline and it stands still, so that nobody feeds its watchdog.
    func isDueForReset(_ name: String) -> Bool {
        guard let machine = machines[name] else { return false }
        return machine.watchdog && machine.order?.disarm != true && machine.frozen && machine.powered && now - machine.lastRenewal > .seconds(11)
    }

    /// 8 x io_timeout, and 4 s for the watchdog to fire.
    static let deadTime = Duration.seconds(12)

    // MARK: Faults

    func crash(_ name: String) {
        machines[name]?.powered = false
        machines[name]?.frozen = false
    }

    func powerOn(_ name: String) {
        guard machines[name]?.powered == false else { return }
        machines[name]?.powered = true
        machines[name]?.boot += 1
        machines[name]?.readyAt = now + .seconds(2)
        machines[name]?.joinedAt = now + .seconds(4)
        machines[name]?.generationBefore = nil
        machines[name]?.leaving = nil
        machines[name]?.toolstack = nil
        machines[name]?.leavesToSave = nil
        machines[name]?.sequence = 0
    }

    func reboot(_ name: String) {
        crash(name)
        machines[name]?.suppliesOff = []
        machines[name]?.outletIsOff = false
        powerOn(name)
    }

    func stop() {
        running = false
        pending = []
        runs = [:]
        monitor = LivenessMonitor(policy: policy)
        nextWake = nil
    }

    /// The engine as its journal gives it back.
    func start() {
        running = true
        do {
            engine = try JSONDecoder().decode(FencingEngine.self, from: JSONEncoder().encode(engine))
        } catch { violations.append("state is lost in JSON: \(error)") }
        submit(.started(FencingStart(policy: policy, signingKey: "k")))
    }

    func restart() {
        stop()
        start()
    }

    // MARK: Effects

    func submit(_ input: FencingInput) {
        guard running else { return }
        if case .fenceEnded(let result) = input { note(result) }
        let effects = engine.handle(input, at: now)
        var journaled = true
        if case .wake = input { journaled = !effects.allSatisfy { if case .wake = $0 { true } else { false } } }
        if journaled { inputs.append((now, input)) }
        for effect in effects {
            switch effect {
            case .wake(let at): nextWake = min(nextWake ?? at, at)
            case .reply(let id, let reply): replies[id] = reply
            case .publish(let event): events.append(event)
            case .decide(let decision): decisions.append(decision)
            case .perform(let action): perform(action)
            }
        }
        for host in engine.hosts.values { noteLives(host) }
        for name in engine.names { checkThatNothingIsForgotten(name) }
    }

    func deliver(_ input: FencingInput, after: Duration) {
        order += 1
        pending.append((now + after, order, input))
    }

    func perform(_ action: FencingAction) {
        switch action {
        case .watch(let watch): _ = monitor.watch(watch, at: now)
        case .unwatch(let host): monitor.unwatch(host)
        case .fence(let run) where run.action == .off && slowOff: waitingOff = run
        case .fence(let run): fence(run)
        case .identify(let question):
            let machine = machines[question.host]
            let isReached = question.proxy.map { reachable($0) && machines[$0]?.reachesNoDevice == false } ?? true
            // Outlets and second supplies have no identity.
            let cannotTell = question.device.agent == "fence_apc"
            let guid = machine.flatMap { $0.bmc == .dead || !isReached || cannotTell ? nil : $0.guid }
            deliver(.identified(Identification(question, .success(FenceIdentity(guid: guid, unsupported: cannotTell, detail: "no answer")))), after: machine?.identityTakes ?? .zero)
        case .askAcceptance(let question):
            let answers = reachable(question.voter)
            deliver(
                .acceptance(AcceptanceAnswer(
                    caseID: question.caseID, host: question.host, voter: question.voter, accepted: answers ? machines[question.voter]?.obeys : nil,
                    detail: answers ? "manager.foreign" : "no answer")), after: answers ? .milliseconds(20) : .seconds(3))
        case .readSectors(let question):
            deliver(.sectorsRead(SectorAnswer(serial: question.serial, host: question.host, reader: question.reader, sectors: sectors(question))), after: .milliseconds(30))
        case .softRestart(let restart):
            softRestarts.append(restart.host)
            if softCommandWorks { machines[restart.host]?.cut = false }
            deliver(.softRestarted(SoftRestartResult(restart, softCommandWorks ? .succeeded : .failed("ssh: no route to host"), took: .seconds(1))), after: .seconds(1))
        case .saveShutdown(let host, let request):
            guard reachable(host), machines[host]?.leaving == nil else { return }
            if machines[host]?.isBusy == true { return deliver(.savingAnswered(SavingAnswer(host: host, request: request, refusal: "vm:a:1 is there")), after: .milliseconds(20)) }
            machines[host]?.leaving = goodbyesAreSlow ? .ending : .over
            machines[host]?.leavesToSave = true
        case .callOffShutdown(let host):
            guard reachable(host), machines[host]?.leavesToSave == true else { return }
            machines[host]?.leaving = nil
            machines[host]?.leavesToSave = nil
        case .askProxy(let question):
            let isIdle = reachable(question.proxy) && !begun.contains { $0.proxy == question.proxy }
            let reply: Result<FenceTicket, RequestError> = reachable(question.proxy)
                ? .success(FenceTicket(ticket: now, isIdle: isIdle)) : .failure(RequestError(RequestErrorCode.unknownOutcome, ""))
            deliver(.proxyTold(ProxyAnswer(question, reply)), after: .milliseconds(20))
        case .orderWatchdog(let host, let order):
            guard !losesOrders, reachable(host) else { return }
            machines[host]?.order = order
        case .sign(let proof):
            check(proof)
            proofs.append(proof)
            deliver(.proofSigned(SignedProof(proof: proof, statement: proof.statement, signature: "s", key: "k")), after: .milliseconds(10))
        }
    }

    func reachable(_ name: String) -> Bool { machines[name].map { $0.powered && !$0.frozen && !$0.cut && now >= $0.readyAt } ?? false }

    func sectors(_ question: SectorQuestion) -> [Sector]? {
        guard leasesAnswer, reachable(question.reader), let suspect = machines[question.host] else { return nil }
        if machines[question.reader]?.storageCut == true { return [] }
        let age = machines[question.reader]?.staleReads == true ? .seconds(100) : now - suspect.lastRenewal
        if let since = machines[question.reader]?.readsSince, since > suspect.lastRenewal {
            return [Sector(lockspace: lockspace, generation: suspect.generation, held: true, lastChange: nil, unchangedFor: now - since, ioTimeout: 1, deadIn: max(.zero, Self.deadTime - (now - since)))]
        }
        return [Sector(lockspace: lockspace, generation: suspect.generation, held: true, lastChange: age, ioTimeout: 1, deadIn: max(.zero, Self.deadTime - age))]
    }

    // MARK: Of its devices and proxies

    /// Hosts whose agents were to be restarted, in order.
    var softRestarts: [String] = []
    var softCommandWorks = true
    /// Which hosts were asked to run an agent, in order.
    var proxied: [(proxy: String, action: FenceAction)] = []
    /// Commands that stand still with their proxy, which had begun them: they come when it thaws.
    var begun: [(proxy: String, run: FenceRun)] = []
    /// It stands still when it has begun its next command.
    var freezesInACommand: String?

    /// What BMCs have accepted and will do, whoever still waits for it.
    var acts: [(at: Instant, host: String, action: FenceAction, device: String)] = []

    /// The decision to switch off waits for a slow journal, until ``sendWaitingOff()``.
    var slowOff = false
    var waitingOff: FenceRun?

    /// Hosts that shut down to save power do not come to an end.
    var goodbyesAreSlow = false

    /// Orders about watchdogs do not arrive.
    var losesOrders = false

    /// Hosts whose power an operator commands in this test.
    var operatorActs: Set<String> = []
}
