import Bus
import CLinux
import Foundation
import Messages
import ServiceKit
import TestLab

/// kill -9 of each service in turn: how long until it answers again with its state, the supervisor's own time included.
struct RestartBench {
    let cluster: LabCluster
    let rounds: Int

    private struct Subject {
        var name: String
        /// Path of its requests socket.
        var socket: String
        var find: (ProcessTable.Entry) -> Bool
        var hasState: () throws -> Bool
    }

    func run() throws -> [Figure] {
        try cluster.waitUntilWell("the start")
        var times: [String: [Double]] = [:]
        for _ in 0..<rounds {
            for subject in subjects { times[subject.name, default: []].append(try restart(subject)) }
            try cluster.waitUntilWell("restarts")
            try Wait.until("the SPM serves", seconds: 90) { try cluster.snapshot("spm-coordinator", as: SPMSnapshot.self).pools.first?.status == .up }
            // A service that ends again within 3 s would be restarted later and later.
            sleep(3)
        }
        return subjects.map { Figure("restart.\($0.name)", "kill -9 until it answers with its state", .milliseconds, times[$0.name] ?? [], judged: 0.95) }
    }

    private func restart(_ subject: Subject) throws -> Double {
        guard let victim = ProcessTable.of(cluster: cluster.name).first(where: subject.find) else { throw LabFailure("\(subject.name) does not run") }
        let began = cl_boottime()
        kill(victim.pid, SIGKILL)
        try Wait.until("\(subject.name) is gone", seconds: 5, pause: 200) { !Wait.isListening(at: subject.socket) }
        try Wait.until("\(subject.name) listens again", seconds: 20, pause: 500) { Wait.isListening(at: subject.socket) }
        try Wait.until("\(subject.name) has its state", seconds: 20, pause: 500) { try subject.hasState() }
        return Double(cl_boottime() - began) / 1e6
    }

    private var subjects: [Subject] {
        let run = cluster.file.run
        func fresh<T: Decodable>(_ socket: String, _ type: T.Type) throws -> T {
            // A connection of its own: the old one would come back only after a pause.
            try LabCluster.snapshot(BlockingClient(endpoint: "ipc://\(socket)"), as: type)
        }
        func manager(_ name: String, _ hasState: @escaping (String) throws -> Bool) -> Subject {
            let socket = "\(run)/\(name).requests"
            return Subject(name: name, socket: socket, find: { $0.executable == name }, hasState: { try hasState(socket) })
        }
        func hosted(_ name: String, _ socketName: String, _ hasState: @escaping (String) throws -> Bool) -> Subject {
            let socket = "\(run)/host2/\(socketName).requests"
            return Subject(
                name: name, socket: socket, find: { $0.executable == name && $0.arguments.contains { $0.contains("/host2/config/") } }, hasState: { try hasState(socket) })
        }
        return [
            manager("fencing-service") { try fresh($0, FencingSnapshot.self).hosts.filter { $0.status == .up }.count == LabCluster.hosts.count },
            manager("spm-coordinator") { try fresh($0, SPMSnapshot.self).pools.first?.status == .up },
            manager("placement-service") { try fresh($0, VMList.self).vms.filter { $0.status == .up }.count == 4 },
            manager("domain-monitor") { try fresh($0, DomainList.self).domains.first?.status == .active },
            hosted("host-agent", "agent") { try !fresh($0, AgentSnapshot.self).heartbeat.initializing },
            hosted("lease-service", "lease-service") { try fresh($0, LeaseSnapshot.self).lockspaces.first?.state == .joined },
        ]
    }
}
