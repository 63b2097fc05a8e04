public import Bus
import Foundation
public import Messages
import ServiceCore

/// Introduces a manager service to the agent of every host: carries out what ``Greetings`` decides.
///
/// So an agent pins the service's lineage and newest term while it is enrolled, not only with the first command, before which a second set of managers may have come (S16).
@ReactorActor
public final class ManagerHello {
    private let security: BusSecurity?
    private let source: String
    private let lineage: String
    private let term: UInt64
    private let words: Data
    private let onProblem: @ReactorActor (_ key: String, _ text: String?) -> Void
    /// Gets what a host's agent said, if that is news; `nil`: it obeys this service.
    public var onAnswer: (@ReactorActor (_ host: String, _ refusal: String?) -> Void)?
    private var greetings: Greetings
    /// Until they are answered.
    private var clients: [String: RequestClient] = [:]
    /// Until they are greeted again.
    private var timers: [String: TimerID] = [:]

    /// - Parameters:
    ///   - words: what it says beside who it is.
    ///   - patience: how long an answer is awaited, and the pause after one that did not come or was about something else.
    ///   - refusedPause: the pause after an agent said that it obeys others: what it obeys may change.
    public init<E: Engine>(of shell: EngineShell<E>, security: BusSecurity?, saying words: ManagerWords = ManagerWords(), patience: Messages.Duration = .seconds(3), refusedPause: Messages.Duration = .seconds(60)) {
        self.words = (try? JSON.encode(words)) ?? Data("{}".utf8)
        self.security = security
        greetings = Greetings(patience: patience, refusedPause: refusedPause)
        source = shell.source
        lineage = shell.lineage
        term = shell.term
        onProblem = { [weak shell] key, text in shell?.setProblem(key, text) }
    }

    public func greet(_ news: RegistryNews) { carryOut(greetings.take(news)) }
    public func greet(_ host: HostView) { carryOut(greetings.greet(host)) }
    public func hasGreeted(_ host: String, bootID: String) -> Bool { greetings.hasGreeted(host, bootID: bootID) }

    /// Where the host's agent is reached from now on.
    public func note(_ host: HostView) { greetings.note(host) }

    /// It is not called any more.
    public func forget(_ host: String) { carryOut(greetings.forget(host)) }

    private func carryOut(_ steps: [Greetings.Step]) {
        for step in steps {
            switch step {
            case .ask(let host, let bootID, let number): ask(host, bootID, number)
            case .wait(let host, let number, let pause):
                timers[host] = Reactor.shared.after(pause) { [self] in
                    timers[host] = nil
                    carryOut(greetings.due(host, number))
                }
            case .said(let host, let refusal):
                onProblem("hello \(host)", refusal.map { "\(host) does not obey this service: \($0)" })
                onAnswer?(host, refusal)
            case .forgotten(let host, let wasRefusing):
                close(host)
                if wasRefusing { onProblem("hello \(host)", nil) }
            }
        }
    }

    private func close(_ host: String) {
        clients.removeValue(forKey: host)?.close()
        if let timer = timers.removeValue(forKey: host) { Reactor.shared.cancel(timer) }
    }

    private func ask(_ host: HostView, _ bootID: String, _ number: UInt64) {
        let name = host.name
        close(name)
        do {
            let client = try RequestClient(
                endpoint: host.endpoints.agentRequests, serverKey: host.key, security: security, from: source, lineage: lineage, term: term)
            clients[name] = client
            client.request("manager.hello", bodyJSON: words, target: bootID, timeout: greetings.patience) { [self] result in
                guard clients[name] === client else { return }
                clients.removeValue(forKey: name)?.close()
                if case .failure(let error) = result { carryOut(greetings.answered(name, number, error)) } else { carryOut(greetings.answered(name, number, nil)) }
            }
        } catch {
            carryOut(greetings.answered(name, number, RequestError(RequestErrorCode.unknownOutcome, "\(error)")))
        }
    }
}
