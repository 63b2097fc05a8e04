import ArgumentParser
import Bus
import Foundation
import Messages
import ServiceKit

/// Faults of a local cluster. They work on power, cables, BMCs and signals from outside: none of them talks to a Bulwark process.
struct LabCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab", abstract: "Break and heal parts of a local cluster, from outside.",
        subcommands: [
            Crash.self, Hang.self, Thaw.self, CutNetwork.self, CutStorage.self, BMCStuck.self, BMCDead.self, ToolstackKill.self, PowerLoss.self, PowerOn.self, Heal.self,
            Kill.self, Release.self, Ticks.self,
        ])

    /// The argument that names a host, and what is done to it.
    struct Target: ParsableArguments {
        @Argument(help: "Host.") var host: String
        @OptionGroup var options: GlobalOptions

        func apply(_ done: String, _ work: (Chassis) throws -> Void) throws {
            let host = try Instance.load(options).host(host)
            try work(host)
            try options.show(.object(["host": .string(host.name), "status": .string(done)])) { "\(host.name) \(done)" }
        }
    }

    struct Crash: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Everything on the host is gone at once, like a power loss.")
        @OptionGroup var target: Target
        func run() throws { try target.apply("has lost its power") { try $0.losePower() } }
    }

    struct Hang: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The host stands still; its BMC says on.")
        @OptionGroup var target: Target
        func run() throws { try target.apply("hangs") { try $0.freeze(true) } }
    }

    struct Thaw: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "A host that hangs goes on where it was.")
        @OptionGroup var target: Target
        func run() throws { try target.apply("goes on") { try $0.freeze(false) } }
    }

    struct CutNetwork: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "cut-network", abstract: "Pull the host's, or the manager's, network cable.")
        @Argument(help: "Host, or `manager`.") var host: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let instance = try Instance.load(options)
            if host == LabCommand.manager {
                try LabNetwork(instance: instance).connectManager(false)
            } else {
                try instance.host(host).connect(false)
            }
            try options.show(.object(["host": .string(host), "status": .string("has no network")])) { "\(host) has no network" }
        }
    }

    struct CutStorage: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cut-storage", abstract: "Cut the host, and no other, from the shared storage; it stays cut over power cycles.",
            discussion: "For clusters made with `bulwark up --bindfs`.")
        @Flag(help: "I/O fails at once, instead of hanging.") var error = false
        @Flag(help: "I/O hangs (the default).") var hang = false
        @OptionGroup var target: Target

        func validate() throws { if error && hang { throw ValidationError("either --hang or --error") } }

        func run() throws { try target.apply(error ? "fails to reach its storage" : "hangs at its storage") { try $0.setStorage(error ? .error : .hang) } }
    }

    struct BMCStuck: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "bmc-stuck", abstract: "The BMC acknowledges every command and does nothing.")
        @OptionGroup var target: Target
        func run() throws { try target.apply("has a BMC that does nothing") { try Files.write("", to: $0.stuckFile) } }
    }

    struct BMCDead: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "bmc-dead", abstract: "The BMC does not answer.")
        @OptionGroup var target: Target

        func run() throws {
            try target.apply("has a BMC that does not answer") { host in
                guard ProcessRecord(file: host.instance.pidFile(host.bmcProcess))?.signal(SIGSTOP) == true else {
                    throw RequestError(RequestErrorCode.conflict, "the BMC of \(host.name) does not run; the supervisor starts it")
                }
            }
        }
    }

    struct ToolstackKill: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "toolstack-kill", abstract: "Kill the host's agent and lease-service and keep them dead; its VMs run on without them.")
        @OptionGroup var target: Target

        func run() throws {
            try target.apply("has no agent and no lease-service") { host in
                for service in Chassis.services { try Files.write("", to: host.instance.holdFile("\(host.name)/\(service)")) }
                for service in Chassis.services { host.service(service)?.signal(SIGKILL) }
            }
        }
    }

    struct PowerLoss: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "power-loss", abstract: "Every host and the manager lose their power at once.",
            discussion: "`lab power-on HOST` and `lab heal manager` bring them back one by one, `bulwark up` all of them.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let instance = try Instance.load(options)
            let manager = ([Supervisor.process] + ClusterFile.managerServices).compactMap { ProcessRecord(file: instance.pidFile($0)) }
            for process in manager { process.signal(SIGKILL) }
            let results = concurrently(instance.hosts) { host in Result { try host.losePower() } }
            for result in results { try result.get() }
            for host in instance.hosts { try Files.remove(host.poweredFile) }
            try options.show(.object(["cluster": .string(instance.name), "status": .string("without power")])) { "\(instance.name) has no power" }
        }
    }

    struct PowerOn: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "power-on", abstract: "Press the host's power button.")
        @OptionGroup var target: Target
        func run() throws { try target.apply("is powered on") { try $0.powerOn() } }
    }

    struct Heal: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Undo hang, cut-network, cut-storage, bmc-stuck, bmc-dead, toolstack-kill and holds of a host, or of the manager. Never changes power.")
        @Argument(help: "Host, or `manager`.") var host: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let instance = try Instance.load(options)
            if host == LabCommand.manager {
                for service in ClusterFile.managerServices { try Files.remove(instance.holdFile(service)) }
                try LabNetwork(instance: instance).connectManager(true)
                try instance.ensureSupervisor()
            } else {
                let host = try instance.host(host)
                for service in Chassis.services + ["bmc"] { try Files.remove(instance.holdFile("\(host.name)/\(service)")) }
                try Files.remove(host.stuckFile)
                ProcessRecord(file: instance.pidFile(host.bmcProcess))?.signal(SIGCONT)
                try host.connect(true)
                try host.freeze(false)
                try host.setStorage(nil)
            }
            try options.show(.object(["host": .string(host), "status": .string("healed")])) { "\(host) is healed" }
        }
    }

    struct Kill: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "SIGKILL processes, all at once; whoever supervises them starts them again.",
            discussion: "Processes: supervise, a manager service, HOST/lease-service, HOST/host-agent, HOST/bmc.")
        @Flag(help: "Keep them dead until `lab release`.") var hold = false
        @Argument(help: "Processes.") var processes: [String]
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let instance = try Instance.load(options)
            let found = try processes.map { ($0, try LabCommand.process($0, of: instance)) }
            if hold { for name in processes { try Files.write("", to: instance.holdFile(name)) } }
            for (_, process) in found { process?.signal(SIGKILL) }
            try options.show(try JSONValue(encoding: found.map { Killed(name: $0.0, pid: $0.1?.pid) })) {
                found.map { name, process in
                    (process.map { "\(name) (\($0.pid)) killed" } ?? "\(name) did not run") + (hold ? "; it stays dead until `bulwark lab release \(name)`" : "")
                }.joined(separator: "\n")
            }
        }

        private struct Killed: Encodable {
            var name: String
            var pid: Int32?
        }
    }

    struct Release: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let processes that `lab kill --hold` keeps dead start again.")
        @Argument(help: "Processes.") var processes: [String]
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let instance = try Instance.load(options)
            for name in processes {
                _ = try LabCommand.process(name, of: instance)
                try Files.remove(instance.holdFile(name))
            }
            try options.show(.array(processes.map { .string($0) })) { processes.map { "\($0) may run" }.joined(separator: "\n") }
        }
    }

    struct Ticks: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Who wrote each disk, ever, read from the disks themselves; exit status 1 if any disk had two writers at once.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let instance = try Instance.load(options)
            let names = Dictionary(
                (0..<200).map { ClusterStarter.vmName($0) }.map { (ClusterStarter.imageID(cluster: instance.settings.domain, vm: $0), $0) },
                uniquingKeysWith: { first, _ in first })
            let disks = DiskTicks.all(in: instance.shared, vms: names)
            try options.show(try JSONValue(encoding: disks)) {
                var table = Table("VM", "DISK", "BOOTS", "LAST WRITER", "WRITES", "TWO WRITERS AT ONCE")
                for disk in disks {
                    table.add(
                        disk.vm ?? "-", disk.disk, String(disk.bootCount), disk.lastWrite?.boot ?? "-", disk.lastWrite.map { String($0.count) } ?? "-",
                        disk.foreign.map { "YES: \($0.seenBy) saw \($0.other.boot)" } ?? "never")
                }
                return table.text(empty: "no guest has written a disk yet")
            }
            if disks.contains(where: { $0.foreign != nil }) { throw ExitCode(CommandOutcome.refused.rawValue) }
        }
    }

    static let manager = "manager"

    /// A process of the instance by its name.
    /// - Returns: `nil` if it does not run now.
    /// - Throws: `RequestError` if there is no such process.
    private static func process(_ name: String, of instance: Instance) throws -> ProcessRecord? {
        if ([Supervisor.process] + ClusterFile.managerServices).contains(name) { return ProcessRecord(file: instance.pidFile(name)) }
        let parts = name.split(separator: "/").map(String.init)
        guard parts.count == 2, (Chassis.services + ["bmc"]).contains(parts[1]) else {
            throw RequestError(
                RequestErrorCode.notFound,
                "no process \(name); there are \(([Supervisor.process] + ClusterFile.managerServices).joined(separator: ", ")), and of each host lease-service, host-agent and bmc, such as host1/host-agent")
        }
        let host = try instance.host(parts[0])
        return parts[1] == "bmc" ? ProcessRecord(file: instance.pidFile(name)) : host.service(parts[1])
    }
}
