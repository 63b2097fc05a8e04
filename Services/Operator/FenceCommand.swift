import ArgumentParser
import Bus
import Messages

/// `bulwark fence`: cases, now and before.
struct FenceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fence", abstract: "Fencing: now, its history, its policy.", subcommands: [Now.self, Rehearse.self, History.self, Policy.self])

    struct Rehearse: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Try every way to fence hosts, up to the power status: devices, credentials and network path.",
            discussion: "Nothing is switched. Exit status 1 if a host cannot be fenced in any way.")
        @Argument(help: "Hosts; all if left out.") var hosts: [String] = []
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let hosts = hosts.isEmpty ? try cluster.ask(.fencing, "host.list").decoded(as: HostList.self).hosts.map(\.name).sorted(by: naturally) : hosts
            var replies: [JSONValue] = []
            var refused: [String] = []
            for host in hosts {
                do {
                    replies.append(try cluster.command(.fencing, "fence.rehearse", HostRequest(host: host), timeout: .seconds(300)))
                } catch let error as RequestError {
                    refused.append("\(host): \(error)")
                }
            }
            let rehearsals = try replies.map { try $0.decoded(as: Rehearsal.self) }
            try options.show(.array(replies)) {
                var table = Table("HOST", "LEVEL", "AGENT", "ADDRESS", "VIA", "STATUS", "VERIFIED", "TOOK", "SAID")
                for rehearsal in rehearsals {
                    for device in rehearsal.devices {
                        table.add(
                            rehearsal.host, String(device.level), device.agent, device.address, device.via ?? "", device.outcome, device.verified ? "yes" : "no",
                            device.took.map { "\($0.milliseconds) ms" } ?? "", device.output)
                    }
                }
                return table.text(empty: "no host was rehearsed") + rehearsals.map { "\n\($0.sentence)" }.joined() + refused.map { "\n\($0)" }.joined()
            }
            if !refused.isEmpty || rehearsals.contains(where: { $0.ways == 0 }) {
                throw RequestError(FencingErrorCode.agentFailed, "not every host can be fenced; see above")
            }
        }
    }

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
        static let configuration = CommandConfiguration(
            abstract: "Fence cases of one host or all, closed and open.", discussion: "`bulwark explain host NAME` tells the decisions of each.")
        @Argument(help: "Host; all if left out.") var host: String?
        @Flag(help: "With the steps of each case and the runs of its fence agents.") var steps = false
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let hosts = try host.map { [$0] } ?? cluster.ask(.fencing, "host.list").decoded(as: HostList.self).hosts.map(\.name).sorted(by: naturally)
            let cases = try hosts.flatMap { try cluster.ask(.fencing, "fence.history", HostRequest(host: $0))["cases"]?.elements ?? [] }
            try options.show(JSONValue.array(cases.map { $0.adding(["name": $0["id"] ?? .null, "status": $0["step"] ?? .null]) })) {
                var table = Table("CASE", "HOST", "INCARNATION", "STEP", "WHY")
                let found = try cases.map { try $0.decoded(as: FenceCaseView.self) }
                for found in found { table.add(found.id, found.host, found.incarnation.description, found.step, found.reason) }
                return table.text(empty: "no host was ever fenced") + (steps ? found.map(Self.story).joined() : "")
            }
        }

        /// Its steps and runs in the order of their times.
        private static func story(_ found: FenceCaseView) -> String {
            let steps = (found.steps ?? []).map { ($0.after, "\($0.step): \($0.reason)") }
            let runs = (found.runs ?? []).map { run in
                (run.after, "  \(run.agent) \(run.action) at \(run.address)\(run.via.map { " through \($0)" } ?? ""): \(run.outcome)\(run.took.map { " after \($0.milliseconds) ms" } ?? "")\(run.output.isEmpty ? "" : " (\(run.output))")")
            }
            let lines = (steps + runs).enumerated().sorted { ($0.element.0, $0.offset) < ($1.element.0, $1.offset) }.map(\.element)
            return "\n\n\(found.id)" + lines.map { "\n  +\($0.0.milliseconds) ms  \($0.1)" }.joined()
        }
    }

    struct Policy: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The fencing policy in force: grace, heartbeat, timeouts.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.fencing, "policy.get")
            try options.show(reply) { Self.words(try reply.decoded(as: FencingPolicy.self)) }
        }

        static func words(_ policy: FencingPolicy) -> String {
            var table = Table("SETTING", "VALUE", "MEANING")
            func add(_ name: String, _ value: Duration, _ meaning: String) { table.add(name, "\(value.seconds) s", meaning) }
            table.add("profile", (policy.profile ?? .standard).rawValue, policy.isAutomatic ? "decides what no key sets" : "nothing is fenced or restarted by itself: operators act")
            add("heartbeat", policy.heartbeat, "time between a host's heartbeats")
            add("grace", policy.grace, "silence that is forgiven before a case is opened")
            table.add("minimumMissed", String(policy.minimumMissed), "heartbeats that must be missing as well")
            add("graceSPM", policy.graceSPM, "further grace for the SPM host")
            add("gracePerVM", policy.gracePerVM, "further grace for each VM on the host")
            add("agentTimeout", policy.agentTimeout, "how long one run of a fence agent may take")
            add("bootTimeout", policy.bootTimeout, "from power-on to the first heartbeat")
            add("retry", policy.retry, "between attempts of a case that is held or failed")
            table.add(
                "toolstackLost", policy.toolstackLost > .zero ? "\(policy.toolstackLost.seconds) s" : "never", "how long a host's hypervisor must be out of control before the host is fenced for that")
            add("joinPatience", policy.joinPatience, "how long a host may lack lockspaces that others have")
            add("initializing", policy.initializing, "how long an agent may take to find out what runs on its host; 0 s: for ever")
            add("nonOperational", policy.nonOperational, "how long a host without VMs may be NonOperational before it is switched off and on; 0 s: it never is")
            table.add("maximumReboots", policy.maximumReboots == .max ? "none" : String(policy.maximumReboots), "how often cases switch a host on again within rebootWindow")
            add("rebootWindow", policy.rebootWindow, "see maximumReboots")
            add("powerQuiet", policy.powerQuiet, "between two power commands of operators for one host")
            table.add("silentShare", "\(policy.silentShare) %", "of the other hosts: if so many are silent too, the silence may be the manager's own")
            table.add("sparesLiveLeases", String(policy.sparesLiveLeases), "whether a silent host whose lease renewals go on is left alone")
            add("rehearseEvery", policy.rehearseEvery, "between two rehearsals of every way to fence a host; 0 s: only when asked")
            add("softTimeout", policy.softTimeout, "for a host to be heard after its agent was restarted; 0 s: there is no fence.softCommand")
            add("kdumpLimit", policy.kdumpLimit, "how long a crash dump may keep its host from being switched off; 0 s: there is no fence.kdumpListen")
            add("kdumpWait", policy.kdumpLimit > .zero ? policy.kdumpWait : .zero, "how long the first message of a crash kernel is awaited")
            add("kdumpQuiet", policy.kdumpLimit > .zero ? policy.kdumpQuiet : .zero, "a crash dump is over when no message has come for so long")
            return table.text(empty: "")
        }
    }
}
