import Foundation

/// Resident memory of a quiet cluster's processes.
struct MemoryBench {
    let cluster: LabCluster

    /// - Parameter named: the figures' prefix.
    func run(after seconds: UInt32, named prefix: String) throws -> [Figure] {
        try cluster.waitUntilWell("the start")
        sleep(seconds)
        let processes = ProcessTable.of(cluster: cluster.name)
        let names = ["lease-service", "host-agent", "fencing-service", "spm-coordinator", "placement-service", "domain-monitor", "vm-guard"]
        return try names.map { name in
            // An SPM worker is the agent's executable, too, and no agent.
            let own = processes.filter { $0.executable == name && !$0.arguments.contains("spm-worker") && !$0.arguments.contains("probe") }
            guard !own.isEmpty else { throw BenchFailure("no process of \(name) was found") }
            let memory = own.map { ProcessTable.memory($0.pid) }
            let anonymous = memory.map(\.anonymous).max() ?? .nan
            var figure = Figure("\(prefix).\(name)", "resident, the largest of \(own.count); anonymous \(String(format: "%.1f", anonymous)) MB", .megabytes, memory.map(\.resident).max() ?? .nan)
            figure.count = own.count
            return figure
        }
    }
}
