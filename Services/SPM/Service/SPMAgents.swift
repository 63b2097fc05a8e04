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
        case .start(let ask, let start): put(ask, "spm.start", start, startTimeout, shell)
        case .ask(let ask):
            let isStop = ask.kind == .stop
            put(ask, isStop ? "spm.stop" : "spm.status", SPMTerm(pool: ask.pool, term: ask.term), isStop ? stopTimeout : statusTimeout, shell)
        case .run(let ask, let run):
            send("task.run", run, id: ask.requestID, to: ask.host, ask.bootID, taskTimeout, shell) {
                shell.submit(.taskAnswer(ask, TaskAnswer(ReplyFrame.body(TaskResult.self, $0, from: ask.host))))
            }
        }
    }

    private func put(_ ask: RoleAsk, _ type: String, _ body: any Encodable & Sendable, _ timeout: Messages.Duration, _ shell: EngineShell<SPMCoordinator>) {
        // With the term: a copy of this journal must not ask under the same request ids, for an agent answers an id once (S16).
        send(type, body, id: ask.requestID(lineage: shell.epoch), to: ask.host, ask.bootID, timeout, shell) { [self] in
            shell.submit(.answer(ask, RoleAnswer(ReplyFrame.body(SPMRoleStatus.self, $0, from: ask.host)) { registry?.verified($0, from: ask.host) }))
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
}
