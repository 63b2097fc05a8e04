import ArgumentParser
import Bus
import FencingAgents
import FencingEngine
import Messages
import SQLiteJournal
import ServiceKit

/// fencing-service: runs the ``FencingEngine``, listens to every host's heartbeats and runs fence agents.
@main
struct FencingCommand: ServiceCommand {
    static let service = "fencing-service"
    static let schema = [
        ConfigurationKey(
            "fence.profile", .string, default: FencingProfile.standard.rawValue,
            "default; fast: guests of a crashed host run elsewhere within 8 s; no-ha: nothing is fenced or restarted by itself. It decides the defaults of other keys"),
        byProfile("liveness.heartbeat", .duration, default: "1s", "time between the heartbeats of an agent, which is told"),
        byProfile("liveness.grace", .duration, default: "30s", "silence that is forgiven before a host is NonResponsive and a fence case opens"),
        ConfigurationKey("liveness.minimumMissed", .integer, default: "3", "heartbeats that must be missing as well"),
        ConfigurationKey("liveness.graceSPM", .duration, default: "0s", "further grace for the SPM host"),
        ConfigurationKey("liveness.gracePerVM", .duration, default: "0s", "further grace for each VM that the host runs"),
        ConfigurationKey("liveness.initializing", .duration, default: "180s", "how long an agent may take to find out what runs on its host; then that is NonOperational; 0s: for ever"),
        ConfigurationKey("fence.agentDirectory", .string, default: "/usr/sbin", "where the fence agents are"),
        byProfile("fence.agentTimeout", .duration, default: "30s", "how long one run of a fence agent may take; then it is killed and a status decides"),
        ConfigurationKey("fence.bootTimeout", .duration, default: "300s", "how long a host may take from power-on to its first heartbeat"),
        byProfile("fence.retry", .duration, default: "10s", "time between two attempts of a fence case that is held or failed"),
        ConfigurationKey("fence.maximumReboots", .integer, default: "2", "how often cases switch a host on again within fence.rebootWindow; then it stays off until an operator has looked"),
        ConfigurationKey("fence.rebootWindow", .duration, default: "60m", "see fence.maximumReboots"),
        ConfigurationKey("fence.silentShare", .integer, default: "50", "percent of the other hosts, 1...100: if so many are silent too, the silence may be the manager's own and is to be seen in storage first"),
        ConfigurationKey("fence.sparesLiveLeases", .boolean, default: "false", "true: a silent host whose lease renewals go on is not fenced; its guests run unmanaged until it is heard again"),
        ConfigurationKey("fence.rehearseEvery", .duration, default: "24h", "how often every way to fence each host is tried up to its status; 0s: only by bulwark fence rehearse"),
        ConfigurationKey("fence.softCommand", .string, default: "", "a program that restarts the agent of the host whose name is its only argument, by ssh or so; run once in a case of a silent host, before off; empty: none"),
        ConfigurationKey("fence.softTimeout", .duration, default: "60s", "how long such a host may take to be heard again, the command's own time included"),
        ConfigurationKey(
            "fence.toolstackLost", .duration, default: "0s",
            "how long the hypervisor of a host that answers must be out of control, after its agent could not restore it, before the whole host is fenced; 0s: never, its guests run on and wait for a person"),
        ConfigurationKey("fence.nonOperational", .duration, default: "0s", "how long a host without VMs that answers may be NonOperational, for want of a lockspace that others have, before it is switched off and on again; 0s: it never is"),
        ConfigurationKey("fence.kdumpListen", .string, default: "", "address and UDP port, 0.0.0.0:7410 as a rule, where the kdump messages of crashed hosts arrive; empty: none is awaited"),
        ConfigurationKey("fence.kdumpWait", .duration, default: "30s", "how long a case waits for the first message of a silent host with kdump, once all else says that it is to be switched off"),
        ConfigurationKey("fence.kdumpQuiet", .duration, default: "30s", "a crash dump is over when no message has come for so long"),
        ConfigurationKey("fence.kdumpLimit", .duration, default: "15m", "how long a crash dump may keep its host from being switched off"),
        ConfigurationKey("power.quiet", .duration, default: "180s", "time between two power commands of operators for one host; --now goes without"),
        ConfigurationKey("network.check", .string, default: "", "an interface that must be up with carrier, else nothing is fenced; empty: not checked"),
    ]

