import ArgumentParser
import Bus
import Messages

/// `bulwark power`: a host's power by its fence device.
struct PowerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "power", abstract: "A host's power, by its fence device.", subcommands: [Status.self, On.self, Off.self, Cycle.self])

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "What the fence device reads.")
        @Argument(help: "Host.") var host: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            try PowerCommand.show(try options.connect().ask(.fencing, "power.status", HostRequest(host: host), timeout: .seconds(60)), host, options)
        }
    }

    struct On: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Switch a host on.")
        @Argument(help: "Host.") var host: String
        @Flag(help: "Without the quiet time after the last power command.") var now = false
        @OptionGroup var options: GlobalOptions

        func run() throws {
            try PowerCommand.show(try options.connect().command(.fencing, "power.on", HostRequest(host: host, now: now), timeout: .seconds(90)), host, options)
        }
    }

    struct Off: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Switch a host off; no fence case switches it on again.")
        @Argument(help: "Host.") var host: String
        @Option(help: "Why, for those who read the history.") var why: String?
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        @Flag(help: "Without the quiet time after the last power command.") var now = false

        func run() throws { try PowerCommand.command("power.off", "switch off \(host)", host, why, now, confirmation, options) }
    }

    struct Cycle: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Switch a host off and on again.")
        @Argument(help: "Host.") var host: String
        @Option(help: "Why, for those who read the history.") var why: String?
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        @Flag(help: "Without the quiet time after the last power command.") var now = false

        func run() throws { try PowerCommand.command("power.cycle", "switch off and on \(host)", host, why, now, confirmation, options) }
    }

    /// A power command that ends whatever runs on the host.
    static func command(_ type: String, _ action: String, _ host: String, _ why: String?, _ now: Bool, _ confirmation: Confirmation, _ options: GlobalOptions) throws {
        let cluster = try options.connect()
        let facts = try HostFacts(of: host, in: cluster)
        try confirmation.require(
            action, name: host, checked: facts.checked, notChecked: facts.notChecked + ["what guests have not yet written to their disks: it is lost"])
        try show(try cluster.command(.fencing, type, HostRequest(host: host, reason: why, now: now), timeout: .seconds(120)), host, options)
    }

    static func show(_ reply: JSONValue, _ host: String, _ options: GlobalOptions) throws {
        try options.show(reply) {
            guard let event = try? reply.decoded(as: PowerStateEvent.self) else { return reply.outline() }
            return "\(event.host) \(event.state.rawValue)\(event.detail.isEmpty ? "" : ": \(event.detail)")"
        }
    }
}
