import CLinux
import Foundation
import Messages
import ServiceKit
import TestLab

/// Crashes hosts in turn and takes each failover apart, from the services' events and the guards' logs; the bare cost of a step is measured between the crashes.
struct FailoverBench {
    let cluster: LabCluster
    let crashes: Int

    /// One failover; milliseconds between its marks. Steps of VMs have a value for each VM.
    private struct Timeline {
        var steps: [String: [Double]] = [:]
        mutating func add(_ step: String, _ from: Double?, _ to: Double?) {
            if let from, let to { steps[step, default: []].append(to - from) }
        }
    }

    private enum Name {
        static let steps: [(name: String, what: String)] = [
            ("silence", "crash until its silence is noticed (Connecting)"),
            ("grace", "crash until the fence case opens: grace and what is left of a heartbeat"),
            ("status", "case opened until the power status reads off"),
            ("generations", "its lease generations are read"),
            ("confirm", "the power status is read again: confirmed off"),
            ("proof", "confirmed off until the signed proof is published"),
            ("decide", "proof until a place is decided, for each VM"),
            ("spawn", "decided until the guard holds its locks"),
            ("lease", "the guard's leases are taken over"),
            ("guest", "lease until QEMU answers, runs and placement knows"),
            ("confirmed-to-guest", "confirmed off until the replacement guest runs, for each VM"),
            ("total", "crash until every guest runs elsewhere"),
        ]
    }

    func run() throws -> [Figure] {
        try cluster.waitUntilWell("the start")
        let log = try EventLog(cluster, services: ["fencing-service", "placement-service"])
        let bare = try BareCosts(cluster)
        defer { bare.remove() }
        var times: [String: [Double]] = [:]
        for number in 0..<crashes {
            let host = LabCluster.hosts[number % LabCluster.hosts.count]
            let timeline = try failover(of: host, log)
            for (step, values) in timeline.steps { times[step, default: []] += values }
            try cluster.waitUntilWell("the crash of \(host)")
            try bare.measure()
            // Heartbeats and crashes are not to march in step.
            usleep(500_000 + UInt32(number * 137 % 1000) * 1000)
        }
        var figures = Name.steps.map { Figure("failover.\($0.name)", $0.what, .milliseconds, times[$0.name] ?? [], judged: 0.95) }
        let after = (times["total"] ?? []).map { $0 - LabCluster.graceSeconds * 1000 }
        figures.append(Figure("failover.beyond-grace", "the total less the grace", .milliseconds, after, judged: 0.95))
        return figures + bare.figures(beside: times)
    }

    private func failover(of host: String, _ log: EventLog) throws -> Timeline {
        let before = try cluster.vms()
        let moved = before.filter { $0.host == host }.map(\.name)
        guard !moved.isEmpty else { throw LabFailure("no VM runs on \(host)") }
        let began = EventLog.now()
        try cluster.lab("crash", host)
        try Wait.until("the VMs of \(host) run elsewhere", seconds: 60, pause: 50_000) {
            let vms = try cluster.vms()
            return vms.allSatisfy { $0.status == .up && $0.host != host }
        }
        usleep(200_000)
        let after = try cluster.vms()
        return try timeline(host, after.filter { moved.contains($0.name) }, began, log.since(began))
    }

    private func timeline(_ host: String, _ vms: [VMView], _ began: Double, _ events: [EventLog.Entry]) throws -> Timeline {
        func first(_ topic: String, _ containing: String = "") -> Double? {
            events.first { $0.topic == topic && (containing.isEmpty || String(decoding: $0.frame, as: UTF8.self).contains(containing)) }?.time
        }
        let opened = first("fence.started.\(host)")
        let off = first("power.state.\(host)", "\"state\":\"off\"")
        let reading = first("fence.step.\(host)", "\"step\":\"rechecking-off\"")
        let confirmed = first("fence.step.\(host)", "\"step\":\"signing\"")
        let proof = first("host.proof.\(host)")
        var line = Timeline()
        line.add("silence", began, first("host.status.\(host)", "\"status\":\"Connecting\""))
        line.add("grace", began, opened)
        line.add("status", opened, off)
        line.add("generations", off, reading)
        line.add("confirm", reading, confirmed)
        line.add("proof", confirmed, proof)
        var last = 0.0
        for vm in vms {
            let placed = first("vm.placed.\(vm.name)")
            guard let up = first("vm.recovered.\(vm.name)") else { throw LabFailure("\(vm.name) runs again, but no event says so") }
            let marks = guardMarks(vm)
            line.add("decide", proof, placed)
            line.add("spawn", placed, marks["holds its locks"])
            line.add("lease", marks["holds its locks"], marks["granted"])
            line.add("guest", marks["granted"], up)
            line.add("confirmed-to-guest", confirmed, up)
            last = max(last, up)
        }
        line.add("total", began, last)
        return line
    }

    /// When the guard of a VM's run wrote what to its log, in milliseconds since 1970.
    private func guardMarks(_ vm: VMView) -> [String: Double] {
        guard let host = vm.host else { return [:] }
        let path = "\(cluster.file.run)/\(host)/guards/\(Holder(role: .vm, name: vm.name, attempt: vm.attempt)).log"
        let offset = Double(cl_realtime() - cl_boottime()) / 1e6
        var marks: [String: Double] = [:]
        for line in String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self).split(separator: "\n") {
            guard let seconds = line.split(separator: " ").first.flatMap({ Double($0) }) else { continue }
            for mark in ["holds its locks", "granted"] where line.contains(mark) && marks[mark] == nil { marks[mark] = seconds * 1000 + offset }
        }
        return marks
    }
}
