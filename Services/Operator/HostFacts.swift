import Messages

/// What can be found out about a host before something drastic is done to it.
struct HostFacts {
    let view: HostView
    /// Facts, in words.
    private(set) var checked: [String] = []
    /// What could not be found out.
    private(set) var notChecked: [String] = []

    /// - Throws: `RequestError` if fencing-service does not answer or does not know the host.
    init(of host: String, in cluster: Cluster) throws {
        let list = try cluster.ask(.fencing, "host.list").decoded(as: HostList.self)
        guard let found = list.hosts.first(where: { $0.name == host }) else {
            let known = list.hosts.map(\.name).sorted(by: naturally).joined(separator: ", ")
            throw RequestError(RequestErrorCode.notFound, "there is no host \(host); hosts are \(known)")
        }
        view = found
        checked.append("\(host) is \(found.status.rawValue), incarnation \(found.incarnation): \(found.reason)")
        checked.append(found.fenceCase.map { "fence case \($0.id) is at \($0.step): \($0.reason)" } ?? "no fence case is open")

        let power = try? cluster.ask(.fencing, "power.status", HostRequest(host: host), timeout: .seconds(35))
        if let state = power?["state"]?.string, state != PowerState.unknown.rawValue {
            checked.append("its fence device reads power \(state)")
        } else {
            notChecked.append("its power: no fence device answers")
        }
        if let vms = try? cluster.ask(.placement, "vm.list").decoded(as: VMList.self).vms {
            let here = vms.filter { ($0.host ?? $0.run?.host) == host && $0.status != .down }.map { "\($0.name) (\($0.status.rawValue))" }
            checked.append(here.isEmpty ? "no VM is known to run there" : "VMs there: \(here.joined(separator: ", "))")
        } else {
            notChecked.append("which VMs run there: placement-service does not answer")
        }
        if let pools = try? cluster.snapshot(.spm, as: SPMSnapshot.self).pools {
            for pool in pools where pool.spm == host { checked.append("it is SPM of pool \(pool.pool)") }
        } else {
            notChecked.append("whether it is SPM: spm-coordinator does not answer")
        }
    }
}
