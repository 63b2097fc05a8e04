import Messages
import Simulation

/// Where mutants live: random scenarios, most with more of what the guard is there for, and quiet ones with nothing else. Every world is clean without a mutant.
let worlds = randomWorlds.merging(quietWorlds) { $1 }

private let randomWorlds: [String: @Sendable (UInt64) -> Scenario] = [
    "plain": { .random(seed: $0, hours: 0.5) },
    // Writes of the dead land late, and hosts die often.
    "settle": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.policy.settle = .seconds(20)
        world.policy.fencing.grace = .seconds(5)
        world.pace.boot = .seconds(60)
        world.troubles($0, every: 150) { host, _, at in [(at, .crash(host: host))] }
        return world
    },
    // No VM has leases: locks, tombstones and proofs alone keep them apart. An operator starts them again.
    "leaseless": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.policy.settle = .seconds(20)
        world.policy.fencing.grace = .seconds(5)
        for index in world.vms.indices {
            world.vms[index].leases = false
            world.vms[index].ha = false
        }
        world.troubles($0, every: 120) { host, _, at in [(at, .crash(host: host))] }
        world.troubles($0 + 1, every: 100) { host, vm, at in
            [(at, .cutBoth(host, "manager")), (at + 1, .vmStop(vm: vm)), (at + 5, .vmStart(vm: vm, host: host)), (at + 12, .heal(host, "manager")), (at + 14, .vmStop(vm: vm))]
        }
        for (index, vm) in world.vms.enumerated() { world.repeats(every: 9, from: index, .vmStart(vm: vm.name, host: nil)) }
        return world
    },
    // Memberships end while guests run: storage hangs, lease-services stand still, hosts freeze.
    "expiring": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.policy.ioTimeout = .seconds(2)
        world.domains = ["dom1", "dom2"]
        for index in world.vms.indices where index % 2 == 0 { world.vms[index].disks = ["dom1", "dom2"] }
        world.troubles($0, every: 100) { host, _, at in
            switch at % 5 {
            case 0: [(at, .storageHangs(domain: "dom1", host: host)), (at + 40, .storageHeals(domain: "dom1", host: host))]
            case 1: [(at, .freeze(.leaseService(host: host))), (at + 40, .unfreeze(.leaseService(host: host)))]
            case 2: [(at, .stop(.leaseService(host: host))), (at + 40, .start(.leaseService(host: host)))]
            case 3: [(at, .storageSlow(domain: "dom2", host: host)), (at + 15, .storageHangs(domain: "dom2", host: host)), (at + 50, .storageHeals(domain: "dom2", host: host))]
            default: [(at, .hang(host: host)), (at + 17, .thaw(host: host))]
            }
        }
        return world
    },
    // Every host has a watchdog and none a fence device: guards, guests and machines stand still for longer than anybody waits, and now and then the device is busy.
    "watchdogs": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.policy.ioTimeout = .seconds(2)
        world.policy.watchdogFire = .seconds(20)
        world.policy.settle = .zero
        world.policy.watchdog = .seconds(10)
        world.chaos = Scenario.Chaos()
        for index in world.hosts.indices {
            world.hosts[index].watchdog = true
            world.hosts[index].fence = .none
        }
        for index in world.vms.indices {
            world.vms[index].leases = true
            world.vms[index].ha = true
            world.vms[index].resume = nil
        }
        world.timeline = []
        world.troubles($0, every: 150) { host, vm, at in
            switch at % 4 {
            case 0: [(at, .freeze(.vmGuard(vm: vm))), (at + 1, .stop(.leaseService(host: host))), (at + 100, .start(.leaseService(host: host)))]
            case 1: [(at, .guestStuck(vm: vm)), (at + 1, .storageHangs(domain: "all", host: host)), (at + 100, .storageHeals(domain: "all", host: host)), (at + 100, .guestUnstuck(vm: vm))]
            case 2: [(at, .watchdogBusy(host: host)), (at + 1, .reboot(host: host)), (at + 61, .hang(host: host)), (at + 110, .thaw(host: host)), (at + 111, .watchdogFree(host: host))]
            default: [(at, .hang(host: host)), (at + 80, .thaw(host: host))]
            }
        }
        return world
    },
    // Somebody presses the button of a host that is being fenced.
    "buttons": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.pace.boot = .seconds(1)
        world.pace.bmc = .seconds(8)
        world.policy.fencing.grace = .seconds(5)
        world.troubles($0, every: 90) { host, _, at in [(at, .crash(host: host)), (at + 12 + at % 20, .switchOn(host: host))] }
        return world
    },
    // fencing-service is away while hosts fall silent, and back when they are, too.
    "restarts": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.hosts = ["host1", "host2", "host3", "host4"].map { Scenario.Host($0) }
        world.policy.fencing.grace = .seconds(10)
        world.chaos = Scenario.Chaos()
        world.timeline = []
        world.troubles($0, every: 200) { host, _, at in
            [
                (at, .haHold), (at + 1, .cutBoth(host, "manager")), (at + 30, .stop(.fencingService)), (at + 32, .heal(host, "manager")), (at + 40, .start(.fencingService)),
                (at + 41, .haRelease), (at + 43, .haRelease), (at + 60, .haRelease),
            ]
        }
        return world
    },
    // Storage is slow, and VMs are stopped and started elsewhere while their leases are being taken.
    "contended": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.hosts = ["host1", "host2", "host3"].map { Scenario.Host($0) }
        world.pace.storage = .seconds(3)
        world.pace.boot = .seconds(5)
        world.policy.ioTimeout = .seconds(10)
        world.policy.settle = .zero
        world.policy.fencing.grace = .seconds(5)
        world.chaos = Scenario.Chaos(ioSlow: 0.1)
        world.vms = (1...5).map { Scenario.VM("vm\($0)") }
        world.timeline = []
        world.troubles($0, every: 40) { host, vm, at in
            let other = host == "host1" ? "host2" : "host1"
            return [
                (at, .vmStop(vm: vm)), (at + 15, .vmStart(vm: vm, host: host)), (at + 18 + at % 6, .vmStop(vm: vm)),
                (at + 20 + at % 6, .vmStart(vm: vm, host: other)), (at + 21 + at % 6, .vmStart(vm: vm, host: other)), (at + 23 + at % 6, .vmStart(vm: vm, host: other)),
            ] + (at % 4 == 0 ? [(at + 20, .crash(host: host))] : at % 4 == 1 ? [(at + 20, .kill(.leaseService(host: host)))] : [])
        }
        return world
    },
    // Renewals take seconds, then the storage stands still.
    "creeping": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.hosts = ["host1", "host2", "host3"].map { Scenario.Host($0) }
        world.policy.ioTimeout = .seconds(10)
        world.chaos = Scenario.Chaos(ioSlow: 0.5)
        world.timeline = []
        world.troubles($0, every: 300) { host, _, at in [(at, .storageHangs(domain: "all", host: host)), (at + 100, .storageHeals(domain: "all", host: host))] }
        return world
    },
    // BMCs that fail when hosts are not heard.
    "blind": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.hosts = ["host1", "host2", "host3", "host4"].map { Scenario.Host($0) }
        world.timeline = []
        world.troubles($0, every: 200) { host, _, at in
            let faults: [BMCFault] = [.isDead, .hangs, .saysOn, .actsLate, .refuses]
            return [(at, .bmc(host: host, faults[Int(at % 5)])), (at + 1, .cutBoth(host, "manager")), (at + 100, .bmc(host: host, .works)), (at + 101, .heal(host, "manager"))]
        }
        return world
    },
    // Guests that cannot be killed.
    "stuck": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.timeline = []
        world.policy.ioTimeout = .seconds(2)
        world.troubles($0, every: 300) { host, vm, at in
            [(at, .guestStuck(vm: vm)), (at + 1, .storageHangs(domain: "all", host: host)), (at + 2, at % 3 == 0 ? .kill(.vmGuard(vm: vm)) : .spmMove), (at + 60, .storageHeals(domain: "all", host: host))]
        }
        return world
    },
    // The manager hears nobody, or few.
    "deaf": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.troubles($0, every: 200) { _, _, at in [(at, .isolate("manager")), (at + 90, .healNetwork)] }
        return world
    },
    // Every process dies every few minutes, between any two of its steps.
    "kills": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.chaos.kill = 0.3
        for (index, vm) in world.vms.enumerated() { world.repeats(every: 40, from: index, .vmStart(vm: vm.name, host: nil)) }
        for (index, vm) in world.vms.enumerated() { world.repeats(every: 77, from: index, .vmStop(vm: vm.name)) }
        return world
    },
    // Somebody starts a second set of managers for the same hosts, which it hears less well than their own managers do; the operator works on meanwhile.
    "managers": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.timeline = []
        world.chaos = Scenario.Chaos(torn: world.chaos.torn)
        world.policy.fencing.grace = .seconds(10)
        for index in world.vms.indices where index % 2 == 0 {
            world.vms[index].leases = false
            world.vms[index].ha = false
        }
        world.troubles($0, every: 60) { host, vm, at in
            switch at % 4 {
            case 0: [(at, .crash(host: host))]
            case 1: [(at, .vmStop(vm: vm)), (at + 15, .vmStart(vm: vm, host: host))]
            case 2: [(at, .kill(.hostAgent(host: host)))]
            default: [(at, .spmMove)]
            }
        }
        let count = world.hosts.count
        world.troubles($0 + 1, every: 300) { host, _, at in
            // Who was cut off from the beginning could not tell them that it obeys others; of few hosts nobody may be left to refuse an off.
            let cut = at % 3 == 1 && count > 3 ? at - 1 : at + 60
            return [(at, at % 3 == 2 ? .installManagers : .restoreManagers), (cut, .cutBoth(host, "manager2")), (at + 150, .heal(host, "manager2")), (at + 200, .endSecondManagers)]
        }
        return world
    },
    // Volumes are made on slow storage while the SPM's host stands still for longer than its lease lasts; nobody is fenced so soon.
    "publishing": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.hosts = ["host1", "host2"].map { Scenario.Host($0) }
        world.domains = ["dom1"]
        for index in world.vms.indices { world.vms[index].disks = ["dom1"] }
        world.policy.ioTimeout = .seconds(2)
        world.policy.fencing.grace = .seconds(60)
        world.chaos = Scenario.Chaos()
        world.timeline = []
        world.troubles($0, every: 120) { host, vm, at in
            [
                (at, .vmStop(vm: vm)), (at + 4, .vmRemove(vm: vm)), (at + 5, .storageSlow(domain: "all", host: "all")), (at + 7, .vmDefine(vm: vm)),
                (at + 10, .hang(host: host)), (at + 42, .thaw(host: host)), (at + 45, .storageHeals(domain: "all", host: "all")), (at + 70, .vmStart(vm: vm, host: nil)),
            ]
        }
        return world
    },
    // A copy of a host's disk starts in another machine, and the host itself fails now and then.
    "clones": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.hosts = ["host1", "host2", "host3", "host4"].map { Scenario.Host($0) }
        world.policy.ioTimeout = .seconds(2)
        world.policy.fencing.grace = .seconds(10)
        world.pace.boot = .seconds(5)
        world.timeline = []
        world.troubles($0, every: 300) { host, _, at in
            switch at % 4 {
            case 0: [(at, .clone(host: host)), (at + 40, .crash(host: host)), (at + 150, .endClone(host: host))]
            case 1: [(at, .hang(host: host)), (at + 1, .clone(host: host)), (at + 60, .thaw(host: host)), (at + 150, .endClone(host: host))]
            default: [(at, .clone(host: host)), (at + 150, .endClone(host: host))]
            }
        }
        return world
    },
    // A machine that reads the same hardware id has the keys of a host.
    "twins": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.hosts = ["host1", "host2", "host3", "host4"].map { Scenario.Host($0) }
        world.pace.boot = .seconds(5)
        world.chaos = Scenario.Chaos()
        world.timeline = []
        world.troubles($0, every: 600) { host, _, at in [(at, .twin(host: host)), (at + 150, .endClone(host: host)), (at + 160, .reboot(host: host)), (at + 170, .haEnable), (at + 200, .haEnable)] }
        return world
    },
    // A host is forgotten while its guests run, and another machine gets its name and host id.
    "replaced": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.hosts = ["host1", "host2", "host3", "host4"].map { Scenario.Host($0) }
        world.pace.boot = .seconds(5)
        world.timeline = []
        world.recovers = false
        world.troubles($0, every: 400) { host, _, at in
            [(at, .hostMaintenance(host: host)), (at + 5, .hostForget(host: host)), (at + 10, .replace(host: host)), (at + 30, .hostAdd(host: host)), (at + 35, .hostActivate(host: host)), (at + 120, .reboot(host: host))]
        }
        return world
    },
    // Programs on all hosts use the same few leases: alone, shared, in turn; they ask each other for them, and hosts and services fail meanwhile.
    "shared": { seed in
        var world = Scenario.random(seed: seed, hours: 0.5)
        world.resources = [Scenario.Resource("pool1"), Scenario.Resource("pool2")]
        world.hosts = ["host1", "host2", "host3"].map { Scenario.Host($0) }
        world.vms = Array(world.vms.prefix(3))
        world.timeline = []
        world.uses(seed, every: 20)
        world.troubles(seed + 1, every: 120) { host, _, at in
            switch at % 6 {
            case 0: [(at, .crash(host: host))]
            case 1: [(at, .kill(.leaseService(host: host)))]
            case 2: [(at, .storageHangs(domain: "all", host: host)), (at + 40, .storageHeals(domain: "all", host: host))]
            case 3: [(at, .hang(host: host)), (at + 30, .thaw(host: host))]
            case 4: [(at, .freeze(.leaseService(host: host))), (at + 30, .unfreeze(.leaseService(host: host)))]
            default: [(at, .storageSlow(domain: "all", host: host)), (at + 20, .storageHeals(domain: "all", host: host))]
            }
        }
        return world
    },
    // As `shared`, on storage that takes seconds: ballots for one lease overlap, writes time out and land later.
    "overlapping": { seed in
        var world = Scenario.random(seed: seed, hours: 0.5)
        world.resources = (1...4).map { Scenario.Resource("pool\($0)") }
        world.hosts = ["host1", "host2", "host3"].map { Scenario.Host($0) }
        world.vms = Array(world.vms.prefix(2))
        world.timeline = []
        world.policy.ioTimeout = .seconds(5)
        world.pace.storage = .seconds(2)
        world.chaos = Scenario.Chaos(ioSlow: 0.1)
        world.uses(seed, every: 12)
        return world
    },
    // One host is configured with an io_timeout of its own, as a foreign daemon may be, and stands still until its watchdog resets it; others try to take its lease meanwhile.
    "patient": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.resources = [Scenario.Resource("pool1")]
        world.hosts = [Scenario.Host("host1"), Scenario.Host("host2"), Scenario.Host("host3", spmPriority: -1, ioTimeout: 10)]
        world.vms = Array(world.vms.prefix(2))
        world.policy.ioTimeout = .seconds(2)
        world.policy.watchdogFire = .seconds(10)
        world.policy.watchdogPromised = true
        world.policy.fencing.grace = .seconds(600)
        world.chaos = Scenario.Chaos()
        world.timeline = []
        world.troubles($0, every: 300) { _, _, at in
            [(at - 4, .leaseTake(resource: "pool1", host: "host3", .exclusive)), (at + 10, .hang(host: "host3"))]
                + (2...20).map { (at + 5 * $0, .leaseTake(resource: "pool1", host: $0 % 2 == 0 ? "host1" : "host2", .exclusive)) }
                + [(at + 75, .crash(host: "host3")), (at + 130, .leaseDrop(resource: "pool1", host: "host1")), (at + 130, .leaseDrop(resource: "pool1", host: "host2")), (at + 140, .switchOn(host: "host3"))]
        }
        return world
    },
    // Host ids are freed by hand: of hosts that are gone, and of some that are not.
    "voided": { seed in
        var world = Scenario.random(seed: seed, hours: 0.5)
        world.resources = [Scenario.Resource("pool1"), Scenario.Resource("pool2")]
        world.hosts = ["host1", "host2", "host3"].map { Scenario.Host($0) }
        world.policy.ioTimeout = .seconds(2)
        world.policy.watchdogFire = .seconds(10)
        world.timeline = []
        world.uses(seed, every: 40)
        world.troubles(seed, every: 120) { host, _, at in
            let by = host == "host1" ? "host2" : "host1"
            return (at % 2 == 0 ? [(at, .crash(host: host))] : []) + (1...4).map { (at + 12 * $0, .leaseVoid(host: host, domain: "dom1", by: by)) }
        }
        return world
    },
    // After a repair the sectors are so large that a lease has no room for a value.
    "sectors": { seed in
        var world = Scenario.random(seed: seed, hours: 0.5)
        world.resources = [Scenario.Resource("pool1"), Scenario.Resource("pool2")]
        world.hosts = ["host1", "host2", "host3"].map { Scenario.Host($0) }
        world.vms = Array(world.vms.prefix(3))
        world.chaos = Scenario.Chaos()
        world.timeline = []
        world.uses(seed, every: 40)
        world.add(.seconds(3), .lockspaceReinitialize(domain: "dom1", host: "host1", sectorSize: 4096))
        return world
    },
    // A lockspace is drained, backed up, written anew and restored while hosts and services fail; by force, too, when a host does not answer.
    "repaired": { seed in
        var world = Scenario.random(seed: seed, hours: 0.5)
        world.resources = [Scenario.Resource("pool1"), Scenario.Resource("pool2")]
        world.hosts = ["host1", "host2", "host3"].map { Scenario.Host($0) }
        world.vms = Array(world.vms.prefix(3))
        world.policy.ioTimeout = .seconds(2)
        // Who is cut off is not fenced meanwhile: it renews, and keeps the lockspace from being written.
        world.policy.fencing.grace = .seconds(300)
        world.chaos = Scenario.Chaos(torn: world.chaos.torn)
        world.timeline = []
        world.uses(seed, every: 40)
        world.troubles(seed, every: 300) { host, _, at in
            let other = host == "host1" ? "host2" : "host1"
            switch at % 4 {
            case 0: return [(at, .lockspaceReinitialize(domain: "dom1", host: host)), (at + 4 + at % 23, .kill(.leaseService(host: host)))]
            case 1: return [(at, .lockspaceBackup(domain: "dom1", host: host)), (at + 20, .lockspaceRestore(domain: "dom1", host: host)), (at + 21 + at % 17, .crash(host: host))]
            case 2: return [(at, .lockspaceDrain(domain: "dom1")), (at + 60, .lockspaceOpen(domain: "dom1"))]
            // It renews, but nobody can ask it.
            default: return [(at, .cutBoth(other, "manager")), (at + 1, .lockspaceReinitialize(domain: "dom1", host: host, byForce: true)), (at + 230, .heal(other, "manager"))]
            }
        }
        return world
    },
    // Much is lost on the way.
    "lossy": {
        var world = Scenario.random(seed: $0, hours: 0.5)
        world.chaos.loss = 0.1
        return world
    },
]
