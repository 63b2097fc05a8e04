import Foundation
import ServiceKit
import TestLab

/// The live checker, beside the soak from its beginning to its end.
final class WatchLog {
    private struct Line: Decodable {
        struct Summary: Decodable {
            var facts: Int
            var unheard: [String]
        }
        var summary: Summary?
    }

    let path: String
    let child: Child

    init(_ cluster: LabCluster) throws {
        path = "\(cluster.file.state)/logs/watch.jsonl"
        child = try Child.start("\(Child.binaries)/bulwark", ["--cluster", cluster.name, "--json", "watch", "--status"], log: path)
    }

    private var lines: [Substring] { String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self).split(separator: "\n") }

    /// What it said of broken invariants, and of its own end.
    var alarms: [String] {
        lines.filter { $0.contains("\"violation\"") }.map(String.init) + (child.exitStatus.map { ["it ended: exit status \($0)"] } ?? [])
    }

    /// Of the last summary: how much it has seen.
    var facts: Int { summary?.facts ?? 0 }

    /// Processes whose state it never read.
    var unheard: [String] { summary?.unheard ?? [] }

    private var summary: Line.Summary? { lines.reversed().lazy.compactMap { try? JSONDecoder().decode(Line.self, from: Data($0.utf8)).summary }.first }
}
