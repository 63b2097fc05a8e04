import Foundation
import TestLab

/// What a soak showed, as text.
struct Summary {
    let soak: Soak
    let watch: WatchLog
    let seconds: Double
    let loads: (start: String, end: String)
    /// What ended it early.
    let failure: (any Error)?

    /// Judged only after a while.
    var isFlat: Bool { soak.failovers < 2 * MemoryLog.warmUp || soak.memory.verdicts.allSatisfy(\.isFlat) }

    var text: String {
        var lines = ["", "\(soak.failovers) failovers in \(soak.steps.count) faults, \(Int(seconds / 60)) min; load at the start \(loads.start), at the end \(loads.end)", ""]
        lines.append(row("fault", "times", "failovers", "to all well p50", "max"))
        for kind in Fault.Kind.allCases { lines += line(kind.rawValue, soak.steps.filter { $0.kind == kind }) }
        lines += line("all", soak.steps)
        lines += ["", "ticks: \(soak.diskCount) disks, looked at twice after each fault: \(failure is DoubleWriter ? "TWO WRITERS" : "never two writers")"]
        lines.append("watch: \(watch.facts) facts, \(watch.alarms.count) alarms\(watch.unheard.isEmpty ? "" : "; never heard: \(watch.unheard.joined(separator: ", "))")")
        lines.append("VMs that began anew while their host lived: \(soak.restarts)")
        lines += ["", row("resident, MB", "start", "after \(MemoryLog.warmUp)", "end", "ratio", "longest life (its failovers)")]
        for verdict in soak.memory.verdicts {
            let life = "\(number(verdict.lifeFirst.megabytes)) -> \(number(verdict.lifeLast.megabytes)) (\(verdict.lifeLast.failovers - verdict.lifeFirst.failovers))"
            lines.append(
                row(
                    verdict.role, number(verdict.start.megabytes), verdict.first.map { number($0.megabytes) } ?? "-", number(verdict.last.megabytes), verdict.ratio.map { String(format: "%.2f", $0) } ?? "-",
                    life + (verdict.isFlat ? "" : "  NOT FLAT")))
        }
        lines.append(soak.failovers < 2 * MemoryLog.warmUp ? "memory is judged after \(2 * MemoryLog.warmUp) failovers" : "memory is \(isFlat ? "flat" : "NOT FLAT") (\(MemoryLog.boundText))")
        return lines.joined(separator: "\n")
    }

    private func line(_ name: String, _ steps: [Soak.Step]) -> [String] {
        guard !steps.isEmpty else { return [] }
        let times = steps.map(\.toWell)
        return [row(name, "\(steps.count)", "\(steps.map(\.failovers).reduce(0, +))", number(times.percentile(0.5)) + " s", number(times.max() ?? .nan) + " s")]
    }

    private func number(_ value: Double) -> String { String(format: "%.1f", value) }

    private func row(_ first: String, _ others: String...) -> String {
        first.padding(toLength: 24, withPad: " ", startingAt: 0) + others.map { String(repeating: " ", count: max(0, 11 - $0.count)) + $0 + "  " }.joined()
    }
}
