import Messages

/// What people see of a case afterwards; nothing is decided by it.
extension FencingEngine {
    /// The beginning and the end of a long case are kept.
    private static let kept = 50

    private static func append<T>(_ more: [T], to list: [T]?) -> [T] {
        var list = (list ?? []) + more
        if list.count > 2 * kept { list.removeSubrange(kept..<list.count - kept) }
        return list
    }

    /// Of the last twenty closed cases all is kept.
    mutating func forgetOldHistories() {
        guard closedCases.count > 20 else { return }
        closedCases[closedCases.count - 21].steps = nil
        closedCases[closedCases.count - 21].runs = nil
    }

    mutating func note(step open: FenceCase, of name: String) {
        let after = now - (open.openedAt ?? now)
        updateCase(name) {
            $0.steps = Self.append([.init(after: after, step: open.step.rawValue, reason: open.reason)], to: $0.steps)
        }
    }

    mutating func note(runBegan name: String) {
        let now = now
        updateCase(name) { $0.runBeganAt = now }
    }

    mutating func note(softRestart result: SoftRestartResult) {
        let now = now
        updateCase(result.host) { open in
            let after = now - (open.openedAt ?? now) - result.took
            let outcome = result.outcome.word(of: .off)
            open.runs = Self.append(
                [FenceRunView(after: after, action: "restart", agent: "fence.softCommand", address: result.host, took: result.took, outcome: outcome, output: result.outcome.text)], to: open.runs)
        }
    }

    mutating func note(runEnded run: FenceRun, _ result: FenceResult) {
        let now = now
        updateCase(run.host) { open in
            let after = (open.runBeganAt ?? now) - (open.openedAt ?? now)
            let seen = run.devices.enumerated().map { index, device in
                let part = result.parts.flatMap { $0.indices.contains(index) ? $0[index] : nil }
                let outcome = part?.outcome ?? result.outcome
                return FenceRunView(
                    after: after, action: run.action.rawValue, agent: device.agent, address: device.address, took: part?.took, outcome: outcome.word(of: run.action), output: outcome.text,
                    via: device.via == .hosts ? run.proxy : nil)
            }
            open.runs = Self.append(seen, to: open.runs)
        }
    }
}

extension FenceOutcome {
    func word(of action: FenceAction) -> String {
        switch self {
        case .succeeded: action == .status ? "on" : "done"
        case .readsOff: "off"
        case .failed: "failed"
        case .timedOut: "timed out"
        }
    }
}
