import Foundation
import TestLab

/// Resident memory and processor time of a quiet cluster's processes.
struct MemoryBench {
    let cluster: LabCluster

    /// - Parameter named: the figures' prefix.
    func run(after seconds: UInt32, named prefix: String) throws -> [Figure] {
        try cluster.waitUntilWell("the start")
        let before = processorTime()
        sleep(seconds)
        let share = (processorTime() - before) / Double(seconds) * 100
        let processes = ProcessTable.of(cluster: cluster.name)
        let names = ["lease-service", "host-agent", "fencing-service", "spm-coordinator", "placement-service", "domain-monitor", "vm-guard"]
        let memory = try names.map { name in
            // An SPM worker is the agent's executable, too, and no agent.
            let own = processes.filter { $0.executable == name && !$0.arguments.contains("spm-worker") && !$0.arguments.contains("probe") }
            guard !own.isEmpty else { throw LabFailure("no process of \(name) was found") }
            let memory = own.map { ProcessTable.memory($0.pid) }
            let anonymous = memory.map(\.anonymous).max() ?? .nan
            var figure = Figure("\(prefix).\(name)", "resident, the largest of \(own.count); anonymous \(String(format: "%.1f", anonymous)) MB", .megabytes, memory.map(\.resident).max() ?? .nan)
            figure.count = own.count
            return figure
        }
        return memory + [Figure("\(prefix).processor", "all \(processes.count) processes together, of one core", .percent, share)]
    }

    private func processorTime() -> Double { ProcessTable.of(cluster: cluster.name).map { ProcessTable.processorTime($0.pid) }.reduce(0, +) }
}