    @OptionGroup var options: ServiceOptions

    private static func byProfile(_ name: String, _ kind: ConfigurationKey.Kind, default standard: String, _ meaning: String) -> ConfigurationKey {
        let defaults = FencingProfile.allCases.compactMap { profile in profile.settings[name].map { (profile.rawValue, $0) } }
        return ConfigurationKey(name, kind, default: standard, by: ("fence.profile", Dictionary(uniqueKeysWithValues: defaults)), meaning)
    }

    static func check(_ configuration: Configuration) throws(RequestError) {
        func refuse(_ message: String) -> RequestError { RequestError(code: "config.invalid", message: message) }
        let profile = configuration.string("fence.profile")
        guard FencingProfile(rawValue: profile) != nil else {
            throw refuse("fence.profile is \"\(profile)\"; there are \(FencingProfile.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        let softCommand = configuration.string("fence.softCommand")
        guard softCommand.isEmpty || softCommand.hasPrefix("/") else { throw refuse("fence.softCommand is \"\(softCommand)\", it must be an absolute path without arguments") }
        let kdumpListen = configuration.string("fence.kdumpListen")
        guard kdumpListen.isEmpty || KdumpListener.place(kdumpListen) != nil else { throw refuse("fence.kdumpListen is \"\(kdumpListen)\", it must be an IP address and a port, such as 0.0.0.0:7410") }
        let clashes = policy(configuration).clashes
        if !clashes.isEmpty { throw refuse(clashes.joined(separator: "; ")) }
    }

    static func notGuaranteed(_ configuration: Configuration) -> [String] {
        switch FencingProfile(rawValue: configuration.string("fence.profile")) {
        case .noHA: ["fence.profile is no-ha: no host is fenced and no VM restarted by itself; a silent host is shown, and its VMs wait for an operator"]
        case .fast: ["fence.profile is fast: its promise is about hosts whose devices answer within fence.agentTimeout; a host that hangs is switched off first, which takes as long as its device takes"]
        default: []
        }
    }

    @ReactorActor static func build(_ context: ServiceContext) throws -> any RunningService {
        guard let security = try context.security(key: service) else {
            throw RequestError(
                code: "config.invalid", message: "\(context.cluster.keyPath(service)) is missing: proofs cannot be signed without a key; `bulwark keys new` makes one")
        }
        let configuration = context.configuration
        let policy = policy(configuration)
        let endpoints = try context.cluster.endpoints(of: service)
        let world = try FencingWorld(
            policy: policy, security: security,
            agent: FenceAgent(directory: configuration.string("fence.agentDirectory"), lockDirectory: try lockDirectory(context)),
            softCommand: configuration.string("fence.softCommand"))
        let shell = try EngineShell<FencingEngine>(
            ShellSetup(
                source: service, journal: SQLiteJournal(path: try context.stateDirectory() + "/journal.sqlite"), requests: [endpoints.requests],
                events: [endpoints.events], security: security, routes: routes, logger: context.logger,
                perform: { action, shell in world.perform(action, for: shell) }))
        try shell.start()
        shell.submit(.started(FencingStart(policy: policy, signingKey: security.keys.signingPublic)))
        world.start(
            shell, networkCheck: configuration.string("network.check"), kdumpListen: configuration.string("fence.kdumpListen"),
            spm: policy.graceSPM > .zero ? try context.cluster.endpoints(of: "spm-coordinator") : nil)
        return shell
    }

    private static func policy(_ configuration: Configuration) -> FencingPolicy {
        FencingPolicy(
            heartbeat: configuration.duration("liveness.heartbeat"), grace: configuration.duration("liveness.grace"),
            minimumMissed: configuration.integer("liveness.minimumMissed"), graceSPM: configuration.duration("liveness.graceSPM"),
            gracePerVM: configuration.duration("liveness.gracePerVM"), agentTimeout: configuration.duration("fence.agentTimeout"),
            bootTimeout: configuration.duration("fence.bootTimeout"), retry: configuration.duration("fence.retry"),
            maximumReboots: max(configuration.integer("fence.maximumReboots"), 0), rebootWindow: configuration.duration("fence.rebootWindow"),
            powerQuiet: configuration.duration("power.quiet"), silentShare: min(max(configuration.integer("fence.silentShare"), 1), 100),
            sparesLiveLeases: configuration.boolean("fence.sparesLiveLeases"),
            rehearseEvery: configuration.duration("fence.rehearseEvery"),
            softTimeout: configuration.string("fence.softCommand").isEmpty ? .zero : configuration.duration("fence.softTimeout"),
            toolstackLost: configuration.duration("fence.toolstackLost"),
            kdumpWait: configuration.duration("fence.kdumpWait"), kdumpQuiet: configuration.duration("fence.kdumpQuiet"),
            kdumpLimit: configuration.string("fence.kdumpListen").isEmpty ? .zero : configuration.duration("fence.kdumpLimit"),
            initializing: configuration.duration("liveness.initializing"), nonOperational: configuration.duration("fence.nonOperational"), profile: FencingProfile(rawValue: configuration.string("fence.profile")))
    }

    private static func lockDirectory(_ context: ServiceContext) throws -> String {
        try context.stateDirectory("\(context.cluster.run)/fence-locks")
    }

    private static var routes: [Route<FencingEngine>] {
        let writers: Set<Role> = [.service, .operator_]
        let people: Set<Role> = [.operator_]
        return [
            Route("host.add", people) { .hostEnrol($0.header.id, try $0.body(HostAdd.self)) },
            Route("host.update", people) { .hostUpdate($0.header.id, try $0.body(HostDefinition.self)) },
            Route("host.forget", people) { .hostForget($0.header.id, try $0.body(HostForget.self)) },
            Route("host.maintenance", people) { .hostMaintenance($0.header.id, try $0.body(HostRequest.self)) },
            Route("host.activate", people) { .hostActivate($0.header.id, try $0.body(HostRequest.self)) },
            Route("host.set-nonoperational", writers) { .hostSetNonOperational($0.header.id, try $0.body(HostSetStatus.self)) },
            Route("host.set-error", writers) { .hostSetError($0.header.id, try $0.body(HostSetStatus.self)) },
            Route("host.confirm-off", people) { .confirmOff($0.header.id, try $0.body(ConfirmOff.self)) },
            Route("power.status", people) { .power($0.header.id, .status, try $0.body(HostRequest.self)) },
            Route("power.on", writers) {
                var request = try $0.body(HostRequest.self)
                if $0.caller.role == .service { request.automatic = true }
                return .power($0.header.id, .on, request)
            },
            Route("power.save", [.service]) { .powerSave($0.header.id, try $0.body(HostRequest.self)) },
            Route("power.off", people) { .power($0.header.id, .off, try $0.body(HostRequest.self)) },
            Route("power.cycle", people) { .power($0.header.id, .cycle, try $0.body(HostRequest.self)) },
            Route("fence.now", people) { .fenceNow($0.header.id, try $0.body(HostRequest.self)) },
            Route("fence.rehearse", people) { .rehearse($0.header.id, try $0.body(HostRequest.self)) },
            Route("ha.hold", people) { .haHold($0.header.id, try $0.body(HoldRequest.self)) },
            Route("ha.enable", people) { .haEnable($0.header.id) },
            Route("ha.disable", people) { .haDisable($0.header.id) },
            Route(reading: "host.list") { engine, _ in .success(HostList(hosts: engine.hostViews)) },
            Route(reading: "host.show") { engine, request in
                let name = try request.body(HostRequest.self).host
                guard let view = engine.view(of: name) else { throw RequestError(RequestErrorCode.notFound, "there is no host \(name); host list shows all") }
                return .success(view)
            },
            Route(reading: "fence.history") { engine, request in .success(engine.history(of: try request.body(HistoryRequest.self).host)) },
            Route(reading: "policy.get") { engine, _ in .success(engine.currentPolicy) },
        ]
    }

    /// Body of `fence.history`: a ``HostRequest`` whose host may be absent.
    private struct HistoryRequest: Decodable { var host: String? }
}
