import DomainMonitorEngine
import FencingEngine
import HostAgentEngine
import Invariants
import Messages
import PlacementEngine
import SPMEngine

extension World {
    /// What is not as it should be once nothing is broken any more; empty: all is well.
    var shortcomings: [String] {
        let seen = observer.observed
        var found: [String] = []
        for host in hosts {
            let status = seen.hosts[host.name]?.status
            if status != .up, !isSaved(host) { found.append("\(host.name) is \(status?.rawValue ?? "not known")") }
        }
        if seen.spm == nil { found.append("no SPM serves") }
        for domain in scenario.domains where seen.domains[domain] != .active { found.append("\(domain) is \(seen.domains[domain]?.rawValue ?? "not known")") }
        for vm in placement.engine.list.vms where vm.ha && vm.wanted && vm.status != .up { found.append("\(vm.name) is \(vm.status.rawValue): \(vm.reason)") }
        for resource in scenario.resources where !regained.contains(resource.name) { found.append("nobody has got lease \(resource.name) since") }
        return found
    }

    /// It was powered down, and is switched on when it is needed.
    private func isSaved(_ host: HostMachine) -> Bool { fencing.engine.view(of: host.name)?.powerSaving == .off && !host.hasPower }

    /// The longest time that all of it may take, from the policy: to notice, to fence, to boot, to join, to elect, to start, each with its retries.
    var recoveryBound: Duration {
        let policy = scenario.policy
        let grace = policy.fencing.grace + policy.fencing.heartbeat * 4
        let levels: Int64 = scenario.hosts.contains { $0.hasOutlet == true } ? 2 : 1
        let dumps: Duration = scenario.hosts.contains { $0.kdump == true } ? policy.fencing.kdumpWait + policy.fencing.kdumpLimit : .zero
        let waits = policy.fencing.softTimeout + dumps + (scenario.hosts.compactMap(\.delay).max() ?? .zero)
        let fence = (policy.fencing.agentTimeout * 6 + policy.fencing.retry * 4) * levels + waits * 2
        let boot = policy.fencing.bootTimeout + scenario.pace.boot * 2
        let join = (policy.ioTimeout * 8 + policy.watchdogFire) * 2 + policy.ioTimeout * 4
        let elect = policy.spm.backoffLimit * 2 + .seconds(120)
        let start = policy.placement.retryLongest * 3 + .seconds(180) + (policy.ioTimeout * 8 + policy.watchdogFire)
        let toolstack = policy.toolstack.every > .zero ? (policy.toolstack.every + policy.toolstack.restartTimeout + policy.toolstack.timeout + policy.toolstack.pause) * 2 : .zero
        return grace * 2 + fence + boot * 2 + join + elect + start + toolstack
    }

    /// What an operator does who finds everything mended: gives power to what has none, and takes back what was ordered for the time of the trouble.
    func operatorCleansUp() {
        let views = fencing.engine.hostViews
        for host in hosts {
            // Who has an open case and a device of its own is switched on by fencing-service.
            let isReached = host.definition.via != .hosts || hosts.contains { $0.name != host.name && $0.machine.isRunning }
            if isSaved(host) { continue }
            let open = views.first { $0.name == host.name }?.fenceCase
            if host.machine.isHalted {
                if !host.hasOwnDevice || !isReached || open?.cause == CaseCause.shutDown.rawValue { host.reset("an operator resets it") }
                continue
            }
            if host.hasOwnDevice, isReached, !host.isOffBehindItsOutlet, let open, !open.reason.contains("an operator switched it off"), open.cause != CaseCause.shutDown.rawValue { continue }
            host.getPower("an operator switches it on")
        }
        // Which of two machines with one identity it was is known after the right one has booted anew.
        for view in views where view.status == .error { if let host = host(view.name), view.bootID != host.machine.bootID { host.reboot() } }
        for host in hosts where host.machine.isRunning && host.agent.engine.heartbeat.leaving != nil { _ = op.command(.hostStay(host: host.name)) }
        let ha = fencing.engine.snapshot.ha
        if ha.hold != nil { _ = op.command(.haRelease) }
        if !ha.enabled { _ = op.command(.haEnable) }
        for view in fencing.engine.hostViews where view.status != .up { _ = op.command(.hostActivate(host: view.name)) }
        for domain in scenario.domains {
            if drained.contains(domain) { for host in hosts where host.leases.isRunning { op.open(domain, on: host) } }
            if monitor.engine.views.contains(where: { $0.name == domain && $0.status == .maintenance }) { _ = op.command(.domainActivate(domain: domain)) }
        }
        regain()
    }

    /// A lease that nobody holds can be taken, wherever it was held when things broke.
    private func regain() {
        for resource in scenario.resources where !regained.contains(resource.name) && hosts.allSatisfy({ $0.users.allSatisfy { $0.resource.name != resource.name } }) {
            guard let host = random.pick(hosts.filter { $0.machine.isRunning }) else { continue }
            var user: LeaseUser?
            let made = LeaseUser(of: resource, .exclusive, on: host) { [self] refusal in
                guard refusal == nil else { return tell("operator", "lease \(resource.name) cannot be taken on \(host.name)", refusal?.description ?? "") }
                regained.insert(resource.name)
                user?.giveBack("it was only tried")
            }
            user = made
            made.start()
        }
    }
}
