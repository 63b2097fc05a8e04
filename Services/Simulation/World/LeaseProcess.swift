import HostAgentEngine
import LeaseEngine
import Messages

/// lease-service of one host: the real engine, its disks and the guards that are connected to it.
final class LeaseProcess: ServiceProcess<LeaseEngine> {
    unowned(unsafe) let host: HostMachine
    private var connections: [UInt64: any LeaseClient] = [:]
    private var lastConnection: UInt64 = 0
    private var lanes: VolumeLanes?
    /// The engine's snapshot, until something happens to it.
    private var kept: LeaseSnapshot?

    init(on host: HostMachine) {
        self.host = host
        super.init(source: "lease-service@\(host.name)", name: "lease-service@\(host.machine.name)", on: host.machine)
    }

    /// Deadlines are absolute CLOCK_BOOTTIME, shared with the guards (S8).
    override var continuesTime: Bool { false }
    override var target: String? { machine.bootID }
    override var isEnrolled: Bool { world.keys.isEnrolled(host) }

    override func started() {
        connections = [:]
        lanes = VolumeLanes(of: self)
        let policy = world.scenario.policy
        submit(.started(HostIdentity(
            name: host.name, hostID: host.id, bootID: machine.bootID, hardwareID: host.hardwareID, firing: policy.watchdogFire, settle: policy.settle,
            expiredOwners: policy.watchdogPromised ? Dictionary(uniqueKeysWithValues: world.scenario.domains.map { (world.domainUUID($0), .watchdogPromised) }) : nil,
            backups: BackupPolicy(directory: "/backups/\(machine.name)"), watchdog: host.definition.watchdog ? policy.watchdog : nil)))
    }

    override func end() {
        super.end()
        let gone = connections.values.sorted { $0.holder < $1.holder }
        connections = [:]
        for guest in gone { guest.leaseServiceGone() }
    }

    override func perform(_ action: LeaseAction) {
        switch action {
        case .io(let request): lanes?.submit(request)
        case .note(let fact): after(.zero) { [self] in submit(.noted(fact)) }
        case .tell(let connection, let message):
            guard let guest = connections[connection] else { return }
            after(.milliseconds(0)) { guest.hear(message, on: connection) }
        case .testLocks(let holder, let paths):
            let free = paths.allSatisfy(host.isLockFree)
            after(.zero) { [self] in submit(.locksTested(holder, free: free)) }
        // The simulated hosts' engine is the native one.
        case .closeFiles, .daemon: break
        }
    }

    override func inputTaken() { kept = nil }

    var snapshot: LeaseSnapshot {
        if let kept { return kept }
        let made = engine.snapshot
        kept = made
        return made
    }

    // MARK: Guards

    func connect(_ guest: any LeaseClient) -> UInt64? {
        guard isAlive else { return nil }
        lastConnection += 1
        connections[lastConnection] = guest
        return lastConnection
    }

    /// A guard's end of the connection is closed.
    func disconnect(_ connection: UInt64) {
        guard connections.removeValue(forKey: connection) != nil else { return }
        after(.milliseconds(1)) { [self] in submit(.disconnected(connection: connection)) }
    }

    func hear(_ message: GuardMessage, on connection: UInt64, proofs: [SignedProof]) {
        after(.zero) { [self] in
            guard connections[connection] != nil else { return }
            do throws(RequestError) {
                let received = clock
                submit(try LeaseInput(message, on: connection, isFree: host.isLockFree) { [self] _ throws(RequestError) in
                    proofs.compactMap { signed in
                        world.keys.verified(signed).map { AcceptedProof(proof: $0.proof, age: max(.zero, $0.age), receivedAt: received) }
                    }
                })
            } catch {
                connections[connection]?.hear(GuardMessage("refused", [("code", error.code), ("message", error.message)]), on: connection)
            }
        }
    }
}
