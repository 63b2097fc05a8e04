import CLinux
import Foundation
import Messages
import TestLab

/// Breaks one thing after another and judges what the cluster made of it.
final class Soak {
    struct Step {
        var kind: Fault.Kind
        var failovers: Int
        /// Seconds from the fault until all was well.
        var toWell: Double
    }

    private let cluster: LabCluster
    private let watch: WatchLog
    private let patience: Double
    private var faults: FaultSource
    private(set) var steps: [Step] = []
    /// VMs that began anew because their guard or guest ended, while their host lived.
    private(set) var restarts = 0
    private(set) var memory = MemoryLog()
    private(set) var diskCount = 0
    /// What is being done, for whoever reads of a failure.
    private(set) var doing = "the start"

    var failovers: Int { steps.map(\.failovers).reduce(0, +) }

    /// - Parameter patience: seconds after the last act of a step within which all must be well.
    init(_ cluster: LabCluster, _ watch: WatchLog, _ faults: FaultSource, patience: Double) {
        self.cluster = cluster
        self.watch = watch
        self.faults = faults
        self.patience = patience
    }

    func run(failovers wanted: Int) throws {
        _ = try awaitWell(bootedAfter: [:])
        try judge()
        memory.take(cluster, watch: watch.child.pid, failovers: 0)
        while failovers < wanted {
            let before = failovers
            try step(faults.next())
            memory.take(cluster, watch: watch.child.pid, failovers: failovers)
            if failovers / 10 > before / 10 { say("    resident, MB: \(memory.line)") }
        }
    }

    private func step(_ fault: Fault) throws {
        doing = "step \(steps.count + 1), \(fault.kind.rawValue)"
        let before = try cluster.vms()
        let incarnations = try incarnations()
        guard let victim = try victim(fault, before) else { throw LabFailure("no VM runs anywhere") }
        doing += ", \(victim)"
        say("\(doing); VMs there: \(before.filter { $0.host == victim }.map(\.name).joined(separator: " "))")
        let began = cl_boottime()
        for act in Script(fault, on: victim, of: cluster).acts {
            try Interruption.sleep(until: began + Int64(act.at * 1e9))
            let at = seconds(since: began)
            let outcome = try act.work()
            say("    \(String(format: "%4.1f", at)) s  \(act.what)\(outcome.map { ": \($0)" } ?? "")")
        }
        let wellAt = try awaitWell(bootedAfter: fault.kind.endsAHost ? incarnations.filter { $0.key == victim } : [:])
        let moved = try count(before)
        try judge()
        steps.append(Step(kind: fault.kind, failovers: moved, toWell: Double(wellAt - began) / 1e9))
        say("    \(String(format: "%4.1f", Double(wellAt - began) / 1e9)) s  all well; \(moved) failovers, \(failovers) in all")
    }

    /// A host with VMs, for a crash without a VM is no failover; the SPM host if the fault is about it.
    private func victim(_ fault: Fault, _ vms: [VMView]) throws -> String? {
        if fault.kind == .crashOfSPM, let spm = try cluster.snapshot("spm-coordinator", as: SPMSnapshot.self).pools.first?.spm { return spm }
        let hosts = Set(vms.compactMap(\.host)).sorted()
        return hosts.isEmpty ? nil : hosts[Int(fault.victim % UInt64(hosts.count))]
    }

    private func incarnations() throws -> [String: Incarnation] {
        Dictionary(try cluster.snapshot("fencing-service", as: FencingSnapshot.self).hosts.map { ($0.name, $0.incarnation) }, uniquingKeysWith: { $1 })
    }

    /// Failovers: a run is over by a proof about its host, and the VM runs anew.
    private func count(_ before: [VMView]) throws -> Int {
        let hosts = try cluster.snapshot("fencing-service", as: FencingSnapshot.self).hosts
        let after = try cluster.vms()
        var moved = 0
        for vm in before {
            guard let run = vm.run, let now = after.first(where: { $0.name == vm.name }), now.attempt > vm.attempt else { continue }
            let isProven = hosts.first { $0.name == run.host }?.proof?.proof.covers(host: run.host, incarnation: run.incarnation) ?? false
            if isProven { moved += 1 } else { restarts += 1 }
        }
        return moved
    }

    /// Well, and still well 2 s later.
    /// - Returns: since when.
    private func awaitWell(bootedAfter incarnations: [String: Incarnation]) throws -> Int64 {
        let end = cl_boottime() + Int64(patience * 1e9)
        var since: Int64?
        var obstacle = "nothing was looked at"
        while cl_boottime() < end {
            try Interruption.sleep(until: cl_boottime() + 100_000_000)
            let now = cl_boottime()
            do { obstacle = try self.obstacle(incarnations) ?? "" } catch { obstacle = "\(error)" }
            if !obstacle.isEmpty {
                since = nil
            } else if let since, now - since > 2_000_000_000 {
                return since
            } else {
                since = since ?? now
            }
        }
        throw LabFailure("not well after \(Int(patience)) s: \(obstacle)")
    }

    private func obstacle(_ incarnations: [String: Incarnation]) throws -> String? {
        if let obstacle = try cluster.obstacle(includingSPM: true) { return obstacle }
        guard !incarnations.isEmpty else { return nil }
        let now = try self.incarnations()
        return incarnations.first { host, old in now[host].map { $0 <= old } ?? true }.map { "\($0.key) has not booted again" }
    }

    /// One writer ever, every guest writes, no alarm.
    private func judge() throws {
        let first = try TickRecords(cluster)
        diskCount = first.disks.count
        guard first.vms.isSuperset(of: try cluster.vms().map(\.name)) else { throw LabFailure("the disks of \(first.vms.sorted()) were found, and no others") }
        // A guest that met an I/O error resets its machine after a while.
        let end = cl_boottime() + 90_000_000_000
        var idle: [String] = []
        repeat {
            try Interruption.sleep(until: cl_boottime() + 300_000_000)
            idle = try TickRecords(cluster).idle(since: first)
        } while !idle.isEmpty && cl_boottime() < end
        guard idle.isEmpty else { throw LabFailure("up, but not writing: \(idle.joined(separator: " "))") }
        if let alarm = watch.alarms.first { throw LabFailure("ALARM of bulwark watch: \(alarm)") }
    }

    private func seconds(since began: Int64) -> Double { Double(cl_boottime() - began) / 1e9 }

    private func say(_ text: String) {
        print(text)
        fflush(nil)
    }
}
