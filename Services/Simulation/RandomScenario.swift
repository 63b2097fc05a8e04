import DomainMonitorEngine
import FencingEngine
import Messages
import PlacementEngine

extension Scenario {
    /// A cluster and its troubles, all from a seed: topology, policy, what breaks when and for how long, what an operator does meanwhile.
    ///
    /// It stays within what the design promises to survive. So there is no fence device that reads off while its own machine runs, and no person who vouches for a machine that does.
    ///
    /// - Parameter hours: how long it lasts, before everything is mended.
    public static func random(seed: UInt64, hours: Double = 1) -> Scenario {
        var maker = ScenarioMaker(seed: seed, hours: hours)
        return maker.make()
    }
}

private struct ScenarioMaker {
    private var random: Random
    private var scenario: Scenario
    private let end: Int64

    init(seed: UInt64, hours: Double) {
        random = Random(seed: ~seed)
        scenario = Scenario(name: "seed \(seed)", seed: seed)
        end = Int64(hours * 3600) * 1_000_000_000
    }

    mutating func make() -> Scenario {
        topology()
        pauses()
        policy()
        chaos()
        timeline()
        rarities()
        watchdogs()
        departures()
        leases()
        resumptions()
        fenceDevices()
        crashDumps()
        shortcomings()
        powerSaving()
        scenario.end = Duration(nanoseconds: end)
        scenario.addToolstackTroubles()
        scenario.recovers = true
        return scenario
    }

    /// In some clusters programs use leases, and an operator works with them.
    private mutating func leases() {
        guard random.chance(0.3) else { return }
        defer { sortTimeline() }
        scenario.resources = (1...(1 + random.below(2))).map { Scenario.Resource("pool\($0)", domain: random.pick(scenario.domains) ?? "dom1") }
        let hosts = scenario.hosts.map(\.name)
        var at = random.between(1_000_000_000, 60_000_000_000)
        while at < end {
            let resource = random.pick(scenario.resources)?.name ?? ""
            let domain = random.pick(scenario.domains) ?? "dom1"
            let host = random.pick(hosts) ?? "host1", other = random.pick(hosts) ?? "host1"
            switch random.below(16) {
            case 0, 1, 2: add(at, .leaseTake(resource: resource, host: host, .exclusive))
            case 3, 4, 5: for host in hosts where random.chance(0.6) { add(at + span(20), .leaseTake(resource: resource, host: host, .shared)) }
            case 6, 7: for host in hosts { add(at, .leaseDrop(resource: resource, host: host)) }
            case 8: add(at, .leaseConvert(resource: resource, host: host, .exclusive))
            case 9: add(at, .leaseConvert(resource: resource, host: host, .shared))
            case 10: add(at, .leaseRequest(resource: resource, host: host, .graceful))
            case 11: add(at, .leaseRequest(resource: resource, host: host, .force))
            case 12 where host != other: add(at, .leaseVoid(host: host, domain: domain, by: other))
            case 13: add(at, .indexRebuild(domain: domain))
            case 14 where host != other: add(at, .lockspaceNotify(host: host, domain: domain, by: other))
            case 15:
                switch random.below(4) {
                case 0: add(at, .lockspaceReinitialize(domain: domain, host: host))
                case 1: add(at, .lockspaceDrain(domain: domain))
                default: add(at, .lockspaceBackup(domain: domain, host: host))
                }
                add(at + 300_000_000_000, .lockspaceOpen(domain: domain))
            default: break
            }
            at += random.between(5_000_000_000, 120_000_000_000)
        }
    }

    private mutating func topology() {
        let count = 2 + random.below(5)
        scenario.hosts = (1...count).map { number in
            let fences: [Scenario.Fence] = [.verified, .verified, .verified, .verified, .verified, .verified, .vouched, .unverified, .wrongMachine, .none]
            let drift = random.chance(0.3) ? random.below(401) - 200 : 0
            return Scenario.Host("host\(number)", fence: random.pick(fences) ?? .verified, spmPriority: random.chance(0.1) ? -1 : 1 + random.below(10), drift: drift)
        }
        if scenario.hosts.allSatisfy({ $0.spmPriority < 0 }) { scenario.hosts[0].spmPriority = 5 }
        scenario.domains = random.chance(0.5) ? ["dom1"] : ["dom1", "dom2"]
        scenario.vms = (1...(2 + random.below(8))).map { number in
            let leases = !random.chance(0.25)
            let disks = (0...random.below(2)).map { _ in random.pick(scenario.domains) ?? "dom1" }
            return Scenario.VM("vm\(number)", ha: leases, priority: random.below(101), disks: disks, leases: leases, started: !random.chance(0.1))
        }
    }

