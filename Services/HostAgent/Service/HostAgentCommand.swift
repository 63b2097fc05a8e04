import ArgumentParser
import Bus
import Foundation
import HostAgentEngine
import HostAgentHypervisor
import Messages
import ServiceKit

/// The service itself: the agent of one host.
struct HostAgentCommand: ServiceCommand {
    static let service = "host-agent"

    static let schema: [ConfigurationKey] = [
        ConfigurationKey("host.name", .string, default: nil, "the host's name in this cluster"),
        ConfigurationKey("host.id", .integer, default: nil, "its id in every lockspace, 1...2000"),
        ConfigurationKey("host.bootIDFile", .string, default: "/proc/sys/kernel/random/boot_id", "written anew by the init whose end ends all guests"),
        ConfigurationKey("host.hardwareIDFile", .string, default: "/sys/class/dmi/id/product_uuid", "what the fence device calls this machine"),
        ConfigurationKey("listen.requests", .string, default: "", "further endpoint for requests, such as tcp://10.77.0.1:7301; needs keys"),
        ConfigurationKey("listen.events", .string, default: "", "further endpoint for events"),
        ConfigurationKey("run", .string, default: nil, "the host's run directory: sockets, locks and guards, emptied at each boot"),
        ConfigurationKey("state", .string, default: nil, "the host's state directory, kept over boots"),
        ConfigurationKey("agent.heartbeat", .duration, default: "1s", "time between heartbeats until fencing-service says how often it wants them (its liveness.heartbeat)"),
        ConfigurationKey("agent.qemu", .string, default: "qemu-system-x86_64", "QEMU's executable"),
        ConfigurationKey("agent.accelerator", .string, default: "tcg", "tcg or kvm"),
        ConfigurationKey("agent.imageLocking", .boolean, default: "true", "QEMU's own image locks; off in a lab, where they could hide mistakes"),
        ConfigurationKey("storage.probe", .duration, default: "2s", "time between probes of each storage domain"),
        ConfigurationKey(
            "storage.settle", .duration, default: "0s",
            "how old a proof must be before a VM without leases starts: longer than any write of a dead host can be under way"),
        ConfigurationKey(
            "toolstack.check", .string, default: "",
            "a command that succeeds while the hypervisor can be controlled, such as \"/usr/bin/virsh -c qemu:///system list\"; while it fails nothing is started here; empty: not checked"),
        ConfigurationKey("toolstack.every", .duration, default: "10s", "time between two checks"),
        ConfigurationKey("toolstack.timeout", .duration, default: "10s", "how long one check may take; then its process group is killed, and it failed"),
        ConfigurationKey("toolstack.restart", .string, default: "", "a command that restarts it, such as \"/usr/bin/systemctl restart libvirtd\", run after three checks in a row failed; empty: none"),
        ConfigurationKey("toolstack.restartTimeout", .duration, default: "60s", "how long one restart may take; then its process group is killed, and a check decides"),
        ConfigurationKey("toolstack.restarts", .integer, default: "3", "how often it is restarted before it counts as lost; counted until it has worked for an hour"),
        ConfigurationKey("toolstack.pause", .duration, default: "5s", "between a check that failed, or a restart, and the next check"),
        ConfigurationKey("fence.agentDirectory", .string, default: "/usr/sbin", "where the fence agents are that this host runs for others, whose devices are reached via hosts"),
        ConfigurationKey(
            "watchdog.device", .string, default: "",
            "hardware watchdog that resets this host when it stands still, such as /dev/watchdog; armed while leases are held; empty: none. Set lease-service's lease.watchdog, too"),
        ConfigurationKey("watchdog.timeout", .duration, default: "30s", "how long after its last feeding it fires, whole seconds; at most lease-service's lease.watchdog"),
    ]

    @OptionGroup var options: ServiceOptions

