public import Messages

extension FencingEngine {
    public var publicState: any Encodable & Sendable { snapshot }

    public var snapshot: FencingSnapshot {
        FencingSnapshot(hosts: hostViews, cases: names.compactMap { hosts[$0]?.fenceCase?.view(of: $0) }, ha: haState, signingKey: signingKey)
    }

    public var hostViews: [HostView] { names.compactMap { view(of: $0) } }
    public var currentPolicy: FencingPolicy { policy }

    public func view(of name: String) -> HostView? {
        guard let host = hosts[name] else { return nil }
        let definition = host.definition
        return HostView(
            name: name, id: definition.id, status: host.status, reason: host.reason, incarnation: host.incarnation, bootID: host.bootID,
            generations: host.generations, endpoints: definition.endpoints, key: definition.key, signingKey: definition.signingKey,
            spmPriority: definition.spmPriority ?? 5, watchdogArmed: host.watchdogArmed, memoryMiB: host.memoryMiB, proof: host.proof,
            leaseProof: host.leaseProof, fenceCase: host.fenceCase?.view(of: name), toolstack: host.toolstack, powerSaving: savingState(of: host))
    }

    /// - Parameter name: `nil` for all hosts.
    public func history(of name: String?) -> FenceHistory {
        let open = names.compactMap { hosts[$0]?.fenceCase?.wholeView(of: $0) }
        return FenceHistory(cases: (closedCases + open).filter { name == nil || $0.host == name })
    }
}