    private mutating func pauses() {
        var choice = Random(seed: ~scenario.seed &+ 1)
        for index in scenario.vms.indices {
            if scenario.vms[index].leases, choice.chance(0.5) {
                scenario.vms[index].onLeaseLoss = .pause
                scenario.vms[index].pauseBefore = choice.pick([nil, .seconds(1), .seconds(8), .seconds(30)]) ?? nil
            }
            let all: [ResumeBehaviour?] = scenario.vms[index].ha ? [nil, .auto, .kill] : [nil, .auto, .leave, .kill]
            scenario.vms[index].resume = choice.pick(all) ?? nil
        }
    }

    /// An operator lets VMs go on that were left paused, at good moments and at bad ones.
    private mutating func resumptions() {
        defer { sortTimeline() }
        var choice = Random(seed: ~scenario.seed &+ 2)
        for vm in scenario.vms where vm.resume == .leave {
            var at = choice.between(30_000_000_000, 600_000_000_000)
            while at < end {
                add(at, .vmResume(vm: vm.name))
                at += choice.between(30_000_000_000, 600_000_000_000)
            }
        }
    }

    private mutating func policy() {
        let ioTimeout = random.pick([2, 5, 10]) ?? 10
        scenario.policy.ioTimeout = .seconds(Int64(ioTimeout))
        scenario.policy.watchdogFire = .seconds(random.pick([10, 60]) ?? 60)
        scenario.policy.settle = .seconds(random.pick([0, 2, 5]) ?? 0)
        scenario.policy.fencing.grace = .seconds(random.pick([5, 10, 30]) ?? 30)
        scenario.policy.domains.failure = .seconds(random.pick([20, 60, 300]) ?? 60)
        scenario.pace.boot = .seconds(random.pick([5, 20, 60]) ?? 20)
    }

    private mutating func chaos() {
        var chaos = Scenario.Chaos()
        if random.chance(0.5) {
            chaos.loss = 0.03 * Double(random.below(10)) / 10
            chaos.duplicate = 0.03 * Double(random.below(10)) / 10
            chaos.delayed = 0.03 * Double(random.below(10)) / 10
            chaos.delay = .seconds(Int64(1 + random.below(20)))
        }
        if random.chance(0.5) {
            chaos.ioSlow = 0.01 * Double(random.below(10)) / 10
            chaos.ioFail = 0.005 * Double(random.below(10)) / 10
        }
        if random.chance(0.2) { chaos.journalFail = 0.001 * Double(1 + random.below(5)) }
        chaos.torn = Double(random.below(11)) / 10
        if random.chance(0.6) { chaos.kill = 0.02 * Double(1 + random.below(10)) / 10 }
        scenario.chaos = chaos
    }

    // MARK: Timeline

    private mutating func timeline() {
        let pause: Int64 = random.pick([20, 60, 180]) ?? 60
        var at = random.between(5_000_000_000, 60_000_000_000)
        while at < end {
            trouble(at)
            at += random.between(pause * 100_000_000, pause * 2_000_000_000)
        }
        if random.chance(0.2), let host = random.pick(scenario.hosts)?.name {
            let at = random.between(0, end)
            add(at, .clone(host: host))
            add(at + span(600), .endClone(host: host))
            // Its copy takes its host id once that has been silent for long enough; with a clock that stands still its guards would not know.
            for index in scenario.timeline.indices where scenario.timeline[index].what == .suspend(host: host) { scenario.timeline[index].what = .hang(host: host) }
        }
    }

    private mutating func sortTimeline() {
        scenario.timeline = scenario.timeline.enumerated().sorted { ($0.element.at, $0.offset) < ($1.element.at, $1.offset) }.map(\.element)
    }

