import HostAgentEngine
import Messages
import ServiceCore

extension ServiceProcess {
    /// As `ManagerHello`: carries out what ``Greetings`` decides.
    func greet(_ steps: [Greetings.Step]) {
        for step in steps {
            switch step {
            case .ask(let host, let bootID, let number):
                guard let agent = world.host(host.name)?.agent else { continue }
                let caller = caller
                ask(agent, target: bootID, timeout: greetings.patience, { .hello($0, caller) }) { [self] in greet(greetings.answered(host.name, number, $0.error)) }
            case .wait(let host, let number, let pause): after(pause) { [self] in greet(greetings.due(host, number)) }
            case .said(let host, let refusal): greeted(host, refusal: refusal)
            case .forgotten: break
            }
        }
    }

    /// Follows fencing-service's registry as `HostRegistry` does.
    func follow(registryOf managers: ManagerSet, _ onNews: @escaping (RegistryNews) -> Void) {
        var follower = RegistryFollower()
        _ = Subscription(
            of: managers.fencing, by: self, topics: ["host.", "ha."],
            onSnapshot: { [self] state in
                guard let snapshot = state as? FencingSnapshot else { return }
                let news = follower.take(snapshot) { managers.verified($0) }
                greet(greetings.take(news))
                onNews(news)
            },
            onEvent: { [self] event in
                guard let known = try? RegistryEvent(event.type, event), let news = follower.take(known, { managers.verified($0) }) else { return }
                greet(greetings.take(news))
                onNews(news)
            })
    }
}

extension Process {

    /// Asks another process as `RequestClient` does: sent at once, again every second under the same id, unknown when its time is over. A later life of the asker hears nothing.
    func ask<E: Engine>(
        _ server: ServiceProcess<E>, id: RequestID? = nil, target: String? = nil, timeout: Duration, _ input: (RequestID) -> E.Input,
        completion: @escaping (Result<any Encodable & Sendable, RequestError>) -> Void
    ) {
        let id = id ?? world.newID()
        let input = input(id)
        ask(server, timeout: timeout, completion: completion) { server, answer in server.receive(id, target: target, input, answer) }
    }

    /// As ``ask(_:id:target:timeout:_:completion:)`` for requests that leave no input.
    func ask<E: Engine>(
        _ server: ServiceProcess<E>, timeout: Duration, completion: @escaping (Result<any Encodable & Sendable, RequestError>) -> Void,
        _ deliver: @escaping (ServiceProcess<E>, @escaping (Reply) -> Void) -> Void
    ) {
        Question(of: self, to: server, timeout: timeout, completion: completion, deliver).send()
    }
}

/// A request that is outstanding.
private final class Question<E: Engine> {
    private let asker: Process
    private let server: ServiceProcess<E>
    private let life: Int
    private let until: Instant
    private var completion: ((Result<any Encodable & Sendable, RequestError>) -> Void)?
    private let deliver: (ServiceProcess<E>, @escaping (Reply) -> Void) -> Void

    init(
        of asker: Process, to server: ServiceProcess<E>, timeout: Duration, completion: @escaping (Result<any Encodable & Sendable, RequestError>) -> Void,
        _ deliver: @escaping (ServiceProcess<E>, @escaping (Reply) -> Void) -> Void
    ) {
        self.asker = asker
        self.server = server
        self.completion = completion
        self.deliver = deliver
        life = asker.life
        until = asker.clock + timeout
    }

    func send() {
        let network = asker.world.network
        if let server = server.reached(from: asker) {
            network.send(from: asker.machine, to: server) { [self] in
                deliver(server) { [self] reply in
                    network.send(from: server.machine, to: asker) { [self] in finish(reply) }
                }
            }
        }
        let left = until - asker.clock
        asker.after(min(.seconds(1), max(.zero, left))) { [self] in
            guard completion != nil else { return }
            guard asker.clock < until else {
                return end(.failure(RequestError(RequestErrorCode.unknownOutcome, "no reply of \(server.name) within the timeout; it may have been done")))
            }
            send()
        }
    }

    private func finish(_ reply: Reply) {
        switch reply {
        case .success(let body): end(.success(body))
        case .refused(let error): end(.failure(error))
        }
    }

    private func end(_ result: Result<any Encodable & Sendable, RequestError>) {
        guard let waiting = completion, asker.life == life, asker.isAlive else { return }
        completion = nil
        waiting(result)
    }
}
