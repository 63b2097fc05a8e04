import DomainMonitorEngine
import FencingEngine
import Invariants
import Messages
import PlacementEngine
import SPMEngine

/// Sees what the services publish, and turns it into facts for the checker and into what expectations are about.
final class ClusterObserver {
    private unowned(unsafe) let world: World
    private(set) var occurrences: [Occurrence] = []
    private var times: [Duration] = []
    private(set) var answers: [Observed.Answer] = []
    private var hostStatuses: [String: HostStatus] = [:]
    private var vmStatuses: [String: VMStatus] = [:]
    private var domainStatuses: [String: DomainStatus] = [:]
    private var numbered: [String: String] = [:]
    private var proofs: Set<String> = []
    private var operatorPower: Set<String> = []
    private var pendingPower: Set<String> = []
    private var spm: String?
    private var causes: [String: CaseCause] = [:]

    init(world: World) { self.world = world }

    func occurred(_ occurrence: Occurrence) {
        guard let readyAt = world.readyAt else { return }
        occurrences.append(occurrence)
        times.append(Duration(nanoseconds: world.now - readyAt))
    }
    func answered(_ command: Happening, _ refusal: RequestError?) { answers.append(Observed.Answer(command: command, refusal: refusal)) }
    /// - Parameter isPending: the operator waits for the answer of a power command, which goes before any case.
    func operatorWantsPower(of host: String, isPending: Bool = false) {
        operatorPower.insert(host)
        if isPending { pendingPower.insert(host) } else { pendingPower.remove(host) }
    }

    // MARK: Events

    func fencing(_ event: Event) {
        switch (event.type, event.body) {
        case ("host.status", let view as HostView), ("host.registered", let view as HostView): host(view)
        case ("host.proof", let signed as SignedProof):
            proofs.insert(signed.proof.id)
            world.note(.proofMade(signed.proof))
            occurred(.proof(host: signed.proof.host, signed.proof.kind))
        case ("host.proof-revoked", let signed as SignedProof):
            world.note(.proofRevoked(signed.proof))
            occurred(.revoked(host: signed.proof.host))
        case ("fence.started", let view as FenceCaseView):
            note(case: view)
            occurred(.caseOpened(host: view.host))
        case (_, let view as FenceCaseView):
            note(case: view)
            world.tell("fencing-service", "case \(view.id) of \(view.host): \(view.step)", view.reason)
        default: break
        }
    }

    /// What is durable and was not published before fencing-service died is known by its snapshot.
    func fencingStarted() {
        for signed in world.fencing.engine.hostViews.compactMap(\.proof) where proofs.insert(signed.proof.id).inserted { world.note(.proofMade(signed.proof)) }
    }

    /// A case may go on for another reason than it was opened for.
    private func note(case view: FenceCaseView) {
        guard let cause = view.cause.flatMap(CaseCause.init), causes[view.id] != cause else { return }
        causes[view.id] = cause
        world.note(.caseOpened(view.id, host: view.host, cause))
    }

    private func host(_ view: HostView) {
        if let boot = view.bootID, numbered[view.name] != boot {
            numbered[view.name] = boot
            world.note(.bootNumbered(host: view.name, boot: boot, view.incarnation))
        }
        guard hostStatuses.updateValue(view.status, forKey: view.name) != view.status else { return }
        world.tell("fencing-service", "host \(view.name) is \(view.status.rawValue)", view.reason)
        if view.status == .up { world.note(.hostUp(view.name)) }
        occurred(.hostStatus(host: view.name, view.status))
    }

    func placement(_ event: Event) {
        guard event.type == "vm.status", let view = event.body as? VMView else { return }
        guard vmStatuses.updateValue(view.status, forKey: view.name) != view.status else { return }
        world.tell("placement-service", "vm \(view.name) is \(view.status.rawValue)" + (view.host.map { " on \($0)" } ?? ""), view.reason)
        occurred(.vmStatus(vm: view.name, view.status))
    }

    func spm(_ event: Event) {
        guard event.type == "pool.status", let view = event.body as? PoolView else { return }
        guard view.spm != spm else { return }
        spm = view.spm
        world.tell("spm-coordinator", spm.map { "SPM is \($0)" } ?? "no SPM", view.reason)
        if let spm { occurred(.spm(host: spm)) }
    }

    func monitor(_ event: Event) {
        guard let view = event.body as? DomainView else { return }
        guard domainStatuses.updateValue(view.status, forKey: view.name) != view.status else { return }
        world.tell("domain-monitor", "domain \(view.name) is \(view.status.rawValue)", view.reason)
        occurred(.domainStatus(domain: view.name, view.status))
    }

    // MARK: Power

