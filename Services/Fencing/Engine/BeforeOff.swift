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
