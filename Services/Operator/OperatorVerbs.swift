import ArgumentParser

extension Bulwark {
    /// The verbs that ask and command a running cluster.
    static let verbs: [any ParsableCommand.Type] = [
        StatusCommand.self, EventsCommand.self, WatchCommand.self, ExplainCommand.self, HostCommand.self, PowerCommand.self, FenceCommand.self, HACommand.self, HoldCommand.self,
        VMCommand.self, PoolCommand.self, SPMCommand.self, TaskCommand.self, DomainCommand.self, LockspaceCommand.self, LeaseCommand.self, HealthCommand.self, ReplayCommand.self,
        ConfigCommand.self, SimulateCommand.self,
    ]

    /// The entry point: the contract's exit statuses instead of those of the argument parser.
    static func main() async { await CommandOutcome.run(Bulwark.self) }
}
