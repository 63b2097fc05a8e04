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
    /// Gets what a host's agent said; `nil`: it obeys this service.
    public var onAnswer: (@ReactorActor (_ host: String, _ refusal: String?) -> Void)?
    /// Boot ids, by host.
    private var greeted: [String: String] = [:]
    /// Until they are answered.
    private var clients: [String: RequestClient] = [:]

    /// How long an answer is awaited, and the pause after one that did not come.
    private static let patience = Duration.seconds(3)

    public init<E: Engine>(of shell: EngineShell<E>, security: BusSecurity?) {
        self.security = security
        source = shell.source
        lineage = shell.lineage
        term = shell.term
        onProblem = { [weak shell] key, text in shell?.setProblem(key, text) }
    }

    public func greet(_ news: RegistryNews) {
        switch news {
        case .all(let hosts, _): for host in hosts { greet(host) }
        case .host(let host): greet(host)
        case .removed(let host):
            greeted[host] = nil
            clients.removeValue(forKey: host)?.close()
        case .recovery: break
        }
    }

    public func hasGreeted(_ host: String, bootID: String) -> Bool { greeted[host] == bootID }

    public func greet(_ host: HostView) {
        guard let bootID = host.bootID, greeted[host.name] != bootID else { return }
        greeted[host.name] = bootID
        do {
            clients.removeValue(forKey: host.name)?.close()
            let client = try RequestClient(
                endpoint: host.endpoints.agentRequests, serverKey: host.key, security: security, from: source, lineage: lineage, term: term)
            clients[host.name] = client
            client.request("manager.hello", bodyJSON: Data("{}".utf8), target: bootID, timeout: Self.patience) { [self] result in
                guard clients[host.name] === client else { return }
                clients.removeValue(forKey: host.name)?.close()
                switch result {
                case .failure(let error) where error.isUnknownOutcome: again(host)
                case .failure(let error) where error.code == RequestErrorCode.managerForeign.rawValue: answered(host, error.message)
                case .failure: break
                case .success: answered(host, nil)
                }
            }
        } catch {
            again(host)
        }
    }

    private func answered(_ host: HostView, _ refusal: String?) {
        onProblem("hello \(host.name)", refusal.map { "\(host.name) does not obey this service: \($0)" })
        onAnswer?(host.name, refusal)
    }

    private func again(_ host: HostView) {
        _ = Reactor.shared.after(Self.patience) { [self] in
            guard greeted[host.name] == host.bootID else { return }
            greeted[host.name] = nil
            greet(host)
        }
    }
}
