import ArgumentParser
import Bus
import CLinux
import Foundation
import LeaseEngine
import Messages
import ServiceKit

/// The executable `lease-service`: one on each host, beside its agent.
@main
struct LeaseServiceCommand: ServiceCommand {
    static let configuration = serviceConfiguration
    static let service = "lease-service"
    static let schema = [
        ConfigurationKey("host.name", .string, default: nil, "name of this host, as registered; must stay the same for the life of the host"),
        ConfigurationKey("host.id", .integer, default: nil, "host id in every lockspace, 1 to 2000, unique in the cluster"),
        ConfigurationKey("host.bootIDFile", .string, default: "/proc/sys/kernel/random/boot_id", "file whose text changes with each boot"),
        ConfigurationKey("host.hardwareIDFile", .string, default: "/sys/class/dmi/id/product_uuid", "file whose text names this machine"),
        ConfigurationKey("listen.requests", .string, default: "", "further endpoint for requests, such as tcp://10.0.0.1:7303; empty: none"),
        ConfigurationKey("listen.events", .string, default: "", "further endpoint for events; empty: none"),
        ConfigurationKey("run", .string, default: nil, "this host's run directory, emptied at each boot"),
        ConfigurationKey("state", .string, default: nil, "this host's state directory, kept over boots"),
        ConfigurationKey(
            "lease.settle", .duration, default: "0s", "how old a proof must be before it opens a lease: longer than any write of a dead host can be under way"),
        ConfigurationKey(
            "lease.expiredOwners", .string, default: "",
            "what is done about leases whose owner stopped renewing for its whole dead time, without a proof that it is off: lockspace=refuse or lockspace=watchdogPromised, separated by commas; others refuse. watchdogPromised: you vouch that every host of that lockspace is reset by a watchdog by then"),
        ConfigurationKey(
            "lease.watchdogFire", .duration, default: "60s", "sanlock's watchdog_fire_timeout: what a silent host id waits beyond 8 x io_timeout; the same on all hosts"),
        ConfigurationKey(
            "lease.watchdog", .duration, default: "0s",
            "longest timeout of this host's hardware watchdog (host-agent's watchdog.timeout): nothing is granted before host-agent has armed it; 0s: there is none"),
        ConfigurationKey("engine", .string, default: "native", "who writes leases: native (this service itself) or sanlock (the sanlock daemon of this machine)"),
        ConfigurationKey("sanlock.runDirectory", .string, default: "/run/sanlock", "where that daemon's socket is"),
        ConfigurationKey("sanlock.library", .string, default: "libsanlock_client.so.1", "its client library, loaded only with engine: sanlock"),
        ConfigurationKey("lease.backup.directory", .string, default: "", "where backups of lockspaces go; empty: backups in this service's state directory"),
        ConfigurationKey("lease.backup.every", .duration, default: "0s", "between backups of each lockspace, written by the live host with the lowest host id; 0s: only when asked"),
        ConfigurationKey("lease.backup.keep", .integer, default: "7", "scheduled backups of each lockspace; the oldest is overwritten"),
    ]

    @OptionGroup var options: ServiceOptions

    static func notGuaranteed(_ configuration: Configuration) -> [String] {
        var gaps = [
            configuration.duration("lease.watchdog") > .zero
                ? "lease.watchdog: a host that stands still is reset, if its watchdog works; its leases are free only after power management, a reboot or `bulwark host confirm-off` proves it gone, not by time alone"
                : "no hardware watchdog resets this host: if all of it freezes and thaws later, its guests are killed before they go on, but writes that they had handed to the kernel still reach the disk; and nobody takes its leases by time alone, only after power management, a reboot or `bulwark host confirm-off` proves it gone",
        ]
        if configuration.string("engine") == SanlockDaemon.engine { gaps += SanlockDaemon.notGuaranteed }
        if configuration.duration("lease.settle") == .zero {
            gaps.append(
                "lease.settle is 0 s: right for a directory of one machine; on NFS, iSCSI or Fibre Channel a dead host's last writes can land after its leases were taken over (5 s until you have measured it)")
        }
        for (lockspace, choice) in ((try? expiredOwners(configuration.string("lease.expiredOwners"))) ?? [:]).sorted(by: { $0.key < $1.key }) where choice == .watchdogPromised {
            gaps.append(
                "lease.expiredOwners promises a watchdog for \(lockspace): leases of a silent host are taken by time alone there, and if its watchdog does not fire its guests run twice")
        }
        if configuration.duration("lease.backup.every") == .zero {
            gaps.append("lease.backup.every is 0 s: a lockspace that is lost with its storage is restored only from backups that somebody asked for")
        }
        return gaps
    }

