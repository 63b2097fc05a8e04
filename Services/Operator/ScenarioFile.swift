import Foundation
import Messages
import Simulation
import Yams

extension Scenario {
    /// Reads a scenario:
    ///
    ///     name: host crash                 # default: the file's name
    ///     about: One sentence.
    ///     hosts: 3                         # or a list: host1, or {name: host1, fence: unverified, memory: 8G, spmPriority: 3, drift: 100, watchdog: true}
    ///     domains: [dom1]
    ///     resources: [pool1]               # used by programs under a lease of that name; or a list of {name: pool1, domain: dom1}
    ///     vms: 4                           # spread over the hosts; or a list: web1, or {name: web1, host: host1, priority: 80, disks: [dom1], ha: false, ...}
    ///     policy: {liveness.grace: 10s}    # the keys of the services' configuration
    ///     timeline:
    ///       - {at: 60s, do: crash host1}
    ///       - {at: 100s, expect: vm web1 up on host2}
    ///     end: 10m
    ///     expect:                          # at the end
    ///       - vm web1 up on host2
    ///       - proof host1 before start web1
    ///
    /// - Throws: `RequestError` that names file, line and key, or the word of a sentence.
    init(file path: String) throws {
        let file = try DefinitionFile(
            path: path, kind: "scenario", keys: ["name", "about", "seed", "hosts", "domains", "vms", "resources", "policy", "pace", "chaos", "timeline", "end", "recovers", "expect"])
        self.init(name: try file.optionalString("name") ?? URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent)
        about = try file.optionalString("about") ?? ""
        if let given = try file.optionalInt("seed") { seed = UInt64(bitPattern: Int64(given)) }
        if file.has("hosts") { hosts = try Self.hosts(file) }
        if file.has("domains") { domains = try file.strings("domains") }
        vms = try Self.vms(file, hosts: hosts, domains: domains)
        resources = try Self.resources(file, domains: domains)
        try readSettings(file)
        end = try file.optionalDuration("end") ?? end
        recovers = try file.optionalBool("recovers") ?? false
        expect = []
        try readTimeline(file)
        expect += try Self.expectations(file, at: nil, vocabulary)
    }

    private static func hosts(_ file: DefinitionFile) throws -> [Host] {
        let elements = try file.elements("hosts", kind: "host", keys: ["name", "fence", "memory", "spmPriority", "drift", "watchdog", "ioTimeout", "twoSupplies", "outlet", "via", "delay", "kdump"])
        if elements.count == 1, case .text(let text, _) = elements[0], let count = Int(text) {
            guard (1...100).contains(count) else { throw file.problem(key: "hosts", "must be between 1 and 100") }
            return (1...count).map { Host("host\($0)") }
        }
        return try elements.map { element in
            switch element {
            case .text(let name, _): return Host(name)
            case .section(let keys):
                var host = Host(try keys.string("name"))
                if let text = try keys.optionalString("fence") {
                    guard let fence = Fence(rawValue: text) else {
                        throw keys.problem(key: "fence", "must be one of \(Fence.allCases.map(\.rawValue).joined(separator: ", "))")
                    }
                    host.fence = fence
                }
                if keys.has("memory") { host.memoryMiB = Int(try keys.bytes("memory", unit: 1 << 20) >> 20) }
                host.spmPriority = try keys.optionalInt("spmPriority") ?? host.spmPriority
                host.drift = try keys.optionalInt("drift") ?? host.drift
                host.watchdog = try keys.optionalBool("watchdog") ?? host.watchdog
                host.ioTimeout = try keys.optionalInt("ioTimeout")
                host.hasTwoSupplies = try keys.optionalBool("twoSupplies")
                host.hasOutlet = try keys.optionalBool("outlet")
                host.via = try keys.optionalChoice("via")
                host.delay = try keys.optionalDuration("delay")
                host.kdump = try keys.optionalBool("kdump")
                return host
            }
        }
    }

    private static func resources(_ file: DefinitionFile, domains: [String]) throws -> [Resource] {
        try file.elements("resources", kind: "resource", keys: ["name", "domain"]).map { element in
            switch element {
            case .text(let name, _): return Resource(name, domain: domains.first ?? "")
            case .section(let keys):
                let resource = Resource(try keys.string("name"), domain: try keys.optionalString("domain") ?? domains.first ?? "")
                guard domains.contains(resource.domain) else { throw keys.problem(key: "domain", "names \(resource.domain); the domains are \(domains.joined(separator: ", "))") }
                return resource
            }
        }
    }

