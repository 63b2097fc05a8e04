import HostAgentEngine
import Invariants
import LeaseFormat
import Messages
import PlacementEngine
import SPMEngine

/// One cluster in one process: every engine, and under them machines, disks, network and BMCs that fail as a scenario wants it.
///
/// Everything happens in virtual time, in one order that the scenario's seed alone decides.
final class World {
    let scenario: Scenario
    private(set) var now: Int64 = 0
    var random: Random
    private var queue = EventQueue()
    /// Only while the scenario runs; the cluster comes up, and settles at the end, in peace.
    var chaos = Scenario.Chaos()
    private(set) lazy var network = Network(world: self)
    private(set) lazy var storage = SharedStorage(world: self)
    var keys = Keys()
    private(set) var hosts: [HostMachine] = []
    private var hostsByName: [String: HostMachine] = [:]
    /// Machines that go by a host's name and are not it, or not any more.
    private(set) var others: [HostMachine] = []
    private(set) lazy var manager = Machine("manager", index: 0, drift: 0, world: self)
    private(set) lazy var managers = ManagerSet(.own, on: manager)
    var fencing: FencingProcess { managers.fencing }
    var placement: PlacementProcess { managers.placement }
    var spm: SPMProcess { managers.spm }
    var monitor: MonitorProcess { managers.monitor }
    var op: OperatorProcess { managers.op }
    /// Where a second set of managers would run; it is off until there is one.
    private(set) lazy var secondMachine = Machine(Self.secondManager, index: hosts.count + 1, drift: 0, world: self)
    var second: ManagerSet?
    /// Second sets that were switched off; what they sent may still refer to them.
    var former: [ManagerSet] = []
    /// Of the managers' journals, from when the cluster was ready.
    var backup: ManagerBackup?
    private(set) lazy var observer = ClusterObserver(world: self)
    private(set) lazy var memberships = MembershipObserver(world: self)
    private(set) lazy var leases = LeaseObserver(world: self)
    /// Every payload that lives, in the order of their starts.
    var payloads: [Payload] { everyHost.flatMap(\.guests) }
    /// Domains that an operator ever drained.
    var drained: Set<String> = []
    /// Resources that somebody has taken since everything was mended.
    var regained: Set<String> = []
    /// Published volumes, by image.
    var volumes: Set<String> = []
    var checker: InvariantChecker
    private(set) var violations: [Violation] = []
    /// When the cluster was ready; the scenario's times count from here.
    var readyAt: Int64?
    private(set) var timeline: [TimelineLine] = []
    let isVerbose: Bool
    private(set) var statistics = Outcome.Statistics()
    /// FNV-1a over everything that happened.
    private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    private var ids: UInt64 = 0
    /// Pauses of payloads that were not resumed.
    private var standing = 0
    init(_ scenario: Scenario, isVerbose: Bool) {
        self.scenario = scenario
        self.isVerbose = isVerbose
        random = Random(seed: scenario.seed)
        checker = InvariantChecker(InvariantChecker.Settings(grace: scenario.policy.fencing.grace, crossing: Self.slowestCommit + .seconds(1), knowsStarts: true, toolstackLost: scenario.policy.fencing.toolstackLost))
        hosts = scenario.hosts.enumerated().map { HostMachine($1, id: $0 + 1, world: self) }
        for host in hosts { hostsByName[host.name] = host }
        for (index, host) in hosts.enumerated() { host.wire(to: hosts, at: index) }
        _ = managers
    }

    /// What is decided leaves after its journal entry is durable, which may take so long.
    static let slowestCommit = Duration.seconds(3)

    // MARK: Names

    func host(_ name: String) -> HostMachine? { hostsByName[name] }
    static let secondManager = "manager2"
    /// In the order of their places.
    var machines: [Machine] { [manager] + hosts.map(\.machine) + [secondMachine] }
    /// The machines of the cluster.
    var machineNames: [String] { [manager.name] + hosts.map(\.name) }
    /// All ends of the network.
    var places: [String] { machineNames + [Self.secondManager] }
    func machine(_ name: String) -> Machine? { name == manager.name ? manager : name == Self.secondManager ? secondMachine : host(name)?.machine }
    var everyHost: [HostMachine] { others.isEmpty ? hosts : hosts + others }
    func others(of name: String) -> [HostMachine] { others.filter { $0.name == name } }

    /// A machine that goes by a host's name, too.
    func add(_ other: HostMachine) { others.append(other) }

    /// Another machine takes a host's place and name; the old one stays where it is.
    func replace(_ host: HostMachine, by new: HostMachine) {
        guard let index = hosts.firstIndex(where: { $0 === host }) else { return }
        others.append(host)
        hosts[index] = new
        hostsByName[new.name] = new
    }

