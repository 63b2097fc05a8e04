import Messages

/// Why a case may not go on to `off` now.
enum Hold {
    case absolute(String)
    /// Silence may be ours, not the host's: overruled by a host that sees the suspect's renewals stopped (S17).
    case doubtful(String)
}

extension FencingEngine {
    static let foreignDevice = "its fence device belongs to another machine: the device's GUID is not the host's hardware id"

    /// Re-evaluated as long as the case is open. A device that reads off needs no `off`, so none of this applies to it.
    func hold(_ host: HostRecord, _ open: FenceCase) -> Hold? {
        if host.deviceIsForeign { return .absolute(Self.foreignDevice) }
        if open.cause == .operatorAsked { return nil }
        if let why = host.obeysOthers { return .absolute("\(host.name) obeys other managers (S16): \(why)") }
        if let why = ha.powerHold { return .absolute(why) }
        if open.cause == .silent, host.liveness != .silent { return .absolute("fencing-service listens to it for a full grace first") }
        if open.cause == .unreaped, let why = nobodyElseJoined(host) { return .absolute(why) }
        if let networkProblem { return .doubtful("the manager's own network check fails: \(networkProblem)") }
        let others = hosts.values.filter { $0.name != host.name && counts($0) }
        let silent = others.filter { $0.liveness != .heard }.map(\.name).sorted()
        if !others.isEmpty, silent.count * 2 >= others.count {
            return .doubtful("\(silent.count) of \(others.count) other hosts are silent too (\(silent.joined(separator: ", ")))")
        }
        return nil
    }

    /// A lost lockspace that no other host has either is the storage's fault: switching hosts off would bring nothing back.
    func nobodyElseJoined(_ host: HostRecord) -> String? {
        let others = readers(for: host.name).compactMap { hosts[$0] }
        let missing = (host.lost ?? []).filter { lockspace in !others.contains { $0.generations[lockspace] != nil } }
        if !missing.isEmpty { return "no other host that answers has joined \(missing.joined(separator: ", ")): its storage fails, not \(host.name)" }
        return others.isEmpty ? "no other host that answers has joined a lockspace: nobody could go on with what ran on \(host.name)" : nil
    }

    /// Hosts whose silence says something about the manager's view: not those that are off for a known reason.
    private func counts(_ host: HostRecord) -> Bool { host.hasLife && !host.maintenance && !host.isProvenDead && !host.keptOff }

    /// Hosts that can read the suspect's sectors: they answer and have joined lockspaces.
    func readers(for name: String) -> [String] {
        names.filter { other in
            guard other != name, let host = hosts[other] else { return false }
            return host.liveness == .heard && host.identityProblem == nil && !host.generations.isEmpty
        }
    }

    /// A held case goes on as soon as its reason is gone; the power-on of a proven one too.
    mutating func reconsiderHeld(_ name: String) {
        guard let host = hosts[name], let open = host.fenceCase, host.run == nil, host.command == nil else { return }
        switch open.step {
        case .held where hold(host, open) == nil:
            checkPower(name)
        case .proven where host.retryAt == nil && host.power == .off && host.minted == nil && powerOnHold(host) == nil:
            powerOn(name)
        default:
            break
        }
    }

    /// Why a proven host is not switched on.
    func powerOnHold(_ host: HostRecord) -> String? {
        host.keptOff ? "an operator switched it off" : ha.powerHold
    }
}
