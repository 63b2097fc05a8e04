import Messages

/// Hosts whose agent answers and says that it could not restore the control of its hypervisor. Their guests may run, and nobody can manage them: by default a person decides, by policy
/// (`fence.toolstackLost`) the whole host is fenced. Nothing of it starts elsewhere before that is proven (I3, I4).
extension FencingEngine {
    mutating func noteToolstack(_ heartbeat: AgentHeartbeat) {
        let name = heartbeat.host, report = heartbeat.toolstack, now = now
        guard let known = hosts[name] else { return }
        update(name) {
            $0.toolstack = report
            if report?.state != .lost { $0.toolstackLostSince = nil } else if $0.toolstackLostSince == nil { $0.toolstackLostSince = now }
        }
        guard known.toolstack != report else { return }
        decide(name, report == nil ? "hypervisor controlled again" : "hypervisor out of control", why: report?.sentence ?? "its agent's check of the toolstack succeeds", known.fenceCase)
    }

    mutating func openCaseForLostToolstack(_ host: HostRecord) {
        guard !host.maintenance, !host.initializing, powerHold == nil, toolstackHold(host) == nil else { return }
        openCase(host.name, .toolstackLost, "\(host.toolstack?.sentence ?? ""); for \(policy.toolstackLost.milliseconds / 1000) s (fence.toolstackLost)")
    }

    private func isLostForLong(_ host: HostRecord) -> Bool {
        guard policy.toolstackLost > .zero, let since = host.toolstackLostSince else { return false }
        return now - since >= policy.toolstackLost
    }

    /// Why a host is not switched off although its hypervisor is, or was, out of control.
    func toolstackHold(_ host: HostRecord) -> String? {
        guard host.liveness == .heard, isLostForLong(host) else {
            return "its agent must say for \(policy.toolstackLost.milliseconds / 1000) s without interruption that its hypervisor is lost (fence.toolstackLost)"
        }
        if let why = holdOfAny(host) { return why }
        let others = names.compactMap { $0 == host.name ? nil : hosts[$0] }.filter { counts($0) }
        let down = others.filter { $0.toolstack != nil }
        if !others.isEmpty, down.count * 100 >= others.count * policy.silentShare {
            return "the toolstacks of \(down.count) of \(others.count) other hosts are down, too: what they have in common is to be mended, not the hosts"
        }
        return nobodyElseJoined(host)
    }
}
