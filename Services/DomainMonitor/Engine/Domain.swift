import Messages

/// A storage domain as the monitor remembers it.
public struct Domain: Codable, Sendable {
    public var uuid: String
    public var name: String
    /// `<directory>/<uuid>`.
    public var path: String
    public var ioTimeout: Int
    public var status: DomainStatus
    public var reason: String
    /// Set until some host has made it on storage.
    var creation: Creation?
    /// Since when every Up host reports it bad.
    var badSince: Instant?
    /// Since when a host reports it bad while another reports it well.
    var badOn: [String: Instant] = [:]
    /// As last published.
    public var view: DomainView

    init(_ request: DomainCreate, _ id: RequestID, number: UInt64) {
        uuid = request.domain
        name = request.name
        path = Self.path(of: request)
        ioTimeout = request.ioTimeout
        status = .locked
        reason = "is being created"
        creation = Creation(number: number, requests: [id])
        view = DomainView(domain: uuid, name: name, path: path, status: status, reason: reason, hosts: [])
    }

    static func path(of request: DomainCreate) -> String {
        request.directory.hasSuffix("/") ? request.directory + request.domain : "\(request.directory)/\(request.domain)"
    }

    /// Whether its state is watched and hosts are connected to it.
    var isWatched: Bool { creation == nil && status != .maintenance }
}

/// A domain that is being made. One host at a time: another only when that one refused, or is proven over.
struct Creation: Codable, Hashable, Sendable {
    var number: UInt64
    var requests: [RequestID]
    var host: String?
    var incarnation = Incarnation(0)
    var bootID = ""
    var inFlight = false
    var retryAt: Instant?
    /// Hosts that refused for reasons of their own.
    var refusals: [String: String] = [:]
}

/// A request that is repeated until it has had its effect.
struct Link: Codable, Hashable, Sendable {
    var inFlight = false
    var retryAt: Instant
    /// Not sent yet: the host's first report may make it unnecessary.
    var waitsForReport = false
}
