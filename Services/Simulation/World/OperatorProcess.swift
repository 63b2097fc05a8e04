import DomainMonitorEngine
import FencingEngine
import HostAgentEngine
import Invariants
import Messages
import PlacementEngine
import SPMEngine

/// A person at the manager: asks the real services, and is told or not.
final class OperatorProcess: Process {
    unowned(unsafe) let managers: ManagerSet

    init(of managers: ManagerSet) {
        self.managers = managers
        super.init("operator" + managers.suffix, on: managers.machine)
    }

    private static let timeout = Duration.seconds(30)
    /// How often each VM was removed.
    private var removals: [String: Int] = [:]
    /// Boots whose shutdown was asked for; one that is called off may have ended guests all the same.
    private(set) var shutdownsAsked: Set<String> = []

    // MARK: Bring-up

    func addHost(_ host: HostMachine, _ done: @escaping (Bool) -> Void) { enrol(host, nil) { done($0 == nil) } }

    private func enrol(_ host: HostMachine, _ promise: Promise?, _ done: @escaping (RequestError?) -> Void) {
        let definition = definition(of: host)
        send(managers.fencing, { .hostEnrol($0, HostAdd(definition, reinstalled: host.installation > 1 ? true : nil)) }, promise) { [world] refusal in
            if refusal == nil { world.keys.enrol(host) }
            done(refusal)
        }
    }

    private func definition(of host: HostMachine) -> HostDefinition {
        HostDefinition(
            name: host.name, id: host.id,
            endpoints: HostEndpoints(
                agentRequests: "tcp://\(host.name):7401", agentEvents: "tcp://\(host.name):7402", leaseRequests: "tcp://\(host.name):7403", leaseEvents: "tcp://\(host.name):7404"),
            key: host.key, signingKey: host.signingKey, spmPriority: host.definition.spmPriority, fence: host.fenceDevices, kdump: host.definition.kdump == true ? [host.address] : nil)
    }

    func createDomain(_ domain: String, _ done: @escaping (Bool) -> Void) {
        let create = DomainCreate(name: domain, domain: world.domainUUID(domain), directory: World.root, ioTimeout: Int(world.scenario.policy.ioTimeout.nanoseconds / 1_000_000_000))
        send(managers.monitor, { .create($0, create) }) { done($0 == nil || $0?.code == DomainErrorCode.exists.rawValue) }
    }

    func createPool(_ done: @escaping (Bool) -> Void) {
        send(managers.spm, { [world] in .createPool($0, PoolCreate(pool: "pool", master: world.domainUUID(world.scenario.domains.first ?? ""))) }) { done($0 == nil) }
    }

    func define(_ vm: Scenario.VM, _ done: @escaping (RequestError?) -> Void) {
        let number = world.scenario.vms.firstIndex(of: vm) ?? 0
        let disks = vm.disks.enumerated().map { DiskDefinition(image: World.image(vm: number, disk: $0, removed: removals[vm.name] ?? 0), domain: world.domainUUID($1), size: 1 << 20) }
        let definition = VMDefinition(
            name: vm.name, memoryMiB: vm.memoryMiB, disks: disks, ha: vm.ha, leases: vm.leases, priority: vm.priority, pin: vm.pin,
            onLeaseLoss: vm.onLeaseLoss, pauseBefore: vm.pauseBefore, resume: vm.resume)
        send(managers.placement, { .define($0, definition) }, .defined(vm: vm.name), done)
    }

    func start(_ vm: String, on host: String?, _ done: @escaping (RequestError?) -> Void) {
        send(managers.placement, { .start($0, VMRequest(vm: vm, host: host)) }, .wanted(vm: vm, true), done)
    }

    // MARK: Commands of a scenario

