import Foundation
import TestLab

/// Resident memory of every process after each step. A service that is killed begins anew, therefore both are judged: what is needed after so many failovers, by
/// whichever process it is, and how the process that lived longest grew.
struct MemoryLog {
    struct Sample {
        var failovers: Int
        var megabytes: Double
    }

    /// Failovers after which a service has seen everything once.
    static let warmUp = 10
    static let ratioBound = 1.2
    static let growthBound = 4.0
    static let boundText = "bound: not more than 20 % and 4 MB above"

    /// By role the largest process.
    private(set) var roles: [String: [Sample]] = [:]
    /// By role and process.
    private var lives: [String: [pid_t: [Sample]]] = [:]

    static func role(of process: ProcessTable.Entry) -> String {
        switch process.executable {
        case "host-agent": process.arguments.contains("spm-worker") ? "SPM worker" : process.arguments.contains("probe") ? "probe" : "host-agent"
        case "bulwark": process.arguments.contains("supervise") ? "supervisor" : "bulwark"
        default: process.executable
        }
    }

    mutating func take(_ cluster: LabCluster, watch: pid_t, failovers: Int) {
        var largest: [String: Double] = [:]
        let processes = ProcessTable.of(cluster: cluster.name).map { (Self.role(of: $0), $0.pid) }.filter { !["bulwark", "probe", "SPM worker"].contains($0.0) }
        for (role, pid) in processes + [("watch", watch)] {
            let resident = ProcessTable.memory(pid).resident
            guard resident.isFinite else { continue }
            largest[role] = max(largest[role] ?? 0, resident)
            lives[role, default: [:]][pid, default: []].append(Sample(failovers: failovers, megabytes: resident))
        }
        for (role, megabytes) in largest { roles[role, default: []].append(Sample(failovers: failovers, megabytes: megabytes)) }
    }

    struct Verdict {
        var role: String
        var start: Sample
        /// After the warm-up; `nil`: too early to say.
        var first: Sample?
        var last: Sample
        /// Of the process that lived longest, from its second sample on.
        var lifeFirst: Sample
        var lifeLast: Sample

        var ratio: Double? { first.map { last.megabytes / $0.megabytes } }
        var isFlat: Bool { first.map { Self.isFlat($0, last) && Self.isFlat(lifeFirst, lifeLast) } ?? true }

        private static func isFlat(_ first: Sample, _ last: Sample) -> Bool {
            last.megabytes <= first.megabytes * MemoryLog.ratioBound || last.megabytes <= first.megabytes + MemoryLog.growthBound
        }
    }

    var verdicts: [Verdict] {
        roles.keys.sorted().compactMap { role in
            guard let samples = roles[role], let start = samples.first, let last = samples.last else { return nil }
            let longest = lives[role]?.values.map { $0.drop { $0.failovers < Self.warmUp } }.map { $0.dropFirst() }.max { Self.span($0) < Self.span($1) }
            return Verdict(
                role: role, start: start, first: samples.first { $0.failovers >= Self.warmUp }, last: last,
                lifeFirst: longest?.first ?? last, lifeLast: longest?.last ?? last)
        }
    }

    private static func span(_ life: ArraySlice<Sample>) -> Int { (life.last?.failovers ?? 0) - (life.first?.failovers ?? 0) }

    var line: String { roles.keys.sorted().map { "\($0) \(String(format: "%.1f", roles[$0]?.last?.megabytes ?? .nan))" }.joined(separator: ", ") }
}
