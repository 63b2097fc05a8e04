import Bus
import Messages
import ServiceKit

/// Everything `bulwark status` tells, asked of all processes at once.
struct ClusterSurvey: Sendable {
    /// One process and how it answers.
    struct Process: Sendable {
        var endpoints: ProcessEndpoints
        /// `ok`, `degraded` or `silent`.
        var health: String
        var answer: Health?

        var json: JSONValue {
            var members: [String: JSONValue] = [
                "name": .string(endpoints.name), "requests": .string(endpoints.requests), "events": .string(endpoints.events), "health": .string(health),
                "problems": .array((answer?.problems ?? []).map(JSONValue.string)),
            ]
            if let answer {
                members["pid"] = .signed(Int64(answer.pid))
                members["version"] = .string(answer.version)
                members["epoch"] = .string(answer.epoch)
            }
            return .object(members)
        }
    }

    var cluster: String
    var processes: [Process]
    /// `nil`: the owner did not answer.
    var fencing: FencingSnapshot?
    var pools: [PoolView]?
    var vms: [VMView]?
    var domains: [DomainView]?
    var policy: FencingPolicy?

    init(of cluster: Cluster, timeout: Duration = .seconds(2)) {
        self.cluster = cluster.file.cluster
        let answers = concurrently(ManagerService.allCases) { service in
            try? cluster.publicState(of: try cluster.endpoints(of: service), timeout: timeout)
        }
        for (service, state) in zip(ManagerService.allCases, answers) {
            switch service {
            case .fencing: fencing = try? state?.decoded(as: FencingSnapshot.self)
            case .spm: pools = try? state?.decoded(as: SPMSnapshot.self).pools
            case .placement: vms = try? state?.decoded(as: VMList.self).vms
            case .domains: domains = try? state?.decoded(as: DomainList.self).domains
            }
        }
        if fencing != nil { policy = try? cluster.ask(.fencing, "policy.get", timeout: timeout).decoded(as: FencingPolicy.self) }
        processes = concurrently(cluster.processes(hosts: (fencing?.hosts ?? []).map(\.name))) { process in
            let health = try? cluster.ask(process, "health", timeout: timeout).decoded(as: Health.self)
            return Process(endpoints: process, health: health?.status.rawValue ?? "silent", answer: health)
        }
    }

    func isSPM(_ host: String) -> Bool { (pools ?? []).contains { $0.spm == host } }

    func vms(on host: String) -> [String] { (vms ?? []).filter { $0.host == host }.map(\.name).sorted(by: naturally) }

    /// The state of automatic recovery, if it is not simply enabled.
    var troubledHA: HAState? {
        guard let ha = fencing?.ha, !ha.enabled || ha.hold != nil || !ha.recoveryAllowed || ha.alarms?.isEmpty == false else { return nil }
        return ha
    }

    /// What a person should know first, in plain words; empty when all is well.
    var notices: [String] {
        var found: [String] = []
        for process in processes where process.health == "silent" { found.append("\(process.endpoints.name) does not answer") }
        for process in processes { found += (process.answer?.problems ?? []).map { "\(process.endpoints.name): \($0)" } }
        if let ha = troubledHA { found.append(HACommand.words(ha)) }
        for open in fencing?.cases ?? [] { found.append("fence case \(open.id) of \(open.host) is at \(open.step): \(open.reason)") }
        for pool in pools ?? [] where pool.status != .up { found.append("pool \(pool.pool) is \(pool.status.rawValue): \(pool.reason)") }
        for domain in domains ?? [] where domain.status != .active { found.append("domain \(domain.name) is \(domain.status.rawValue): \(domain.reason)") }
        for vm in vms ?? [] where vm.wanted && vm.status != .up { found.append("VM \(vm.name) is \(vm.status.rawValue) but wanted: \(vm.reason)") }
        return found
    }

    /// The members of `status --json`. What nobody answered for is left out.
    func json() throws -> JSONValue {
        var members: [String: JSONValue] = [
            "cluster": .string(cluster), "processes": .array(processes.map(\.json)), "notices": .array(notices.map(JSONValue.string)),
        ]
        if let fencing {
            members["hosts"] = .array(
                try fencing.hosts.map { host in
                    try JSONValue(encoding: host).adding(["spm": .bool(isSPM(host.name)), "vms": .array(vms(on: host.name).map(JSONValue.string))])
                })
            members["cases"] = try JSONValue(encoding: fencing.cases)
            members["ha"] = try JSONValue(encoding: fencing.ha)
            if let policy { members["policy"] = try JSONValue(encoding: policy) }
        }
        if let pools { members["pools"] = try JSONValue(encoding: pools).naming(by: "pool") }
        if let domains { members["domains"] = try JSONValue(encoding: domains) }
        if let vms { members["vms"] = try JSONValue(encoding: vms) }
        return .object(members)
    }
}
