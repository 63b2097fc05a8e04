import Messages

/// One run of `fence.softCommand` for a case.
public struct SoftRestart: Hashable, Sendable {
    public var host: String
    public var caseID: String
    /// Then it is killed.
    public var deadline: Duration
}

public struct SoftRestartResult: Codable, Hashable, Sendable {
    public var host: String
    public var caseID: String
    /// ``FenceOutcome/succeeded``: it ended with status 0.
    public var outcome: FenceOutcome
    public var took: Duration
    public init(_ restart: SoftRestart, _ outcome: FenceOutcome, took: Duration) {
        host = restart.host
        caseID = restart.caseID
        self.outcome = outcome
        self.took = took
    }
}

/// What a case that is to switch its host off does first, once each. Whenever it has waited, everything is looked at anew, and a host that is heard meanwhile is spared.
extension FencingEngine {
    /// A machine that only lost its agent needs no fencing: one that is silent gets its agent restarted, if there is a command for that.
    ///
    /// - Returns: whether it waits.
    mutating func softRestart(_ name: String) -> Bool {
        guard policy.softTimeout > .zero, let host = hosts[name], let open = host.fenceCase, open.cause == .silent, !open.proven, !open.offSent else { return false }
        guard let until = open.softUntil else {
            let until = now + policy.softTimeout
            updateCase(name) { $0.softUntil = until }
            postpone(name, .softRestarting, "its agent is restarted first (fence.softCommand)", after: policy.softTimeout)
            perform(.softRestart(SoftRestart(host: name, caseID: open.id, deadline: policy.softTimeout)))
            return true
        }
        guard now < until else { return false }
        postpone(name, .softRestarting, "its agent was to be restarted; it may be heard again", after: until - now)
        return true
    }

    mutating func onSoftRestarted(_ result: SoftRestartResult) {
        guard let open = hosts[result.host]?.fenceCase, open.id == result.caseID, let until = open.softUntil else { return }
        note(softRestart: result)
        guard open.step == .softRestarting, hosts[result.host]?.run == nil else { return }
        if case .succeeded = result.outcome {
            return postpone(result.host, .softRestarting, "its agent was restarted; it has \((until - now).milliseconds) ms to be heard", after: max(.milliseconds(1), until - now))
        }
        let now = now
        updateCase(result.host) { $0.softUntil = now }
        postpone(result.host, .softRestarting, "its agent could not be restarted (\(result.outcome.text)): it goes on without", after: .milliseconds(1))
    }

    // MARK: Crash dumps

    /// Anybody can send what `fence_kdump_send` sends: it puts an `off` off, for so long, and is good for nothing else.
    mutating func onDump(_ news: DumpNews) {
        guard let host = hosts[news.host], host.definition.kdump != nil, (host.dump != nil) != news.isWritten else { return }
        update(host.name) { $0.dump = news.isWritten ? .init(address: news.address) : nil }
        let why = news.isWritten
            ? "kdump messages come from \(news.address): they are no proof of anything, but it is not switched off while they come" : "no kdump message has come for \(policy.kdumpQuiet.milliseconds) ms"
        decide(host.name, news.isWritten ? "writes a crash dump" : "writes no crash dump any more", why: why, host.fenceCase, evidence: ["messages": "\(news.messages)", "from": news.address])
        guard let step = host.fenceCase?.step, step.isWaiting, host.run == nil, host.command == nil else { return }
        checkPower(host.name)
    }

    /// What the dump tells is worth more to its operator than the time it takes: it goes first, before anything else is tried.
    ///
    /// - Returns: whether it waits, for messages that come.
    mutating func dump(_ name: String) -> Bool {
        guard policy.kdumpLimit > .zero, let host = hosts[name], host.definition.kdump != nil, let open = host.fenceCase, open.awaitsDumps else { return false }
        let awaited = open.dumpAwaitedUntil ?? now + policy.kdumpWait
        updateCase(name) { $0.dumpAwaitedUntil = awaited }
        guard let dump = host.dump else { return false }
        let until = open.dumpUntil ?? now + policy.kdumpLimit
        updateCase(name) { $0.dumpUntil = until }
        guard now < until else { return false }
        postpone(
            name, .dumping, "kdump messages from \(dump.address) say that it writes a crash dump: it is switched off when they end, at the latest \(policy.kdumpLimit.milliseconds / 1000) s after the first",
            after: min(policy.retry, until - now))
        return true
    }

    /// A crash kernel has to boot and to reach the network before it says anything.
    ///
    /// - Returns: whether it waits, for the first message.
    mutating func awaitDump(_ name: String) -> Bool {
        guard let open = hosts[name]?.fenceCase, open.awaitsDumps, open.dumpUntil == nil, let until = open.dumpAwaitedUntil, now < until else { return false }
        postpone(name, .awaitingDump, "it has kdump: a crash kernel has \(policy.kdumpWait.milliseconds) ms to say that it writes a dump", after: until - now)
        return true
    }

    /// Beside the reason of an off.
    func dumpHint(_ host: HostRecord) -> String {
        guard host.dump != nil, let open = host.fenceCase, open.awaitsDumps, open.dumpUntil != nil else { return "" }
        return "; its crash dump has taken longer than fence.kdumpLimit, \(policy.kdumpLimit.milliseconds / 1000) s"
    }

    // MARK: Delays

    /// - Returns: whether it waits; afterwards everything is looked at anew.
    mutating func delay(_ name: String) -> Bool {
        guard let host = hosts[name], let open = host.fenceCase, open.cause != .operatorAsked,
            let delay = host.levelDevices.compactMap({ host.definition.fence[$0].delay }).max(), delay > .zero
        else { return false }
        let until = open.delayedUntil ?? now + delay
        updateCase(name) { $0.delayedUntil = until }
        guard now < until else { return false }
        postpone(name, .delaying, "off is sent \(delay.milliseconds) ms after it was decided, by the delay of its fence device, unless \(name) is heard before", after: until - now)
        return true
    }
}

extension FenceCase {
    /// Only silence may be a crash, and nobody waits for a host that was switched off already, or that an operator wants off.
    var awaitsDumps: Bool { cause == .silent && !proven && !offSent }
}
