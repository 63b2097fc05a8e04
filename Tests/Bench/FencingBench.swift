import CLinux
import Foundation
import Messages
import ServiceKit
import TestLab

/// Profile `fast`, whose promise is about time: from a crash until each guest writes to its disk elsewhere, and what fencing adds to the agent's own time until the host is confirmed off.
struct FencingBench {
    let cluster: LabCluster
    let crashes: Int

    /// The disk of a VM, as the shared directory has it.
    private struct Disk: Decodable {
        var path: String
        var vm: String?
    }

    func run() throws -> [Figure] {
        try cluster.waitUntilWell("the start")
        let log = try EventLog(cluster, services: ["fencing-service"])
        let bare = try BareCosts(cluster)
        defer { bare.remove() }
        let disks = try JSONDecoder().decode([Disk].self, from: Data(cluster.bulwark(["--json", "lab", "ticks"]).text.utf8))
        var paths: [String: String] = [:]
        for disk in disks { if let vm = disk.vm { paths[vm] = disk.path } }
        var ticks: [Double] = []
        var confirmed: [Double] = []
        var between: [Double] = []
        var agent: [Double] = []
        for number in 0..<crashes {
            let victims = try cluster.vms().reduce(into: [String: [String]]()) { if let host = $1.host { $0[host, default: []].append($1.name) } }
            let host = LabCluster.hosts[number % LabCluster.hosts.count]
            guard let moved = victims[host], !moved.isEmpty else { throw LabFailure("no VM runs on \(host)") }
            let before = moved.map { Self.boot(paths[$0]) }
            let began = EventLog.now()
            try cluster.lab("crash", host)
            for (vm, boot) in zip(moved, before) {
                try Wait.until("\(vm) writes to its disk again", seconds: 60, pause: 5000) { Self.boot(paths[vm]).map { $0 != boot } ?? false }
                ticks.append(EventLog.now() - began)
            }
            usleep(200_000)
            let events = log.since(began)
            func first(_ topic: String, _ containing: String = "") -> Double? {
                events.first { $0.topic == "\(topic).\(host)" && (containing.isEmpty || String(decoding: $0.frame, as: UTF8.self).contains(containing)) }?.time
            }
            guard let opened = first("fence.started"), let signing = first("fence.step", "\"step\":\"signing\"") else { throw LabFailure("no events of the case of \(host)") }
            confirmed.append(signing - opened)
            try cluster.waitUntilWell("the crash of \(host)")
            let runs = try cluster.ask("fencing-service", "fence.history", HostRequest(host: host), as: FenceHistory.self).cases.last?.runs ?? []
            let own = runs.prefix(2).compactMap(\.took)
            guard own.count == 2, runs.prefix(2).allSatisfy({ $0.action == "status" }) else { throw LabFailure("the case of \(host) had other runs: \(runs)") }
            between.append(signing - opened - own.map { Double($0.nanoseconds) / 1e6 }.reduce(0, +))
            for _ in 0..<3 { agent.append(try bare.fenceStatus()) }
            // Heartbeats and crashes are not to march in step.
            usleep(500_000 + UInt32(number * 137 % 1000) * 1000)
        }
        return [
            Figure("fencing.crash-to-tick", "profile fast: crash until a guest writes to its disk elsewhere, for each VM", .milliseconds, ticks, judged: 0.95),
            Figure("fencing.confirmed", "case opened until confirmed off: the status read twice, generations between", .milliseconds, confirmed),
            Figure("fencing.agent", "fence_ipmilan status alone, in the same minutes", .milliseconds, agent),
            Figure("fencing.between", "confirmed less what the agent's two runs took in that very case", .milliseconds, between),
            Figure("fencing.added", "confirmed less two of the agent alone", .milliseconds, confirmed.percentile(0.5) - 2 * agent.percentile(0.5)),
        ]
    }

    /// The boot id that the guest's last tick carries (`compose/lab/guest.S`).
    private static func boot(_ path: String?) -> Data? {
        guard let path, let file = FileHandle(forReadingAtPath: path), let data = try? file.read(upToCount: 1024), data.count == 1024, data[512..<516] == Data("TICK".utf8) else { return nil }
        return data[524..<532]
    }
}
