import ArgumentParser
import Bus
import Messages

extension HostCommand {
    struct Shutdown: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End a host's guests and let it say goodbye, so that it can be switched off without being fenced.",
            discussion: "HA VMs are started elsewhere, or wait for the host, as placement-service's recovery.waitsForHost says. For the machine's own shutdown: run it there before host-agent is stopped.")
        @Argument(help: "Host.") var host: String
        @Flag(help: "Call it off: the host may be given guests again; what has ended stays ended.") var cancel = false
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let agent = cluster.agent(of: host)
            _ = try cluster.ask(agent, "ping")
            if !cancel {
                let facts = try? HostFacts(of: host, in: cluster)
                try confirmation.require(
                    "shut down \(host)", name: host, checked: facts?.checked ?? [], notChecked: (facts?.notChecked ?? ["anything: fencing-service does not answer"]) + ["what runs inside its guests: they are ended"])
            }
            let reply = try cluster.call(agent, "agent.shutdown", AgentShutdown(cancel: cancel ? true : nil), timeout: .seconds(300))
            try options.show(reply) {
                cancel ? "\(host) stays, and may be given guests again" : "\(host) has said goodbye: nothing runs there, and nothing is started there before it has booted anew; it may be switched off"
            }
        }
    }
}
