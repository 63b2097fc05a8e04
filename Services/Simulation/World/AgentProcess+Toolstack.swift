import HostAgentEngine
import Messages

/// The pure ``Toolstack`` on a simulated one: what `ToolstackKeeper` does.
extension AgentProcess {
    func startToolstack() {
        let plan = world.scenario.policy.toolstack
        toolstack = plan.every > .zero ? Toolstack(plan) : nil
        feedToolstack(.begin(last: engine.toolstack))
    }

    private func feedToolstack(_ input: Toolstack.Input) {
        for step in toolstack?.handle(input, at: clock) ?? [] {
            switch step {
            case .check: checkToolstack()
            case .tell(let report): submit(.toolstack(report))
            }
        }
        guard let wake = toolstack?.nextWake else { return }
        toolstackTimer += 1
        let armed = toolstackTimer
        after(max(.milliseconds(1), wake - clock)) { [self] in if toolstackTimer == armed { feedToolstack(.wake) } }
    }

    private func checkToolstack() {
        let takes = host.toolstack == .hangs ? world.scenario.policy.toolstack.timeout : Duration(nanoseconds: world.random.between(5_000_000, 200_000_000))
        after(takes) { [self] in
            let failure: String? =
                switch host.toolstack {
                case .works: nil
                case .dies, .breaks: "virsh list: exit status 1: Connection refused"
                case .hangs: "virsh list: it was killed"
                }
            feedToolstack(.checked(failure: failure))
        }
    }

    func restartToolstack() {
        after(Duration(nanoseconds: world.random.between(200_000_000, 5_000_000_000))) { [self] in
            let isBroken = host.toolstack == .breaks
            world.tell(name, "restarts its toolstack", isBroken ? "in vain" : "")
            if !isBroken { host.toolstack = .works }
            feedToolstack(.restarted(failure: isBroken ? "systemctl restart: exit status 1" : nil))
        }
    }
}

/// What becomes of a host's toolstack.
public enum ToolstackFault: String, Codable, Hashable, Sendable, CaseIterable {
    case works
    /// Its check fails; restarting it helps.
    case dies
    /// Its check does not end; restarting it helps.
    case hangs
    /// Restarting it does not help, booting the host does.
    case breaks
}