    /// Does what a happening says, if it is a command.
    func command(_ what: Happening) -> Bool {
        func answered(_ refusal: RequestError?) {
            world.tell(name, what.sentence + (refusal == nil ? " is done" : " is refused"), refusal?.description ?? "")
            world.observer.answered(what, refusal)
        }
        let fencing: FencingProcess = managers.fencing
        let placement: PlacementProcess = managers.placement
        switch what {
        case .vmStart(let vm, let host): start(vm, on: host, answered)
        case .vmStop(let vm): send(placement, { .stop($0, VMRequest(vm: vm)) }, .wanted(vm: vm, false), answered)
        case .vmRemove(let vm):
            send(placement, { .remove($0, VMRequest(vm: vm)) }, .removed(vm: vm)) { [self] refusal in
                if refusal == nil { removals[vm, default: 0] += 1 }
                answered(refusal)
            }
        case .vmDefine(let name):
            if let vm = world.scenario.vms.first(where: { $0.name == name }) { define(vm, answered) }
        case .vmResume(let vm): send(placement, { .resume($0, VMRequest(vm: vm)) }, nil, answered)
        case .vmResetPowerState(let vm): send(placement, { .resetPowerState($0, VMRequest(vm: vm)) }, nil, answered)
        case .hostMaintenance(let host): send(fencing, { .hostMaintenance($0, HostRequest(host: host)) }, .maintenance(host: host, true), answered)
        case .hostActivate(let host): send(fencing, { .hostActivate($0, HostRequest(host: host)) }, .maintenance(host: host, false), answered)
        case .hostConfirmOff(let host): confirmOff(host, answered)
        case .hostForget(let host): send(fencing, { .hostForget($0, HostForget(host: host, reason: "it is gone", who: "operator", checked: world.host(host)?.hasPower != true)) }, .registered(host: host, false), answered)
        case .hostShutdown(let host): shutDown(host, answered)
        case .hostStay(let name):
            guard let host = world.host(name) else { return true }
            ask(host.agent, timeout: Self.timeout, { .shutdownCalledOff($0, Caller(role: .operator_)) }) { answered($0.error) }
        case .hostAdd(let name):
            guard let host = world.host(name) else { return true }
            enrol(host, .registered(host: name, true), answered)
        case .hostUpdate(let name, let other):
            guard let host = world.host(name), let other = world.host(other) else { return true }
            var definition = definition(of: host)
            definition.fence = Array(other.fenceDevices.prefix(1))
            send(fencing, { .hostUpdate($0, definition) }, nil, answered)
        case .fenceNow(let host):
            world.observer.operatorWantsPower(of: host)
            send(fencing, { .fenceNow($0, HostRequest(host: host, reason: "the operator wants it")) }, nil, answered)
        case .fenceRehearse(let host):
            ask(fencing, timeout: Self.timeout * 4, { .rehearse($0, HostRequest(host: host)) }) { result in
                guard case .success(let body) = result, let rehearsal = body as? Rehearsal else { return answered(result.error) }
                answered(rehearsal.ways > 0 ? nil : RequestError(FencingErrorCode.agentFailed, rehearsal.sentence))
            }
        case .power(let host, let action):
            world.observer.operatorWantsPower(of: host, isPending: true)
            send(fencing, { .power($0, action, HostRequest(host: host)) }, nil) { [world] refusal in
                world.observer.operatorWantsPower(of: host, isPending: false)
                answered(refusal)
            }
        case .haHold: send(fencing, { .haHold($0, HoldRequest(why: "the operator works")) }, .held(true), answered)
        case .haRelease: send(fencing, { .haHold($0, HoldRequest(why: "the operator is done", release: true)) }, .held(false), answered)
        case .haEnable: send(fencing, { .haEnable($0) }, .enabled(true), answered)
        case .haDisable: send(fencing, { .haDisable($0) }, .enabled(false), answered)
        case .spmSelect(let host): send(managers.spm, { .move($0, PoolRequest(host: host)) }, nil, answered)
        case .spmMove: send(managers.spm, { .move($0, PoolRequest()) }, nil, answered)
        case .domainMaintenance(let domain): send(managers.monitor, { .maintenance($0, DomainRequest(domain: domain)) }, .maintenance(domain: domain, true), answered)
        case .domainActivate(let domain): send(managers.monitor, { .activate($0, DomainRequest(domain: domain)) }, .maintenance(domain: domain, false), answered)
        default: return leaseCommand(what, answered)
        }
        return true
    }

    /// As the machine's own init does: off only after the goodbye.
    private func shutDown(_ name: String, _ done: @escaping (RequestError?) -> Void) {
        guard let host = world.host(name), host.machine.isOn else { return done(RequestError(RequestErrorCode.conflict, "\(name) is off")) }
        let bootID = host.machine.bootID
        shutdownsAsked.insert(bootID)
        ask(host.agent, timeout: .seconds(120), { .shutdown($0, Caller(role: .operator_)) }) { [world] result in
            done(result.error)
            guard result.error == nil else { return }
            // The rest of the machine takes its time.
            let boot = world.scenario.pace.boot.nanoseconds
            world.after(nanoseconds: world.random.between(boot / 4, boot * 3 / 4)) {
                guard host.machine.isRunning, host.machine.bootID == bootID, host.agent.engine.heartbeat.leaving == .over else { return }
                host.losePower("it has shut down")
            }
        }
    }

    /// A person who has looked names the case and the incarnation that are shown.
    private func confirmOff(_ host: String, _ done: @escaping (RequestError?) -> Void) {
        if world.scenario.recovers, world.host(host)?.hasPower == true { return done(RequestError(RequestErrorCode.conflict, "the operator has looked: \(host) is on")) }
        guard let view = managers.fencing.engine.view(of: host) else { return done(RequestError(RequestErrorCode.notFound, "there is no host \(host)")) }
        let body = ConfirmOff(
            host: host, caseID: view.fenceCase?.id ?? "", incarnation: view.fenceCase?.incarnation ?? view.incarnation, who: "operator", why: "looked at the machine", checked: true)
        send(managers.fencing, { .confirmOff($0, body) }, nil, done)
    }

    /// - Parameter promise: what an acknowledgement of it promises.
    func send<E: Engine>(
        _ service: ServiceProcess<E>, _ input: (RequestID) -> E.Input, _ promise: Promise? = nil, _ done: @escaping (RequestError?) -> Void
    ) {
        let id = world.newID()
        // Nobody promises anything for managers that are not the cluster's.
        let promise = managers.areObeyed ? promise : nil
        if let promise { world.note(.asked(id, promise)) }
        ask(service, id: id, timeout: Self.timeout, input) { [world, name] result in
            if promise != nil {
                switch result {
                case .success: world.note(.acknowledged(id))
                case .failure(let error) where error.code == RequestErrorCode.unknownOutcome.rawValue: break
                case .failure: world.note(.refused(id))
                }
            }
            if let error = result.error { world.tell(name, "a request to \(service.name) is refused", error.description) }
            done(result.error)
        }
    }
}
