import Messages
import PlacementEngine
import Simulation

extension Scenario {
    /// A small cluster in which nothing happens, so that what is added is all that does, a quarter of an hour long.
    static func quiet(_ seed: UInt64, hosts: Int, vms: Int) -> Scenario {
        var scenario = Scenario(seed: seed, hosts: (1...hosts).map { Host("host\($0)") }, vms: (1...vms).map { VM("vm\($0)") }, end: .seconds(900), recovers: true)
        scenario.policy.ioTimeout = .seconds(2)
        scenario.policy.watchdogFire = .seconds(10)
        return scenario
    }

    /// As ``quiet(_:hosts:vms:)``; only other hosts reach a host's device, and messages take up to a second.
    static func proxies(_ seed: UInt64) -> Scenario {
        var scenario = quiet(seed, hosts: 4, vms: 4)
        scenario.policy.fencing.grace = .seconds(5)
        scenario.pace.message = .seconds(1)
        for index in scenario.hosts.indices { scenario.hosts[index].via = .hosts }
        return scenario
    }

    /// As ``quiet(_:hosts:vms:)``, with two hosts that have nothing to do, and power saving.
    static func saving(_ seed: UInt64) -> Scenario {
        var scenario = quiet(seed, hosts: 4, vms: 3)
        scenario.policy.placement.saving = PowerSavingPolicy(reserveHosts: 1, emptyFor: .seconds(150), pause: .seconds(20))
        for index in scenario.vms.indices { scenario.vms[index].host = "host\(1 + index % 2)" }
        return scenario
    }

    /// Adds troubles, one after the other, each with a host and a VM that chance picks.
    ///
    /// - Parameter pause: seconds between two, on average.
    mutating func troubles(_ seed: UInt64, every pause: Int64, _ make: (_ host: String, _ vm: String, _ at: Int64) -> [(Int64, Happening)]) {
        var state = seed &* 0x2545_F491_4F6C_DD1D
        func pick(_ bound: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return Int((mixed ^ (mixed >> 31)) % UInt64(max(bound, 1)))
        }
        var at = Int64(5 + pick(Int(pause)))
        while .seconds(at + pause) < end {
            for (time, what) in make(hosts[pick(hosts.count)].name, vms[pick(vms.count)].name, at) where .seconds(time) < end {
                add(.seconds(time) + .milliseconds(Int64(pick(1000))), what)
            }
            at += pause / 2 + Int64(pick(Int(pause)))
        }
    }

    /// Programs begin and end to use each resource, on hosts that chance picks.
    mutating func uses(_ seed: UInt64, every pause: Int64) {
        let hosts = hosts.map(\.name)
        for (index, resource) in resources.map(\.name).enumerated() {
            troubles(seed &+ UInt64(1000 * (index + 1)), every: pause) { host, _, at in
                let other = hosts[Int(at / 7) % hosts.count]
                switch at % 10 {
                case 0, 1, 2: return [(at, .leaseTake(resource: resource, host: host, .exclusive))]
                case 3, 4, 5: return [(at, .leaseTake(resource: resource, host: host, .shared)), (at + 1, .leaseTake(resource: resource, host: other, .shared))]
                case 6: return [(at, .leaseConvert(resource: resource, host: host, .exclusive)), (at + 5, .leaseConvert(resource: resource, host: host, .shared))]
                case 7: return [(at, .leaseConvert(resource: resource, host: host, .shared)), (at + 1, .leaseTake(resource: resource, host: other, .shared))]
                case 8: return [(at, .leaseRequest(resource: resource, host: host, .graceful)), (at + 25, .leaseTake(resource: resource, host: host, .exclusive))]
                default: return hosts.map { (at, .leaseDrop(resource: resource, host: $0)) } + [(at + 3, .leaseTake(resource: resource, host: other, .exclusive))]
                }
            }
        }
    }

    mutating func repeats(every pause: Int64, from first: Int, _ what: Happening) {
        var at = pause + Int64(first)
        while .seconds(at) < end {
            add(.seconds(at), what)
            at += pause
        }
    }

    mutating func add(_ at: Messages.Duration, _ what: Happening) {
        let index = timeline.firstIndex { at < $0.at } ?? timeline.count
        timeline.insert(Moment(at: at, what), at: index)
    }
}
