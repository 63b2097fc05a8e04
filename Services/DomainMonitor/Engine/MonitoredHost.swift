import Messages

/// What the monitor keeps of a host: the part of ``HostView`` that it decides by, so that news of free memory is no news.
public struct MonitoredHost: Codable, Hashable, Sendable {
    public var name: String
    public var status: HostStatus
    public var incarnation: Incarnation
    public var bootID: String?
    /// Endpoints and key of its agent.
    public var requests: String
    public var events: String
    public var key: String?
    /// Incarnations up to this one are proven over, by a proof that the shell verified.
    public var overThrough: Incarnation?

    /// - Parameter proof: the view's proof after its signature was verified; `nil` if it was not acceptable.
    public init(_ view: HostView, proof: Proof?) {
        name = view.name
        status = view.status
        incarnation = view.incarnation
        bootID = view.bootID
        requests = view.endpoints.agentRequests
        events = view.endpoints.agentEvents
        key = view.key
        overThrough = proof.flatMap { $0.host == view.name ? $0.incarnations : nil }
    }

    /// Whether its agent can be asked to connect domains: also while it boots, and while it is set aside because a domain is bad there.
    var answers: Bool {
        switch status {
        case .up, .initializing, .nonOperational: bootID != nil
        default: false
        }
    }
}

/// How one host sees one domain.
public struct Sight: Codable, Hashable, Sendable {
    /// `nil`: its probe has not answered yet.
    public var ok: Bool?
    /// Whether the host is joined to the domain's lockspace.
    public var joined: Bool
    /// What is wrong; empty while it is well, so that latencies are no news.
    public var detail: String

    public init(ok: Bool?, joined: Bool, detail: String) {
        self.ok = ok
        self.joined = joined
        self.detail = detail
    }
}

/// The newest report of a host, reduced to what decides.
public struct HostReport: Codable, Hashable, Sendable {
    public var bootID: String
    /// By domain uuid.
    public var domains: [String: Sight]

    public init(bootID: String, domains: [String: Sight]) {
        self.bootID = bootID
        self.domains = domains
    }

    public init(_ storage: AgentStorage) {
        bootID = storage.bootID
        domains = [:]
        for probe in storage.domains {
            domains[probe.domain] = Sight(ok: probe.ok, joined: probe.lockspace == .joined, detail: probe.ok == true ? "" : probe.detail)
        }
    }
}
