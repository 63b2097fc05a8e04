/// That a host's hypervisor cannot be controlled, as the check command of its agent says (`toolstack.check`).
///
/// Guests need no toolstack to run, so it says nothing of them: they are unknown, never stopped (I4).
public struct ToolstackReport: Codable, Hashable, Sendable {
    public enum State: String, Codable, Hashable, Sendable {
        /// A check failed, and is repeated.
        case failing
        /// The toolstack is being restarted, or was and is checked again.
        case restarting
        /// Restarting it did not help, or nothing restarts it: somebody has to look. It is still checked.
        case lost
    }

    public var state: State
    /// What was run last when this state began, and what came of it.
    public var why: String
    /// How often it was restarted for this.
    public var restarts: Int

    public init(state: State, why: String, restarts: Int) {
        self.state = state
        self.why = why
        self.restarts = restarts
    }

    /// For people.
    public var sentence: String {
        let times = restarts == 1 ? "once" : "\(restarts) times"
        switch state {
        case .failing: return "its hypervisor cannot be controlled: \(why); it is checked again"
        case .restarting: return "its hypervisor cannot be controlled: \(why); the toolstack is being restarted (restart \(restarts))"
        case .lost:
            return "its hypervisor cannot be controlled: \(why); " + (restarts == 0 ? "nothing restarts the toolstack (toolstack.restart)" : "restarted \(times), in vain") + ": look at it, its guests may run"
        }
    }
}