    /// Beside everything else: VMs are defined anew, and now and then somebody starts a second set of managers.
    private mutating func rarities() {
        defer { sortTimeline() }
        var at = random.between(10_000_000_000, 300_000_000_000)
        while at < end {
            let vm = random.pick(scenario.vms)?.name ?? "vm1"
            add(at, .vmStop(vm: vm))
            add(at + span(60), .vmRemove(vm: vm))
            let again = at + 60_000_000_000 + span(60)
            add(again, .vmDefine(vm: vm))
            add(again + span(100), .vmStart(vm: vm, host: nil))
            at = again + random.between(60_000_000_000, 1_200_000_000_000)
        }
        guard random.chance(0.2) else { return }
        let begin = random.between(0, max(1, end / 2))
        add(begin, random.chance(0.5) ? .installManagers : .restoreManagers)
        add(begin + span(1000), .endSecondManagers)
    }

    /// In some clusters most hosts have a hardware watchdog, which fires before anybody may take what it guards.
    private mutating func watchdogs() {
        defer { sortTimeline() }
        guard random.chance(0.3) else { return }
        let policy = scenario.policy
        let timing = WatchdogTiming(timeout: .zero, inFlight: policy.settle, firing: policy.watchdogFire, ioTimeout: policy.ioTimeout)
        let longest = Int((timing.takeover - timing.latestWrite).nanoseconds / 1_000_000_000)
        guard longest > 5 else { return }
        scenario.policy.watchdog = .seconds(Int64(5 + random.below(longest - 5)))
        for index in scenario.hosts.indices { scenario.hosts[index].watchdog = random.chance(0.8) }
        var at = random.between(10_000_000_000, 600_000_000_000)
        while at < end {
            let host = random.pick(scenario.hosts)?.name ?? "host1"
            let vm = random.pick(scenario.vms)?.name ?? "vm1"
            switch random.below(3) {
            case 0:
                add(at, .watchdogBusy(host: host))
                add(at + span(300), .watchdogFree(host: host))
            case 1:
                add(at, .freeze(.vmGuard(vm: vm)))
                add(at + span(100), .unfreeze(.vmGuard(vm: vm)))
            default:
                add(at, .kill(.hostAgent(host: host)))
                add(at + span(20), .hang(host: host))
                add(at + span(200), .thaw(host: host))
            }
            at += random.between(60_000_000_000, 1_200_000_000_000)
        }
    }

    /// In some clusters hosts have several devices, or such as only other hosts reach.
    private mutating func fenceDevices() {
        defer { sortTimeline() }
        var choice = Random(seed: ~scenario.seed &+ 4)
        if choice.chance(0.1) { scenario.policy.fencing.softTimeout = Duration(nanoseconds: choice.between(5_000_000_000, 60_000_000_000)) }
        guard choice.chance(0.35) else { return }
        let (viaHosts, outlets, supplies, delays) = (choice.chance(0.4), choice.chance(0.4), choice.chance(0.4), choice.chance(0.3))
        for index in scenario.hosts.indices where scenario.hosts[index].fence != .none {
            if viaHosts, choice.chance(0.8) { scenario.hosts[index].via = .hosts }
            if outlets, choice.chance(0.6) { scenario.hosts[index].hasOutlet = true }
            if supplies, choice.chance(0.6) { scenario.hosts[index].hasTwoSupplies = true }
            if delays, choice.chance(0.6) { scenario.hosts[index].delay = Duration(nanoseconds: choice.between(1_000_000_000, 30_000_000_000)) }
        }
        var at = choice.between(20_000_000_000, 900_000_000_000)
        while at < end {
            let host = choice.pick(scenario.hosts)?.name ?? "host1"
            let fault = choice.pick([BMCFault.isDead, .hangs, .saysOn, .actsLate, .refuses]) ?? .isDead
            let back = at + choice.between(30_000_000_000, 600_000_000_000)
            switch choice.below(4) {
            case 0:
                add(at, .supply(host: host, fault))
                add(back, .supply(host: host, .works))
            case 1:
                add(at, .outlet(host: host, fault))
                add(back, .outlet(host: host, .works))
            case 2:
                add(at, .bmc(host: host, fault))
                add(at + choice.between(0, 20_000_000_000), .crash(host: host))
                add(back, .bmc(host: host, .works))
            default:
                // A proxy stands still while it may have a command in its hands.
                let other = choice.pick(scenario.hosts.filter { $0.name != host })?.name ?? "host2"
                let silent = at + scenario.policy.fencing.grace.nanoseconds
                add(at, .hang(host: host))
                add(silent + choice.between(0, 8_000_000_000), .freeze(.hostAgent(host: other)))
                add(silent + choice.between(10_000_000_000, 120_000_000_000), .unfreeze(.hostAgent(host: other)))
                add(back, .thaw(host: host))
            }
            at += choice.between(120_000_000_000, 1_500_000_000_000)
        }
    }

