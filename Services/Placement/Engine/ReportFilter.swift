import Messages

/// Which reports of agents become inputs: those that say something new, and those that may contradict what was learned of their host since the last one.
public struct ReportFilter: Sendable {
    /// What fencing-service says of a host, as far as a report can contradict it.
    private struct Standing: Hashable {
        var status: HostStatus
        var bootID: String?
        var proof: String?
        var leaseProof: String?
    }

    /// Of each host, but for the ages of its proofs.
    private var last: [String: AgentVMs] = [:]
    private var standings: [String: Standing] = [:]
    /// Hosts whose next report counts, even if it repeats the last one.
    private var due: Set<String> = []

    public init() {}

    /// The last report of each host, by its name.
    public var reports: [AgentVMs] { last.keys.sorted().compactMap { last[$0] } }

    /// Whether this report is to be an input; remembers it.
    public mutating func isNews(_ report: AgentVMs) -> Bool {
        var plain = report
        plain.busyWith = nil
        for index in plain.vms.indices { plain.vms[index].ended?.age = .zero }
        let isDue = due.remove(report.host) != nil
        guard last[report.host] != plain || isDue else { return false }
        last[report.host] = plain
        return true
    }

    /// A changed status, boot or proof makes the host's next report count.
    public mutating func note(_ host: HostView) {
        let standing = Standing(status: host.status, bootID: host.bootID, proof: host.proof?.statement, leaseProof: host.leaseProof?.statement)
        if standings.updateValue(standing, forKey: host.name) != standing { expect(host.name) }
    }

    /// A proof about this host came, or was revoked: its next report counts.
    public mutating func expect(_ host: String) { due.insert(host) }

    public mutating func forget(_ host: String) {
        last[host] = nil
        standings[host] = nil
        due.remove(host)
    }
}
