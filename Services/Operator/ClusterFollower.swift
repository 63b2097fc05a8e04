import Bus
import Foundation
import Invariants
import Messages
import ServiceKit

/// Follows fencing-service, placement-service, and agent and lease-service of every host that fencing-service names; hands on what they say as ``LiveFacts/Report``s.
@ReactorActor
final class ClusterFollower {
    enum Heard {
        /// Of fencing-service, in the life with this epoch.
        case fencing(LiveFacts.Report, epoch: String)
        case other(LiveFacts.Report)
    }

    private struct Snapshot<State: Decodable>: Decodable {
        var epoch: String
        var body: State
    }

    private struct Host {
        var view: HostView
        var subscribers: [EventSubscriber]
    }

    private let cluster: Cluster
    private let security: BusSecurity?
    private let onHeard: (Heard) -> Void
    private var managers: [EventSubscriber] = []
    private var hosts: [String: Host] = [:]
    private var verified: [String: Proof] = [:]
    /// Processes that are to be followed and whose state was never read.
    private(set) var unheard: Set<String> = []
    /// What could not be read or believed.
    private(set) var problems: Set<String> = []

    init(_ cluster: Cluster, onHeard: @escaping (Heard) -> Void) {
        self.cluster = cluster
        self.onHeard = onHeard
        let file = cluster.file
        security = (try? KeyFile.load(file.keyPath("operator"))).flatMap { keys in (try? AllowList.load(file.allowListPath)).map { BusSecurity(keys: keys, allow: $0) } }
    }

    func start() throws {
        managers.append(
            try follow(try cluster.endpoints(of: .fencing), key: nil, topics: [""]) { [self] frame in
                let snapshot = try ReplyFrame.body(Snapshot<FencingSnapshot>.self, frame)
                takeFencing(snapshot.body, epoch: snapshot.epoch)
            } onEvent: { [self] header, frame in
                try takeFencing(header, frame)
            })
        managers.append(
            try follow(try cluster.endpoints(of: .placement), key: nil, topics: ["vm.defined"]) { [self] frame in
                for vm in try ReplyFrame.body(Snapshot<VMList>.self, frame).body.vms { define(vm) }
            } onEvent: { [self] _, frame in
                define(try EventFrame.body(VMView.self, frame))
            })
    }

    private func follow(
        _ process: ProcessEndpoints, key: String?, topics: [String], onSnapshot: @escaping (Data) throws -> Void, onEvent: @escaping (EventHeader, Data) throws -> Void
    ) throws -> EventSubscriber {
        unheard.insert(process.name)
        return try EventSubscriber(
            events: process.events, requests: process.requests, serverKey: key, security: security, topics: topics,
            onSnapshot: { [self] frame in
                unheard.remove(process.name)
                reading("the snapshot of \(process.name)") { try onSnapshot(frame) }
            },
            onEvent: { [self] header, frame in reading("\(header.type) of \(process.name)") { try onEvent(header, frame) } })
    }

    private func reading(_ what: String, _ work: () throws -> Void) {
        do {
            try work()
        } catch {
            problems.insert("\(what) cannot be read: \(error)")
        }
    }

    // MARK: Manager services

    private func takeFencing(_ snapshot: FencingSnapshot, epoch: String) {
        var known = snapshot
        known.hosts = snapshot.hosts.map(checked)
        onHeard(.fencing(.fencing(known), epoch: epoch))
        for name in hosts.keys.sorted() where !snapshot.hosts.contains(where: { $0.name == name }) { forget(name, epoch) }
        for host in snapshot.hosts { follow(host) }
    }

    private func takeFencing(_ header: EventHeader, _ frame: Data) throws {
        var report = LiveFacts.Report.alive
        switch header.type {
        case "host.status", "host.registered":
            let host = checked(try EventFrame.body(HostView.self, frame))
            report = .host(host)
            follow(host)
        case "host.removed":
            return forget(try EventFrame.body(HostView.self, frame).name, header.epoch)
        case "host.proof":
            if let proof = verify(try EventFrame.body(HostProofEvent.self, frame)) { report = .proof(proof) }
        case "host.proof-revoked":
            if let proof = verify(try EventFrame.body(HostProofEvent.self, frame)) { report = .proofRevoked(proof) }
        case let type where type.hasPrefix("fence."):
            report = .fenceCase(type, try EventFrame.body(FenceCaseEvent.self, frame))
        default:
            break
        }
        onHeard(.fencing(report, epoch: header.epoch))
    }