    /// In some clusters empty hosts are powered down.
    private mutating func powerSaving() {
        var choice = Random(seed: ~scenario.seed &+ 7)
        guard choice.chance(0.1) else { return }
        scenario.policy.placement.saving = PowerSavingPolicy(reserveHosts: choice.below(2), emptyFor: .seconds(150), pause: .seconds(Int64(20 + choice.below(100))))
    }

    /// In some clusters hosts that are not operational are switched off and on again.
    private mutating func shortcomings() {
        var choice = Random(seed: ~scenario.seed &+ 6)
        guard choice.chance(0.2) else { return }
        scenario.policy.fencing.nonOperational = Duration(nanoseconds: choice.between(30_000_000_000, 300_000_000_000))
        scenario.policy.fencing.initializing = Duration(nanoseconds: choice.between(10_000_000_000, 180_000_000_000))
    }

    /// In some clusters hosts have kdump: kernels crash, and some messages are nobody's dump.
    private mutating func crashDumps() {
        defer { sortTimeline() }
        var choice = Random(seed: ~scenario.seed &+ 5)
        guard choice.chance(0.2) else { return }
        scenario.policy.fencing.kdumpWait = Duration(nanoseconds: choice.between(0, 40_000_000_000))
        scenario.policy.fencing.kdumpQuiet = .seconds(choice.pick([11, 30]) ?? 30)
        scenario.policy.fencing.kdumpLimit = Duration(nanoseconds: choice.between(20_000_000_000, 300_000_000_000))
        for index in scenario.hosts.indices { scenario.hosts[index].kdump = choice.chance(0.8) }
        var at = choice.between(20_000_000_000, 600_000_000_000)
        while at < end {
            let host = choice.pick(scenario.hosts)?.name ?? "host1"
            let seconds = 5 + choice.below(240)
            switch choice.below(6) {
            case 0:
                add(at, .hang(host: host))
                add(at + choice.between(0, 60_000_000_000), .dumpMessages(host: host, seconds: seconds))
                add(at + choice.between(20_000_000_000, 300_000_000_000), .thaw(host: host))
            case 1: add(at, .dumpMessages(host: host, seconds: seconds))
            case 2:
                add(at, .panic(host: host, seconds: seconds))
                add(at + choice.between(0, 90_000_000_000), .kill(.fencingService))
            default: add(at, .panic(host: host, seconds: seconds))
            }
            at += choice.between(60_000_000_000, 1_200_000_000_000)
        }
    }

    /// Hosts are shut down cleanly, at any time.
    private mutating func departures() {
        defer { sortTimeline() }
        var choice = Random(seed: ~scenario.seed &+ 3)
        guard choice.chance(0.3) else { return }
        var at = choice.between(20_000_000_000, 900_000_000_000)
        while at < end {
            let host = choice.pick(scenario.hosts)?.name ?? "host1"
            add(at, .hostShutdown(host: host))
            switch choice.below(4) {
            case 0: add(at + choice.between(1_000_000_000, 60_000_000_000), .hostStay(host: host))
            case 1: add(at + choice.between(1_000_000_000, 20_000_000_000), .hang(host: host))
            default: break
            }
            let back = at + choice.between(30_000_000_000, 400_000_000_000)
            add(back, .thaw(host: host))
            add(back, .switchOn(host: host))
            at += choice.between(60_000_000_000, 1_200_000_000_000)
        }
    }

    private mutating func add(_ at: Int64, _ what: Happening) {
        guard at < end else { return }
        // Whole milliseconds: what is printed is what is run.
        scenario.timeline.append(Scenario.Moment(at: .milliseconds(at / 1_000_000), what))
    }

    /// Seconds and a bit, mostly short.
    private mutating func span(_ longest: Int64) -> Int64 {
        let scale = random.pick([1, 5, 20, 100]) ?? 5
        return random.between(200_000_000, max(300_000_000, longest * 1_000_000_000 * Int64(scale) / 100))
    }

