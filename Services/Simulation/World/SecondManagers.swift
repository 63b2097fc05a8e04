import Messages

/// The journals of a set of managers, as a backup keeps them.
struct ManagerBackup {
    private let write: (ManagerSet) -> Void

    init(of managers: ManagerSet) {
        let fencing = managers.fencing.journal.backup
        let placement = managers.placement.journal.backup
        let spm = managers.spm.journal.backup
        let monitor = managers.monitor.journal.backup
        write = { other in
            other.fencing.restore(fencing)
            other.placement.restore(placement)
            other.spm.restore(spm)
            other.monitor.restore(monitor)
        }
    }

    func restore(_ managers: ManagerSet) { write(managers) }
}

/// A second set of managers for the same hosts and BMCs, beside the one that they obey (S16).
extension World {
    /// From the backup that was made when the cluster was ready.
    func restoreManagers() {
        guard let backup, let managers = addManagers(.restored) else { return }
        backup.restore(managers)
        secondMachine.powerOn()
    }

    /// With empty journals; a person tells it of hosts, domains and VMs as the first one was told.
    func installManagers() {
        guard let managers = addManagers(.installed) else { return }
        secondMachine.powerOn()
        managers.op.setUp()
    }

    private func addManagers(_ origin: ManagerSet.Origin) -> ManagerSet? {
        guard second == nil else { return nil }
        let managers = ManagerSet(origin, on: secondMachine)
        second = managers
        return managers
    }

    /// Somebody notices, and switches it off for good.
    func endSecondManagers() {
        guard let managers = second else { return }
        secondMachine.powerOff()
        for process in secondMachine.processes {
            process.dismantle()
            secondMachine.remove(process)
        }
        second = nil
        former.append(managers)
    }
}

extension OperatorProcess {
    /// Says everything that a cluster is made of, again and again: what is there is refused or changes nothing.
    func setUp() {
        for host in world.hosts { addHost(host) { _ in } }
        for domain in world.scenario.domains { createDomain(domain) { _ in } }
        createPool { _ in }
        for vm in world.scenario.vms {
            define(vm) { _ in }
            start(vm.name, on: nil) { _ in }
        }
        after(.seconds(10)) { [self] in setUp() }
    }
}
