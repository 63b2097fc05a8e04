import Foundation
import ServiceKit
import TestLab

/// What is done in one step, and when.
struct Script {
    struct Act {
        /// Seconds after the step began.
        var at: Double
        var what: String
        var work: () throws -> String?
    }

    private(set) var acts: [Act] = []

    /// - Parameter victim: host to break.
    init(_ fault: Fault, on victim: String, of cluster: LabCluster) {
        func span(_ from: Double, _ to: Double) -> Double { from + fault.moment * (to - from) }
        func lab(_ at: Double, _ arguments: [String]) {
            acts.append(
                Act(at: at, what: arguments.joined(separator: " ")) {
                    try cluster.lab(arguments)
                    return nil
                })
        }
        func kills() {
            for kill in fault.kills { acts.append(Act(at: kill.at, what: "kill -9") { Self.kill(kill.pick, of: cluster) }) }
        }
        switch fault.kind {
        case .crash, .crashOfSPM: lab(0, ["crash", victim])
        case .crashAmongKills:
            kills()
            lab(span(0, 4), ["crash", victim])
        case .crashWithoutManager:
            lab(0, ["kill", "--hold"] + ClusterFile.managerServices)
            lab(0.1, ["crash", victim])
            lab(span(0.2, 12), ["release"] + ClusterFile.managerServices)
        case .reboot:
            lab(0, ["crash", victim])
            lab(span(0.1, 3), ["power-on", victim])
        case .hang:
            lab(0, ["hang", victim])
            lab(span(0.5, 16), ["thaw", victim])
        case .cut:
            lab(0, ["cut-network", victim])
            lab(span(0.5, 16), ["heal", victim])
        case .stuckBMC:
            lab(0, ["bmc-stuck", victim])
            lab(0.1, [["hang", "crash", "cut-network"][Int(fault.way % 3)], victim])
            lab(span(7, 25), ["heal", victim])
        case .storage:
            let hangs = fault.way % 2 == 0
            lab(0, ["cut-storage", victim, hangs ? "--hang" : "--error"])
            // A file that has failed fails for good: a guest that its guard did not end at its deadline would be up and never write again.
            lab(span(hangs ? 2 : 18, 32), ["heal", victim])
        case .kills: kills()
        }
        acts.sort { $0.at < $1.at }
    }

    /// Ends a manager service, an agent or its workers, a lease-service or a guard, by pid: whoever supervises it is to notice.
    private static func kill(_ pick: UInt64, of cluster: LabCluster) -> String? {
        let processes = ProcessTable.of(cluster: cluster.name).filter { $0.executable != "bulwark" }
        guard !processes.isEmpty else { return nil }
        let process = processes[Int(pick % UInt64(processes.count))]
        Glibc.kill(process.pid, SIGKILL)
        return MemoryLog.role(of: process) + " (\(process.pid))"
    }
}
