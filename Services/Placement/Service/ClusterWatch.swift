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
    private var coordinator: EventSubscriber?
    private var lastPool: PoolView?
    private var isSynced = false
    private var agents: [String: Agent] = [:]
    private var follower = ClusterFollower()
    private let hello: ManagerHello

    private static let silence = Messages.Duration.seconds(5)

    init(shell: EngineShell<PlacementEngine>, proofs: ProofCheck, security: BusSecurity?) {
        self.shell = shell
        self.proofs = proofs
        self.security = security
        hello = ManagerHello(of: shell, security: security)
    }

    /// - Parameter spm: only while power is saved.
    func start(fencing endpoints: ClusterFile.Endpoints, spm: ClusterFile.Endpoints?) throws {
        coordinator = try spm.map { spm in
            try EventSubscriber(
                events: spm.events, requests: nil, serverKey: nil, security: security, topics: ["pool.status"], onSnapshot: nil,
                onEvent: { [self] _, frame in
                    guard let pool = try? EventFrame.body(PoolView.self, frame), pool != lastPool else { return }
                    lastPool = pool
                    shell.submit(.pool(pool))
                })
        }
        for host in shell.engine.hostViews { follow(host) }
        fencing = try EventSubscriber(
            events: endpoints.events, requests: endpoints.requests, serverKey: nil, security: security, topics: ["host.", "ha."],
            onSnapshot: { [self] frame in reading("fencing-service's snapshot") { try take(ReplyFrame.body(Snapshot<FencingSnapshot>.self, frame).body) } },
            onEvent: { [self] header, frame in
                reading("\(header.type) of fencing-service") {
                    if let event = try RegistryEvent(header.type, EventFrame.Body(frame)) { take(event) }
                }
            })
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
        shell.submit(follower.take(snapshot, verified))
        isSynced = true
        shell.setProblem("fencing", nil)
        for name in agents.keys.sorted() where !snapshot.hosts.contains(where: { $0.name == name }) { remove(name) }
        for host in snapshot.hosts {
            follow(host)
            hello.greet(host)
        }
        submitAwaited()
    }

    private func take(_ event: RegistryEvent) {
        if let input = follower.take(event, verified) { shell.submit(input) }
        switch event {
        case .host(let host):
            follow(host)
            hello.greet(host)
            submitAwaited()
        case .removed(let name): remove(name)
        default: break
        }
    }

    private func verified(_ proof: SignedProof, from sender: String?) -> SignedProof? { proofs.verified(proof, from: sender) }

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

    private func remove(_ name: String) {
        hello.forget(name)
        forget(name)
    }

    private func forget(_ name: String) {
        agents.removeValue(forKey: name)?.subscriber.close()
        follower.forget(name)
    }

    private func hear(_ report: AgentVMs, from name: String) {
        guard report.host == name else { return shell.setProblem("agent \(name)", "the agent at the endpoints of \(name) calls itself \(report.host)") }
        if let input = follower.take(report, for: shell.engine, verified) { shell.submit(input) }
    }

    private func submitAwaited() {
        for input in follower.awaited(by: shell.engine, verified) { shell.submit(input) }
    }
}
