import ArgumentParser
import Messages

/// `bulwark fence`: cases, now and before.
struct FenceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fence", abstract: "Fencing: now, its history, its policy.", subcommands: [Now.self, History.self, Policy.self])

    struct Now: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Open a fence case for a host without waiting for the grace period.")
        @Argument(help: "Host.") var host: String
        @Option(help: "Why, for those who read the history.") var why: String?
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let facts = try HostFacts(of: host, in: cluster)
            try confirmation.require(
                "fence \(host) (off, confirm, on)", name: host, checked: facts.checked,
                notChecked: facts.notChecked + ["what guests have not yet written to their disks: it is lost"])
            let reply = try cluster.command(.fencing, "fence.now", HostRequest(host: host, reason: why), timeout: .seconds(120))
            try options.show(reply) {
                guard let opened = try? reply.decoded(as: FenceCaseView.self) else { return "fencing of \(host) begun; `bulwark events --follow` shows it" }
                return "case \(opened.id) at \(opened.step): \(opened.reason)"
            }
        }
    }

    struct History: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "What was decided about fencing, of one host or all.")
        @Argument(help: "Host; all if left out.") var host: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let request = ExplainRequest(subject: host.map { "host/\($0)" }, limit: 1000)
            let decisions = try cluster.ask(.fencing, "explain", request).decoded(as: Explanation.self).decisions
            try options.show(try JSONValue(encoding: decisions)) {
                decisions.isEmpty ? "nothing was decided yet" : decisions.map(Story.line).joined(separator: "\n")
            }
        }
    }

    struct Policy: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The fencing policy in force: grace, heartbeat, timeouts.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.fencing, "policy.get")
            try options.show(reply) { reply.outline() }
        }
    }
}
