import ArgumentParser
import Bus
import Messages

/// `bulwark vm`: virtual machines.
struct VMCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vm", abstract: "Virtual machines: list, show, define, remove, start, stop, resume.",
        subcommands: [List.self, Show.self, Define.self, Remove.self, Start.self, Stop.self, Resume.self, ResetPowerState.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All VMs with status and host.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.placement, "vm.list")
            try options.show(reply["vms"] ?? .array([])) { VMCommand.table(try reply.decoded(as: VMList.self).vms) }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "One VM: definition, run, status and why.")
        @Argument(help: "VM.") var name: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.placement, "vm.show", VMRequest(vm: name))
            try options.show(reply) { reply.outline() }
        }
    }

    struct Define: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Define VMs from files; their disks and leases are created.")
        @Argument(help: "VM definitions (YAML), one VM in each.") var files: [String]
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            var names = DomainNames(cluster: cluster)
            let definitions = try files.map { try VMDefinition(file: $0) { try names.uuid(of: $0) } }
            var defined: [JSONValue] = []
            for definition in definitions {
                defined.append(try cluster.command(.placement, "vm.define", definition, timeout: .seconds(120)))
                if !options.json { print("\(definition.name) defined") }
            }
            if options.json { print(JSONValue.array(defined).text) }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Remove a VM that is stopped.")
        @Argument(help: "VM.") var name: String
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let vm = try cluster.ask(.placement, "vm.show", VMRequest(vm: name)).decoded(as: VMView.self)
            try confirmation.require("remove VM \(name)", name: name, checked: [VMCommand.state(vm)], notChecked: ["whether somebody still needs its disks"])
            let reply = try cluster.command(.placement, "vm.remove", VMRequest(vm: name), timeout: .seconds(120))
            try options.show(reply) { "\(name) removed" }
        }
    }

    struct Start: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Start VMs.")
        @Argument(help: "VMs.") var names: [String]
        @Option(help: "Only on this host.") var host: String?
        @OptionGroup var options: GlobalOptions

        func run() throws { try VMCommand.each(names, "vm.start", host: host, options) }
    }

    struct Stop: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stop VMs; they stay down until started.")
        @Argument(help: "VMs.") var names: [String]
        @OptionGroup var options: GlobalOptions

        func run() throws { try VMCommand.each(names, "vm.stop", host: nil, options) }
    }

    struct Resume: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let VMs go on that an I/O error has paused; their leases are read again first. Each is answered when it runs, or with what keeps it.")
        @Argument(help: "VMs.") var names: [String]
        @OptionGroup var options: GlobalOptions

        func run() throws { try VMCommand.each(names, "vm.resume", host: nil, options) }
    }

    struct ResetPowerState: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "reset-power-state", abstract: "Declare a VM of unknown state stopped; only where its last run is proven over.")
        @Argument(help: "VM.") var name: String
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let vm = try cluster.ask(.placement, "vm.show", VMRequest(vm: name)).decoded(as: VMView.self)
            var notChecked = ["the machine of its last run itself; placement-service refuses unless that run is proven over"]
            if vm.definition?.leases == false { notChecked.append("leases: it has none, so nothing but the proof keeps a second run from its disks") }
            try confirmation.require("reset the power state of VM \(name) to down", name: name, checked: [VMCommand.state(vm)], notChecked: notChecked)
            let reply = try cluster.command(.placement, "vm.reset-power-state", VMRequest(vm: name))
            try options.show(reply) { "\(name) is down" }
        }
    }

    /// Gives one command for several VMs, each answered on a line of its own; goes on after a refusal and then throws the first.
    static func each(_ names: [String], _ type: String, host: String?, _ options: GlobalOptions) throws {
        let cluster = try options.connect()
        var replies: [JSONValue] = []
        var refused: (any Error)?
        for name in names {
            do {
                let reply = try cluster.command(.placement, type, VMRequest(vm: name, host: host), timeout: .seconds(120))
                replies.append(reply)
                if !options.json { print((try? reply.decoded(as: VMView.self)).map(state) ?? "\(name): done") }
            } catch {
                refused = refused ?? error
                if names.count > 1, !options.json { print("\(name): \(error)") }
            }
        }
        if options.json { print(JSONValue.array(replies).text) }
        if let refused { throw refused }
    }

    static func state(_ vm: VMView) -> String {
        "\(vm.name) is \(vm.status.rawValue)\(vm.host.map { " on \($0)" } ?? ""), attempt \(vm.attempt)\(vm.reason.isEmpty ? "" : ": \(vm.reason)")"
    }

    static func table(_ vms: [VMView]) -> String {
        var table = Table("NAME", "STATUS", "HOST", "HA", "PRIORITY", "ATTEMPT", "WHY")
        for vm in vms.sorted(by: { naturally($0.name, $1.name) }) {
            table.add(vm.name, vm.status.rawValue, vm.host ?? "-", vm.ha ? "yes" : "no", String(vm.priority), String(vm.attempt), vm.reason)
        }
        return table.text(empty: "no VMs yet; `bulwark vm define FILE` defines one")
    }
}
