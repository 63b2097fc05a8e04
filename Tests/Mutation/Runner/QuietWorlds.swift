import DomainMonitorEngine
import FencingEngine
import HostAgentEngine
import Messages
import Simulation

/// Small clusters in which nothing happens but what a few guards are there for: each of them is reached at once, however much else random clusters come to do.
let quietWorlds: [String: @Sendable (UInt64) -> Scenario] = [
    // A VM is stopped while its start is on the way, and the stop may overtake it.
    "late": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.troubles($0, every: 40) { host, vm, at in
            let other = host == "host1" ? "host2" : "host1"
            return [
                (at, .vmStop(vm: vm)), (at + 8, .cut(from: "manager", to: host)), (at + 9, .vmStart(vm: vm, host: host)), (at + 11, .vmStop(vm: vm)), (at + 13, .heal(host, "manager")),
                (at + 14, .vmStart(vm: vm, host: other)), (at + 16, .vmStart(vm: vm, host: other)),
            ]
        }
        return world
    },
    // A start never reaches its host, whose agent is away, and nobody waits for it any more.
    "unheard": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(120)
        world.troubles($0, every: 120) { host, vm, at in
            [
                (at, .vmStop(vm: vm)), (at + 8, .stop(.hostAgent(host: host))), (at + 9, .vmStart(vm: vm, host: host)), (at + 11, .kill(.placementService)),
                (at + 40, .start(.hostAgent(host: host))),
            ]
        }
        return world
    },
    // Nobody can start what has ended, until nothing else happens any more.
    "waiting": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.end = .seconds(120)
        world.add(.seconds(60), .startsFail(host: "all", count: 1000))
        for (index, vm) in world.vms.enumerated() { world.add(.seconds(Int64(70 + 10 * index)), .guestCrash(vm: vm.name)) }
        return world
    },
    // A domain fails everywhere until it is inactive, or on one host until that is no member any more.
    "outages": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.domains = ["dom1", "dom2"]
        world.policy.domains.failure = .seconds(20)
        world.troubles($0, every: 200) { host, _, at in
            at % 2 == 0
                ? [(at, .storageFails(domain: "dom2", host: "all")), (at + 60, .storageHeals(domain: "dom2", host: "all"))]
                : [(at, .storageHangs(domain: "dom2", host: host)), (at + 60, .storageHeals(domain: "dom2", host: host))]
        }
        return world
    },
    // A host that is off for good is replaced by a new machine, whose lease-service goes away just when it is asked to join.
    "installed": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        world.pace.boot = .seconds(5)
        let happenings: [(Int64, Happening)] = [
            (30_000, .power(host: "host3", .off)), (120_000, .hostForget(host: "host3")), (130_000, .replace(host: "host3")), (140_000, .hostAdd(host: "host3")),
            (140_050, .stop(.leaseService(host: "host3"))), (250_000, .start(.leaseService(host: "host3"))),
        ]
        for (at, what) in happenings { world.add(.milliseconds(at), what) }
        world.end = .seconds(400)
        return world
    },
    // Journals take a second; hosts die, and placement-service looks again and again at what fencing-service knows.
    "lingering": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.pace.journal = .seconds(1)
        world.policy.fencing.grace = .seconds(5)
        world.troubles($0, every: 150) { host, _, at in [(at, .crash(host: host))] + (3...25).map { (at + 2 * $0, .kill(.placementService)) } }
        return world
    },
    // Guests die while their storage hangs or fails; those without leases are started elsewhere at once.
    "hanging": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        for index in world.vms.indices where index % 2 == 0 {
            world.vms[index].leases = false
            world.vms[index].ha = false
        }
        let isLeased = Dictionary(uniqueKeysWithValues: world.vms.map { ($0.name, $0.leases) })
        world.troubles($0, every: 120) { host, vm, at in
            if isLeased[vm] == true {
                return [(at, .storageFails(domain: "all", host: "all")), (at + 1, .kill(.vmGuard(vm: vm))), (at + 8, .storageHeals(domain: "all", host: "all"))]
            }
            let other = host == "host1" ? "host2" : "host1"
            return [
                (at, .vmStop(vm: vm)), (at + 8, .vmStart(vm: vm, host: host)), (at + 14, .storageHangs(domain: "all", host: host)),
                (at + 15, at % 2 == 0 ? .vmStop(vm: vm) : .kill(.vmGuard(vm: vm))), (at + 20, .vmStart(vm: vm, host: other)), (at + 25, .vmStart(vm: vm, host: other)),
                (at + 45, .storageHeals(domain: "all", host: host)),
            ]
        }
        return world
    },
    // A host boots anew while commands for its last life are on their way, and what they were to start is started elsewhere.
    "reboots": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.pace.boot = .seconds(10)
        for index in world.vms.indices {
            world.vms[index].leases = false
            world.vms[index].ha = false
        }
        world.troubles($0, every: 150) { host, vm, at in
            let other = host == "host1" ? "host2" : "host1"
            return [(at, .vmStop(vm: vm)), (at + 7, .cut(from: "manager", to: host)), (at + 8, .vmStart(vm: vm, host: host)), (at + 10, .reboot(host: host))]
                + (5...11).map { (at + 5 * $0, .vmStart(vm: vm, host: other)) } + [(at + 60, .heal(host, "manager"))]
        }
        return world
    },
    // The manager is not heard by the SPM's host, or by whoever is to be the next one, for less time than a silence takes.
    "unanswered": {
        var world = Scenario.quiet($0, hosts: 3, vms: 2)
        world.policy.fencing.grace = .seconds(120)
        world.troubles($0, every: 200) { host, _, at in [(at, .cut(from: "manager", to: host)), (at + 1, .spmMove), (at + 15 + at % 30, .healNetwork)] }
        return world
    },
    // Somebody starts a second set of managers, which does not hear one of two hosts while the other is off: nobody is left who could refuse.
    "alone": {
        var world = Scenario.quiet($0, hosts: 2, vms: 2)
        world.pace.boot = .seconds(60)
        world.policy.fencing.grace = .seconds(10)
        world.troubles($0, every: 250) { host, _, at in
            let other = host == "host1" ? "host2" : "host1"
            return [(at, at % 2 == 0 ? .installManagers : .restoreManagers), (at + 30, .crash(host: other)), (at + 32, .cutBoth(host, "manager2")), (at + 110, .heal(host, "manager2")), (at + 120, .endSecondManagers)]
        }
        return world
    },
    // Guests are paused before their leases are lost, and nobody tells their guards when they are.
    "pausing": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        for index in world.vms.indices {
            world.vms[index].onLeaseLoss = .pause
            world.vms[index].pauseBefore = index % 2 == 0 ? nil : .seconds(1)
        }
        world.troubles($0, every: 120) { host, _, at in
            at % 2 == 0
                ? [(at, .freeze(.leaseService(host: host))), (at + 50, .unfreeze(.leaseService(host: host)))]
                : [(at, .stop(.leaseService(host: host))), (at + 50, .start(.leaseService(host: host)))]
        }
        return world
    },
    // Storage takes seconds, and fails a guest while its leases are read for an operator who has it go on.
    "relapsing": {
        var world = Scenario.quiet($0, hosts: 2, vms: 2)
        world.pace.storage = .seconds(3)
        world.policy.ioTimeout = .seconds(10)
        for index in world.vms.indices { world.vms[index].host = "host\(1 + index % 2)" }
        world.troubles($0, every: 30) { host, vm, at in
            [(at, .vmResume(vm: vm)), (at, .storageFails(domain: "dom1", host: "host1")), (at, .storageFails(domain: "dom1", host: "host2"))]
                + ["host1", "host2"].map { (at + 6, .storageHeals(domain: "dom1", host: $0)) }
        }
        return world
    },
    // Hosts have neither watchdogs nor fence devices, and stand still.
    "unwatched": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        for index in world.hosts.indices { world.hosts[index].fence = .none }
        world.troubles($0, every: 200) { host, _, at in [(at, .hang(host: host)), (at + 80, .thaw(host: host))] }
        return world
    },
    // As "unwatched", with watchdogs; all of it happens in a hold, which ends while the host stands still.
    "released": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        world.policy.ioTimeout = .seconds(2)
        world.policy.watchdogFire = .seconds(20)
        world.policy.watchdog = .seconds(5)
        for index in world.hosts.indices {
            world.hosts[index].fence = .none
            world.hosts[index].watchdog = true
        }
        world.troubles($0, every: 400) { host, _, at in [(at, .haHold), (at + 20, .hang(host: host)), (at + 40, .haRelease), (at + 250, .thaw(host: host))] }
        return world
    },
    // Hosts stand still in the middle of a clean shutdown, after their goodbye.
    "goodbyes": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        world.pace.boot = .seconds(120)
        world.troubles($0, every: 300) { host, _, at in
            [(at, .hostShutdown(host: host)), (at + 20, .hang(host: host)), (at + 100, .thaw(host: host)), (at + 110, .hostStay(host: host)), (at + 120, .switchOn(host: host))]
        }
        return world
    },
    // Toolstacks break, and operators try to start their VMs elsewhere meanwhile. Nobody is fenced for that.
    "toolstacks": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.toolstack.every = .seconds(5)
        for index in world.vms.indices where index % 2 == 0 {
            world.vms[index].leases = false
            world.vms[index].ha = false
        }
        world.troubles($0, every: 200) { host, vm, at in
            [(at, .toolstack(host: host, at % 2 == 0 ? .breaks : .hangs)), (at + 30, .vmStart(vm: vm, host: nil)), (at + 40, .vmStart(vm: vm, host: nil)), (at + 150, .toolstack(host: host, .works))]
        }
        return world
    },
    // Hosts lose a domain that none of their guests uses, for long enough to be switched off for that.
    "shortcomings": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.domains = ["dom1", "dom2"]
        for index in world.vms.indices { world.vms[index].disks = ["dom2"] }
        world.policy.domains.failure = .seconds(20)
        world.policy.fencing.nonOperational = .seconds(30)
        world.troubles($0, every: 250) { host, _, at in [(at, .storageHangs(domain: "dom1", host: host)), (at + 150, .storageHeals(domain: "dom1", host: host))] }
        return world
    },
    // The only host that may be SPM loses a domain that it does not need for that.
    "lonely": {
        var world = Scenario.quiet($0, hosts: 3, vms: 2)
        world.domains = ["dom1", "dom2"]
        for index in world.vms.indices { world.vms[index].pin = ["host2", "host3"] }
        for index in world.hosts.indices where index > 0 { world.hosts[index].spmPriority = -1 }
        world.policy.domains.failure = .seconds(20)
        world.policy.fencing.nonOperational = .seconds(30)
        world.troubles($0, every: 250) { _, _, at in [(at, .storageHangs(domain: "dom2", host: "host1")), (at + 150, .storageHeals(domain: "dom2", host: "host1"))] }
        return world
    },
    // Hosts have kdump: kernels crash into dumps that do not end, and what only stands still is said to dump.
    "dumps": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        world.policy.fencing.kdumpLimit = .seconds(60)
        world.pace.boot = .seconds(10)
        for index in world.hosts.indices { world.hosts[index].kdump = true }
        world.troubles($0, every: 300) { host, _, at in
            at % 2 == 0 ? [(at, .panic(host: host, seconds: 100_000))] : [(at, .hang(host: host)), (at + 15, .dumpMessages(host: host, seconds: 40)), (at + 40, .thaw(host: host))]
        }
        return world
    },
    // A device that cannot tell whose it is switches the next host.
    "miswired": {
        var world = Scenario(seed: $0, vms: (1...4).map { Scenario.VM("vm\($0)") }, end: .seconds(900), recovers: true)
        world.hosts[0].fence = .wrongMachineUnverified
        world.troubles($0, every: 200) { _, _, at in [(at, .isolate("host1")), (at + 100, .healNetwork)] }
        return world
    },
    // A device that tells that it is another host's.
    "foreign": {
        var world = Scenario(seed: $0, vms: (1...4).map { Scenario.VM("vm\($0)") }, end: .seconds(900), recovers: true)
        world.hosts[0].fence = .wrongMachine
        world.troubles($0, every: 200) { _, _, at in [(at, .isolate("host1")), (at + 100, .healNetwork)] }
        return world
    },
    // BMCs refuse every off while outlets read off whatever their machines do, and the manager does not hear what runs on.
    "lying outlets": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        for index in world.hosts.indices { world.hosts[index].hasOutlet = true }
        world.troubles($0, every: 300) { host, _, at in
            [
                (at, .bmc(host: host, .refuses)), (at, .outlet(host: host, .saysOff)), (at + 2, .cutBoth(host, "manager")), (at + 100, .healNetwork),
                (at + 120, .outlet(host: host, .works)), (at + 120, .bmc(host: host, .works)),
            ]
        }
        return world
    },
    // An operator takes another host's BMC for a host's, while its own takes its time to say whose it is; that other host is off, and the manager does not hear this one.
    "moved devices": {
        var world = Scenario.quiet($0, hosts: 4, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        world.troubles($0, every: 300) { host, _, at in
            let other = host == "host1" ? "host2" : "host1"
            return [
                (at, .bmc(host: host, .tellsLate)), (at + 2, .hostUpdate(host: host, bmcOf: other)), (at + 5, .hostUpdate(host: host, bmcOf: host)), (at + 8, .hostUpdate(host: host, bmcOf: other)),
                (at + 10, .power(host: other, .off)), (at + 50, .cutBoth(host, "manager")), (at + 130, .healNetwork), (at + 140, .bmc(host: host, .works)),
                (at + 145, .hostUpdate(host: host, bmcOf: host)), (at + 150, .power(host: other, .on)),
            ]
        }
        return world
    },
    // All devices are reached by hosts, over a slow network. What one of them was told stands still on its way to it, fencing-service dies, and another host does it; what stood still comes within its time.
    "proxies": {
        var world = Scenario.proxies($0)
        world.policy.fencing.agentTimeout = .seconds(60)
        world.troubles($0, every: 150) { _, _, at in
            let sick: [(Int64, Happening)] = at % 2 == 0 ? [(at, .hang(host: "host1")), (at + 90, .thaw(host: "host1"))] : [(at, .cutBoth("host1", "manager")), (at + 16, .heal("host1", "manager"))]
            let cut = at + 9 + at / 2 % 4
            return sick + [(cut, .cut(from: "manager", to: "host2")), (cut + 2, .kill(.fencingService)), (cut + 26, .heal("manager", "host2"))]
        }
        return world
    },
    // As "proxies", and the host whose word is missing is forgotten; what stood still comes after its time.
    "forgotten proxies": {
        var world = Scenario.proxies($0)
        world.policy.fencing.agentTimeout = .seconds(10)
        world.recovers = false
        world.end = .seconds(150)
        let cut = Int64(39 + $0 % 4)
        let happenings: [(Int64, Happening)] = [
            (30, .hang(host: "host1")), (cut, .cut(from: "manager", to: "host2")), (cut + 2, .kill(.fencingService)), (cut + 4, .hostMaintenance(host: "host2")),
            (cut + 6, .hostForget(host: "host2")), (cut + 60, .heal("manager", "host2")),
        ]
        for (at, what) in happenings { world.add(.seconds(at) + .milliseconds(Int64($0 * 7919 % 1000)), what) }
        return world
    },
    // Hosts that have nothing to do are powered down, in a hold, too, and VMs come and go.
    "saving": {
        var world = Scenario.saving($0)
        world.troubles($0, every: 200) { host, vm, at in
            at % 3 == 0 ? [(at, .haHold), (at + 120, .haRelease)] : at % 3 == 1 ? [(at, .vmStop(vm: vm)), (at + 100, .vmStart(vm: vm, host: nil))] : [(at, .kill(.fencingService)), (at + 20, .guestCrash(vm: vm))]
        }
        return world
    },
    // Hosts have two power supplies, of which one cannot be switched, and stand still.
    "supplies": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        for index in world.hosts.indices { world.hosts[index].hasTwoSupplies = true }
        world.troubles($0, every: 200) { host, _, at in
            [(at, .supply(host: host, at % 2 == 0 ? .refuses : .saysOn)), (at + 1, .hang(host: host)), (at + 90, .thaw(host: host)), (at + 100, .supply(host: host, .works))]
        }
        return world
    },
    // A machine stands still for good. Before it is switched off, its agent is to be restarted and the delay of its device has to pass; the first device of one of them is another host's.
    "halted": {
        var world = Scenario.quiet($0, hosts: 3, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        world.policy.fencing.softTimeout = .seconds(15)
        for index in world.hosts.indices { world.hosts[index].delay = .seconds(5) }
        world.hosts[0].fence = .wrongMachine
        world.hosts[0].hasOutlet = true
        world.end = .seconds(120)
        world.add(.seconds(60), .halt(host: "host\(1 + $0 % 3)"))
        return world
    },
    // The manager hears one of four.
    "half": {
        var world = Scenario.quiet($0, hosts: 4, vms: 4)
        world.policy.fencing.grace = .seconds(10)
        world.troubles($0, every: 250) { _, _, at in
            [(at, .cutBoth("host1", "manager")), (at, .cutBoth("host2", "manager")), (at, .cutBoth("host3", "manager")), (at + 100, .healNetwork)]
        }
        return world
    },
]