    /// By the default io_timeout; lockspaces with another are looked at before each grant.
    static func check(_ configuration: Configuration) throws(RequestError) {
        _ = try sanlock(configuration)
        let timeout = configuration.duration("lease.watchdog")
        guard timeout > .zero else { return }
        let timing = WatchdogTiming(
            timeout: timeout, inFlight: configuration.duration("lease.settle"), firing: configuration.duration("lease.watchdogFire"), ioTimeout: .seconds(10))
        if let clash = timing.clash { throw RequestError(code: "config.invalid", message: "lease.watchdog: \(clash)") }
    }

    @ReactorActor static func build(_ context: ServiceContext) throws -> any RunningService {
        // Lanes and reactor allocate at once, and wait for each other with fewer.
        cl_limit_malloc(4)
        // Each renewal reads up to an area, and compares it with the one before.
        cl_keep_freed_memory(3 << 20)
        let configuration = context.configuration
        let hostID = configuration.integer("host.id")
        guard (1...2000).contains(hostID) else {
            throw RequestError(code: "config.invalid", message: "host.id is \(hostID), it must be 1 to 2000")
        }
        let name = configuration.string("host.name")
        let state = try context.stateDirectory("\(configuration.string("state"))/lease-service")
        let backups = configuration.string("lease.backup.directory")
        let every = configuration.duration("lease.backup.every")
        let watchdog = configuration.duration("lease.watchdog")
        let identity = HostIdentity(
            name: name, hostID: hostID, bootID: try identifier(configuration.string("host.bootIDFile")),
            hardwareID: try identifier(configuration.string("host.hardwareIDFile")), firing: configuration.duration("lease.watchdogFire"),
            settle: configuration.duration("lease.settle"), expiredOwners: try expiredOwners(configuration.string("lease.expiredOwners")),
            backups: BackupPolicy(
                directory: try context.stateDirectory(backups.isEmpty ? "\(state)/backups" : backups), every: every > .zero ? every : nil,
                keep: configuration.integer("lease.backup.keep")),
            watchdog: watchdog > .zero ? watchdog : nil, sanlock: try sanlock(configuration))
        try RunDirectory.check(configuration.string("run"), service: Self.service, state: state, bootID: identity.bootID)
        let security = try context.security(key: name)
        let service = try LeaseHost(
            identity: identity, run: configuration.string("run"),
            journal: FileJournal(path: "\(state)/journal", bootPath: "\(configuration.string("run"))/lease-service.journal"),
            requests: configuration.string("listen.requests"), events: configuration.string("listen.events"),
            security: security, proofs: ProofCheck(security: security, allowListPath: context.cluster.allowListPath), logger: context.logger)
        try service.start()
        return service
    }

    private static func sanlock(_ configuration: Configuration) throws(RequestError) -> SanlockSettings? {
        switch configuration.string("engine") {
        case "native": return nil
        case SanlockDaemon.engine: return SanlockSettings(run: configuration.string("sanlock.runDirectory"), library: configuration.string("sanlock.library"))
        case let other: throw RequestError(code: "config.invalid", message: "engine is \"\(other)\", it must be native or sanlock")
        }
    }

    /// `lockspace=watchdogPromised, other=refuse`.
    private static func expiredOwners(_ text: String) throws -> [String: ExpiredOwners] {
        var found: [String: ExpiredOwners] = [:]
        for entry in text.split(separator: ",") {
            let parts = entry.split(separator: "=", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            guard parts.count == 2, let choice = ExpiredOwners(rawValue: parts[1]) else {
                throw RequestError(code: "config.invalid", message: "lease.expiredOwners: \"\(entry)\" is not lockspace=refuse or lockspace=watchdogPromised")
            }
            found[parts[0]] = choice
        }
        return found
    }

    /// The first line of a file that names something.
    private static func identifier(_ path: String) throws -> String {
        let text = (try? String(contentsOfFile: path, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
        guard !text.isEmpty else { throw RequestError(code: "config.invalid", message: "\(path) cannot be read or is empty") }
        return text
    }
}
