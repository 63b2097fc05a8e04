import Bus
import Foundation
import Messages
import ServiceKit
import Synchronization

/// The manager services, by their names on the bus.
enum ManagerService: String, CaseIterable {
    case fencing = "fencing-service"
    case spm = "spm-coordinator"
    case placement = "placement-service"
    case domains = "domain-monitor"
}

/// One process of the cluster and where it listens.
struct ProcessEndpoints: Sendable {
    var name: String
    var requests: String
    var events: String
}

/// The processes of one cluster as the command reaches them: over ipc, which the file system guards.
struct Cluster: Sendable {
    let file: ClusterFile

    /// Asks a question that changes nothing; the body of the reply.
    /// - Throws: `RequestError`; `service.silent` if no answer came.
    func ask(_ service: ManagerService, _ type: String, _ body: any Encodable = Nothing(), timeout: Duration = .seconds(5)) throws -> JSONValue {
        try ask(try endpoints(of: service), type, body, timeout: timeout)
    }

    func ask(_ process: ProcessEndpoints, _ type: String, _ body: any Encodable = Nothing(), timeout: Duration = .seconds(5)) throws -> JSONValue {
        do {
            return try call(process, type, body, timeout: timeout)
        } catch let error as RequestError where error.code == RequestErrorCode.unknownOutcome.rawValue {
            throw OperatorError.serviceSilent.error("\(process.name) did not answer \(type) within \(Int(timeout.seconds)) s (\(process.requests))")
        }
    }

    /// Gives a command, once the service has answered a ping: what cannot arrive is never left waiting in a socket.
    /// - Throws: `RequestError`; `outcome.unknown` if it was sent and no answer came.
    func command(_ service: ManagerService, _ type: String, _ body: any Encodable, timeout: Duration = .seconds(60)) throws -> JSONValue {
        let process = try endpoints(of: service)
        _ = try ask(process, "ping")
        return try call(process, type, body, timeout: timeout)
    }

    /// The whole public state of a service.
    func snapshot<State: Decodable>(_ service: ManagerService, as type: State.Type) throws -> State {
        try publicState(of: try endpoints(of: service)).decoded(as: type)
    }

    /// The same as JSON.
    func publicState(of process: ProcessEndpoints, timeout: Duration = .seconds(5)) throws -> JSONValue {
        let reply = try ask(process, "snapshot", timeout: timeout)
        return reply["body"] ?? reply
    }

    func endpoints(of service: ManagerService) throws -> ProcessEndpoints {
        guard let found = file.services[service.rawValue] else {
            throw OperatorError.serviceUnknown.error("\(file.cluster)'s cluster file does not name \(service.rawValue)")
        }
        return ProcessEndpoints(name: service.rawValue, requests: found.requests, events: found.events)
    }

    /// Agent and lease-service of a host: `host1/host-agent`, `host1/lease-service`.
    func processes(ofHost host: String) -> [ProcessEndpoints] { [agent(of: host), leaseService(of: host)] }

    func agent(of host: String) -> ProcessEndpoints { hostProcess(host, "host-agent", socket: "agent") }

    func leaseService(of host: String) -> ProcessEndpoints { hostProcess(host, "lease-service", socket: "lease-service") }

    private func hostProcess(_ host: String, _ name: String, socket: String) -> ProcessEndpoints {
        ProcessEndpoints(
            name: "\(host)/\(name)", requests: "ipc://\(file.run)/\(host)/\(socket).requests", events: "ipc://\(file.run)/\(host)/\(socket).events")
    }

    /// Hosts with a run directory on this machine, in the order of their names.
    var localHosts: [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: file.run)) ?? []
        return names.filter { name in
            ["agent", "lease-service"].contains { FileManager.default.fileExists(atPath: "\(file.run)/\(name)/\($0).requests") }
        }.sorted(by: naturally)
    }

    /// Manager services of the cluster file, then the processes of every host that is registered or has a run directory.
    func processes(hosts: [String]) -> [ProcessEndpoints] {
        let order = ClusterFile.managerServices + file.services.keys.sorted().filter { !ClusterFile.managerServices.contains($0) }
        let managers = order.compactMap { name in
            file.services[name].map { ProcessEndpoints(name: name, requests: $0.requests, events: $0.events) }
        }
        return managers + Set(hosts).union(localHosts).sorted(by: naturally).flatMap(processes(ofHost:))
    }

    /// A process by name.
    func process(_ name: String) throws -> ProcessEndpoints {
        let parts = name.split(separator: "/").map(String.init)
        if parts.count == 2, let found = processes(ofHost: parts[0]).first(where: { $0.name == name }) { return found }
        if let found = processes(hosts: []).first(where: { $0.name == name }) { return found }
        throw OperatorError.serviceUnknown.error(
            "this cluster has no process \(name); its processes are \(processes(hosts: []).map(\.name).joined(separator: ", "))")
    }

    func call(_ process: ProcessEndpoints, _ type: String, _ body: any Encodable, timeout: Duration) throws -> JSONValue {
        let client = try client(of: process)
        defer { client.close() }
        let frame = try client.call(type, body, timeout: timeout)
        return try ReplyFrame.body(JSONValue.self, frame)
    }
}

extension Cluster {
    /// Over ipc; a process of a host on another machine, or in a container, over its registered endpoint with the operator's key.
    private func client(of process: ProcessEndpoints) throws -> BlockingClient {
        let parts = process.name.split(separator: "/").map(String.init)
        guard parts.count == 2, access(String(process.requests.dropFirst("ipc://".count)), W_OK) != 0, Files.exists(file.keyPath("operator")),
            let host = try ask(.fencing, "host.list", timeout: .seconds(1)).decoded(as: HostList.self).hosts.first(where: { $0.name == parts[0] }), let key = host.key
        else { return try BlockingClient(endpoint: process.requests) }
        let security = BusSecurity(keys: try KeyFile.load(file.keyPath("operator")), allow: try AllowList.load(file.allowListPath))
        return try BlockingClient(
            endpoint: parts[1] == "host-agent" ? host.endpoints.agentRequests : host.endpoints.leaseRequests, serverKey: key, security: security, from: "operator")
    }
}

/// `host2` before `host10`.
@Sendable func naturally(_ a: String, _ b: String) -> Bool { (a.count, a) < (b.count, b) }

private final class ConcurrentResults<Result: Sendable>: Sendable {
    let values = Mutex<[Int: Result]>([:])
}

/// Does the work for all items at once, each on a thread of its own; results in the order of the items.
func concurrently<Item: Sendable, Result: Sendable>(_ items: [Item], _ work: @escaping @Sendable (Item) -> Result) -> [Result] {
    let results = ConcurrentResults<Result>()
    let group = DispatchGroup()
    for (index, item) in items.enumerated() {
        group.enter()
        Thread.detachNewThread {
            let result = work(item)
            results.values.withLock { $0[index] = result }
            group.leave()
        }
    }
    group.wait()
    return results.values.withLock { values in items.indices.compactMap { values[$0] } }
}
