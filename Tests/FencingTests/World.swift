@testable import FencingEngine
import Foundation
import Messages
import Testing

/// Machines, BMCs, a shared lockspace and the engine with its detectors under virtual time; every effect is checked against what is true in this world.
final class World {
    enum BMC {
        case works, stuck, dead
        /// Another machine's: always reads off.
        case lies
    }

    struct Machine {
        var powered = true
        var boot = 1
        var frozen = false
        var cut = false
        var bmc = BMC.works
        /// What its BMC tells of itself.
        var guid: String?
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
    private var nextWake: Instant?
    private var pending: [(at: Instant, order: Int, input: FencingInput)] = []
    private var order = 0
    private var runs: [String: FenceRun] = [:]
    /// Own bookkeeping of open outcomes, independent of the engine's.
    private var openOutcome: [String: FenceAction] = [:]
    private var statusOffSince: [String: Instant] = [:]
    private var bootsOf: [String: [UInt64: String]] = [:]
    private var requests = 0

    init(hosts: Int = 3, prepare: (World) -> Void = { _ in }) {
        monitor = LivenessMonitor(policy: policy)
        for index in 1...hosts {
            let id = String(repeating: "0", count: 31) + String(index)
            machines["host\(index)"] = Machine(guid: id, hardwareID: id)
        }
        prepare(self)
        start()
        for index in 1...hosts { submit(.hostAdd(request(), definition(index))) }
        run(3)
    }

    func definition(_ index: Int, vouched: Bool? = nil) -> HostDefinition {
        HostDefinition(
            name: "host\(index)", id: index,
            endpoints: HostEndpoints(agentRequests: "a\(index)", agentEvents: "e\(index)", leaseRequests: "l\(index)", leaseEvents: "m\(index)"),
            key: "key\(index)", fence: devices(index, vouched))
    }

    private func devices(_ index: Int, _ vouched: Bool?) -> [FenceDevice] {
        let machine = machines["host\(index)"]
        var devices = [FenceDevice(agent: "fence_ipmilan", address: "10.0.0.\(index)", vouched: machine?.via == .hosts ? true : vouched, via: machine?.via, delay: machine?.delay)]
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

    private func tick() {
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
        for input in monitor.onWake(at: now) { submit(input) }
        if let at = nextWake, at <= now {
            nextWake = nil
            submit(.wake)
        }
    }

    func bootID(_ name: String) -> String { machines[name].map { $0.bootIDOverride ?? "\(name)-boot-\($0.boot)" } ?? "" }

    private func live(_ name: String) {
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
            leaving: machine.leaving, watchdogOrder: machine.order)
        for input in monitor.onHeartbeat(heartbeat, of: heartbeat.host, at: now) { submit(input) }
    }