    /// fencing-service's command is on its way to the device.
    func powerCommanded(_ host: String, isOff: Bool) {
        let view = world.fencing.engine.view(of: host)?.fenceCase
        // The event of its opening may have died with fencing-service, its journal entry has not.
        if let view { note(case: view) }
        let open = view?.id
        let isOperators = pendingPower.contains(host) || (open == nil && operatorPower.contains(host))
        let isSaving = !isOperators && world.fencing.engine.view(of: host)?.powerSaving.map { $0 != .never } ?? false
        let cause: PowerCause = isOperators ? .operatorAsked : isSaving ? .saving : open.map { .fenceCase($0) } ?? .none
        world.note(.powerCommanded(host: host, isOff ? .off : .on, cause))
        occurred(isOff ? .off(host: host) : .on(host: host))
        guard isOff else { return }
        world.countPowerOff()
        // Nobody answers, so nobody can have seen that its renewals stopped (S17); what was asked before may still be under way for a moment.
        if !isOperators, let open, causes[open] == .silent, world.network.isDeaf(world.manager.name, for: 8_000_000_000, among: world.machineNames) {
            world.violate(.I5, "\(host) is switched off for its silence (case \(open)) while no host at all reaches the manager")
        }
        if !isOperators, let open, causes[open] == .silent, world.fencing.goodbyes[host] == world.host(host)?.machine.bootID {
            world.violate(.I7, "\(host) is switched off for its silence (case \(open)) although it has said goodbye")
        }
        if !isOperators, let open, causes[open] == .silent, let machine = world.host(host), world.memberships.renews(machine, for: .seconds(60)), isOneOfMany(host) {
            world.violate(.I5, "\(host) is switched off for its silence (case \(open)) while half of the others do not reach the manager either, and has renewed its leases without a pause")
        }
    }

    /// Whether half of the other hosts run, too, and have not reached the manager for a while: then the silence of this one says more of the network than of it (S17).
    private func isOneOfMany(_ host: String) -> Bool {
        let silence = world.scenario.policy.fencing.heartbeat * 4 + .seconds(4)
        // The silence of one whose last life is proven over, and whose next one was not heard yet, has a cause of its own.
        let others = world.hosts.filter { other in
            guard other.name != host, let view = world.fencing.engine.view(of: other.name) else { return false }
            return view.proof?.proof.covers(host: view.name, incarnation: view.incarnation) != true
        }
        let silent = others.filter { other in
            other.machine.isRunning && [.connecting, .nonResponsive].contains(hostStatuses[other.name])
                && world.network.isCut(other.name, world.manager.name, for: silence.nanoseconds)
        }
        return !others.isEmpty && silent.count * 100 >= others.count * world.scenario.policy.fencing.silentShare
    }

    // MARK: Promises

    /// What the services show now must be what was promised (I6).
    func checkPromises() {
        let vms = world.placement.engine.list.vms
        for vm in world.scenario.vms {
            let view = vms.first { $0.name == vm.name }
            world.note(.found(view == nil ? .removed(vm: vm.name) : .defined(vm: vm.name)))
            // One that could not be started anywhere is given up, and says so.
            if let view, view.status != .error { world.note(.found(.wanted(vm: vm.name, view.wanted))) }
        }
        let views = world.fencing.engine.hostViews
        for host in world.hosts {
            let view = views.first { $0.name == host.name }
            world.note(.found(.registered(host: host.name, view != nil)))
            if let view { world.note(.found(.maintenance(host: host.name, view.status == .maintenance))) }
        }
        let ha = world.fencing.engine.snapshot.ha
        world.note(.found(.held(ha.hold != nil)))
        world.note(.found(.enabled(ha.enabled)))
        for view in world.monitor.engine.views { world.note(.found(.maintenance(domain: view.name, view.status == .maintenance))) }
    }

    // MARK: At a moment

    var observed: Observed {
        var seen = Observed()
        for vm in world.placement.engine.list.vms { seen.vms[vm.name] = Observed.VM(status: vm.status, host: vm.host, reason: vm.reason) }
        for view in world.fencing.engine.hostViews {
            seen.hosts[view.name] = Observed.Host(status: view.status, isOn: world.host(view.name)?.hasPower ?? false, caseStep: view.fenceCase?.step)
        }
        seen.spm = world.spm.engine.poolViews.first { $0.status == .up }?.spm
        for domain in world.monitor.engine.views { seen.domains[domain.name] = domain.status }
        for user in world.hosts.flatMap(\.users) {
            if let used = user.used { seen.leases[user.resource.name, default: [:]][user.host.name] = used.mode }
        }
        seen.recoveryAllowed = world.fencing.engine.snapshot.ha.recoveryAllowed
        seen.occurrences = occurrences
        seen.times = times
        seen.answers = answers
        return seen
    }
}