    func newID() -> String {
        ids += 1
        return "request-\(ids)"
    }

    /// Domains and images are known to the services by uuids; here they count.
    static func uuid(_ kind: Int, _ number: Int) -> String {
        let digits = String(number)
        return "0000000\(kind)-0000-4000-8000-" + String(repeating: "0", count: max(0, 12 - digits.count)) + digits
    }

    /// A VM that is defined anew after its removal has new disks.
    static func image(vm number: Int, disk: Int, removed: Int) -> String { uuid(2, 100_000 * removed + 100 * number + disk + 1) }

    func domainUUID(_ name: String) -> String { Self.uuid(1, (scenario.domains.firstIndex(of: name) ?? 0) + 1) }

    static let root = "/shared"
    /// `/shared/<domain>/...`
    func domain(ofPath path: String) -> String {
        let parts = path.utf8.split(separator: UInt8(ascii: "/"), maxSplits: 2, omittingEmptySubsequences: true)
        return parts.count > 1 ? String(Substring(parts[1])) : ""
    }

    /// How long an array or the network may keep a write of a host that has died: shorter than `settle`, or the configuration would be wrong.
    var longestInFlight: Int64 { max(0, scenario.policy.settle.nanoseconds - 100_000_000) }

    // MARK: Time

    func at(_ time: Int64, _ work: @escaping () -> Void) { queue.add(at: max(time, now), .anybody(work)) }
    func after(nanoseconds: Int64, _ work: @escaping () -> Void) { queue.add(at: now + max(0, nanoseconds), .anybody(work)) }
    func after(nanoseconds: Int64, _ work: EventQueue.Work) { queue.add(at: now + max(0, nanoseconds), work) }

    /// Lets time pass until `end`, or until something is true that is looked at after each event that may have changed it.
    func run(until end: Int64) {
        while let next = queue.next, next <= end, let event = queue.removeFirst() {
            now = event.at
            statistics.events += 1
            switch event.work {
            case .anybody(let work): work()
            case .machine(let machine, let due, _): machine.fire(due, event.work)
            case .process(let process, _, let due, _): process.machine.fire(due, event.work)
            }
        }
        now = max(now, end)
    }

    /// Nothing happens any more: what still waits holds the world, and the world holds that.
    func dismantle() {
        queue = EventQueue()
        storage.dismantle()
        network.dismantle()
        for machine in machines + others.map(\.machine) { machine.dismantle() }
    }

    /// Runs on a machine's processors if it is still in that boot; after the thaw, if it is frozen.
    func onMachine(_ machine: Machine, _ boot: Int, _ work: @escaping () -> Void) {
        guard machine.isOn, machine.boots == boot else { return }
        if machine.isRunning { work() } else { machine.after(.zero, work) }
    }

    // MARK: What happens, for people and for the checker

    private func mix(_ text: String) {
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        hash = (hash ^ UInt64(bitPattern: now)) &* 0x100_0000_01b3
    }

    func tell(_ who: String, _ what: @autoclosure () -> String, _ why: @autoclosure () -> String = "") {
        let text = what()
        mix(who)
        mix(text)
        guard isVerbose else { return }
        timeline.append(TimelineLine(at: Duration(nanoseconds: now), who: who, what: text, why: why()))
    }

    func decided(_ source: String, _ decision: Decision) {
        tell(source, "\(decision.subject): \(decision.what)", decision.why)
    }

    func note(_ fact: Fact) {
        let broken = checker.note(fact, at: Instant(nanoseconds: now))
        for violation in broken { record(violation) }
    }

    func record(_ violation: Violation) {
        tell("checker", violation.description)
        violations.append(violation)
    }

    func violate(_ invariant: Invariant, _ what: String) {
        record(Violation(invariant, what, facts: [], at: Instant(nanoseconds: now)))
    }

    /// A kill that waits for this process's next step strikes now.
    func diesHere(_ process: Process) -> Bool {
        guard let steps = process.stepsToLive else { return false }
        guard steps <= 1 else {
            process.stepsToLive = steps - 1
            return false
        }
        process.stepsToLive = nil
        process.kill()
        return true
    }

    // MARK: Payloads

    private func run(of payload: Payload) -> Run { Run(host: payload.host.name, boot: payload.bootID, holder: payload.spec.holder) }

    func payloadBegan(_ payload: Payload) {
        let run = run(of: payload)
        tell(run.host, "\(run.holder) runs")
        if payload.spec.isGuest {
            statistics.guestStarts += 1
            observer.occurred(.start(vm: run.holder.name, host: run.host))
            for lease in payload.leases { leases.began(lease) }
            note(.guestBegan(run, writes: payload.spec.diskLocks, leases: payload.leases))
        } else {
            note(.workerBegan(run, lease: payload.leases.first ?? GuardLease(name: LeaseName(lockspace: "", resource: ""))))
        }
    }

