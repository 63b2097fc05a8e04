import Messages

/// What a host was last heard to run; an earlier boot's word says nothing.
struct Guests: Codable, Hashable, Sendable {
    var bootID: String
    /// `nil`: its agent does not know yet.
    var running: Int?
}

/// Switching off, and on again, hosts that answer and stay NonOperational (`fence.nonOperational`, off by default): a boot may bring back what they lack.
///
/// An `off` ends whatever runs there, and a host that answers is no danger to anybody: it costs more than it brings, unless nothing is lost by it. So the case is opened, and goes on, only while
///
/// | what holds                                                                    | else                                                                    |
/// |-------------------------------------------------------------------------------|-------------------------------------------------------------------------|
/// | heard and NonOperational for all of `fence.nonOperational`, no shutdown       | left alone                                                              |
/// | it lacks a lockspace that a host which is Up has joined                       | its storage is everybody's trouble, or none that an `off` could mend    |
/// | its agent has told everything that runs there, and that is no VM              | guests that hold their leases run well: somebody stops or moves them    |
/// | nothing of it is stuck, and its hypervisor can be controlled                  | that has a case of its own (S13, `fence.toolstackLost`)                 |
/// | it would be switched on again                                                 | better half a host than none                                            |
///
/// and the hold rules of every case allow it. Others read the lockspace right before (``FencingEngine/considerOff(_:)``). As soon as it is operational the case is closed.
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

    /// Since when it is so, as far as this life of the service has heard.
    mutating func noteShortcoming(_ name: String) {
        guard let host = hosts[name] else { return }
        let counts = policy.nonOperational > .zero && host.liveness == .heard && !host.maintenance && host.error == nil && host.identityProblem == nil && host.leaving == nil && shortcoming(of: host) != nil
        let since = counts ? host.nonOperationalSince ?? now : nil
        if since != host.nonOperationalSince { update(name) { $0.nonOperationalSince = since } }
    }

    /// Follows from every input.
    mutating func followNonOperational(_ name: String) {
        guard let host = hosts[name] else { return }
        if let open = host.fenceCase { return closeIfOperational(host, open) }
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

    private mutating func closeIfOperational(_ host: HostRecord, _ open: FenceCase) {
        guard open.cause == .nonOperational, open.incarnation == host.incarnation, !open.proven, host.liveness == .heard, host.minted == nil, host.unresolved == nil,
            host.run?.action.isDestructive != true
        else { return }
        if open.offSent {
            guard open.step == .failed, host.power == .on, shortcoming(of: host) == nil else { return }
            return closeCase(host.name, "\(host.name) is operational again and its device reads on: the off had no effect")
        }
        if policy.nonOperational == .zero { return closeCase(host.name, "fence.nonOperational is 0 s: no host is switched off for that any more") }
        if let why = ownCase(host) { return closeCase(host.name, why) }
        let (status, reason) = status(of: host)
        if status != .nonOperational { closeCase(host.name, "\(host.name) is \(status.rawValue) (\(reason)); no off was sent") }
    }

    /// What has a case of another cause, or none by policy.
    private func ownCase(_ host: HostRecord) -> String? {
        if !host.stuck.isEmpty { return "what ran there is stuck (\(host.stuck.joined(separator: ", "))): that has a case of its own" }
        return host.toolstackLostSince == nil ? nil : "its hypervisor is out of control: fence.toolstackLost says what becomes of that"
    }

    /// Why a host that is not operational is left running now.
    func nonOperationalHold(_ host: HostRecord) -> String? {
        guard host.liveness == .heard, shortcoming(of: host) != nil, let since = host.nonOperationalSince, now - since >= policy.nonOperational else {
            return "it has not been NonOperational for \(policy.nonOperational.milliseconds / 1000) s without interruption, as far as this life of fencing-service has heard"
        }
        if let why = ownCase(host) { return why }
        if missingLockspaces(host).isEmpty { return "it lacks no lockspace that a host which is Up has joined: an off would not bring it nearer to its storage" }
        guard let guests = host.guests, guests.bootID == host.bootID, let running = guests.running else { return "its agent has not told what runs there" }
        if running > 0 { return "\(running) VM\(running == 1 ? " runs" : "s run") there, which an off would end: stop or move \(running == 1 ? "it" : "them"), or say bulwark fence now \(host.name)" }
        let recent = (host.reboots ?? []).count { now - $0 < policy.rebootWindow }
        if recent >= policy.maximumReboots { return "its cases have switched it on \(recent) times in \(policy.rebootWindow.milliseconds / 60_000) minutes, fence.maximumReboots: it would stay off" }
        return nil
    }
}
