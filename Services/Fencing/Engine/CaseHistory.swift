import Messages

/// What people see of a case afterwards; nothing is decided by it.
extension FencingEngine {
    private static let longest = 100

    mutating func note(step open: FenceCase, of name: String) {
        let after = now - (open.openedAt ?? now)
        updateCase(name) {
            $0.steps = Array((($0.steps ?? []) + [.init(after: after, step: open.step.rawValue, reason: open.reason)]).suffix(Self.longest))
        }
    }

    mutating func note(runBegan name: String) {
        let now = now
        updateCase(name) { $0.runBeganAt = now }
    }

    mutating func note(runEnded run: FenceRun, _ result: FenceResult) {
        let now = now
        updateCase(run.host) { open in
            let after = (open.runBeganAt ?? now) - (open.openedAt ?? now)
            let seen = run.devices.enumerated().map { index, device in
                let part = result.parts.flatMap { $0.indices.contains(index) ? $0[index] : nil }
                let outcome = part?.outcome ?? result.outcome
                return FenceRunView(
                    after: after, action: run.action.rawValue, agent: device.agent, address: device.address, took: part?.took, outcome: outcome.word(of: run.action), output: outcome.text)
            }
            open.runs = Array(((open.runs ?? []) + seen).suffix(Self.longest))
        }
    }
}

extension FenceOutcome {
    fileprivate func word(of action: FenceAction) -> String {
        switch self {
        case .succeeded: action == .status ? "on" : "done"
        case .readsOff: "off"
        case .failed: "failed"
        case .timedOut: "timed out"
        }
    }
}
