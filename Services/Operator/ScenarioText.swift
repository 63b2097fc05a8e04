import Messages
import Simulation
import Yams

extension Scenario {
    /// As a file that ``init(file:)`` reads; what is as by default is left out.
    func yaml() throws -> String {
        let standard = Scenario()
        var keys: [(Node, Node)] = [("name", Node(name))]
        if !about.isEmpty { keys.append(("about", Node(about))) }
        if seed != standard.seed { keys.append(("seed", Node("\(Int64(bitPattern: seed))", Tag(.int)))) }
        keys.append(("hosts", Node(hosts.map(\.node))))
        if domains != standard.domains { keys.append(("domains", Node(domains.map { Node($0) }, Tag(.seq), .flow))) }
        if !resources.isEmpty { keys.append(("resources", Node(resources.map { $0.node(master: domains.first) }))) }
        if !vms.isEmpty { keys.append(("vms", Node(vms.map { $0.node(master: domains.first) }))) }
        let policies = Policy.durations.filter { policy[keyPath: $0.path] != standard.policy[keyPath: $0.path] }.map { (Node($0.name), Node(policy[keyPath: $0.path].words)) }
            + Policy.numbers.filter { policy[keyPath: $0.path] != standard.policy[keyPath: $0.path] }.map { (Node($0.name), Node("\(policy[keyPath: $0.path])", Tag(.int))) }
            + (policy.watchdogPromised ? [(Node(Policy.watchdogPromisedKey), Node("true", Tag(.bool)))] : [])
        if !policies.isEmpty { keys.append(("policy", Node(policies))) }
        let paces = Pace.durations.filter { pace[keyPath: $0.path] != standard.pace[keyPath: $0.path] }.map { (Node($0.name), Node(pace[keyPath: $0.path].words)) }
        if !paces.isEmpty { keys.append(("pace", Node(paces))) }
        var rates = Chaos.rates.filter { chaos[keyPath: $0.path] != 0 }.map { (Node($0.name), Node("\(chaos[keyPath: $0.path])", Tag(.float))) }
        if chaos.delay != standard.chaos.delay { rates.append(("delay", Node(chaos.delay.words))) }
        if !rates.isEmpty { keys.append(("chaos", Node(rates))) }
        if !moments.isEmpty { keys.append(("timeline", Node(moments))) }
        keys.append(("end", Node(end.words)))
        if recovers { keys.append(("recovers", Node("true", Tag(.bool)))) }
        let last = expect.filter { $0.at == nil }.map { Node($0.what.sentence) }
        if !last.isEmpty { keys.append(("expect", Node(last))) }
        return try Yams.serialize(node: Node(keys), width: -1)
    }

    private var moments: [Node] {
        let happenings = timeline.map { ($0.at, 1, Node([("at", Node($0.at.words)), ("do", Node($0.what.sentence))] as [(Node, Node)], Tag(.map), .flow)) }
        let checks = expect.compactMap { check in
            check.at.map { ($0, 0, Node([("at", Node($0.words)), ("expect", Node(check.what.sentence))] as [(Node, Node)], Tag(.map), .flow)) }
        }
        return (happenings + checks).enumerated().sorted { ($0.element.0, $0.element.1, $0.offset) < ($1.element.0, $1.element.1, $1.offset) }.map(\.element.2)
    }
}

extension Scenario.Host {
    fileprivate var node: Node {
        let standard = Scenario.Host(name)
        guard self != standard else { return Node(name) }
        var keys: [(Node, Node)] = [("name", Node(name))]
        if fence != standard.fence { keys.append(("fence", Node(fence.rawValue))) }
        if memoryMiB != standard.memoryMiB { keys.append(("memory", Node("\(memoryMiB)M"))) }
        if spmPriority != standard.spmPriority { keys.append(("spmPriority", Node("\(spmPriority)", Tag(.int)))) }
        if watchdog { keys.append(("watchdog", Node("true", Tag(.bool)))) }
        if let ioTimeout { keys.append(("ioTimeout", Node("\(ioTimeout)", Tag(.int)))) }
        if hasTwoSupplies == true { keys.append(("twoSupplies", Node("true", Tag(.bool)))) }
        if hasOutlet == true { keys.append(("outlet", Node("true", Tag(.bool)))) }
        if let delay { keys.append(("delay", Node(delay.words))) }
        if kdump == true { keys.append(("kdump", Node("true", Tag(.bool)))) }
        if let via { keys.append(("via", Node(via.rawValue))) }
        if drift != standard.drift { keys.append(("drift", Node("\(drift)", Tag(.int)))) }
        return Node(keys, Tag(.map), .flow)
    }
}

extension Scenario.Resource {
    fileprivate func node(master: String?) -> Node {
        domain == master ? Node(name) : Node([("name", Node(name)), ("domain", Node(domain))] as [(Node, Node)], Tag(.map), .flow)
    }
}

extension Scenario.VM {
    fileprivate func node(master: String?) -> Node {
        let standard = Scenario.VM(name, disks: master.map { [$0] } ?? [])
        guard self != standard else { return Node(name) }
        var keys: [(Node, Node)] = [("name", Node(name))]
        if let host { keys.append(("host", Node(host))) }
        if !leases { keys.append(("leases", Node("false", Tag(.bool)))) }
        if ha != leases { keys.append(("ha", Node("\(ha)", Tag(.bool)))) }
        if priority != standard.priority { keys.append(("priority", Node("\(priority)", Tag(.int)))) }
        if memoryMiB != standard.memoryMiB { keys.append(("memory", Node("\(memoryMiB)M"))) }
        if disks != standard.disks { keys.append(("disks", Node(disks.map { Node($0) }, Tag(.seq), .flow))) }
        if !pin.isEmpty { keys.append(("pin", Node(pin.map { Node($0) }, Tag(.seq), .flow))) }
        if !started { keys.append(("started", Node("false", Tag(.bool)))) }
        if let onLeaseLoss { keys.append(("onLeaseLoss", Node(onLeaseLoss.rawValue))) }
        if let pauseBefore { keys.append(("pauseBefore", Node(pauseBefore.words))) }
        if let resume { keys.append(("resume", Node(resume.rawValue))) }
        return Node(keys, Tag(.map), .flow)
    }
}

extension Duration {
    /// `30s`, `1500ms`, `0.000000001s`: what ``init(text:)`` reads.
    var words: String {
        if nanoseconds % 1_000_000_000 == 0 { return "\(nanoseconds / 1_000_000_000)s" }
        if nanoseconds % 1_000_000 == 0 { return "\(nanoseconds / 1_000_000)ms" }
        return "\(seconds)s"
    }
}
