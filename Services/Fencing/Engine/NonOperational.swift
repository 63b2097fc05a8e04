import Messages

/// What a host was last heard to run; an earlier boot's word says nothing.
struct Guests: Codable, Hashable, Sendable {
    var bootID: String
    /// `nil`: its agent does not know yet.
    var running: Int?
    /// Whatever runs there; `nil`: its agent does not say.
    var busyWith: [String]?
}

/// Switching off, and on again, hosts that answer and stay NonOperational (`fence.nonOperational`, off by default): a boot may bring back what they lack.
///
/// An `off` ends whatever runs there, and a host that answers is no danger to anybody: it costs more than it brings, unless nothing is lost by it. So the case is opened, and goes on, only while
///
/// | what holds                                                                    | else                                                                    |
/// |-------------------------------------------------------------------------------|-------------------------------------------------------------------------|
/// | heard and NonOperational for all of `fence.nonOperational`, no shutdown       | left alone                                                              |
/// | it lacks a lockspace that a host which is Up has joined                       | its storage is everybody's trouble, or none that an `off` could mend    |
/// | its agent has told everything that runs there, and that is nothing: no VM, no SPM, no program with a lease, no work for others | guests that hold their leases run well: somebody stops or moves them |
/// | less than `fence.silentShare` of the others are not Up                        | what they have in common is to be mended                                |
/// | no other one is switched off, or was for this and is not Up again             | one at a time: what does not help one does not help the next            |
/// | nothing of it is stuck, and its hypervisor can be controlled                  | that has a case of its own (S13, `fence.toolstackLost`)                 |
/// | it would be switched on again                                                 | better half a host than none                                            |
///
/// and the hold rules of every case allow it. Others read the lockspace right before (``FencingEngine/considerOff(_:)``). When such a case ends: ``sparing(_:_:)``.
extension FencingEngine {
    /// Why a host that answers is not operational; `nil`: it is, or it may still become it.
    func shortcoming(of host: HostRecord) -> String? {
        if host.initializing {
            guard policy.initializing > .zero, let since = host.initializingSince, now - since >= policy.initializing else { return nil }
            return "its agent has not found out what runs there for \(policy.initializing.milliseconds / 1000) s: look at host-agent's health and log on \(host.name); nothing is started there"
        }
        if let reason = host.nonOperational { return reason }
        // One check may fail for a moment; placement starts nothing there from the first one on.
        if let toolstack = host.toolstack, toolstack.state != .failing { return toolstack.sentence }
        guard host.status != .up, let since = host.answeringSince, now - since >= policy.joinPatience else { return nil }
        let missing = missingLockspaces(host)
        return missing.isEmpty ? nil : "has not joined \(missing.joined(separator: ", ")), which other hosts have"
    }

    /// Whatever its case says.
    func isNonOperational(_ host: HostRecord) -> Bool {
        host.liveness == .heard && !host.maintenance && host.error == nil && host.identityProblem == nil && host.leaving == nil && shortcoming(of: host) != nil
    }

    /// Since when it is so, as far as this life of the service has heard.
    mutating func noteShortcoming(_ name: String) {
        guard let host = hosts[name] else { return }
        let since = policy.nonOperational > .zero && isNonOperational(host) ? host.nonOperationalSince ?? now : nil
        if since != host.nonOperationalSince { update(name) { $0.nonOperationalSince = since } }
    }

    mutating func openCaseForNonOperational(_ host: HostRecord) {
        let name = host.name
        guard policy.nonOperational > .zero, let since = host.nonOperationalSince, now - since >= policy.nonOperational, let shortcoming = shortcoming(of: host) else {
            if host.spared != nil { update(name) { $0.spared = nil } }
            return
        }
        if let why = powerHold ?? nonOperationalHold(host) {
            guard why != host.spared else { return }
            update(name) { $0.spared = why }
            return decide(name, "left running", why: "\(shortcoming), for \(policy.nonOperational.milliseconds / 1000) s; it is not switched off: \(why)")
        }
        update(name) { $0.spared = nil }
        openCase(name, .nonOperational, "NonOperational for \(policy.nonOperational.milliseconds / 1000) s: \(shortcoming)")
    }

    /// What has a case of another cause, or none by policy.
    func ownCase(_ host: HostRecord) -> String? {
        if !host.stuck.isEmpty { return "what ran there is stuck (\(host.stuck.joined(separator: ", "))): that has a case of its own" }
        return host.toolstackLostSince == nil ? nil : "its hypervisor is out of control: fence.toolstackLost says what becomes of that"
    }

    /// Nobody knows yet what became of its `off`, or that is about to be sent.
    private func isInTurn(_ host: HostRecord) -> Bool {
        guard let open = host.fenceCase else { return false }
        return open.cause == .nonOperational ? open.offSent || open.proven || !open.step.isWaiting : open.offSent && !open.proven
    }

    /// Why a host that is not operational is left running now.
    func nonOperationalHold(_ host: HostRecord) -> String? {
        guard host.liveness == .heard, shortcoming(of: host) != nil, let since = host.nonOperationalSince, now - since >= policy.nonOperational else {
            return "it has not been NonOperational for \(policy.nonOperational.milliseconds / 1000) s without interruption, as far as this life of fencing-service has heard"
        }
        if let why = holdOfAny(host) ?? ownCase(host) { return why }
        let others = names.compactMap { $0 == host.name ? nil : hosts[$0] }
        let (counted, down) = (others.count { counts($0) }, others.count { counts($0) && $0.status != .up })
        if counted > 0, down * 100 >= counted * policy.silentShare { return "\(down) of \(counted) other hosts are not Up either: what they have in common is to be mended, not the hosts" }
        if let other = others.first(where: isInTurn) { return "\(other.name) is switched off and on, one at a time: \(other.name) is to be Up first, or in maintenance" }
        if missingLockspaces(host).isEmpty { return "it lacks no lockspace that a host which is Up has joined: an off would not bring it nearer to its storage" }
        guard let guests = host.guests, guests.bootID == host.bootID, let running = guests.running else { return "its agent has not told what runs there" }
        if running > 0 { return "\(running) VM\(running == 1 ? " runs" : "s run") there, which an off would end: stop or move \(running == 1 ? "it" : "them"), or say bulwark fence now \(host.name)" }
        guard let busyWith = guests.busyWith else { return "its agent does not tell what runs there beside VMs" }
        if let first = busyWith.first { return "\(first), and an off would end it" }
        if let other = names.first(where: { hosts[$0]?.run?.proxy == host.name || hosts[$0]?.owed?[host.name] != nil }) { return "it runs the fence agent of \(other)" }
        let recent = (host.reboots ?? []).count { now - $0 < policy.rebootWindow }
        if recent >= policy.maximumReboots { return "its cases have switched it on \(recent) times in \(policy.rebootWindow.milliseconds / 60_000) minutes, fence.maximumReboots: it would stay off" }
        return nil
    }
}
