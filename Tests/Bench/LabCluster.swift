import Bus
import CLinux
import Foundation
import Messages
import ServiceKit

/// A local cluster of the release build: three hosts, four highly available VMs, 5 s of grace.
final class LabCluster {
    static let graceSeconds = 5.0
    static let hosts = ["host1", "host2", "host3"]

    let name = "bench-\(getpid())"
    let file: ClusterFile
    private let command = "\(Child.binaries)/bulwark"
    private var clients: [String: BlockingClient] = [:]

    init() throws {
        let up = Child.output(command, ["up", "--name", name, "--hosts", "3", "--grace", "\(Int(Self.graceSeconds))s", "--json"])
        guard up.status == 0 else {
            _ = Child.output(command, ["down", "--name", name, "--purge"])
            throw BenchFailure("bulwark up: exit status \(up.status)")
        }
        file = try ClusterFile.load(name)
    }

    func down() {
        clients = [:]
        if Child.output(command, ["down", "--name", name, "--purge"]).status != 0 { print("bulwark down --name \(name) --purge failed") }
    }

    func lab(_ arguments: String...) throws {
        guard Child.output(command, ["--cluster", name, "lab"] + arguments).status == 0 else { throw BenchFailure("bulwark lab \(arguments.joined(separator: " "))") }
    }

    // MARK: Questions

    /// Whatever a process publishes about itself, over a connection that is kept.
    func snapshot<T: Decodable>(_ service: String, as type: T.Type) throws -> T {
        let endpoint = file.services[service]?.requests ?? ""
        let client = try clients[endpoint] ?? BlockingClient(endpoint: endpoint)
        clients[endpoint] = client
        return try Self.snapshot(client, as: type)
    }

    private struct Snapshot<State: Decodable>: Decodable { var body: State }

    static func snapshot<T: Decodable>(_ client: BlockingClient, as type: T.Type) throws -> T {
        return try ReplyFrame.body(Snapshot<T>.self, client.call("snapshot", Nothing(), timeout: .seconds(5))).body
    }

    func vms() throws -> [VMView] { try snapshot("placement-service", as: VMList.self).vms }

    /// Nothing to do for anybody: hosts Up, cases closed, lockspaces joined, every VM up. The SPM role is left out: it backs off for a minute when its hosts keep
    /// crashing, and no guest waits for it.
    func isWell() throws -> Bool {
        let fencing = try snapshot("fencing-service", as: FencingSnapshot.self)
        return try fencing.cases.isEmpty && fencing.hosts.allSatisfy { $0.status == .up }
            && snapshot("domain-monitor", as: DomainList.self).domains.allSatisfy { $0.hosts.filter(\.joined).count == Self.hosts.count }
            && vms().allSatisfy { $0.status == .up }
    }

    func waitUntilWell(_ after: String) throws {
        try Wait.until("all is Up after \(after)", seconds: 90, pause: 100_000) { (try? isWell()) ?? false }
    }
}
