import Bus
import Foundation
import Messages
import PlacementEngine
import ServiceKit

/// Sends what the engine wants done to agents and to spm-coordinator; every answer, and every missing one, comes back as an input.
@ReactorActor
final class AgentCommands {
    private struct Agent {
        var endpoint: String
        var key: String?
        var client: RequestClient
    }

    private let security: BusSecurity?
    private let proofs: ProofCheck
    private let spm: String
    private let fencing: String
    private let startTimeout: Messages.Duration
    private let timeout: Messages.Duration
    private let storageTimeout: Messages.Duration
    private var agents: [String: Agent] = [:]
    private var coordinator: RequestClient?
    private var fencingClient: RequestClient?

    init(
        security: BusSecurity?, proofs: ProofCheck, spm: String, fencing: String, startTimeout: Messages.Duration, timeout: Messages.Duration, storageTimeout: Messages.Duration
    ) {
        self.security = security
        self.proofs = proofs
        self.spm = spm
        self.fencing = fencing
        self.startTimeout = startTimeout
        self.timeout = timeout
        self.storageTimeout = storageTimeout
    }

    func perform(_ action: PlacementEngine.Action, for shell: EngineShell<PlacementEngine>) {
        switch action {
        case .createVolume(let vm, let volume, let id): task("volume.create", volume, vm: vm, id: id, shell)
        case .createLease(let vm, let lease, let id): task("lease.create", LeaseRequest(lease: lease), vm: vm, id: id, shell)
        case .start(let target, let start, let id): command("vm.start", start, to: target, vm: start.vm.name, id: id, timeout: startTimeout, shell)
        case .stop(let target, let attempt, let id): command("vm.stop", attempt, to: target, vm: attempt.vm, id: id, timeout: timeout, shell)
        case .observe(let target, let attempt, let id): command("vm.observe", attempt, to: target, vm: attempt.vm, id: id, timeout: timeout, shell)
        case .powerDown(let request, let id): power("power.save", request, id, shell)
        case .powerUp(let request, let id): power("power.on", request, id, shell)
        case .resume(let target, let attempt, let id): command("vm.resume", attempt, to: target, vm: attempt.vm, id: id, timeout: Self.resumeTimeout, shell)
        }
    }

    /// Longer than the agent waits for guard and QEMU.
    private static let resumeTimeout = Messages.Duration.seconds(30)

    /// A host that is to be powered down has two minutes for its goodbye.
    private func power(_ type: String, _ body: HostRequest, _ id: RequestID, _ shell: EngineShell<PlacementEngine>) {
        do {
            let client = try fencingClient ?? client(of: fencing, key: nil, shell)
            fencingClient = client
            client.request(type, body, id: id, timeout: .seconds(300)) { result in
                if case .failure(let error) = result { shell.submit(.powered(host: body.host, id: id, error)) } else { shell.submit(.powered(host: body.host, id: id, nil)) }
            }
        } catch {
            later { shell.submit(.powered(host: body.host, id: id, Self.unsent(error))) }
        }
    }

    private func task(_ type: String, _ body: any Encodable & Sendable, vm: String, id: RequestID, _ shell: EngineShell<PlacementEngine>) {
        do {
            let client = try coordinator ?? client(of: spm, key: nil, shell)
            coordinator = client
            client.request(type, body, id: id, timeout: storageTimeout) { result in
                guard case .failure(let error) = result else { return shell.submit(.prepared(vm: vm, id: id, nil)) }
                shell.submit(.prepared(vm: vm, id: id, error))
            }
        } catch {
            later { shell.submit(.prepared(vm: vm, id: id, Self.unsent(error))) }
        }
    }

    private func command(
        _ type: String, _ body: any Encodable & Sendable, to target: AgentTarget, vm: String, id: RequestID, timeout: Messages.Duration,
        _ shell: EngineShell<PlacementEngine>
    ) {
        do {
            try agent(target, shell).request(type, body, id: id, target: target.bootID, timeout: timeout) { [self] result in
                let observation = ReplyFrame.body(VMObservation.self, result, from: target.host)
                shell.submit(.answered(vm: vm, id: id, AgentAnswer(observation) { proofs.verified($0, from: target.host) }))
            }
        } catch {
            later { shell.submit(.answered(vm: vm, id: id, .failed(Self.unsent(error)))) }
        }
    }

    /// What could not be sent is as good as unanswered: the engine asks again (I4).
    private static func unsent(_ error: any Error) -> RequestError { RequestError(RequestErrorCode.unknownOutcome, "it could not be sent: \(error)") }

    private func later(_ work: @escaping @ReactorActor () -> Void) { _ = Reactor.shared.after(.milliseconds(100), work) }

    private func agent(_ target: AgentTarget, _ shell: EngineShell<PlacementEngine>) throws -> RequestClient {
        if let known = agents[target.host] {
            if known.endpoint == target.endpoint, known.key == target.key { return known.client }
            agents[target.host] = nil
            known.client.close()
        }
        let client = try client(of: target.endpoint, key: target.key, shell)
        agents[target.host] = Agent(endpoint: target.endpoint, key: target.key, client: client)
        return client
    }

    private func client(of endpoint: String, key: String?, _ shell: EngineShell<PlacementEngine>) throws -> RequestClient {
        try RequestClient(endpoint: endpoint, serverKey: key, security: security, from: PlacementCommand.service, lineage: shell.lineage, term: shell.term)
    }
}
