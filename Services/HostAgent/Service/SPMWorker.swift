import Bus
import Foundation
import HostAgentStorage
import Messages
import ServiceKit

/// A task as the agent hands it to the worker.
struct WorkerTask: Codable, Sendable {
    var task: TaskRun
    /// Where the domain of a new volume is on this host.
    var path: String?
}

/// The SPM's hands: payload of the guard that holds lease SDM, so that whatever it does ends with the role (S12).
///
/// It works for exactly one version of that lease, and asks lease-service whether it is still held right before anything is published. Every task can be given again.
@ReactorActor
final class SPMWorker {
    private let pool: String
    /// Uuid of the master domain.
    private let master: String
    private let holder: String
    private let lver: UInt64
    private let leases: RequestClient
    private var server: RequestServer?
    private var waiting: [RequestID: [ReturnPath]] = [:]

    /// Serves until it is killed. No Swift tasks here, see ``HostAgentMain``.
    nonisolated static func run(_ arguments: [String]) -> Never {
        var options: [String: String] = [:]
        for index in stride(from: 0, to: arguments.count - 1, by: 2) { options[arguments[index]] = arguments[index + 1] }
        let environment = ProcessInfo.processInfo.environment
        guard let run = options["--run"], let pool = options["--pool"], let master = options["--master"], let holder = environment["BULWARK_HOLDER"],
            let lver = environment["BULWARK_LVER"].flatMap({ UInt64($0) })
        else {
            print("host-agent spm-worker is started by vm-guard only")
            exit(2)
        }
        signal(SIGPIPE, SIG_IGN)
        umask(0o022)
        Reactor.shared.start()
        Reactor.shared.post {
            do {
                try SPMWorker(run: run, pool: pool, master: master, holder: holder, lver: lver).serve(at: "ipc://\(run)/spm-worker.requests")
            } catch {
                print("the SPM's worker does not start: \(error)")
                exit(1)
            }
        }
        while true { pause() }
    }

    private init(run: String, pool: String, master: String, holder: String, lver: UInt64) throws {
        self.pool = pool
        self.master = master
        self.holder = holder
        self.lver = lver
        leases = try RequestClient(endpoint: "ipc://\(run)/lease-service.requests", serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
    }

    private func serve(at endpoint: String) throws {
        server = try RequestServer(endpoints: [endpoint], security: nil) { [self] in receive($0) }
    }

    private func receive(_ request: IncomingRequest) {
        let id = request.header.id
        do {
            guard request.header.type == "task.run" else {
                throw RequestError(RequestErrorCode.unknownType, "the SPM's worker does not know the request type \"\(request.header.type)\"")
            }
            let work = try request.body(WorkerTask.self)
            guard work.task.pool == pool, work.task.lver == lver else {
                throw RequestError(AgentErrorCode.notSPM, "this worker serves pool \(pool) with lease version \(lver)")
            }
            // A task that is under way is only waited for.
            waiting[id, default: []].append(request.returnPath)
            if waiting[id]?.count == 1 { begin(id, work) }
        } catch {
            let refusal = error as? RequestError ?? RequestError(RequestErrorCode.malformed, "\(error)")
            server?.send(ReplyFrame.encode(id: id, .refused(refusal)), to: request.returnPath)
        }
    }

    private func begin(_ id: RequestID, _ work: WorkerTask) {
        switch work.task.work {
        case .volumeCreate(_, let image, let size, let source):
            guard let path = work.path else { return finish(id, .refused(RequestError(RequestErrorCode.malformed, "a volume needs its domain's path"))) }
            make(id, work.task, VolumeBuild(task: work.task.task, lver: lver, domain: path, image: image, size: size, source: source))
        case .leaseCreate(let lease):
            leases.request("lease.create", LeaseRequest(lease: lease, lver: lver), timeout: .seconds(120)) { [self] reply in
                if case .failure(let error) = reply, error.code != LeaseErrorCode.exists.rawValue { return finish(id, .refused(error)) }
                finish(id, .success(TaskResult(task: work.task.task, detail: "lease \(lease.resource) exists in \(lease.lockspace)")))
            }
        }
    }

    // MARK: Volumes

    private func make(_ id: RequestID, _ task: TaskRun, _ volume: VolumeBuild) {
        step(id, "build") { () throws(RequestError) in
            if !volume.isPublished { try volume.build() }
        } then: { [self] in
            guard !volume.isPublished else { return finish(id, published(task, volume)) }
            whileHeld(id) { [self] in
                step(id, "publish") { () throws(RequestError) in
                    try volume.publish()
                } then: { [self] in
                    finish(id, published(task, volume))
                }
            }
        }
    }

    private func published(_ task: TaskRun, _ volume: VolumeBuild) -> Reply { .success(TaskResult(task: task.task, detail: "volume \(volume.image) exists")) }

    private func step(_ id: RequestID, _ label: String, _ work: @escaping @Sendable () throws(RequestError) -> Void, then next: @escaping @Sendable @ReactorActor () -> Void) {
        Blocking.run(label) { () -> RequestError? in
            do throws(RequestError) {
                try work()
                return nil
            } catch {
                return error
            }
        } then: { [self] error in
            if let error { return finish(id, .refused(RequestError(AgentErrorCode.taskFailed, error.message))) }
            next()
        }
    }

    /// Goes on only if lease SDM is still held by this worker's guard, under the version it was started with.
    private func whileHeld(_ id: RequestID, _ next: @escaping @ReactorActor () -> Void) {
        leases.request("lease.inspect", LeaseRequest(lease: LeaseName(lockspace: master, resource: DomainLayout.sdm)), timeout: .seconds(20)) { [self] reply in
            do {
                let lease = try ReplyFrame.body(LeaseView.self, reply.get())
                guard lease.holder == holder, lease.lver == lver else {
                    throw RequestError(AgentErrorCode.notSPM, "lease SDM is not held by \(holder) with version \(lver) any more (version \(lease.lver), \(lease.holder ?? "nobody here"))")
                }
                next()
            } catch {
                finish(id, .refused(error as? RequestError ?? RequestError(RequestErrorCode.malformed, "\(error)")))
            }
        }
    }

    private func finish(_ id: RequestID, _ reply: Reply) {
        let frame = ReplyFrame.encode(id: id, reply)
        for path in waiting.removeValue(forKey: id) ?? [] { server?.send(frame, to: path) }
    }
}
