public import Messages

/// Whom a manager service has introduced itself to, and whom it asks again (S16): every registered host, once in each life of the host and of the service.
///
/// | answer of the host's agent | next |
/// |---|---|
/// | it obeys | nothing, until it boots anew |
/// | `manager.foreign` | told once; asked again after `refusedPause`: what it obeys may change |
/// | `request.unknown-type` | nothing: a version without it |
/// | none, or anything else | asked again after `patience` |
public struct Greetings: Sendable {
    public enum Step: Sendable {
        /// Ask it at its address, in this life; what was asked before is of no interest any more. The answer, or that none came in time, is ``answered(_:_:_:)``.
        case ask(HostView, bootID: String, number: UInt64)
        /// Call ``due(_:_:)`` after this pause.
        case wait(host: String, number: UInt64, Duration)
        /// News: what it said; `nil`: it obeys.
        case said(host: String, refusal: String?)
        /// It is not called any more.
        case forgotten(host: String, wasRefusing: Bool)
    }

    /// The newest of each host that is to be greeted.
    private var views: [String: HostView] = [:]
    /// Boot ids, by host.
    private var greeted: [String: String] = [:]
    /// Of the question or pause of each host that counts.
    private var numbers: [String: UInt64] = [:]
    private var lastNumber: UInt64 = 0
    private var refusals: [String: String] = [:]
    /// How long an answer is awaited, and the pause after one that did not come or was about something else.
    public let patience: Duration
    public let refusedPause: Duration

    public init(patience: Duration = .seconds(3), refusedPause: Duration = .seconds(60)) {
        self.patience = patience
        self.refusedPause = refusedPause
    }

    public func hasGreeted(_ host: String, bootID: String) -> Bool { greeted[host] == bootID }

    public mutating func take(_ news: RegistryNews) -> [Step] {
        switch news {
        case .all(let hosts, _):
            let gone = views.keys.sorted().filter { name in !hosts.contains { $0.name == name } }
            return gone.flatMap { forget($0) } + hosts.flatMap { greet($0) }
        case .host(let host): return greet(host)
        case .removed(let host): return forget(host)
        case .recovery: return []
        }
    }

    public mutating func greet(_ host: HostView) -> [Step] {
        note(host)
        guard let bootID = host.bootID, greeted[host.name] != bootID else { return [] }
        return ask(host, bootID)
    }

    /// Where the host's agent is reached from now on.
    public mutating func note(_ host: HostView) { views[host.name] = host }

    public mutating func forget(_ host: String) -> [Step] {
        views[host] = nil
        greeted[host] = nil
        numbers[host] = nil
        return [.forgotten(host: host, wasRefusing: refusals.removeValue(forKey: host) != nil)]
    }

    /// - Parameter refusal: `nil`: it obeys.
    public mutating func answered(_ host: String, _ number: UInt64, _ refusal: RequestError?) -> [Step] {
        guard numbers[host] == number else { return [] }
        switch refusal?.code {
        case nil: return said(host, nil)
        case RequestErrorCode.managerForeign.rawValue: return said(host, refusal?.message) + [.wait(host: host, number: number, refusedPause)]
        case RequestErrorCode.unknownType.rawValue: return []
        default: return [.wait(host: host, number: number, patience)]
        }
    }

    /// A pause is over.
    public mutating func due(_ host: String, _ number: UInt64) -> [Step] {
        guard numbers[host] == number, let view = views[host], let bootID = view.bootID else { return [] }
        return ask(view, bootID)
    }

    private mutating func ask(_ host: HostView, _ bootID: String) -> [Step] {
        greeted[host.name] = bootID
        lastNumber += 1
        numbers[host.name] = lastNumber
        return [.ask(host, bootID: bootID, number: lastNumber)]
    }

    /// The same refusal is told once.
    private mutating func said(_ host: String, _ refusal: String?) -> [Step] {
        if let refusal, refusals[host] == refusal { return [] }
        refusals[host] = refusal
        return [.said(host: host, refusal: refusal)]
    }
}