    private mutating func trouble(_ at: Int64) {
        let host = random.pick(scenario.hosts)?.name ?? "host1"
        let vm = random.pick(scenario.vms)?.name ?? "vm1"
        let domain = random.chance(0.2) ? "all" : random.pick(scenario.domains) ?? "dom1"
        let someHosts = random.chance(0.15) ? "all" : host
        switch random.below(34) {
        case 0, 1, 2: add(at, .crash(host: host))
        case 3:
            add(at, .crash(host: host))
            add(at + span(300), .switchOn(host: host))
        case 4: add(at, .reboot(host: host))
        case 5, 6:
            add(at, .hang(host: host))
            add(at + span(400), .thaw(host: host))
        case 7:
            add(at, .suspend(host: host))
            add(at + span(400), .resume(host: host))
        case 8:
            add(at, .isolate(host))
            add(at + span(400), .healNetwork)
        case 9:
            add(at, .isolate("manager"))
            add(at + span(400), .healNetwork)
        case 10:
            add(at, random.chance(0.5) ? .cut(from: host, to: "manager") : .cut(from: "manager", to: host))
            add(at + span(300), .healNetwork)
        case 11:
            add(at, .cutBoth(host, "manager"))
            add(at + span(300), .heal(host, "manager"))
        case 12, 13:
            add(at, .storageHangs(domain: domain, host: someHosts))
            add(at + span(400), .storageHeals(domain: domain, host: someHosts))
        case 14:
            add(at, .storageFails(domain: domain, host: someHosts))
            add(at + span(400), .storageHeals(domain: domain, host: someHosts))
        case 15:
            add(at, .storageSlow(domain: domain, host: someHosts))
            add(at + span(200), .storageHeals(domain: domain, host: someHosts))
        case 16, 17:
            let faults: [BMCFault] = [.isDead, .hangs, .saysOn, .actsLate, .refuses]
            add(at, .bmc(host: host, random.pick(faults) ?? .isDead))
            if random.chance(0.5) { add(at + span(60), .crash(host: host)) }
            add(at + span(600), .bmc(host: host, .works))
        case 18:
            add(at, .startsFail(host: host, count: 1 + random.below(5)))
        case 19:
            add(at, .startsSlow(host: host))
            add(at + span(300), .startsWork(host: host))
        case 20: add(at, .guestCrash(vm: vm))
        case 21:
            add(at, .guestStuck(vm: vm))
            if random.chance(0.5) { add(at + span(60), .storageHangs(domain: domain, host: host)) }
            add(at + span(300), .guestUnstuck(vm: vm))
            add(at + span(300), .storageHeals(domain: domain, host: host))
        case 22: process(at, host: host, vm: vm)
        case 23: process(at, host: host, vm: vm)
        case 24:
            add(at, .loseAllPower)
            add(at + span(300), .returnAllPower)
        case 25: add(at, .vmStart(vm: vm, host: random.chance(0.3) ? host : nil))
        case 26:
            add(at, .vmStop(vm: vm))
            add(at + span(200), .vmStart(vm: vm, host: nil))
        case 27:
            add(at, .hostMaintenance(host: host))
            add(at + span(300), .hostActivate(host: host))
        case 28: add(at, .fenceNow(host: host))
        case 29: add(at, .power(host: host, random.pick([.on, .off, .cycle]) ?? .cycle))
        case 30:
            add(at, random.chance(0.5) ? .haHold : .haDisable)
            add(at + span(200), .haRelease)
            add(at + span(200), .haEnable)
        case 31: add(at, random.chance(0.5) ? .spmMove : .spmSelect(host: host))
        case 32:
            add(at, .crash(host: host))
            add(at + span(200), .hostConfirmOff(host: host))
        default:
            add(at, .domainMaintenance(domain: random.pick(scenario.domains) ?? "dom1"))
            add(at + span(200), .domainActivate(domain: random.pick(scenario.domains) ?? "dom1"))
        }
    }

    private mutating func process(_ at: Int64, host: String, vm: String) {
        let all: [ProcessName] = [
            .fencingService, .placementService, .spmCoordinator, .domainMonitor, .leaseService(host: host), .hostAgent(host: host), .vmGuard(vm: vm), .worker(host: host),
        ]
        guard let name = random.pick(all) else { return }
        switch random.below(3) {
        case 0: add(at, .kill(name))
        case 1:
            add(at, .freeze(name))
            add(at + span(300), .unfreeze(name))
        default:
            add(at, .stop(name))
            add(at + span(300), .start(name))
        }
    }
}
