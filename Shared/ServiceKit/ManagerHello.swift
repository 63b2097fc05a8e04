public import Bus
import Foundation
public import Messages

/// Introduces a manager service to the agent of every host, once in each life of the host and of the service.
///
/// So an agent pins the service's lineage and newest term while it is enrolled, not only with the first command, before which a second set of managers may have come (S16).
@ReactorActor
public final class ManagerHello {
    private let security: BusSecurity?
    private let source: String
    private let lineage: String
    private let term: UInt64
    private let onProblem: @ReactorActor (_ key: String, _ text: String?) -> Void
    /// Gets what a host's agent said, if that is news; `nil`: it obeys this service.
    public var onAnswer: (@ReactorActor (_ host: String, _ refusal: String?) -> Void)?
    /// The newest of each host that is to be greeted.
    private var views: [String: HostView] = [:]
    /// Boot ids, by host.
    private var greeted: [String: String] = [:]
    /// Until they are answered.
    private var clients: [String: RequestClient] = [:]
    /// Until they are greeted again.
    private var timers: [String: TimerID] = [:]
    private var refusals: [String: String] = [:]
    private let patience: Messages.Duration
    private let refusedPause: Messages.Duration

    /// - Parameters:
    ///   - patience: how long an answer is awaited, and the pause after one that did not come or was about something else.
    ///   - refusedPause: the pause after an agent said that it obeys others: what it obeys may change.
    public init<E: Engine>(of shell: EngineShell<E>, security: BusSecurity?, patience: Messages.Duration = .seconds(3), refusedPause: Messages.Duration = .seconds(60)) {
        self.security = security
        self.patience = patience
        self.refusedPause = refusedPause
        source = shell.source
        lineage = shell.lineage
        term = shell.term
        onProblem = { [weak shell] key, text in shell?.setProblem(key, text) }
    }

    public func greet(_ news: RegistryNews) {
        switch news {
        case .all(let hosts, _):
            for name in views.keys.sorted() where !hosts.contains(where: { $0.name == name }) { forget(name) }
            for host in hosts { greet(host) }
        case .host(let host): greet(host)
        case .removed(let host): forget(host)
        case .recovery: break
        }
    }

    public func hasGreeted(_ host: String, bootID: String) -> Bool { greeted[host] == bootID }

    public func greet(_ host: HostView) {
        note(host)
        guard let bootID = host.bootID, greeted[host.name] != bootID else { return }
        ask(host, bootID)
    }

    /// Where the host's agent is reached from now on.
    public func note(_ host: HostView) { views[host.name] = host }

    /// It is not called any more.
    public func forget(_ host: String) {
        views[host] = nil
        greeted[host] = nil
        clients.removeValue(forKey: host)?.close()
        if let timer = timers.removeValue(forKey: host) { Reactor.shared.cancel(timer) }
        if refusals.removeValue(forKey: host) != nil { onProblem("hello \(host)", nil) }
    }

    private func ask(_ host: HostView, _ bootID: String) {
        let name = host.name
        greeted[name] = bootID
        clients.removeValue(forKey: name)?.close()
        if let timer = timers.removeValue(forKey: name) { Reactor.shared.cancel(timer) }
        do {
            let client = try RequestClient(
                endpoint: host.endpoints.agentRequests, serverKey: host.key, security: security, from: source, lineage: lineage, term: term)
            clients[name] = client
            client.request("manager.hello", bodyJSON: Data("{}".utf8), target: bootID, timeout: patience) { [self] result in
                guard clients[name] === client else { return }
                clients.removeValue(forKey: name)?.close()
                switch result {
                case .success: answered(name, nil)
                case .failure(let error) where error.code == RequestErrorCode.managerForeign.rawValue:
                    answered(name, error.message)
                    again(name, after: refusedPause)
                // An agent of a version without it.
                case .failure(let error) where error.code == RequestErrorCode.unknownType.rawValue: break
                case .failure: again(name, after: patience)
                }
            }
        } catch {
            again(name, after: patience)
        }
    }

    private func answered(_ host: String, _ refusal: String?) {
        if let refusal, refusals[host] == refusal { return }
        refusals[host] = refusal
        onProblem("hello \(host)", refusal.map { "\(host) does not obey this service: \($0)" })
        onAnswer?(host, refusal)
    }

    private func again(_ name: String, after pause: Messages.Duration) {
        timers[name] = Reactor.shared.after(pause) { [self] in
            timers[name] = nil
            guard let host = views[name], let bootID = host.bootID else { return }
            ask(host, bootID)
        }
    }
}
