import Foundation
import Messages
import Yams

/// `cluster.yaml`: where a cluster's services are and where it keeps things. Read by the command and by every service.
public struct ClusterFile: Codable, Sendable {
    public struct Endpoints: Codable, Sendable {
        public var requests: String
        public var events: String
        public init(requests: String, events: String) {
            self.requests = requests
            self.events = events
        }
    }

    /// The cluster's name, also of this instance on this machine.
    public var cluster: String
    /// State directory: journals, configuration, keys.
    public var state: String
    /// Runtime directory: sockets.
    public var run: String
    /// Directory of key files and the allow-list `authorized.json`.
    public var keys: String
    /// Shared-storage directory of the local cluster.
    public var shared: String?
    public var services: [String: Endpoints]

    public init(cluster: String, state: String, run: String, keys: String, shared: String?, services: [String: Endpoints]) {
        self.cluster = cluster
        self.state = state
        self.run = run
        self.keys = keys
        self.shared = shared
        self.services = services
    }

    /// The manager services, in the order in which people list them.
    public static let managerServices = ManagerPin.services
    public static let standardName = "demo"

    public static func path(ofCluster name: String) -> String { "/var/lib/bulwark/\(name)/cluster.yaml" }

    /// - Parameter choice: a path or a cluster's name; `nil`: BULWARK_CLUSTER, else the standard place.
    /// - Throws: `RequestError` (`config.unreadable`, `config.invalid`).
    public static func load(_ choice: String?) throws -> ClusterFile {
        let chosen = choice ?? ProcessInfo.processInfo.environment["BULWARK_CLUSTER"] ?? standardName
        let path = chosen.contains("/") ? chosen : path(ofCluster: chosen)
        guard let data = FileManager.default.contents(atPath: path) else {
            throw RequestError(code: "config.unreadable", message: "no cluster at \(path); `bulwark up` makes one, `--cluster FILE` names another")
        }
        do {
            return try YAMLDecoder().decode(ClusterFile.self, from: String(decoding: data, as: UTF8.self))
        } catch {
            throw RequestError(code: "config.invalid", message: "\(path): \(error)")
        }
    }

    /// - Throws: `RequestError` (`config.invalid`) when the service has no endpoints.
    public func endpoints(of service: String) throws -> Endpoints {
        guard let found = services[service] else {
            throw RequestError(code: "config.invalid", message: "cluster \(cluster) names no endpoints of \(service)")
        }
        return found
    }

    public var allowListPath: String { "\(keys)/authorized.json" }
    public func keyPath(_ name: String) -> String { "\(keys)/\(name).json" }
}