    static func notGuaranteed(_ configuration: Configuration) -> [String] {
        switch configuration.string("watchdog.device") {
        case "": ["watchdog.device is empty: no hardware watchdog resets this host; what that means is told by lease-service's configuration"]
        case WatchdogThread.fake: ["watchdog.device is the lab's: it resets no real machine"]
        default: []
        }
    }

    static func check(_ configuration: Configuration) throws(RequestError) {
        let timeout = configuration.duration("watchdog.timeout")
        guard timeout >= .seconds(2), timeout.nanoseconds % 1_000_000_000 == 0 else {
            throw RequestError(code: "config.invalid", message: "watchdog.timeout is \(timeout.seconds) s, it must be whole seconds, at least 2")
        }
        try ToolstackCommands.check(configuration)
    }

    @ReactorActor static func build(_ context: ServiceContext) throws -> any RunningService {
        let agent = try HostAgent(context)
        try agent.start()
        return agent
    }
}

/// Where things of this host are, and how its guests are run.
struct HostPlaces: Sendable {
    let host: String
    let hostID: Int
    let bootID: String
    let hardwareID: String
    /// Run directory.
    let run: String
    let state: String
    let qemu: QEMUCommand
    let probeInterval: Duration
    /// How old a proof must be before it opens disks without leases (S4).
    let settle: Duration
    let heartbeat: Duration
    /// Empty: there is none.
    let watchdogDevice: String
    let watchdogTimeout: Duration
    let fenceAgents: String
    /// `nil`: the toolstack is not checked.
    let toolstack: ToolstackCommands?
    /// Directory of this executable and its companions.
    let executables: String

    init(_ configuration: Configuration) throws(RequestError) {
        host = configuration.string("host.name")
        hostID = configuration.integer("host.id")
        bootID = try Self.line(of: configuration.string("host.bootIDFile"))
        hardwareID = try Self.line(of: configuration.string("host.hardwareIDFile")).lowercased()
        run = configuration.string("run")
        state = configuration.string("state") + "/host-agent"
        qemu = QEMUCommand(
            program: configuration.string("agent.qemu"), accelerator: configuration.string("agent.accelerator"), imageLocking: configuration.boolean("agent.imageLocking"))
        probeInterval = configuration.duration("storage.probe")
        settle = configuration.duration("storage.settle")
        heartbeat = configuration.duration("agent.heartbeat")
        watchdogDevice = configuration.string("watchdog.device")
        watchdogTimeout = configuration.duration("watchdog.timeout")
        fenceAgents = configuration.string("fence.agentDirectory")
        toolstack = ToolstackCommands(configuration)
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        executables = URL(fileURLWithPath: own).deletingLastPathComponent().path
        guard !host.isEmpty, (1...2000).contains(hostID), !run.isEmpty else {
            throw RequestError(code: "config.invalid", message: "host.name, host.id (1...2000) and run must be given")
        }
    }

    private static func line(of file: String) throws(RequestError) -> String {
        let text = FileManager.default.contents(atPath: file).map { String(decoding: $0, as: UTF8.self) } ?? ""
        guard let line = text.split(whereSeparator: \.isWhitespace).first else {
            throw RequestError(code: "config.invalid", message: "\(file) cannot be read or is empty; without it this host has no identity")
        }
        return String(line)
    }

    var ownExecutable: String { "\(executables)/host-agent" }
    var guardExecutable: String { "\(executables)/vm-guard" }
    var leaseService: String { "ipc://\(run)/lease-service.requests" }
    var worker: String { "ipc://\(run)/spm-worker.requests" }

    /// Prefix of everything of one guard: `.sock`, `.result`, `.log`, `.spec`, `.proofs`, `.serial`, `.qmp`.
    func files(of holder: Holder) -> String { "\(run)/guards/\(holder)" }
    func lock(of holder: Holder) -> String { "\(run)/locks/\(holder.role.rawValue)-\(holder.name).lock" }
    func diskLock(_ image: String) -> String { "\(run)/locks/disk-\(image).lock" }
}
