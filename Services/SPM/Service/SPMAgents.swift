import Bus
import Foundation
import Messages
import SPMEngine
import ServiceKit

/// Sends what the engine wants to the hosts' agents; every answer, and every missing one, comes back as an input.
@ReactorActor
final class SPMAgents {
    private struct Agent {
        var endpoint: String
        var key: String?
        var client: RequestClient
    }

    /// Verifies the proofs that agents send.
    var registry: HostRegistry?

    private let security: BusSecurity?
    private let startTimeout: Messages.Duration
    private let stopTimeout: Messages.Duration
    private let statusTimeout: Messages.Duration
    private let taskTimeout: Messages.Duration
    private var agents: [String: Agent] = [:]

    init(security: BusSecurity?, configuration: Configuration) {
        self.security = security
        startTimeout = configuration.duration("spm.startTimeout")
        stopTimeout = configuration.duration("spm.stopTimeout")
        statusTimeout = configuration.duration("spm.statusTimeout")
        taskTimeout = configuration.duration("task.timeout")
    }

    func perform(_ action: SPMAction, for shell: EngineShell<SPMCoordinator>) {
        switch action {
        case .start(let ask, let start):
            // The term makes the id: however often it is sent, the agent does it once.
            send("spm.start", start, id: "spm-start-\(shell.lineage)-\(ask.pool)-\(ask.term)", to: ask.host, ask.bootID, startTimeout, shell) { [self] in
                shell.submit(.answer(ask, roleAnswer($0, from: ask.host)))
            }
        case .ask(let ask):
            let isStop = ask.kind == .stop
            let body = SPMTerm(pool: ask.pool, term: ask.term)
            send(isStop ? "spm.stop" : "spm.status", body, id: nil, to: ask.host, ask.bootID, isStop ? stopTimeout : statusTimeout, shell) { [self] in
                shell.submit(.answer(ask, roleAnswer($0, from: ask.host)))
            }
        case .run(let ask, let run):
            send("task.run", run, id: "task-\(ask.term)-\(ask.attempt)-\(ask.task)", to: ask.host, ask.bootID, taskTimeout, shell) { shell.submit(.taskAnswer(ask, Self.taskAnswer($0))) }
        }
    }

    private func send(
        _ type: String, _ body: any Encodable & Sendable, id: RequestID?, to host: String, _ bootID: String, _ timeout: Messages.Duration,
        _ shell: EngineShell<SPMCoordinator>, _ completion: @escaping RequestClient.Completion
    ) {
        do {
            try client(of: host, shell).request(type, body, id: id, target: bootID, timeout: timeout, completion: completion)
            shell.setProblem("agent \(host)", nil)
        } catch {
            // What could not be sent is as good as unanswered: the engine asks again (I4).
            shell.setProblem("agent \(host)", "the agent of \(host) cannot be asked: \(error)")
            let unknown = RequestError(RequestErrorCode.unknownOutcome, "it could not be sent: \(error)")
            _ = Reactor.shared.after(.milliseconds(100)) { completion(.failure(unknown)) }
        }
    }

    private func client(of host: String, _ shell: EngineShell<SPMCoordinator>) throws -> RequestClient {
        guard let known = shell.engine.hosts[host] else { throw RequestError(RequestErrorCode.notFound, "host \(host) is not registered") }
        if let agent = agents[host] {
            if agent.endpoint == known.agent, agent.key == known.key { return agent.client }
            agents[host] = nil
            agent.client.close()
        }
        let client = try RequestClient(
            endpoint: known.agent, serverKey: known.key, security: security, from: SPMCommand.service, lineage: shell.lineage, term: shell.term)
        agents[host] = Agent(endpoint: known.agent, key: known.key, client: client)
        return client
    }

    /// A reply that cannot be read says nothing (I4); a proof that is not acceptable is none.
    private func roleAnswer(_ result: Result<Data, RequestError>, from host: String) -> RoleAnswer {
        switch result {
        case .failure(let error): return error.code == RequestErrorCode.unknownOutcome.rawValue ? .unanswered : .refused(error)
        case .success(let frame):
            guard var status = try? ReplyFrame.body(SPMRoleStatus.self, frame) else { return .unanswered }
            status.ended = status.ended.flatMap { registry?.verified($0, from: host) }
            return .status(status)
        }
    }

    private static func taskAnswer(_ result: Result<Data, RequestError>) -> TaskAnswer {
        switch result {
        case .failure(let error): return error.code == RequestErrorCode.unknownOutcome.rawValue ? .unanswered : .refused(error)
        case .success(let frame):
            guard let done = try? ReplyFrame.body(TaskResult.self, frame) else { return .unanswered }
            return .finished(done)
        }
    }
}
