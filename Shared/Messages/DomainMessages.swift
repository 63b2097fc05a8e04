/// Error codes of domain-monitor.
public enum DomainErrorCode: String, CaseIterable, Sendable {
    case notFound = "domain.not-found"
    case exists = "domain.exists"
    /// No host is Up to do it.
    case noHost = "domain.no-host"
    case createFailed = "domain.create-failed"
}

public enum DomainStatus: String, Codable, Sendable {
    case unknown = "Unknown"
    case active = "Active"
    case inactive = "Inactive"
    case maintenance = "Maintenance"
    case preparingForMaintenance = "PreparingForMaintenance"
    case detaching = "Detaching"
    case activating = "Activating"
    case locked = "Locked"
}

/// Body of `domain.create`: makes a new file domain in `<directory>/<uuid>` on shared storage. Replies ``DomainView`` when it exists; the same uuid and directory again is success.
public struct DomainCreate: Codable, Hashable, Sendable {
    public var name: String
    /// Chosen by the client, lower-case uuid.
    public var domain: String
    /// A directory that every host sees under the same path.
    public var directory: String
    /// Seconds; sanlock's io_timeout for this domain.
    public var ioTimeout: Int
    public init(name: String, domain: String, directory: String, ioTimeout: Int) {
        self.name = name
        self.domain = domain
        self.directory = directory
        self.ioTimeout = ioTimeout
    }
}

/// How one host sees a domain.
public struct DomainHostStatus: Codable, Hashable, Sendable {
    public var domain: String
    public var host: String
    /// `nil`: not known (no report yet, or the host is silent).
    public var ok: Bool?
    public var joined: Bool
    public var detail: String
    public init(domain: String, host: String, ok: Bool?, joined: Bool, detail: String) {
        self.domain = domain
        self.host = host
        self.ok = ok
        self.joined = joined
        self.detail = detail
    }
}

public struct DomainView: Codable, Hashable, Sendable {
    public var domain: String
    public var name: String
    public var path: String
    public var status: DomainStatus
    public var reason: String
    public var hosts: [DomainHostStatus]
    public init(domain: String, name: String, path: String, status: DomainStatus, reason: String, hosts: [DomainHostStatus]) {
        self.domain = domain
        self.name = name
        self.path = path
        self.status = status
        self.reason = reason
        self.hosts = hosts
    }
}

/// Body of `domain.show`, `.activate`, `.maintenance`, `.remove`: uuid or name.
public struct DomainRequest: Codable, Hashable, Sendable {
    public var domain: String
    public init(domain: String) { self.domain = domain }
}

/// Reply to `domain.list` and body of `snapshot` of domain-monitor.
public struct DomainList: Codable, Sendable {
    public var domains: [DomainView]
    public init(domains: [DomainView]) { self.domains = domains }
}
