import Messages

/// Cases of hosts that answer: for `fence.nonOperational` and `fence.toolstackLost` their `off` is only to make them useful again, and nobody is in danger while it waits.
///
/// | what happens                                            | before the `off` is sent     | afterwards                                        |
/// |---------------------------------------------------------|------------------------------|---------------------------------------------------|
/// | its reason is gone, it shuts down, its policy is 0 s    | closed                       | closed as soon as the device reads on             |
/// | what runs there is stuck                                | closed for the case of S13   | as the next line                                  |
/// | no level had an effect: all read on                     | –                            | closed; tried again after the whole time of the policy, `fence.maximumReboots` times in `fence.rebootWindow` |
/// | silence                                                 | goes on for its silence, after a goodbye for that (S19) | likewise               |
///
/// Until then the host is what it says of itself, and operators deal with it as if there were no case.
extension FencingEngine {
    /// Follows from every input.
    mutating func followAnswering(_ name: String) {
        guard let host = hosts[name] else { return }
        if host.fenceCase != nil { return closeIfSpared(host) }
        openCaseForLostToolstack(host)
        openCaseForNonOperational(host)
    }

    private mutating func closeIfSpared(_ host: HostRecord) {
        guard isMereIntent(host), host.liveness == .heard, let open = host.fenceCase, let why = sparing(host, open) else { return }
        closeCase(host.name, "\(why); no off was sent")
    }

    /// Nothing was done to it by its case, and nothing of it is under way.
    func isMereIntent(_ host: HostRecord) -> Bool {
        guard let open = host.fenceCase, open.isMereIntent, open.incarnation == host.incarnation else { return false }
        return host.minted == nil && host.unresolved == nil && host.run?.action.isDestructive != true
    }

    /// Why its case is over, whatever its policy still allows.
    private func sparing(_ host: HostRecord, _ open: FenceCase) -> String? {
        let isToolstack = open.cause == .toolstackLost
        if (isToolstack ? policy.toolstackLost : policy.nonOperational) == .zero { return "fence.\(open.cause.rawValue) is 0 s: no host is switched off for that any more" }
        if host.leaving != nil { return "\(host.name) shuts down" }
        if isToolstack {
            if host.toolstack == nil { return "the hypervisor of \(host.name) can be controlled again" }
            return host.toolstackLostSince == nil ? "the hypervisor of \(host.name) is not given up any more" : nil
        }
        if let why = ownCase(host) { return why }
        if isNonOperational(host) { return nil }
        var without = host
        without.fenceCase = nil
        let (status, reason) = status(of: without)
        return "\(host.name) is \(status.rawValue) (\(reason))"
    }

    /// Its device reads on.
    ///
    /// - Returns: whether the case is over by that.
    mutating func endsAnswering(_ host: HostRecord, _ open: FenceCase, _ detail: String) -> Bool {
        guard open.cause.isOfAnswering, open.incarnation == host.incarnation, host.liveness == .heard else { return false }
        if let why = sparing(host, open) {
            closeCase(host.name, "\(why); \(open.offSent ? "it reads on: the off had no effect" : "no off was sent")")
            return true
        }
        guard open.offSent, !hasAnotherWay(host, open) else { return false }
        let (now, window) = (now, policy.rebootWindow)
        update(host.name) {
            $0.vainOffs = ($0.vainOffs ?? []).filter { now - $0 < window } + [now]
            if $0.nonOperationalSince != nil { $0.nonOperationalSince = now }
            if $0.toolstackLostSince != nil { $0.toolstackLostSince = now }
        }
        closeCase(host.name, "\(host.name) answers and reads on after the off, which had no effect\(detail.isEmpty ? "" : " (\(detail))")")
        return true
    }

    /// Another level, or another proxy, is to be tried yet.
    private func hasAnotherWay(_ host: HostRecord, _ open: FenceCase) -> Bool {
        let failed = open.failedLevels ?? 0
        return open.step == .confirmingOff ? host.hasAnotherProxy == true || failed + 1 < host.levels.count : failed > 0 || host.failedProxies?.isEmpty == false
    }

    // MARK: Hold rules

    /// Why the `off` is not sent now, if its case is one of these.
    func holdOfAnswering(_ host: HostRecord, _ open: FenceCase) -> String? {
        switch open.cause {
        case .nonOperational: nonOperationalHold(host)
        case .toolstackLost: toolstackHold(host)
        default: nil
        }
    }

    func holdOfAny(_ host: HostRecord) -> String? {
        if host.leaving != nil { return "it shuts down" }
        let vain = (host.vainOffs ?? []).count { now - $0 < policy.rebootWindow }
        guard vain >= max(1, policy.maximumReboots) else { return nil }
        return "an off had no effect \(vain) times in \(policy.rebootWindow.milliseconds / 60_000) minutes (fence.maximumReboots): look at its fence device, then host activate"
    }

    /// From now on its silence counts, or its goodbye, with all that holds for it: what its agent said before is old.
    ///
    /// - Returns: whether its case was of another cause until now.
    mutating func isSilentNow(_ name: String, _ open: FenceCase) -> Bool {
        guard open.cause.isOfAnswering, !open.proven, let host = hosts[name] else { return false }
        let isGone = host.leaving == .over
        updateCase(name) { $0.cause = isGone ? .shutDown : .silent }
        let said = open.cause == .toolstackLost ? "that its hypervisor is lost" : "that it is not operational"
        decide(
            name, "fence case goes on for its \(isGone ? "goodbye" : "silence")", why: "its agent, which said \(said)\(isGone ? " and then goodbye" : ""), is silent now", hosts[name]?.fenceCase)
        return true
    }
}

extension FenceCase.Cause {
    /// Its host answers, and is to be made useful again.
    var isOfAnswering: Bool { self == .nonOperational || self == .toolstackLost }
}

extension FenceCase {
    /// Its host answers, and nothing was done to it.
    var isMereIntent: Bool { cause.isOfAnswering && !offSent && !proven }
}
