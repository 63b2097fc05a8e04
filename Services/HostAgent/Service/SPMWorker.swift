import Bus
import Foundation
import HostAgentEngine
import HostAgentStorage
import Messages
import ServiceKit

/// The SPM's hands: payload of the guard that holds lease SDM, so that whatever it does ends with the role (S12).
///
/// What it does when is ``SPMWorkerEngine``'s to say.
@ReactorActor
final class SPMWorker {
    private var engine: SPMWorkerEngine<ReturnPath>
    private let leases: RequestClient
    private var server: RequestServer?

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
        engine = SPMWorkerEngine(pool: pool, master: master, holder: holder, lver: lver)
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
            handle(.task(id, try request.body(WorkerTask.self), from: request.returnPath))
        } catch {
            let refusal = error as? RequestError ?? RequestError(RequestErrorCode.malformed, "\(error)")
            server?.send(ReplyFrame.encode(id: id, .refused(refusal)), to: request.returnPath)
        }
    }

    private func handle(_ input: SPMWorkerEngine<ReturnPath>.Input) {
        for step in engine.handle(input) { carryOut(step) }
    }

    private func carryOut(_ step: SPMWorkerEngine<ReturnPath>.Step) {
        switch step {
        case .build(let id, let volume):
            Blocking.run("build") {
                Self.build(volume)
            } then: { [self] in
                handle(.built(id, $0))
            }
        case .inspect(let id, let lease, let timeout):
            leases.request("lease.inspect", lease, timeout: timeout) { [self] reply in
                handle(.inspected(id, reply.flatMap { frame in
                    Result { try ReplyFrame.body(LeaseView.self, frame) }.mapError { $0 as? RequestError ?? RequestError(RequestErrorCode.malformed, "\($0)") }
                }))
            }
        case .publish(let id, let volume):
            Blocking.run("publish") {
                Blocking.error { () throws(RequestError) in try volume.publish() }
            } then: { [self] in
                handle(.published(id, $0))
            }
        case .createLease(let id, let lease, let timeout):
            leases.request("lease.create", lease, timeout: timeout) { [self] reply in handle(.leaseCreated(id, reply.error)) }
        case .reply(let id, let reply, let paths):
            let frame = ReplyFrame.encode(id: id, reply)
            for path in paths { server?.send(frame, to: path) }
        }
    }

    private nonisolated static func build(_ volume: VolumeBuild) -> VolumeBuildOutcome {
        do throws(RequestError) {
            if !volume.isPublished { try volume.build() }
            return volume.isPublished ? .isPublished : .built
        } catch {
            return .failed(error)
        }
    }
}