    private func define(_ vm: VMView) {
        if let definition = vm.definition { onHeard(.other(.definition(definition))) }
    }

    // MARK: Hosts

    private func follow(_ host: HostView) {
        if let known = hosts[host.name]?.view, known.endpoints == host.endpoints, known.key == host.key { return }
        hosts.removeValue(forKey: host.name)?.subscribers.forEach { $0.close() }
        let name = host.name
        reading("the endpoints of \(name)") {
            let agent = try follow(endpoints(cluster.agent(of: name), host), key: key(cluster.agent(of: name), host), topics: ["agent.vms"]) { [self] frame in
                hear(try ReplyFrame.body(Snapshot<AgentSnapshot>.self, frame).body.vms, from: name)
            } onEvent: { [self] _, frame in
                hear(try EventFrame.body(AgentVMs.self, frame), from: name)
            }
            let process = cluster.leaseService(of: name)
            let leases = try follow(endpoints(process, host), key: key(process, host), topics: ["lease.", "lockspace.renewal"]) { [self] frame in
                let snapshot = try ReplyFrame.body(Snapshot<LeaseSnapshot>.self, frame).body
                if snapshot.host == name { onHeard(.other(.leases(snapshot))) }
            } onEvent: { [self] header, frame in
                switch header.type {
                case "lockspace.renewal": onHeard(.other(.renewal(try EventFrame.body(LockspaceRenewal.self, frame), host: name)))
                case let type where type.hasPrefix("lease."): onHeard(.other(.lease(type, try EventFrame.body(LeaseEvent.self, frame), host: name)))
                default: break
                }
            }
            hosts[name] = Host(view: host, subscribers: [agent, leases])
        }
    }

    /// Over ipc where the host is one of this machine, else as it is registered.
    private func endpoints(_ process: ProcessEndpoints, _ host: HostView) -> ProcessEndpoints {
        guard key(process, host) != nil else { return process }
        let isAgent = process.name.hasSuffix("/host-agent")
        return ProcessEndpoints(
            name: process.name, requests: isAgent ? host.endpoints.agentRequests : host.endpoints.leaseRequests,
            events: isAgent ? host.endpoints.agentEvents : host.endpoints.leaseEvents)
    }

    private func key(_ process: ProcessEndpoints, _ host: HostView) -> String? {
        cluster.localHosts.contains(host.name) || security == nil ? nil : host.key
    }

    private func forget(_ name: String, _ epoch: String) {
        hosts.removeValue(forKey: name)?.subscribers.forEach { $0.close() }
        for process in cluster.processes(ofHost: name) { unheard.remove(process.name) }
        onHeard(.fencing(.hostRemoved(name), epoch: epoch))
    }

    private func hear(_ report: AgentVMs, from name: String) {
        guard report.host == name else { return _ = problems.insert("the agent at the endpoints of \(name) calls itself \(report.host)") }
        var known = report
        for index in known.vms.indices {
            known.vms[index].ended = known.vms[index].ended.flatMap { signed in verify(signed).flatMap { $0.host == name ? withContent(signed, $0) : nil } }
        }
        onHeard(.other(.vms(known)))
    }

    // MARK: Proofs

    private func checked(_ host: HostView) -> HostView {
        host.checked { signed in verify(signed).map { withContent(signed, $0) } }
    }

    private func withContent(_ signed: SignedProof, _ proof: Proof) -> SignedProof {
        var copy = signed
        copy.proof = proof
        return copy
    }

    /// What was signed, if its maker is pinned for it. A cluster without an allow-list is followed as it is.
    private func verify(_ signed: SignedProof) -> Proof? {
        if let known = verified[signed.signature] { return known }
        guard let allow = try? AllowList.load(cluster.file.allowListPath) else { return signed.proof }
        guard let proof = ProofSigning.verify(signed, allow: allow) else {
            problems.insert("proof \(signed.proof.id) about \(signed.proof.host) is not signed by a maker that is pinned for it; it is ignored")
            return nil
        }
        verified[signed.signature] = proof
        return proof
    }
}
