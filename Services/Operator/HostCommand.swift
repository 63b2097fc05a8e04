import ArgumentParser
import Bus
import Foundation
import Messages

/// `bulwark host`: the registry of hosts and their status.
struct HostCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "host", abstract: "Hosts: list, show, add, maintain, shut down, confirm off, forget.",
        subcommands: [List.self, Show.self, Add.self, Update.self, Maintenance.self, Activate.self, Shutdown.self, ConfirmOff.self, Repin.self, Forget.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All hosts with their status.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.fencing, "host.list")
            try options.show(reply["hosts"] ?? .array([])) { Self.table(try reply.decoded(as: HostList.self).hosts) }
        }

        static func table(_ hosts: [HostView]) -> String {
            var table = Table("NAME", "ID", "STATUS", "INCARNATION", "FREE MEMORY", "FENCE CASE", "WHY")
            for host in hosts.sorted(by: { naturally($0.name, $1.name) }) {
                table.add(
                    host.name, String(host.id), host.status.rawValue, host.incarnation.description, host.memoryMiB.map { "\($0) MiB" } ?? "-",
                    host.fenceCase?.step ?? "-", host.reason)
            }
            return table.text(empty: "no hosts yet; `bulwark host add FILE` adds one")
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Everything known of one host.")
        @Argument(help: "Host.") var host: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.fencing, "host.show", HostRequest(host: host))
            try options.show(reply) { reply.outline() }
        }
    }

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Add a host from its definition.")
        @Argument(help: "Host definition (YAML).") var file: String
        @Flag(help: "The machine was installed anew: it may have the name of a host that was forgotten.") var reinstalled = false
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let definition = try HostDefinition(file: file)
            try FenceDefinitionCheck.tell(definition)
            let reply = try options.connect().command(.fencing, "host.add", HostAdd(definition, reinstalled: reinstalled ? true : nil))
            try options.show(reply) { "\(definition.name) added with host id \(definition.id)" }
        }
    }

    struct Update: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Replace a host's definition; name and id stay.")
        @Argument(help: "Host definition (YAML).") var file: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let definition = try HostDefinition(file: file)
            try FenceDefinitionCheck.tell(definition)
            let reply = try options.connect().command(.fencing, "host.update", definition)
            try options.show(reply) { "\(definition.name) updated" }
        }
    }

    struct Maintenance: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take a host out of service; nothing is started there and it is not fenced.")
        @Argument(help: "Host.") var host: String
        @Option(help: "Why, for those who read the history.") var why: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().command(.fencing, "host.maintenance", HostRequest(host: host, reason: why))
            try options.show(reply) { "\(host) \(reply["status"]?.string ?? "goes to maintenance")" }
        }
    }

    struct Activate: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Bring a host back into service.")
        @Argument(help: "Host.") var host: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().command(.fencing, "host.activate", HostRequest(host: host))
            try options.show(reply) { "\(host) \(reply["status"]?.string ?? "is being activated")" }
        }
    }

    struct Forget: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove a host for good; its key, id and incarnations are refused from then on.",
            discussion: "A host that may have run guests is forgotten only while HA is disabled, on your word that it is off: its VMs may then start elsewhere, and its leases are free. It comes back only as host add --reinstalled.")
        @Argument(help: "Host.") var host: String
        @Option(help: "Why, and how you know that it is off.") var why: String?
        @Option(help: "Your name (default: the user who runs the command).") var who: String?
        @Flag(name: .customLong("yes-i-checked"), help: "You have looked at the machine itself: it is off.") var checked = false
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let facts = try HostFacts(of: host, in: cluster)
            try confirmation.require(
                "forget \(host)", name: host, checked: facts.checked,
                notChecked: facts.notChecked + ["whether the machine will ever come back: if it does, it is refused until it is enrolled anew"])
            let reply = try cluster.command(.fencing, "host.forget", HostForget(host: host, reason: why, who: who ?? ConfirmOff.user, checked: checked ? true : nil))
            try options.show(reply) { "\(host) forgotten" }
        }
    }

    struct Repin: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a host obey this cluster's managers, after their journals were made anew or restored on purpose.",
            discussion: "A host obeys the managers that it met first and none that call themselves the same; two sets of managers would fence each other's hosts.")
        @Argument(help: "Host.") var host: String
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let pins = try ManagerService.allCases.map { service in
                let epoch = try cluster.ask(service, "health").decoded(as: Health.self).epoch
                guard let dot = epoch.lastIndex(of: "."), let term = UInt64(epoch[epoch.index(after: dot)...]) else {
                    throw OperatorError.serviceSilent.error("\(service.rawValue) names no lineage and term in its epoch \(epoch)")
                }
                return ManagerPin(service: service.rawValue, lineage: String(epoch[..<dot]), term: term)
            }
            let processes = cluster.processes(ofHost: host)
            for process in processes { _ = try cluster.ask(process, "ping") }
            try confirmation.require(
                "make \(host) obey these managers", name: host, checked: pins.map { "\($0.service) is lineage \($0.lineage), term \($0.term)" },
                notChecked: ["whether the managers that it obeyed so far still run: they would go on to fence and start VMs elsewhere; stop them first"])
            for process in processes {
                for pin in pins { _ = try cluster.call(process, "manager.pin", pin, timeout: .seconds(30)) }
            }
            try options.show(.array(try pins.map { try JSONValue(encoding: $0) })) { "\(host) obeys this cluster's managers; they introduce themselves again within a minute" }
        }
    }

    struct ConfirmOff: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "confirm-off", abstract: "Vouch that a host's machine is off, so that its VMs may start elsewhere.",
            discussion: "The confirmation holds for one fence case and one incarnation; without --case and --incarnation the host's current ones are taken and shown.")
        @Argument(help: "Host.") var host: String
        @Option(name: .customLong("case"), help: "The fence case that you looked at.") var caseID: String?
        @Option(help: "The incarnation that you mean.") var incarnation: UInt64?
        @Option(help: "How you know that it is off.") var why: String = "confirmed by the operator"
        @Flag(name: .customLong("yes-i-checked"), help: "You have looked at the machine itself: it is off, although its fence device reads on.") var checked = false
        @Option(help: "Your name (default: the user who runs the command).") var who: String?
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let facts = try HostFacts(of: host, in: cluster)
            guard let open = facts.view.fenceCase else {
                throw RequestError(FencingErrorCode.stale, "\(host) has no open fence case (\(facts.view.status.rawValue)); there is nothing to confirm")
            }
            let request = Messages.ConfirmOff(
                host: host, caseID: caseID ?? open.id, incarnation: incarnation.map(Incarnation.init) ?? open.incarnation, who: who ?? Self.user, why: why, checked: checked)
            try confirmation.require(
                "confirm that \(host) is OFF",
                meaning: "for case \(request.caseID) and incarnation \(request.incarnation); its VMs and leases will be taken over", name: host, checked: facts.checked,
                notChecked: facts.notChecked + ["the machine itself: if it still runs, two machines may write to the same disks"])
            let reply = try cluster.command(.fencing, "host.confirm-off", request)
            try options.show(reply) { "\(host) confirmed off for case \(request.caseID), incarnation \(request.incarnation)" }
        }

        fileprivate static var user: String {
            let environment = ProcessInfo.processInfo.environment
            return environment["SUDO_USER"] ?? environment["USER"] ?? NSUserName()
        }
    }
}
