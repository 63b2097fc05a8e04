import DomainMonitorEngine
import FencingEngine
import Invariants
import LeaseEngine
import Messages
import PlacementEngine
import SPMEngine

/// What an operator does with leases and indexes.
extension OperatorProcess {
    /// As `bulwark lease create`: the SPM's host does it.
    func createLease(_ resource: Scenario.Resource, _ done: @escaping (RequestError?) -> Void) {
        changeIndex(done) { [world] in .create($0, Self.caller, LeaseRequest(lease: world.leaseName(of: resource), lver: $1)) }
    }

    private static let caller = Caller(role: .operator_)

    private func changeIndex(_ done: @escaping (RequestError?) -> Void, _ input: (RequestID, UInt64) -> LeaseInput) {
        guard let spm = world.hosts.first(where: { $0.worker?.isAlive == true }), let lver = spm.worker?.lver else {
            return done(RequestError(RequestErrorCode.conflict, "nobody serves as SPM"))
        }
        send(spm.leases, { input($0, lver) }, nil, done)
    }

    /// Ends a drain that was given up.
    func open(_ domain: String, on host: HostMachine) {
        let order = LockspaceDrain(lockspace: world.domainUUID(domain), open: true, who: "operator", why: "everything is mended")
        send(host.leases, { .drain($0, order) }, nil) { _ in }
    }

    /// Does what a happening says, if it is a command about leases.
    func leaseCommand(_ what: Happening, _ answered: @escaping (RequestError?) -> Void) -> Bool {
        func resource(_ name: String) -> Scenario.Resource? { world.scenario.resources.first { $0.name == name } }
        func user(_ name: String, _ host: String) -> LeaseUser? { world.host(host)?.users.first { $0.resource.name == name } }
        let nobody = RequestError(RequestErrorCode.conflict, "nothing there uses it")
        switch what {
        case .leaseTake(let name, let host, let mode):
            guard let host = world.host(host), host.machine.isRunning, let resource = resource(name) else {
                answered(RequestError(RequestErrorCode.conflict, "that machine does not run"))
                return true
            }
            LeaseUser(of: resource, mode, on: host, answered).start()
        case .leaseConvert(let name, let host, let mode):
            user(name, host)?.convert(to: mode, answered) ?? answered(nobody)
        case .leaseDrop(let name, let host):
            user(name, host)?.giveBack("an operator ends it") ?? answered(nobody)
        case .leaseRequest(let name, let host, let mode):
            guard let host = world.host(host), let resource = resource(name) else { return true }
            send(host.leases, { [world] in .demand($0, Self.caller, LeaseDemand(lease: world.leaseName(of: resource), mode: mode)) }, nil, answered)
        case .leaseVoid(let name, let domain, let by):
            guard let host = world.host(by), let other = world.host(name) else { return true }
            let lockspace = world.domainUUID(domain)
            // A person who has looked frees nothing of a machine that may go on.
            guard !other.hasPower || other.machine.isRunning else {
                answered(RequestError(RequestErrorCode.conflict, "the operator has looked: \(name) stands still"))
                return true
            }
            let seen = host.leases.snapshot.lockspaces.first { $0.lockspace == lockspace }?.hosts.first { $0.hostID == other.id }
            let body = LeaseVoid(lockspace: lockspace, hostID: other.id, generation: seen?.generation ?? 0, spm: true, dryRun: false, who: "operator", why: "it is gone")
            send(host.leases, { .void($0, body) }, nil, answered)
        case .leaseCreate(let name):
            if let resource = resource(name) { createLease(resource, answered) }
        case .leaseRemove(let name):
            guard let resource = resource(name) else { return true }
            changeIndex(answered) { [world] in .remove($0, Self.caller, LeaseRequest(lease: world.leaseName(of: resource), lver: $1)) }
        case .indexRebuild(let domain):
            changeIndex(answered) { [world] in .rebuild($0, Self.caller, IndexRebuildRequest(lockspace: world.domainUUID(domain), lver: $1), time: 1) }
        case .lockspaceNotify(let target, let domain, let by):
            guard let host = world.host(by), let other = world.host(target) else { return true }
            let notice = LockspaceNotice(lockspace: world.domainUUID(domain), hostID: other.id, event: 1, data: 2)
            send(host.leases, { .notify($0, Self.caller, notice) }, nil, answered)
        case .lockspaceDrain(let domain): LockspaceKeeper(of: domain, by: self, answered).drain()
        case .lockspaceOpen(let domain): LockspaceKeeper(of: domain, by: self, answered).open()
        case .lockspaceBackup(let domain, let name):
            guard let host = world.host(name) else { return true }
            let lockspace = world.domainUUID(domain)
            send(host.leases, { .backup($0, LockspaceBackup(lockspace: lockspace, file: LockspaceKeeper.backup(of: domain, on: host)), time: 1) }, nil, answered)
        case .lockspaceReinitialize(let domain, let host, let sector, let ioTimeout, let byForce):
            LockspaceKeeper(of: domain, by: self, answered).reinitialize(on: host, sectorSize: sector, ioTimeout: ioTimeout, byForce: byForce)
        case .lockspaceRestore(let domain, let host): LockspaceKeeper(of: domain, by: self, answered).reinitialize(on: host, restores: true)
        default: return false
        }
        return true
    }
}

