import Messages

/// Why a case may not go on to `off` now.
enum Hold {
    case absolute(String)
    /// Silence may be ours, not the host's: overruled by a host that sees the suspect's renewals stopped (S17).
    case doubtful(String)
    /// By policy a host whose renewals go on is left alone.
    case lease
}

extension FencingEngine {
    static let foreignDevice = "its fence device belongs to another machine: the device's GUID is not the host's hardware id"

    /// Re-evaluated as long as the case is open. A device that reads off needs no `off`, so none of this applies to it.
    func hold(_ host: HostRecord, _ open: FenceCase) -> Hold? {
        if host.deviceIsForeign { return .absolute(Self.foreignDevice) }
        if open.cause == .operatorAsked { return nil }
        if open.cause == .shutDown { return .absolute("it said goodbye and still reads on: nothing of it waits for a fence, so it is not switched off; bulwark fence now \(host.name) does") }
        if let why = host.obeysOthers { return .absolute("\(host.name) obeys other managers (S16): \(why)") }
        if let why = powerHold { return .absolute(why) }
        if let why = holdOfAnswering(host, open) { return .absolute(why) }
        if open.cause == .silent, host.liveness != .silent { return .absolute("fencing-service listens to it for a full grace first") }
        if open.cause == .unreaped, let why = nobodyElseJoined(host) { return .absolute(why) }
        if let networkProblem { return .doubtful("the manager's own network check fails: \(networkProblem)") }
        let census = census
        let isCounted = counts(host)
        let others = census.counted - (isCounted ? 1 : 0)
        let silent = census.silent - (isCounted && host.liveness != .heard ? 1 : 0)
        if others > 0, silent * 100 >= others * policy.silentShare {
            let names = names.filter { $0 != host.name && hosts[$0].map { counts($0) && $0.liveness != .heard } ?? false }
            return .doubtful("\(silent) of \(others) other hosts are silent too (\(Self.list(names)))")
        }
        if policy.sparesLiveLeases, open.cause == .silent, !host.generations.isEmpty { return .lease }
        return nil
    }

    /// A few names, and how many more.
    private static func list(_ names: [String]) -> String {
        names.count <= 8 ? names.joined(separator: ", ") : names.prefix(8).joined(separator: ", ") + " and \(names.count - 8) more"
    }

    /// A lost lockspace that no other host has either is the storage's fault: switching hosts off would bring nothing back.
    func nobodyElseJoined(_ host: HostRecord) -> String? {
        let others = joined(besides: host.name).compactMap { hosts[$0] }
        let missing = (host.lost ?? []).filter { lockspace in !others.contains { $0.generations[lockspace] != nil } }
        if !missing.isEmpty { return "no other host that answers has joined \(missing.joined(separator: ", ")): its storage fails, not \(host.name)" }
        return others.isEmpty ? "no other host that answers has joined a lockspace: nobody could go on with what ran on \(host.name)" : nil
    }

    /// How many hosts count, and how many of them are silent.
    struct Census: Sendable {
        var counted = 0
        var silent = 0
    }

    func takeCensus() -> Census {
        var census = Census()
        for host in hosts.values where counts(host) {
            census.counted += 1
            if host.liveness != .heard { census.silent += 1 }
        }
        return census
    }

    /// Hosts whose silence says something about the manager's view: not those that are off for a known reason.
    /// An operator's off is a known reason once the host reads off: one that failed says nothing.
    func counts(_ host: HostRecord) -> Bool { host.hasLife && !host.maintenance && !host.isProvenDead && host.leaving != .over && !(host.keptOff && host.power == .off) }

    /// Hosts that are asked to read the suspect's sectors: all that can in a small cluster, else three for each of its lockspaces, others with each question.
    func readers(for name: String) -> [String] {
        let all = joined(besides: name)
        guard all.count > 5, let host = hosts[name] else { return all }
        let first = Int(host.counter % UInt64(all.count))
        let rotated = all[first...] + all[..<first]
        let wanted = Set(host.highestGenerations.keys).union(host.fenceCase?.cause == .nonOperational ? missingLockspaces(host) : [])
        let chosen = wanted.sorted().flatMap { lockspace in rotated.filter { hosts[$0]?.generations[lockspace] != nil }.prefix(3) }
        return chosen.isEmpty ? Array(rotated.prefix(3)) : Set(chosen).sorted()
    }

    /// Hosts that can read a lockspace: they answer and have joined one.
    private func joined(besides name: String) -> [String] {
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
        if host.keptOff { return "an operator switched it off" }
        if let why = host.owedText { return why }
        if host.saving != nil { return "it was powered down to save power; placement-service has it switched on when it is needed, or bulwark power on \(host.name) does" }
        if host.fenceCase?.cause == .shutDown { return "it has shut down; bulwark power on \(host.name), or its own button, brings it back" }
        if policy.maximumReboots == 0 { return "fence.maximumReboots is 0: no case switches a host on" }
        let recent = (host.reboots ?? []).filter { now - $0 < policy.rebootWindow }
        if recent.count >= policy.maximumReboots, policy.rules < 1 || beginsRound(host), let first = recent.first {
            return "it was switched on \(recent.count) times in \(policy.rebootWindow.milliseconds / 60_000) minutes and came to nothing: look at it, then host activate or power on; "
                + "else it is tried again in \((first + policy.rebootWindow - now).milliseconds / 60_000 + 1) minutes"
        }
        return powerHold
    }
}
