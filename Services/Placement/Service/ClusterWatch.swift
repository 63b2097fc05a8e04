import Bus
import Foundation
import Messages
import PlacementEngine
import ServiceKit

/// Follows fencing-service and the agent of every host it names, and tells the engine what changed.
@ReactorActor
final class ClusterWatch {
    private struct Snapshot<State: Decodable>: Decodable { var body: State }

    private struct Agent {
        var endpoints: HostEndpoints
        var key: String?
        var subscriber: EventSubscriber
    }

    private let shell: EngineShell<PlacementEngine>
    private let proofs: ProofCheck
    private let security: BusSecurity?
    private var fencing: EventSubscriber?
    private var isSynced = false
    private var agents: [String: Agent] = [:]
    private var filter = ReportFilter()

    private static let silence = Messages.Duration.seconds(5)

    init(shell: EngineShell<PlacementEngine>, proofs: ProofCheck, security: BusSecurity?) {
        self.shell = shell
        self.proofs = proofs
        self.security = security
    }

    func start(fencing endpoints: ClusterFile.Endpoints) throws {
        for host in shell.engine.hostViews { follow(host) }
        fencing = try EventSubscriber(
            events: endpoints.events, requests: endpoints.requests, serverKey: nil, security: security, topics: ["host.", "ha."],
            onSnapshot: { [self] frame in reading("fencing-service's snapshot") { try take(ReplyFrame.body(Snapshot<FencingSnapshot>.self, frame).body) } },
            onEvent: { [self] header, frame in reading("\(header.type) of fencing-service") { try take(header.type, frame) } })
        shell.setProblem("fencing", "waits for fencing-service: nothing is recovered until it was heard")
        checkSilence(lastHeard: Clock.boottime())
    }

    /// What cannot be read is told by health and changes nothing.
    private func reading(_ what: String, _ work: () throws -> Void) {
        do {
            try work()
            shell.setProblem("messages", nil)
        } catch {
            shell.setProblem("messages", "\(what) cannot be read: \(error)")
        }
    }

    private func checkSilence(lastHeard: Instant) {
        let heard = fencing?.lastHeard ?? lastHeard
        if Clock.boottime() - heard >= Self.silence {
            shell.setProblem("fencing", "fencing-service is not heard: nothing is recovered until it is")
        } else if heard > lastHeard, isSynced {
            shell.setProblem("fencing", nil)
        }
        _ = Reactor.shared.after(.seconds(1)) { [self] in checkSilence(lastHeard: heard) }
    }

    // MARK: fencing-service

    private func take(_ snapshot: FencingSnapshot) {
        var verified = snapshot
        verified.hosts = snapshot.hosts.map(checked)
        for host in verified.hosts { filter.note(host) }
        shell.submit(.fencing(verified))
        isSynced = true
        shell.setProblem("fencing", nil)
        for name in agents.keys.sorted() where !snapshot.hosts.contains(where: { $0.name == name }) { forget(name) }
        for host in snapshot.hosts { follow(host) }
        submitAwaited()
    }

    private func take(_ type: String, _ frame: Data) throws {
        switch type {
        case "host.status", "host.registered":
            let host = checked(try EventFrame.body(HostView.self, frame))
            filter.note(host)
            shell.submit(.host(host))
            follow(host)
            submitAwaited()
        case "host.removed":
            let host = try EventFrame.body(HostView.self, frame)
            shell.submit(.hostRemoved(host.name))
            forget(host.name)
        case "host.proof":
            guard let proof = proofs.verified(try EventFrame.body(HostProofEvent.self, frame)) else { return }
            filter.expect(proof.proof.host)
            shell.submit(.proof(proof))
        case "host.proof-revoked":
            let host = try EventFrame.body(HostProofEvent.self, frame).proof.host
            filter.expect(host)
            shell.submit(.proofRevoked(host: host))
        case "ha.state":
            shell.submit(.ha(try EventFrame.body(HAState.self, frame)))
        default:
            break
        }
    }

    private func checked(_ host: HostView) -> HostView {
        var copy = host
        copy.proof = host.proof.flatMap { proofs.verified($0) }.flatMap { $0.proof.host == host.name ? $0 : nil }
        return copy
    }

    // MARK: Agents

    private func follow(_ host: HostView) {
        if let known = agents[host.name] {
            if known.endpoints == host.endpoints, known.key == host.key { return }
            forget(host.name)
        }
        let name = host.name
        do {
            let subscriber = try EventSubscriber(
                events: host.endpoints.agentEvents, requests: host.endpoints.agentRequests, serverKey: host.key, security: security, topics: ["agent.vms."],
                onSnapshot: { [self] frame in
                    reading("the snapshot of \(name)'s agent") { hear(try ReplyFrame.body(Snapshot<AgentSnapshot>.self, frame).body.vms, from: name) }
                },
                onEvent: { [self] header, frame in
                    guard header.type == "agent.vms" else { return }
                    reading("the report of \(name)'s agent") { hear(try EventFrame.body(AgentVMs.self, frame), from: name) }
                })
            agents[name] = Agent(endpoints: host.endpoints, key: host.key, subscriber: subscriber)
            shell.setProblem("agent \(name)", nil)
        } catch {
            shell.setProblem("agent \(name)", "the agent of \(name) cannot be followed: \(error)")
        }
    }

    private func forget(_ name: String) {
        agents.removeValue(forKey: name)?.subscriber.close()
        filter.forget(name)
    }

    private func hear(_ report: AgentVMs, from name: String) {
        guard report.host == name else { return shell.setProblem("agent \(name)", "the agent at the endpoints of \(name) calls itself \(report.host)") }
        if filter.isNews(report) || shell.engine.awaitsReport(of: report.bootID, on: name) { submit(report) }
    }

    private func submit(_ report: AgentVMs) {
        var verified = report
        for index in verified.vms.indices { verified.vms[index].ended = verified.vms[index].ended.flatMap { proofs.verified($0, from: report.host) } }
        shell.submit(.report(verified))
    }

    /// A report may come before fencing-service has told of its boot; it counts from then on.
    private func submitAwaited() {
        for report in filter.reports where shell.engine.awaitsReport(of: report.bootID, on: report.host) { submit(report) }
    }
}