/// As `bulwark lockspace drain` and `reinitialize`: what an operator's command asks, one after the other, with everybody who uses the lockspace.
final class LockspaceKeeper {
    private let op: OperatorProcess
    private let domain: String
    private let lockspace: String
    private let answered: (RequestError?) -> Void
    private let life: Int
    private var stopped: [String] = []

    private static let patience = Duration.seconds(180)

    init(of domain: String, by op: OperatorProcess, _ answered: @escaping (RequestError?) -> Void) {
        self.domain = domain
        self.op = op
        self.answered = answered
        life = op.life
        lockspace = op.world.domainUUID(domain)
    }

    private var world: World { op.world }
    private var path: String { "\(World.root)/\(lockspace)" }
    static func backup(of domain: String, on host: HostMachine) -> String { "/backups/\(host.machine.name)/\(domain).backup" }

    private func order(open: Bool = false, onlyLook: Bool = false) -> LockspaceDrain {
        LockspaceDrain(lockspace: lockspace, open: open, onlyLook: onlyLook, who: "operator", why: "it is repaired")
    }

    /// Asks every host; who does not answer is left out.
    private func ask(_ drain: LockspaceDrain, _ done: @escaping ([LockspaceDrainView]) -> Void) {
        var views: [LockspaceDrainView] = []
        var outstanding = world.hosts.count
        for host in world.hosts {
            op.ask(host.leases, timeout: .seconds(10), { .drain($0, drain) }) { result in
                if let view = try? result.typed(LockspaceDrainView.self).get() { views.append(view) }
                outstanding -= 1
                if outstanding == 0 { done(views.sorted { $0.hostID < $1.hostID }) }
            }
        }
    }

    // MARK: Drain

    func drain() { leave { [self] refusal, _ in answered(refusal) } }

    /// Everybody leaves, guests and programs are ended before.
    private func leave(_ done: @escaping (RequestError?, [LockspaceDrainView]) -> Void) {
        world.drained.insert(domain)
        op.send(world.monitor, { [domain] in .maintenance($0, DomainRequest(domain: domain)) }, .maintenance(domain: domain, true)) { _ in }
        let guests = world.placement.engine.list.vms.filter { vm in vm.status != .down && vm.definition?.disks.contains { $0.domain == lockspace } ?? true }
        for vm in guests {
            stopped.append(vm.name)
            op.send(world.placement, { .stop($0, VMRequest(vm: vm.name)) }, .wanted(vm: vm.name, false)) { _ in }
        }
        for user in world.hosts.flatMap(\.users) where user.lease.lockspace == lockspace { user.giveBack("the lockspace is drained") }
        poll(until: op.clock + Self.patience, done)
    }

    private func poll(until: Instant, _ done: @escaping (RequestError?, [LockspaceDrainView]) -> Void) {
        ask(order()) { [self] seen in
            if !seen.isEmpty, seen.allSatisfy(\.hasLeft) { return done(nil, seen) }
            guard op.clock < until else { return done(RequestError(LockspaceErrorCode.inUse, "not every host has left \(domain)"), seen) }
            if seen.contains(where: { $0.holders.contains { $0.hasPrefix("spm:") } }) { op.send(world.spm, { .move($0, PoolRequest()) }, nil) { _ in } }
            op.after(.seconds(1)) { [self] in poll(until: until, done) }
        }
    }

