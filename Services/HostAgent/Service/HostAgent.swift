import Bus
import FencingAgents
import Foundation
import HostAgentEngine
import Logging
import Messages
import ServiceKit

/// The agent's shell: its engine, and the keepers that do what the engine wants and tell it what they see.
@ReactorActor
final class HostAgent: RunningService {
    let shell: EngineShell<HostAgentEngine>
    private let places: HostPlaces
    private let keys: KeyFile
    private let guards: GuardKeeper
    private let storage: StorageKeeper
    private let leases: LeaseFollower
    /// `nil`: none is configured.
    private let watchdog: WatchdogKeeper?
    /// `nil`: it is not checked.
    private let toolstack: ToolstackKeeper?
    private let worker: RequestClient
    private var heartbeats: Heartbeats

    init(_ context: ServiceContext) throws {
        let places = try HostPlaces(context.configuration)
        self.places = places
        let state = try context.stateDirectory(places.state)
        try RunDirectory.check(places.run, service: context.service, state: state, bootID: places.bootID)
        for directory in ["guards", "locks", "fence-locks"] {
            try FileManager.default.createDirectory(atPath: "\(places.run)/\(directory)", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        }
        let security = try context.security(key: places.host)
        keys = try security?.keys ?? Self.ownKeys(state, places.host)
        let guards = GuardKeeper(places, context.logger)
        let storage = try StorageKeeper(places)
        let worker = try RequestClient(endpoint: places.worker, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
        self.guards = guards
        self.storage = storage
        self.worker = worker
        leases = try LeaseFollower(places)
        try WatchdogThread.check(device: places.watchdogDevice, run: places.run)
        let watchdog = places.watchdogDevice.isEmpty ? nil : try WatchdogKeeper(places)
        self.watchdog = watchdog
        heartbeats = Heartbeats(every: places.heartbeat)
        let toolstack = places.toolstack.map { ToolstackKeeper($0, context.logger) }
        self.toolstack = toolstack
        let keys = keys
        let fenceAgent = FenceAgent(directory: places.fenceAgents, lockDirectory: "\(places.run)/fence-locks")
        var setup = ShellSetup<HostAgentEngine>(
            source: places.host + "/host-agent", journal: FileJournal(path: "\(state)/journal"),
            requests: ["ipc://\(places.run)/agent.requests"] + Self.listening(context, "listen.requests"),
            events: ["ipc://\(places.run)/agent.events"] + Self.listening(context, "listen.events"), security: security, routes: Self.routes,
            logger: context.logger
        ) { action, shell in
            switch action {
            case .spawn(let spec): guards.spawn(spec)
            case .watch(let spec): guards.watch(spec)
            case .stop(let holder, let why): guards.stop(holder, why)
            case .resume(let holder, let asked): guards.resume(holder, asked: asked)
            case .scan: guards.scan()
            case .quiesce(let holder, let domains): storage.handle(.quiesce(holder, domains))
            case .keep(let place): storage.handle(.keep(place))
            case .drop(let place): storage.handle(.drop(place))
            case .create(let id, let create): storage.handle(.create(id, create))
            case .releaseWatchdog(let isReleased): watchdog?.handle(.released(isReleased))
            case .restartToolstack: toolstack?.restart()
            case .sign(let holder, let proof): Self.sign(holder, proof, keys, shell)
            case .fence(let id, let run):
                fenceAgent.run(run.action, on: run.devices, of: run.host, deadline: run.deadline) { shell.submit(.fenceRan(id, FenceProxyResult(parts: $0))) }
            case .identify(let id, let device):
                Blocking.run("identify \(device.address)", { DeviceIdentity.read(device) }, then: { shell.submit(.fenceIdentified(id, $0.told)) })
            case .task(let id, let task, let path): Self.run(id, WorkerTask(task: task, path: path), worker, shell)
            }
        }
        setup.target = places.bootID
        shell = try EngineShell(setup)
    }

    func start() throws {
        try shell.start()
        let shell = shell
        guards.tell = { shell.submit($0) }
        storage.tell = { shell.submit($0) }
        leases.tell = { [storage] seen in
            storage.handle(.memberships(seen))
            shell.submit(.lockspaces(seen ?? []))
            shell.setProblem("lease-service", seen == nil ? "lease-service of this host does not answer" : nil)
        }
        if let watchdog { watch(watchdog) }
        shell.submit(
            .started(AgentIdentity(
                host: places.host, hostID: places.hostID, bootID: places.bootID, hardwareID: places.hardwareID, signingKey: keys.signingPublic,
                settle: places.settle)))
        // Not before: until then the engine tells what its last life knew, not that it still looks.
        watchdog?.start()
        leases.start()
        watchToolstack()
        beat()
    }

    func drain(_ done: @escaping @Sendable () -> Void) {
        let shell = shell
        guard let watchdog else { return shell.drain(done) }
        watchdog.drain { shell.drain(done) }
    }

    private func watch(_ watchdog: WatchdogKeeper) {
        let shell = shell
        watchdog.isInitializing = { shell.engine.isInitializing }
        watchdog.tell = { shell.submit($0) }
        watchdog.setProblem = { shell.setProblem("watchdog", $0.map { "watchdog: \($0)" }) }
        guards.tellWatchdog = { watchdog.handle($0) }
        leases.tellWatchdog = { watchdog.handle(.leaseService($0)) }
    }

    private func watchToolstack() {
        let shell = shell
        guard let toolstack else {
            // It was checked once.
            if shell.engine.toolstack != nil { shell.submit(.toolstack(nil)) }
            return
        }
        toolstack.tell = { report in
            shell.submit(.toolstack(report))
            shell.setProblem("toolstack", report?.sentence)
        }
        shell.setProblem("toolstack", shell.engine.toolstack?.sentence)
        toolstack.begin(last: shell.engine.toolstack)
    }

    /// The heartbeat comes from the engine's own loop: whatever stops that stops it.
    private func beat() {
        heartbeats.change(to: shell.engine.heartbeatInterval ?? places.heartbeat)
        if let sequence = heartbeats.beat(isInitializing: shell.engine.isInitializing, hasMemberships: leases.hasAnswered, at: Clock.boottime()) {
            shell.submit(.pulse(sequence: sequence, memoryFreeMiB: Memory.availableMiB()))
        }
        Reactor.shared.after(heartbeats.nextWake - Clock.boottime()) { [self] in beat() }
    }

    private static func listening(_ context: ServiceContext, _ key: String) -> [String] {
        let endpoint = context.configuration.string(key)
        return endpoint.isEmpty ? [] : [endpoint]
    }

    /// Without the cluster's keys (only ipc endpoints) the agent signs with one of its own.
    private static func ownKeys(_ state: String, _ host: String) throws -> KeyFile {
        let path = "\(state)/keys.json"
        if FileManager.default.fileExists(atPath: path) { return try KeyFile.load(path) }
        let keys = try KeyFile.generate(name: host, role: .agent, host: host)
        try keys.save(path)
        return keys
    }

    private static func sign(_ holder: Holder, _ proof: Proof, _ keys: KeyFile, _ shell: EngineShell<HostAgentEngine>) {
        var proof = proof
        proof.time = Clock.rfc3339()
        do {
            shell.submit(.signed(holder, try ProofSigning.sign(proof, with: keys)))
            shell.setProblem("signing", nil)
        } catch {
            shell.setProblem("signing", "proofs cannot be signed: \(error)")
        }
    }

    private static func run(_ id: RequestID, _ task: WorkerTask, _ worker: RequestClient, _ shell: EngineShell<HostAgentEngine>) {
        worker.request("task.run", task, id: id, timeout: .seconds(600)) { outcome in
            let result = outcome.flatMap { frame in
                Result { try ReplyFrame.body(TaskResult.self, frame) }.mapError { RequestError(RequestErrorCode.malformed, "\($0)") }
            }
            switch result {
            case .success(let result): shell.submit(.taskDone(id, result, nil))
            case .failure(let error): shell.submit(.taskDone(id, nil, error))
            }
        }
    }

    private static let commanders: Set<Role> = [.service, .operator_]

    private static let routes: [Route<HostAgentEngine>] = [
        Route("vm.start", commanders) { .vmStart($0.header.id, $0.caller, try $0.body(VMStart.self)) },
        Route("vm.stop", commanders) { .vmStop($0.header.id, $0.caller, try $0.body(VMAttempt.self)) },
        Route("vm.observe", commanders) { .vmObserve($0.header.id, $0.caller, try $0.body(VMAttempt.self)) },
        Route("vm.resume", commanders) { .vmResume($0.header.id, $0.caller, try $0.body(VMAttempt.self)) },
        Route("spm.start", commanders) { .spmStart($0.header.id, $0.caller, try $0.body(SPMStart.self)) },
        Route("spm.stop", commanders) { .spmStop($0.header.id, $0.caller, try $0.body(SPMTerm.self)) },
        Route("spm.status", commanders) { .spmStatus($0.header.id, $0.caller, try $0.body(SPMTerm.self)) },
        Route("task.run", commanders) { .taskRun($0.header.id, $0.caller, try $0.body(TaskRun.self)) },
        Route("storage.connect", commanders) { .storageConnect($0.header.id, $0.caller, try $0.body(StorageConnect.self)) },
        Route("storage.disconnect", commanders) { .storageDisconnect($0.header.id, $0.caller, try $0.body(StorageConnect.self)) },
        Route("storage.create", commanders) { .storageCreate($0.header.id, $0.caller, try $0.body(StorageCreate.self)) },
        Route("fence.accept", commanders) { .fenceAccept($0.header.id, $0.caller, try $0.body(FenceAccept.self)) },
        Route("manager.hello", [.service]) { .hello($0.header.id, $0.caller, try? $0.body(ManagerWords.self)) },
        Route("fence.prepare", [.service]) { .fencePrepare($0.header.id, $0.caller, try $0.body(FencePrepare.self)) },
        Route("fence.identify", [.service]) { .fenceIdentify($0.header.id, $0.caller, try $0.body(FenceIdentify.self)) },
        Route("fence.run", [.service]) { .fenceRun($0.header.id, $0.caller, try $0.body(FenceProxyRun.self)) },
        Route("watchdog.disarm", [.service]) { .watchdogOrder($0.header.id, $0.caller, try $0.body(WatchdogOrder.self)) },
        Route("manager.pin", [.operator_]) { .pin($0.header.id, try $0.body(ManagerPin.self)) },
        Route("agent.shutdown", commanders) {
            let body = try $0.body(AgentShutdown.self)
            // Services end nothing that runs.
            if body.saving == true || $0.caller.role == .service {
                return body.cancel == true ? .saveCalledOff($0.header.id, $0.caller) : .saveShutdown($0.header.id, $0.caller)
            }
            return body.cancel == true ? .shutdownCalledOff($0.header.id, $0.caller) : .shutdown($0.header.id, $0.caller)
        },
    ]
}

enum Memory {
    /// What the kernel could give to new guests.
    static func availableMiB() -> Int {
        let text = FileManager.default.contents(atPath: "/proc/meminfo").map { String(decoding: $0, as: UTF8.self) } ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return line?.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 / 1024 } ?? 0
    }
}
