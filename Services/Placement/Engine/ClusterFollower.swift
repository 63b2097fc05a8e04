public import Messages

/// Makes inputs of what fencing-service and the agents say: with verified proofs only, and of an agent's reports only those that count.
public struct ClusterFollower: Sendable {
    /// The proof with its signed content; `nil` if its maker is not pinned for it. The sender is the agent that sent it, which speaks for itself only.
    public typealias Verification = (_ proof: SignedProof, _ sender: String?) -> SignedProof?

    private var filter = ReportFilter()

    public init() {}

    /// Reports that came before may count from now on: ``awaited(by:_:)``.
    public mutating func take(_ snapshot: FencingSnapshot, _ verified: Verification) -> PlacementEngine.Input {
        var checked = snapshot
        checked.hosts = snapshot.hosts.map { $0.checked { verified($0, nil) } }
        for host in checked.hosts { filter.note(host) }
        return .fencing(checked)
    }

    /// `nil`: nothing is learned of it. After news of a host, reports that came before may count: ``awaited(by:_:)``.
    public mutating func take(_ event: RegistryEvent, _ verified: Verification) -> PlacementEngine.Input? {
        switch event {
        case .host(let view):
            let host = view.checked { verified($0, nil) }
            filter.note(host)
            return .host(host)
        case .removed(let name):
            filter.forget(name)
            return .hostRemoved(name)
        case .proof(let signed):
            guard let proof = verified(signed, nil) else { return nil }
            filter.expect(proof.proof.host)
            return .proof(proof)
        case .proofRevoked(let host):
            filter.expect(host)
            return .proofRevoked(host: host)
        case .recovery(let state): return .ha(state)
        }
    }

    /// The host's agent is not followed any more.
    public mutating func forget(_ host: String) { filter.forget(host) }

    /// The input that an agent's report is; `nil` if it says nothing new.
    public mutating func take(_ report: AgentVMs, for engine: PlacementEngine, _ verified: Verification) -> PlacementEngine.Input? {
        guard filter.isNews(report) || engine.awaitsReport(of: report.bootID, on: report.host) else { return nil }
        return .report(checked(report, verified))
    }

    /// Reports may come before fencing-service has told of their boot; they count from then on.
    public func awaited(by engine: PlacementEngine, _ verified: Verification) -> [PlacementEngine.Input] {
        filter.reports.filter { engine.awaitsReport(of: $0.bootID, on: $0.host) }.map { .report(checked($0, verified)) }
    }

    private func checked(_ report: AgentVMs, _ verified: Verification) -> AgentVMs {
        var checked = report
        checked.busyWith = nil
        for index in checked.vms.indices { checked.vms[index].ended = checked.vms[index].ended.flatMap { verified($0, report.host) } }
        return checked
    }
}
