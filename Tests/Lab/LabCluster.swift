import Bus
import CLinux
import Foundation
import Messages
import ServiceKit

/// A local cluster of the executables beside this one: three hosts, four highly available VMs, 5 s of grace.
package final class LabCluster {
    package static let graceSeconds = 5.0
    package static let hosts = ["host1", "host2", "host3"]

    package let name: String
    package let file: ClusterFile
    private let command = "\(Child.binaries)/bulwark"
    private var clients: [String: BlockingClient] = [:]

    /// - Parameters:
    ///   - purpose: what it is for; its name begins with it.
    ///   - grace: silence that is forgiven; `nil`: what its profile says.
    ///   - options: more of `bulwark up`.
    package init(for purpose: String, grace: Double? = graceSeconds, options: [String] = []) throws {
        name = "\(purpose)-\(getpid())"
        let up = Child.output(command, ["up", "--name", name, "--hosts", "3", "--json"] + (grace.map { ["--grace", "\($0)s"] } ?? []) + options)
        guard up.status == 0 else {
            _ = Child.output(command, ["down", "--name", name, "--purge"])
            throw LabFailure("bulwark up: exit status \(up.status)")
        }
        file = try ClusterFile.load(name)
    }

    package func down() {
        clients = [:]
        if Child.output(command, ["down", "--name", name, "--purge"]).status != 0 { print("bulwark down --name \(name) --purge failed") }
    }

    /// The command, for this cluster.
    package func bulwark(_ arguments: [String]) -> (status: Int32, text: String) { Child.output(command, ["--cluster", name] + arguments) }

    package func lab(_ arguments: String...) throws { try lab(arguments) }

    package func lab(_ arguments: [String]) throws {
        guard bulwark(["lab"] + arguments).status == 0 else { throw LabFailure("bulwark lab \(arguments.joined(separator: " "))") }
    }

    // MARK: Questions

    /// Whatever a process publishes about itself, over a connection that is kept.
    package func snapshot<T: Decodable>(_ service: String, as type: T.Type) throws -> T {
        let endpoint = file.services[service]?.requests ?? ""
        let client = try clients[endpoint] ?? BlockingClient(endpoint: endpoint)
        clients[endpoint] = client
        return try Self.snapshot(client, as: type)
    }

    /// Any other question.
    package func ask<T: Decodable>(_ service: String, _ type: String, _ body: any Encodable, as answer: T.Type) throws -> T {
        let endpoint = file.services[service]?.requests ?? ""
        return try ReplyFrame.body(answer, BlockingClient(endpoint: endpoint).call(type, body, timeout: .seconds(5)))
    }

    private struct Snapshot<State: Decodable>: Decodable { var body: State }

    package static func snapshot<T: Decodable>(_ client: BlockingClient, as type: T.Type) throws -> T {
        return try ReplyFrame.body(Snapshot<T>.self, client.call("snapshot", Nothing(), timeout: .seconds(5))).body
    }

    package func vms() throws -> [VMView] { try snapshot("placement-service", as: VMList.self).vms }

    /// What keeps the cluster from being well, if anything does: hosts Up, cases closed, lockspaces joined, every VM up.
    /// - Parameter includingSPM: the role, too. It backs off for a minute when its hosts keep crashing, and no guest waits for it.
    package func obstacle(includingSPM: Bool = false) throws -> String? {
        let fencing = try snapshot("fencing-service", as: FencingSnapshot.self)
        if let open = fencing.cases.first { return "case \(open.id) is open: \(open.reason)" }
        if let host = fencing.hosts.first(where: { $0.status != .up }) { return "\(host.name) is \(host.status.rawValue): \(host.reason)" }
        if !fencing.ha.recoveryAllowed { return "recovery is held: \(fencing.ha.hold ?? fencing.ha.alarms?.joined(separator: ", ") ?? "HA is disabled")" }
        let domains = try snapshot("domain-monitor", as: DomainList.self).domains
        if let domain = domains.first(where: { $0.hosts.filter(\.joined).count != Self.hosts.count }) { return "not every host has joined \(domain.name): \(domain.reason)" }
        if let vm = try vms().first(where: { $0.status != .up }) { return "\(vm.name) is \(vm.status.rawValue): \(vm.reason)" }
        if includingSPM, let pool = try snapshot("spm-coordinator", as: SPMSnapshot.self).pools.first(where: { $0.status != .up }) {
            return "pool \(pool.pool) is \(pool.status.rawValue): \(pool.reason)"
        }
        return nil
    }

    package func isWell() throws -> Bool { try obstacle() == nil }

    package func waitUntilWell(_ after: String) throws {
        try Wait.until("all is Up after \(after)", seconds: 90, pause: 100_000) { (try? isWell()) ?? false }
    }
}