    /// Its guards are past their deadline and it stands still, so that nobody feeds its watchdog.
    private func isDueForReset(_ name: String) -> Bool {
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

    /// Whatever is open has something that will make it go on.
    private func checkThatNothingIsForgotten(_ name: String) {
        guard let host = engine.hosts[name], host.run == nil, host.command == nil, host.retryAt == nil, host.minted == nil else { return }
        if let open = host.fenceCase {
            let waits = !open.readers.isEmpty || !open.voters.isEmpty || open.bootDeadline != nil || open.incarnation < host.incarnation
            let heldOnTheWayBack = open.step == .proven && engine.powerOnHold(host) != nil
            if !waits, !heldOnTheWayBack { violations.append("forgotten: \(open)") }
        } else if host.unresolved != nil {
            violations.append("the outcome of \(name) is forgotten")
        }
    }

    private func noteLives(_ host: HostRecord) {
        guard let boot = host.bootID else { return }
        bootsOf[host.name, default: [:]][host.incarnation.number] = boot
        if let fenceCase = host.fenceCase, fenceCase.incarnation > host.incarnation { violations.append("a case about a life to come: \(fenceCase)") }
    }

    private func deliver(_ input: FencingInput, after: Duration) {
        order += 1
        pending.append((now + after, order, input))
    }

    private func perform(_ action: FencingAction) {
        switch action {
        case .watch(let watch): _ = monitor.watch(watch, at: now)
        case .unwatch(let host): monitor.unwatch(host)
        case .fence(let run) where run.action == .off && slowOff: waitingOff = run
        case .fence(let run): fence(run)
        case .identify(let host, _, _):
            let machine = machines[host]
            let guid = machine.flatMap { $0.bmc == .dead ? nil : $0.guid }
            deliver(.identified(Identification(host: host, guid: guid, unsupported: false, detail: "no answer")), after: .milliseconds(200))
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

    private func reachable(_ name: String) -> Bool { machines[name].map { $0.powered && !$0.frozen && !$0.cut && now >= $0.readyAt } ?? false }

    private func sectors(_ question: SectorQuestion) -> [Sector]? {
        guard leasesAnswer, reachable(question.reader), let suspect = machines[question.host] else { return nil }
        if machines[question.reader]?.storageCut == true { return [] }
        let age = machines[question.reader]?.staleReads == true ? .seconds(100) : now - suspect.lastRenewal
        if let since = machines[question.reader]?.readsSince, since > suspect.lastRenewal {
            return [Sector(lockspace: lockspace, generation: suspect.generation, held: true, lastChange: nil, unchangedFor: now - since, ioTimeout: 1, deadIn: max(.zero, Self.deadTime - (now - since)))]
        }
        return [Sector(lockspace: lockspace, generation: suspect.generation, held: true, lastChange: age, ioTimeout: 1, deadIn: max(.zero, Self.deadTime - age))]
    }

    private func fence(_ run: FenceRun) {
        let name = run.host
        if let other = runs[name] { violations.append("\(run.id) beside \(other.id)") }
        if run.action.isDestructive, let open = openOutcome[name] { violations.append("\(run.action) while the outcome of \(open) is open") }
        if run.action == .on, statusOffSince[name] == nil, !operatorActs.contains(name) { violations.append("on of \(name) without an own status off") }
        runs[name] = run
        if run.action.isDestructive {
            openOutcome[name] = run.action
            statusOffSince[name] = nil
        }
        guard let machine = machines[name] else { return }
        if run.action == .off { offs[name, default: 0] += 1 }
        if run.action == .on { ons[name, default: 0] += 1 }
        if let obstacle = engine.obstacle(to: run) { return deliver(.fenceEnded(FenceResult(run: run.id, host: name, outcome: .failed(obstacle))), after: .milliseconds(1)) }
        if !run.proxied.isEmpty, let proxy = run.proxy { return fence(run, by: proxy, machine) }
        let parts = run.devices.map { FenceResult.Part(outcome: outcome(of: run, at: $0, machine), took: machine.latency) }
        deliver(.fenceEnded(FenceResult(run, parts)), after: machine.latency)
    }

    /// Hosts whose agents were to be restarted, in order.
    private(set) var softRestarts: [String] = []
    var softCommandWorks = true

    // MARK: Proxies

    /// Which hosts were asked to run an agent, in order.
    private(set) var proxied: [(proxy: String, action: FenceAction)] = []
    /// Commands that stand still with their proxy, which had begun them: they come when it thaws.
    private var begun: [(proxy: String, run: FenceRun)] = []
    /// It stands still when it has begun its next command.
    var freezesInACommand: String?

    private func fence(_ run: FenceRun, by proxy: String, _ machine: Machine) {
        proxied.append((proxy, run.action))
        if freezesInACommand == proxy, run.action.isDestructive {
            freezesInACommand = nil
            machines[proxy]?.frozen = true
            begun.append((proxy, run))
            return deliver(.fenceEnded(FenceResult(run, run.devices.map { _ in FencePart(outcome: .timedOut("no answer"), took: run.deadline) }, isOwed: true)), after: run.deadline)
        }
        guard reachable(proxy) else {
            guard case .ended(let parts) = run.prepared(.failure(RequestError(RequestErrorCode.unknownOutcome, "")), after: .seconds(3)) else { return }
            return deliver(.fenceEnded(FenceResult(run, parts)), after: .seconds(3))
        }
        let reaches = machines[proxy]?.reachesNoDevice == false
        let parts = run.devices.map { FencePart(outcome: reaches ? outcome(of: run, at: $0, machine) : .failed("no route to host"), took: machine.latency) }
        deliver(.fenceEnded(FenceResult(run, parts)), after: machine.latency)
    }

    private func thawProxies() {
        for (proxy, run) in begun where machines[proxy]?.frozen != true {
            begun.removeAll { $0.run.id == run.id }
            guard machines[proxy]?.powered == true, let machine = machines[run.host] else { continue }
            if machine.powered, engine.hosts[run.host]?.status == .up { violations.append("a late \(run.action) of \(proxy) hits \(run.host), which is Up") }
            if ons[run.host, default: 0] > 0, run.action == .off { violations.append("a late off of \(proxy) comes after \(run.host) was switched on") }
            _ = outcome(of: run, at: run.device, machine)
        }
    }

    private func outcome(of run: FenceRun, at device: FenceDevice, _ machine: Machine) -> FenceOutcome {
        let bmc = device.address == "pair" ? machine.pair : device.address == "outlet" ? machine.outlet : machine.bmc
        if machine.outletIsOff, device.address != "outlet" { return .failed("Unable to connect to the BMC") }
        switch (bmc ?? .works, run.action) {
        case (.works, .status) where device.address == "outlet": return machine.outletIsOff ? .readsOff : .succeeded
        case (.dead, _): return .failed("Unable to obtain correct plug status")
        case (.lies, let action): return action == .status ? .readsOff : .succeeded
        case (_, .status): return machine.powered && !machine.suppliesOff.contains(device.address) ? .succeeded : .readsOff
        case (.works, let action):
            acts.append((now + halfOf(machine.latency), run.host, action, device.address))
            return .succeeded
        case (.stuck, .off): return .failed("Timed out waiting to power OFF")
        case (.stuck, .on): return .succeeded
        }
    }

    /// What BMCs have accepted and will do, whoever still waits for it.
    private var acts: [(at: Instant, host: String, action: FenceAction, device: String)] = []

    private func halfOf(_ duration: Duration) -> Duration { Duration(nanoseconds: duration.nanoseconds / 2) }

    private func actOfBMCs() {
        let due = acts.filter { $0.at <= now }
        acts.removeAll { $0.at <= now }
        for act in due {
            // Of two supplies either one keeps it running.
            if machines[act.host]?.pair != nil, act.device != "outlet" {
                if act.action == .off { machines[act.host]?.suppliesOff.insert(act.device) } else { machines[act.host]?.suppliesOff.remove(act.device) }
                if act.action == .off, machines[act.host]?.suppliesOff.count ?? 0 < 2 { continue }
            }
            if act.device == "outlet" { machines[act.host]?.outletIsOff = act.action == .off }
            if act.device == "outlet", act.action == .on, machines[act.host]?.waitsForItsBMC == true { continue }
            if act.action == .off { crash(act.host) } else if machines[act.host]?.outletIsOff != true { powerOn(act.host) }
        }
    }

    /// The decision to switch off waits for a slow journal, until ``sendWaitingOff()``.
    var slowOff = false
    private(set) var waitingOff: FenceRun?

    /// As the shell does when the run's turn has come.
    func sendWaitingOff() {
        guard let run = waitingOff else { return }
        waitingOff = nil
        guard let obstacle = engine.obstacle(to: run) else { return fence(run) }
        submit(.fenceEnded(FenceResult(run: run.id, host: run.host, outcome: .failed(obstacle))))
    }

    /// Orders about watchdogs do not arrive.
    var losesOrders = false

    /// Hosts whose power an operator commands in this test.
    var operatorActs: Set<String> = []

    private func note(_ result: FenceResult) {
        guard let run = runs[result.host], run.id == result.run else { return }
        runs[result.host] = nil
        guard run.action == .status else { return }
        switch result.outcome {
        case .succeeded:
            openOutcome[result.host] = nil
            statusOffSince[result.host] = nil
        case .readsOff:
            openOutcome[result.host] = nil
            statusOffSince[result.host] = statusOffSince[result.host] ?? now
        default: break
        }
    }

    /// A restarted service has lost its runs; the fence agents ended with it.
    private func check(_ proof: Proof) {
        let name = proof.host
        if proof.kind == .leaseExpired { return checkExpired(proof) }
        guard let incarnations = proof.incarnations else { return violations.append("a proof without incarnations") }
        if proof.kind == .powerOff, statusOffSince[name] == nil { violations.append("\(proof.id): powerOff without an own status off") }
        guard proof.kind != .operatorConfirmed, let machine = machines[name], machine.powered else { return }
        for (number, boot) in bootsOf[name] ?? [:] where number <= incarnations.number && boot == bootID(name) {
            violations.append("\(proof.id) (\(proof.kind)) covers incarnation \(number), which lives")
        }
        if let covered = proof.generations[lockspace], machine.generationBefore != nil, covered >= machine.generation {
            violations.append("\(proof.id) covers generation \(covered), which lives")
        }
    }

    private func checkExpired(_ proof: Proof) {
        guard let machine = machines[proof.host] else { return }
        if proof.incarnations != nil { violations.append("\(proof.id) says that its leases expired, and speaks of incarnations") }
        if !machine.watchdog || machine.order?.disarm == true { violations.append("\(proof.id) rests on a watchdog that \(proof.host) has not") }
        if proof.generations[lockspace] == machine.generation, now - machine.lastRenewal < Self.deadTime { violations.append("\(proof.id) covers leases that have not expired") }
        if proof.generations[lockspace] ?? 0 > machine.generation { violations.append("\(proof.id) covers memberships to come") }
    }

    // MARK: Looking

    func view(_ name: String) -> HostView {
        if let view = engine.view(of: name) { return view }
        violations.append("\(name) is gone")
        return HostView(name: name, id: 0, status: .error, reason: "", incarnation: Incarnation(0), endpoints: HostEndpoints(agentRequests: "", agentEvents: "", leaseRequests: "", leaseEvents: ""))
    }

    func status(_ name: String) -> HostStatus { view(name).status }
    func step(_ name: String) -> String? { view(name).fenceCase?.step }
    var allUp: Bool { engine.hostViews.allSatisfy { $0.status == .up && $0.fenceCase == nil } }
    func statuses(of name: String) -> [HostStatus] { events.compactMap { ($0.body as? HostView).flatMap { $0.name == name && $0.previous != nil ? $0.status : nil } } }

    /// How the hosts stand and what was decided last, for a failed test.
    var story: String {
        let hosts = engine.hostViews.map { "\($0.name) \($0.status) \($0.reason) \($0.fenceCase?.step ?? "") \($0.fenceCase?.reason ?? "")" }
        return (hosts + decisions.suffix(20).map { "\($0.subject): \($0.what): \($0.why)" }).joined(separator: "\n")
    }

    func refusal(_ id: RequestID) -> String? {
        if case .refused(let error)? = replies[id] { return error.code }
        return nil
    }

    func accepted(_ id: RequestID) -> Bool {
        if case .success? = replies[id] { return true }
        return false
    }
}
