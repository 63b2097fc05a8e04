import Bus
import CLinux
import Foundation
import LeaseEngine
import LeaseVolume
import Logging
import Messages
import ServiceKit

/// The lease engine of one host with its surroundings: bus, journal, disks, guards.
@ReactorActor
final class LeaseHost: RunningService {
    private let identity: HostIdentity
    private let shell: EngineShell<LeaseEngine>
    private let guards: GuardListener
    private let disks: Disks
    /// Kept open: one lease-service per machine (S2).
    private let alone: Int32

    init(
        identity: HostIdentity, run: String, journal: any Journal, requests: String, events: String, security: BusSecurity?, proofs: ProofCheck, logger: Logger
    ) throws {
        self.identity = identity
        alone = try LockFile.takeAlone("\(run)/lease-service.lock")
        let disks = Disks()
        let daemon = try identity.sanlock.map(SanlockDaemon.init)
        let guards = GuardListener(path: "\(run)/lease-service.guards", proofs: proofs, logger: logger)
        var setup = ShellSetup<LeaseEngine>(
            source: LeaseServiceCommand.service, journal: journal,
            requests: ["ipc://\(run)/lease-service.requests"] + (requests.isEmpty ? [] : [requests]),
            events: ["ipc://\(run)/lease-service.events"] + (events.isEmpty ? [] : [events]),
            security: security, routes: Self.routes + Self.repairs(proofs), logger: logger
        ) { action, shell in
            switch action {
            case .io(let request): disks.submit(request, shell)
            case .daemon(let request): daemon?.submit(request, shell)
            case .note(let fact): Reactor.shared.post { shell.submit(.noted(fact)) }
            case .tell(let connection, let message): guards.send(message, to: connection)
            case .testLocks(let holder, let paths):
                let free = paths.allSatisfy(LockFile.isFree)
                Reactor.shared.post { shell.submit(.locksTested(holder, free: free)) }
            case .closeFiles(let root): disks.close(under: root)
            }
        }
        // Deadlines are absolute CLOCK_BOOTTIME, shared with the guards (S8).
        setup.continuesTime = false
        setup.target = identity.bootID
        shell = try EngineShell(setup)
        self.guards = guards
        self.disks = disks
    }

    func start() throws {
        try shell.start()
        shell.submit(.started(identity))
        try guards.start { [shell] in shell.submit($0) }
        disks.standIn()
        watchHealth()
    }

    func drain(_ done: @escaping @Sendable () -> Void) {
        guards.close()
        shell.drain(done)
    }

    private func watchHealth() {
        for lockspace in shell.engine.conditions {
            let isWell = lockspace.state == .left || (lockspace.state == .joined && lockspace.reason.isEmpty)
            shell.setProblem(
                "lockspace \(lockspace.lockspace)", isWell ? nil : "lockspace \(lockspace.lockspace) is \(lockspace.state.rawValue): \(lockspace.reason)")
        }
        _ = Reactor.shared.after(.seconds(1)) { [self] in watchHealth() }
    }

    /// Commands come from this host's agent and SPM worker over the local socket, and from operators.
    private static var routes: [Route<LeaseEngine>] {
        let commands: Set<Role> = [.service, .agent, .operator_]
        let readers: Set<Role> = [.service, .agent, .operator_, .observer]
        return [
            Route("lockspace.initialize", commands) {
                .initialize($0.header.id, $0.commander, try $0.body(LockspaceInitialize.self), time: UInt64(cl_realtime() / 1_000_000_000))
            },
            Route("lockspace.join", commands) { .join($0.header.id, $0.commander, try $0.body(LockspaceJoin.self)) },
            Route("lockspace.leave", commands) { .leave($0.header.id, $0.commander, try $0.body(LockspaceRequest.self)) },
            Route("manager.pin", [.operator_]) { .pin($0.header.id, try $0.body(ManagerPin.self)) },
            Route("lockspace.inspect", readers) { .inspect($0.header.id, try $0.body(LockspaceRequest.self)) },
            Route("lease.create", commands) { .create($0.header.id, $0.commander, try $0.body(LeaseRequest.self)) },
            Route("lease.remove", commands) { .remove($0.header.id, $0.commander, try $0.body(LeaseRequest.self)) },
            Route("index.rebuild", commands) {
                .rebuild($0.header.id, $0.commander, try $0.body(IndexRebuildRequest.self), time: UInt64(cl_realtime() / 1_000_000_000))
            },
            Route("lease.lookup", readers) { .lookup($0.header.id, try $0.body(LeaseRequest.self)) },
            Route("lease.inspect", readers) { .lookup($0.header.id, try $0.body(LeaseRequest.self)) },
            Route("lease.request", commands) { .demand($0.header.id, $0.commander, try $0.body(LeaseDemand.self)) },
            Route("lockspace.notify", commands) { .notify($0.header.id, $0.commander, try $0.body(LockspaceNotice.self)) },
            Route("watchdog.report", [.agent, .operator_]) { .watchdog($0.header.id, try $0.body(WatchdogReport.self)) },
            Route("lease.list", readers) { .list($0.header.id, try $0.body(LockspaceRequest.self)) },
        ]
    }
}

extension IncomingRequest {
    /// The caller with what the header says of its lineage and term (S16).
    var commander: Caller { Caller(role: caller.role, host: caller.host, from: header.from, lineage: header.lineage, term: header.term) }
}

/// Runs the engine's I/O on its lanes and hands the results back.
private struct Disks: Sendable {
    private let lanes: LaneThreads<IOResult>
    private let results = Results()
    private let files = OpenFiles()

    init() {
        let results = results
        lanes = LaneThreads { report in
            // The thread of a ballot goes on with what follows on it; never that of a renewal.
            if case .completed(_, .sequence) = report {
                Reactor.shared.runOrPost { results.deliver(report) }
            } else {
                Reactor.shared.post { results.deliver(report) }
            }
        }
    }

    /// A guard's request is read, decided, carried out and answered by one thread, as long as that has nothing else to do.
    func standIn() {
        let lanes = lanes
        let thread = Thread {
            lanes.standIn()
            Reactor.shared.standIn { lanes.next() }
        }
        thread.name = "guards"
        thread.stackSize = 4 << 20
        thread.start()
    }

    @ReactorActor func submit(_ request: VolumeRequest, _ shell: EngineShell<LeaseEngine>) {
        results.shell = shell
        let work = request.work
        let isBallot = if case .sequence = work { true } else { false }
        lanes.submit(lane: request.lane.name, token: request.token, timeout: request.timeout, orHere: isBallot) { [files] goOn in files.perform(work, goOn) }
    }

    func close(under root: String) { files.close(under: root) }

    /// Where results go: known once the shell performs its first action.
    @ReactorActor private final class Results {
        var shell: EngineShell<LeaseEngine>?
        nonisolated init() {}

        func deliver(_ report: LaneThreads<IOResult>.Report) {
            switch report {
            case .completed(let token, let result): shell?.submit(.completed(token, result))
            case .timedOut(let token): shell?.submit(.completed(token, .timedOut))
            case .landed(let token): shell?.submit(.landed(token))
            }
        }
    }
}
