import HostAgentEngine
import LeaseEngine
import Messages

extension World {
    /// Makes it happen.
    func happen(_ what: Happening) {
        tell("scenario", what.sentence)
        if op.command(what) { return }
        switch what {
        case .crash(let name), .switchOff(let name): host(name)?.losePower(what.sentence)
        case .switchOn(let name): host(name)?.isSwitchedOnByHand(what.sentence)
        case .hang(let name): freeze(name)
        case .thaw(let name), .resume(let name): thaw(name)
        case .halt(let name): host(name)?.machine.halt()
        case .suspend(let name): host(name)?.machine.suspend()
        case .reboot(let name): host(name)?.reboot()
        case .panic(let name, let seconds): host(name)?.panic(dumpingFor: .seconds(Int64(seconds)))
        case .dumpMessages(let name, let seconds): host(name)?.sendDumpMessages(for: .seconds(Int64(seconds))) { true }
        case .loseAllPower:
            for host in everyHost { host.losePower("all power is lost") }
            manager.powerOff()
        case .returnAllPower:
            for host in hosts { after(nanoseconds: random.between(0, 5_000_000_000)) { host.getPower("power is back") } }
            after(nanoseconds: random.between(0, 5_000_000_000)) { [self] in manager.powerOn() }
        case .restoreManagers: restoreManagers()
        case .installManagers: installManagers()
        case .endSecondManagers: endSecondManagers()
        case .clone(let name): clone(name, hasItsHardwareID: false)
        case .twin(let name): clone(name, hasItsHardwareID: true)
        case .endClone(let name): endClones(of: name)
        case .replace(let name): replace(name)
        case .switchOnOld(let name): others(of: name).last { !$0.isClone }?.isSwitchedOnByHand(what.sentence)
        case .switchOffOld(let name): others(of: name).last { !$0.isClone }?.losePower(what.sentence)
        case .kill(let name): processes(name).forEach { $0.kill() }
        case .stop(let name):
            for process in processes(name) {
                process.isHeldDown = true
                process.kill()
            }
        case .start(let name):
            for process in processes(name) {
                process.isHeldDown = false
                process.start()
            }
        case .freeze(let name): processes(name).forEach { $0.freeze() }
        case .unfreeze(let name): processes(name).forEach { $0.unfreeze() }
        case .cut(let from, let to): network.cut(from, to)
        case .cutBoth(let a, let b):
            network.cut(a, b)
            network.cut(b, a)
        case .isolate(let name):
            for other in places where other != name {
                network.cut(name, other)
                network.cut(other, name)
            }
        case .heal(let a, let b):
            network.heal(a, b)
            network.heal(b, a)
        case .healNetwork: network.healAll(places)
        case .storageHangs(let domain, let host): setStorage(domain, host, .hangs)
        case .storageFails(let domain, let host): setStorage(domain, host, .fails)
        case .storageSlow(let domain, let host): setStorage(domain, host, .slow)
        case .storageHeals(let domain, let host): setStorage(domain, host, .works)
        case .bmc(let name, let fault): host(name)?.bmc.fault = fault
        case .supply(let name, let fault): host(name)?.secondSupply.fault = fault
        case .outlet(let name, let fault): host(name)?.outlet.fault = fault
        case .startsFail(let name, let count): forHosts(name) { $0.startsToFail = count }
        case .startsSlow(let name): forHosts(name) { $0.startsAreSlow = true }
        case .startsWork(let name):
            forHosts(name) {
                $0.startsAreSlow = false
                $0.startsToFail = 0
            }
        case .watchdogBusy(let name): forHosts(name) { $0.watchdog.isBusy = true }
        case .watchdogFree(let name): forHosts(name) { $0.watchdog.isBusy = false }
        case .toolstack(let name, let fault): forHosts(name) { $0.toolstack = fault }
        case .guestCrash(let vm): guests(vm).forEach { $0.crash() }
        case .guestStuck(let vm): guests(vm).forEach { $0.isStuck = true }
        case .guestUnstuck(let vm): payloads.filter { $0.spec.isGuest && $0.spec.holder.name == vm }.forEach { $0.isStuck = false }
        default: break
        }
    }

    /// A datagram: what is sent into a cut, or to nobody, is lost.
    func sendDumpMessage(of host: HostMachine) {
        for fencing in [managers, second].compactMap({ $0?.fencing }) where !network.isCut(host.machine.name, fencing.machine.name) {
            if random.chance(chaos.loss) { continue }
            after(nanoseconds: random.between(100_000, 2_000_000)) { if fencing.isRunning { fencing.hearDump(from: host.address) } }
        }
    }

    private func forHosts(_ name: String, _ work: (HostMachine) -> Void) {
        for host in hosts where name == "all" || host.name == name { work(host) }
    }

    private func setStorage(_ domain: String, _ host: String, _ path: SharedStorage.Path) {
        forHosts(host) { host in
            for name in scenario.domains where domain == "all" || name == domain { storage.setPath(of: host.name, to: domainUUID(name), path) }
            if path == .fails { for guest in host.guests { guest.meetErrors() } }
        }
    }

    private func freeze(_ name: String) { name == "manager" ? manager.freeze() : host(name)?.machine.freeze() }
    private func thaw(_ name: String) { name == "manager" ? manager.wake() : host(name)?.machine.wake() }
    private func guests(_ vm: String) -> [Payload] { payloads.filter { $0.spec.isGuest && $0.spec.holder.name == vm } }

    /// The processes of that name that there are now.
    func processes(_ name: ProcessName) -> [Process] {
        switch name {
        case .fencingService: [fencing]
        case .placementService: [placement]
        case .spmCoordinator: [spm]
        case .domainMonitor: [monitor]
        case .leaseService(let name): host(name).map { [$0.leases] } ?? []
        case .hostAgent(let name): host(name).map { [$0.agent] } ?? []
        case .vmGuard(let vm): hosts.flatMap(\.guards).filter { $0.spec.isGuest && $0.spec.holder.name == vm }
        case .worker(let name): host(name)?.worker.map { [$0] } ?? []
        }
    }

    /// It cannot be killed, and its leases are lost: fencing-service is to free its VM (S13), time alone will not.
    private func isForFencing(_ payload: Payload) -> Bool {
        guard payload.state == .dying, payload.host.hasOwnDevice else { return false }
        let joined = payload.host.leases.engine.snapshot.lockspaces.filter { $0.state == .joined }
        return payload.leases.contains { lease in !joined.contains { $0.lockspace == lease.name.lockspace && $0.generation == lease.generation } }
    }

    /// Nothing is broken any more, and everybody has power.
    func mendEverything() {
        chaos = Scenario.Chaos()
        for other in others { other.isClone ? endClones(of: other.name) : other.losePower("nobody needs it any more") }
        network.healAll(places)
        endSecondManagers()
        setStorage("all", "all", .works)
        for host in hosts {
            host.mendDevices()
            host.watchdog.isBusy = false
            host.toolstack = .works
            host.startsToFail = 0
            host.startsAreSlow = false
            host.machine.wake()
        }
        manager.wake()
        for user in everyHost.flatMap(\.users) { user.giveBack("everything is mended") }
        for payload in payloads where !isForFencing(payload) { payload.isStuck = false }
        for process in hosts.flatMap(\.machine.processes) + manager.processes {
            process.stepsToLive = nil
            process.isHeldDown = false
            process.unfreeze()
            process.start()
        }
        manager.powerOn()
    }
}