    func payloadPaused(_ payload: Payload, _ why: String) {
        standing += 1
        tell(payload.host.name, "\(payload.spec.holder) is paused", why)
        observer.occurred(.pause(vm: payload.spec.holder.name))
    }

    /// - Parameter unread: its leases that its host has not read since it came to a stand.
    func payloadResumed(_ payload: Payload, unread: [LeaseName]) {
        standing -= 1
        let run = run(of: payload)
        tell(run.host, "\(run.holder) goes on")
        observer.occurred(.resume(vm: run.holder.name))
        if let lease = unread.first { violate(.I1, "\(run) goes on, and its host has not read lease \(lease.resource) since it stood still") }
        for lockspace in Set(payload.leases.map(\.name.lockspace)).sorted() {
            guard let age = memberships.overdue(payload.host, lockspace) else { continue }
            violate(.I1, "\(run) goes on \(age.milliseconds) ms after its host's membership in \(lockspace) was over")
        }
    }

    /// A host has read a lease's leader: those that stand still may count on what that said.
    func sectorsRead(_ path: String, _ offset: UInt64, _ bytes: [UInt8], by reader: Machine, submitted: Int64) {
        guard standing > 0, path.hasSuffix("leases"), let host = everyHost.first(where: { $0.machine === reader }), host.guests.contains(where: \.standsStill),
            offset % UInt64(Geometry.standard.alignment) == 0, let leader = try? LeaderRecord(bytes[...])
        else { return }
        for payload in host.guests { payload.leaderRead(LeaseName(lockspace: leader.lockspace, resource: leader.name), submitted: submitted) }
    }

    func payloadEnded(_ payload: Payload, _ cause: EndCause) {
        let run = run(of: payload)
        tell(run.host, "\(run.holder) runs no more", "\(cause)")
        guard payload.spec.isGuest else { return note(.workerEnded(run)) }
        observer.occurred(.end(vm: run.holder.name))
        note(.guestEnded(run, cause))
    }

    func lateWrite(of payload: Payload) {
        let run = run(of: payload)
        tell(run.host, "a late write of \(run.holder) lands")
        for disk in payload.spec.diskLocks { note(.writeLanded(run, disk: disk)) }
    }

    func bootEnded(_ host: HostMachine, _ boot: String) {
        let dying = host.guests
        host.guests = []
        for payload in dying {
            if payload.spec.isGuest, payload.state != .starting { observer.occurred(.end(vm: payload.spec.holder.name)) }
            payload.powerLost()
        }
        note(.bootEnded(host: host.name, boot: boot))
    }

    /// Whoever publishes holds lease SDM: another may have it as soon as the host's membership is over (S12).
    func willPublish(_ volume: VolumeBuild, by worker: WorkerProcess) {
        guard let age = memberships.overdue(worker.host, worker.master) else { return }
        violate(.I2, "\(worker.holder) on \(worker.host.name) publishes volume \(volume.image) \(age.milliseconds) ms after its membership was over")
    }

    func publish(_ volume: VolumeBuild, by worker: WorkerProcess) {
        guard volumes.insert(volume.image).inserted else { return }
        tell(worker.name, "publishes volume \(volume.image)")
        note(.published(Run(host: worker.host.name, boot: worker.machine.bootID, holder: worker.holder), lver: worker.lver, what: "volume \(volume.image)"))
    }

    func startSent(_ start: VMStart, to target: AgentTarget) {
        let incarnation = placement.engine.hostViews.first { $0.name == target.host }?.incarnation ?? Incarnation(0)
        note(.startSent(.vm(start.vm.name, start.attempt, host: target.host, boot: target.bootID), incarnation))
    }

    func spmStartSent(_ ask: RoleAsk) {
        note(.startSent(.spm(ask.pool, term: ask.term, host: ask.host, boot: ask.bootID), spm.engine.hosts[ask.host]?.incarnation ?? Incarnation(0)))
    }

    /// What a machine has written is on the storage now.
    func sectorsChanged(_ path: String, _ offset: UInt64, _ length: Int, by writer: Machine) {
        if path.hasSuffix("/ids") {
            leases.hostIDsChanged(path, offset)
            memberships.changed(path, offset, length, by: writer)
        } else if path.hasSuffix("leases") {
            leases.changed(path, offset, length, by: writer)
        }
    }

    func leaseName(of resource: Scenario.Resource) -> LeaseName { LeaseName(lockspace: domainUUID(resource.domain), resource: resource.name) }

    func countPowerOff() { statistics.powerOffs += 1 }
    func countMessage() { statistics.messages += 1 }
    func countStorageOperation() { statistics.storageOperations += 1 }
}
