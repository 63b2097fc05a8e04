import Messages

extension FencingEngine {
    /// The status that follows from what is known, and why. The table is in ``FencingEngine``.
    func status(of host: HostRecord) -> (HostStatus, String) {
        if host.maintenance { return (.maintenance, "an operator put it into maintenance") }
        if let problem = host.identityProblem { return (.error, problem) }
        if let error = host.error { return (.error, error) }
        guard host.hasLife else { return (.unassigned, "registered, not heard yet") }
        if let open = host.fenceCase, open.incarnation == host.incarnation, !open.isMereIntent {
            if open.proven, host.keptOff { return (.down, "an operator switched it off") }
            if open.cause == .shutDown { return (.down, host.goodbyeText + (open.proven ? ", and reads off" : "")) }
            if open.booting { return (.reboot, "fence case \(open.id): its last life is proven over, it is switched on") }
            if let dump = host.dump, open.awaitsDumps { return (.kdumping, "fence case \(open.id): its crash kernel says, from \(dump.address), that it writes a dump") }
            return (.nonResponsive, "fence case \(open.id): \(open.cause.sentence)")
        }
        switch host.liveness {
        case .observing:
            return host.status == .maintenance || host.status == .error ? (.unassigned, "listening for it") : (host.status, host.reason)
        case .missing, .silent:
            if host.leaving == .over { return (.down, host.goodbyeText) }
            if host.liveness == .silent { return (.nonResponsive, "no heartbeat for \(host.silence.map { "\($0.grace.milliseconds) ms" } ?? "the grace")") }
            return (.connecting, "heartbeats are missing")
        case .heard:
            return statusOfAnswering(host)
        }
    }

    private func statusOfAnswering(_ host: HostRecord) -> (HostStatus, String) {
        let acting: HostStatus = host.fenceCase == nil ? .connecting : .reboot
        if let open = host.unresolved { return (acting, "the outcome of its last power \(open.rawValue) is open") }
        if let why = host.owedText { return (acting, why) }
        if let run = host.run, run.action.isDestructive { return (acting, "a power \(run.action.rawValue) runs") }
        if host.leavesToSave == true { return (.preparingForMaintenance, "it is powered down to save power; nothing is started there") }
        if let leaving = host.leaving {
            return (.preparingForMaintenance, leaving == .over ? "it shuts down: all that ran there is over, and nothing is started there any more" : "it shuts down: what runs there is being ended")
        }
        if let why = shortcoming(of: host) { return (.nonOperational, why + (host.spared.map { "; it is not switched off: \($0)" } ?? "")) }
        if host.initializing { return (.initializing, "its agent finds out what runs there") }
        if host.status == .up { return (.up, host.toolstack?.sentence ?? "answers") }
        let missing = missingLockspaces(host)
        return missing.isEmpty ? (.up, host.toolstack?.sentence ?? "answers") : (.initializing, "has not joined \(missing.joined(separator: ", ")), which other hosts have")
    }

    /// Lockspaces that hosts which are Up have joined and this one has not.
    func missingLockspaces(_ host: HostRecord) -> [String] {
        var missing: Set<String> = []
        for other in hosts.values where other.status == .up && other.liveness == .heard {
            for lockspace in other.generations.keys where host.generations[lockspace] == nil { missing.insert(lockspace) }
        }
        return missing.sorted()
    }

    /// Gives a host the status that follows, closes its case if it is back, and tells what changed.
    mutating func settleStatus(_ name: String) {
        noteShortcoming(name)
        guard let host = hosts[name] else { return }
        let (status, reason) = status(of: host)
        let previous = host.status
        if status != previous || reason != host.reason {
            update(name) {
                $0.status = status
                $0.reason = reason
            }
        }
        if status == .up, let open = host.fenceCase, open.incarnation < host.incarnation {
            closeCase(name, "\(name) is Up again as incarnation \(host.incarnation)")
        }
        if status != previous { decide(name, status.rawValue, why: reason, hosts[name]?.fenceCase) }
        guard var view = view(of: name) else { return }
        var core = view
        core.fenceCase = nil
        guard core != host.published else { return }
        update(name) { $0.published = core }
        view.previous = previous == status ? nil : previous
        publish("host.status", name, view)
    }
}

extension HostRecord {
    var goodbyeText: String {
        saving == nil ? "it has shut down: it said goodbye when all that ran there was over" : "it was powered down to save power, and is switched on when it is needed: it said goodbye"
    }
}

extension FenceCase.Cause {
    var sentence: String {
        switch self {
        case .silent: "silent for longer than its grace"
        case .unreaped: "a lockspace is lost, and what ran with it cannot be proven over"
        case .nonOperational: "it answers, and is not operational"
        case .operatorAsked: "an operator asked for it"
        case .proofRevoked: "a life that was proven over gave a sign"
        case .shutDown: "it said goodbye and is silent"
        case .toolstackLost: "its hypervisor is out of control and could not be restored"
        }
    }
}
