import Bus
import DomainMonitorEngine
import Foundation
import Messages
import ServiceKit

/// Sends what the engine wants to agents and to fencing-service; every answer, and every missing one, comes back as an input.
@ReactorActor
final class DomainRequests {
    private struct Agent {
        var endpoint: String
        var key: String?
        var client: RequestClient
    }

    private let security: BusSecurity?
    private let fencing: String
    private let timeout: Messages.Duration
    private let createTimeout: Messages.Duration
    private var agents: [String: Agent] = [:]
    private var fencingClient: RequestClient?

    init(security: BusSecurity?, fencing: String, configuration: Configuration) {
        self.security = security
        self.fencing = fencing
        timeout = configuration.duration("agent.timeout")
        createTimeout = configuration.duration("agent.createTimeout")
    }

    func perform(_ action: DomainAction, for shell: EngineShell<DomainMonitor>) {
        switch action {
        case .create(let ask, let create):
            send(
                "storage.create", create, id: ask.requestID(lineage: shell.lineage), of: { try self.agent(ask.host, shell) }, target: ask.bootID,
                createTimeout
            ) { shell.submit(.created(ask, $0)) }
        case .connect(let ask, let connect):
            send("storage.connect", connect, id: nil, of: { try self.agent(ask.host, shell) }, target: ask.bootID, timeout) { shell.submit(.connected(ask, $0)) }
        case .flag(let status):
            send("host.set-nonoperational", status, id: nil, of: { try self.fencing(shell) }, target: nil, timeout) { shell.submit(.flagged(status, $0)) }
        }
    }

    private func send(
        _ type: String, _ body: any Encodable & Sendable, id: RequestID?, of client: () throws -> RequestClient, target: String?, _ timeout: Messages.Duration,
        _ completion: @escaping @ReactorActor (Answer) -> Void
    ) {
        do {
            try client().request(type, body, id: id, target: target, timeout: timeout) { completion(Answer($0)) }
        } catch {
            // What could not be sent is as good as unanswered: the engine asks again (I4).
            _ = Reactor.shared.after(.milliseconds(100)) { completion(.unanswered) }
        }
    }

    private func agent(_ name: String, _ shell: EngineShell<DomainMonitor>) throws -> RequestClient {
        guard let host = shell.engine.hosts[name] else { throw RequestError(RequestErrorCode.notFound, "host \(name) is not registered") }
        if let agent = agents[name] {
            if agent.endpoint == host.requests, agent.key == host.key { return agent.client }
            agents[name] = nil
            agent.client.close()
        }
        let client = try client(host.requests, host.key, shell)
        agents[name] = Agent(endpoint: host.requests, key: host.key, client: client)
        return client
    }

    private func fencing(_ shell: EngineShell<DomainMonitor>) throws -> RequestClient {
        let client = try fencingClient ?? client(fencing, nil, shell)
        fencingClient = client
        return client
    }

    private func client(_ endpoint: String, _ key: String?, _ shell: EngineShell<DomainMonitor>) throws -> RequestClient {
        try RequestClient(endpoint: endpoint, serverKey: key, security: security, from: DomainMonitorCommand.service, lineage: shell.lineage, term: shell.term)
    }
}