    private static func vms(_ file: DefinitionFile, hosts: [Host], domains: [String]) throws -> [VM] {
        let elements = try file.elements("vms", kind: "VM", keys: ["name", "ha", "priority", "memory", "disks", "leases", "pin", "started", "host", "onLeaseLoss", "pauseBefore", "resume"])
        let master = domains.first.map { [$0] } ?? []
        if elements.count == 1, case .text(let text, _) = elements[0], let count = Int(text) {
            guard (0...1000).contains(count) else { throw file.problem(key: "vms", "must be between 0 and 1000") }
            return (0..<count).map { VM("web\($0 + 1)", disks: master, host: hosts[$0 % hosts.count].name) }
        }
        return try elements.map { element in
            switch element {
            case .text(let name, _): return VM(name, disks: master)
            case .section(let keys):
                var vm = VM(try keys.string("name"), disks: master)
                vm.leases = try keys.optionalBool("leases") ?? true
                vm.ha = try keys.optionalBool("ha") ?? vm.leases
                vm.priority = try keys.optionalInt("priority") ?? vm.priority
                if keys.has("memory") { vm.memoryMiB = Int(try keys.bytes("memory", unit: 1 << 20) >> 20) }
                if keys.has("disks") { vm.disks = try keys.strings("disks") }
                vm.pin = try keys.strings("pin")
                vm.started = try keys.optionalBool("started") ?? true
                vm.host = try keys.optionalString("host")
                vm.onLeaseLoss = try keys.optionalChoice("onLeaseLoss")
                vm.pauseBefore = try keys.optionalDuration("pauseBefore")
                vm.resume = try keys.optionalChoice("resume")
                for disk in vm.disks where !domains.contains(disk) { throw keys.problem(key: "disks", "names \(disk); the domains are \(domains.joined(separator: ", "))") }
                for host in vm.pin + (vm.host.map { [$0] } ?? []) where !hosts.contains(where: { $0.name == host }) {
                    throw keys.problem(key: keys.has("host") ? "host" : "pin", "names \(host); the hosts are \(hosts.map(\.name).joined(separator: ", "))")
                }
                return vm
            }
        }
    }

    private mutating func readSettings(_ file: DefinitionFile) throws {
        if file.has("policy") {
            let section = try file.section("policy", kind: "policy", keys: Policy.durations.map(\.name) + Policy.numbers.map(\.name) + [Policy.watchdogPromisedKey])
            for (name, path) in Policy.durations { policy[keyPath: path] = try section.optionalDuration(name) ?? policy[keyPath: path] }
            for (name, path) in Policy.numbers { policy[keyPath: path] = try section.optionalInt(name) ?? policy[keyPath: path] }
            policy.watchdogPromised = try section.optionalBool(Policy.watchdogPromisedKey) ?? policy.watchdogPromised
        }
        if file.has("pace") {
            let section = try file.section("pace", kind: "pace", keys: Pace.durations.map(\.name))
            for (name, path) in Pace.durations { pace[keyPath: path] = try section.optionalDuration(name) ?? pace[keyPath: path] }
        }
        if file.has("chaos") {
            let section = try file.section("chaos", kind: "chaos", keys: Chaos.rates.map(\.name) + ["delay"])
            for (name, path) in Chaos.rates {
                guard let rate = try section.optionalNumber(name) else { continue }
                guard (0...1).contains(rate) || name == "kill" && rate >= 0 else { throw section.problem(key: name, "must be between 0 and 1") }
                chaos[keyPath: path] = rate
            }
            chaos.delay = try section.optionalDuration("delay") ?? chaos.delay
        }
    }

    private mutating func readTimeline(_ file: DefinitionFile) throws {
        for moment in try file.sections("timeline", kind: "moment", keys: ["at", "do", "expect"]) {
            guard let at = try moment.optionalDuration("at") else { throw moment.problem(nil, "the moment has no 'at'") }
            guard moment.has("do") || moment.has("expect") else { throw moment.problem(nil, "the moment has neither 'do' nor 'expect'") }
            for (sentence, node) in try Self.sentences(moment, "do") {
                do { timeline.append(Moment(at: at, try Happening(sentence: sentence, names: vocabulary))) } catch { throw moment.problem(node, "do: \(error)") }
            }
            expect += try Self.expectations(moment, at: at, vocabulary)
        }
        for (earlier, later) in zip(timeline, timeline.dropFirst()) where later.at < earlier.at {
            throw file.problem(key: "timeline", "is not in the order of time: \(later.what.sentence) comes before \(earlier.what.sentence)")
        }
        if let last = timeline.last, last.at > end { throw file.problem(key: "end", "is before \(last.what.sentence)") }
    }

    private static func expectations(_ file: DefinitionFile, at: Duration?, _ names: Vocabulary) throws -> [Check] {
        try sentences(file, "expect").map { sentence, node in
            do { return Check(at: at, try Expectation(sentence: sentence, names: names)) } catch { throw file.problem(node, "expect: \(error)") }
        }
    }

    private static func sentences(_ file: DefinitionFile, _ key: String) throws -> [(String, Node)] {
        try file.elements(key, kind: "sentence", keys: []).compactMap { if case .text(let text, let node) = $0 { (text, node) } else { nil } }
    }
}