    // MARK: Writing

    func reinitialize(on name: String, sectorSize: Int? = nil, ioTimeout: Int? = nil, byForce: Bool = false, restores: Bool = false) {
        guard let host = world.host(name) else { return }
        leave { [self] refusal, seen in
            if let refusal, !byForce { return answered(refusal) }
            let (facts, proofs) = facts(seen)
            var body = LockspaceRepair(lockspace: lockspace, path: path, ioTimeout: ioTimeout, sectorSize: sectorSize, alignment: sectorSize == nil ? nil : 1 << 20, facts: facts, force: byForce, who: "operator", why: "it is repaired")
            body.backup = restores ? Self.backup(of: domain, on: host) : "/backups/\(host.machine.name)/\(domain)-\(world.newID()).backup"
            body.proofs = proofs
            let received = host.leases.clock
            let accepted = proofs.compactMap { world.keys.verified($0) }.map { AcceptedProof(proof: $0.proof, age: max(.zero, $0.age), receivedAt: received) }
            op.ask(host.leases, timeout: .seconds(900), { .repair($0, body, accepted, restores: restores, time: 1) }) { [self] result in
                if let refusal = result.error { return answered(refusal) }
                open(startingGuests: true)
            }
        }
    }

    /// What hosts and managers say now.
    private func facts(_ seen: [LockspaceDrainView]) -> (LockspaceFacts, [SignedProof]) {
        var facts = LockspaceFacts()
        facts.departures = seen.filter(\.hasLeft).map { LockspaceFacts.Departure(host: $0.host, hostID: $0.hostID, bootID: $0.bootID, age: .zero) }
        let views = world.fencing.engine.hostViews
        facts.registered = Dictionary(views.map { ($0.id, $0.name) }, uniquingKeysWith: { first, _ in first })
        let open = views.filter { view in view.fenceCase.map { view.proof?.proof.covers(host: view.name, incarnation: $0.incarnation) != true } ?? false }
        facts.underWay += open.map { "a fence case of \($0.name) is open" }
        facts.underWay += world.spm.engine.taskViews.filter { $0.status == .created || $0.status == .running }.map { "storage task \($0.task) is \($0.status.rawValue)" }
        let guests = world.placement.engine.list.vms.filter { vm in vm.status != .down && vm.definition?.disks.contains { $0.domain == lockspace } ?? true }
        facts.underWay += guests.map { "VM \($0.name), with disks there, is \($0.status.rawValue)" }
        let gone = Set(facts.departures.map(\.host))
        return (facts, views.filter { !gone.contains($0.name) }.compactMap(\.proof))
    }

    func open() { open(startingGuests: false) }

    private func open(startingGuests: Bool) {
        ask(order(open: true)) { [self] seen in
            guard !seen.isEmpty else { return answered(RequestError(RequestErrorCode.unknownOutcome, "no lease-service answers")) }
            if let closed = seen.first(where: \.isClosed) { return answered(RequestError(LockspaceErrorCode.closed, "\(closed.host) did not open \(domain)")) }
            op.send(world.monitor, { [domain] in .activate($0, DomainRequest(domain: domain)) }, .maintenance(domain: domain, false)) { [self] _ in
                answered(nil)
                if startingGuests { startGuests(until: op.clock + .seconds(300)) }
            }
        }
    }

    /// Guests that were stopped for it run again once all is well.
    private func startGuests(until: Instant) {
        guard op.clock < until else { return }
        let isActive = world.monitor.engine.views.first { $0.name == domain }?.status == .active
        guard isActive, world.hosts.allSatisfy({ host in host.leases.snapshot.lockspaces.contains { $0.lockspace == lockspace && $0.state == .joined } }) else {
            return op.after(.seconds(1)) { [self] in startGuests(until: until) }
        }
        for vm in stopped { op.start(vm, on: nil) { _ in } }
    }
}
