import Foundation
import TestLab

/// Everything of one run.
struct Report: Codable, Sendable {
    var machine: Machine
    var loadAtEnd: String
    var figures: [Judged]
    /// Figures that have a threshold and were not measured.
    var missing: [String]

    var passed: Bool { missing.isEmpty && !figures.contains { $0.isBroken } }

    var summary: String {
        let aims = figures.filter { $0.aim != nil }
        let missed = aims.filter(\.missesAim).map(\.figure.name)
        let broken = figures.filter(\.isBroken).map(\.figure.name)
        var lines = ["", "\(aims.count - missed.count) of \(aims.count) aims reached; load at the start \(machine.load), at the end \(loadAtEnd)"]
        if !missed.isEmpty { lines.append("missed: \(missed.joined(separator: ", "))") }
        if !missing.isEmpty { lines.append("not measured: \(missing.joined(separator: ", "))") }
        lines.append(broken.isEmpty ? "every threshold holds" : "broken thresholds: \(broken.joined(separator: ", "))")
        return lines.joined(separator: "\n")
    }

    func write(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        try encoder.encode(self).write(to: URL(fileURLWithPath: path))
    }
}
