import Bus
import DomainMonitorEngine
import Foundation
import Messages
import ServiceKit

/// Listens to what every host's probes say. Latencies and repetitions stay here; only what changes a host's word is an input.
@ReactorActor
final class StorageReports {
    private struct Snapshot: Decodable { var body: AgentSnapshot }

    private struct Agent {
        var host: MonitoredHost
        var subscriber: EventSubscriber
    }

    private let shell: EngineShell<DomainMonitor>
    private let security: BusSecurity?
    private var agents: [String: Agent] = [:]

    init(shell: EngineShell<DomainMonitor>, security: BusSecurity?) {
        self.shell = shell
        self.security = security
    }

    /// Listens to exactly these hosts.
    func follow(_ hosts: [String: MonitoredHost]) {
        for name in agents.keys.sorted() where hosts[name] == nil { agents.removeValue(forKey: name)?.subscriber.close() }
        for name in hosts.keys.sorted() {
            if let host = hosts[name] { follow(host) }
        }
    }

    private func follow(_ host: MonitoredHost) {
        let name = host.name
        if let known = agents[name]?.host, (known.requests, known.events, known.key) == (host.requests, host.events, host.key) { return }
        agents.removeValue(forKey: name)?.subscriber.close()
        do {
            let subscriber = try EventSubscriber(
                events: host.events, requests: host.requests, serverKey: host.key, security: security, topics: ["agent.storage."],
                onSnapshot: { [self] frame in reading(name) { hear(try ReplyFrame.body(Snapshot.self, frame).body.storage, from: name) } },
                onEvent: { [self] header, frame in
                    guard header.type == "agent.storage" else { return }
                    reading(name) { hear(try EventFrame.body(AgentStorage.self, frame), from: name) }
                })
            agents[name] = Agent(host: host, subscriber: subscriber)
            shell.setProblem("agent \(name)", nil)
        } catch {
            shell.setProblem("agent \(name)", "the agent of \(name) cannot be followed: \(error)")
        }
    }

    /// What cannot be read is told by health and changes nothing.
    private func reading(_ name: String, _ work: () throws -> Void) {
        do {
            try work()
            shell.setProblem("reports of \(name)", nil)
        } catch {
            shell.setProblem("reports of \(name)", "what \(name) reports cannot be read: \(error)")
        }
    }

    private func hear(_ storage: AgentStorage, from name: String) {
        guard storage.host == name else { return shell.setProblem("agent \(name)", "the agent at the endpoints of \(name) calls itself \(storage.host)") }
        if let input = shell.engine.input(storage) { shell.submit(input) }
    }
}
