import CLinux
import Foundation

/// The processes of one cluster, found in /proc by executable and command line: pids that they report themselves are those of their own namespace.
package enum ProcessTable {
    package struct Entry: Sendable {
        package var pid: pid_t
        package var executable: String
        package var arguments: [String]
    }

    /// All of the machine.
    static var pids: [pid_t] { ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { pid_t($0) } }

    /// Every process that runs one of our executables for this cluster.
    package static func of(cluster: String) -> [Entry] {
        pids.sorted().compactMap { pid in
            guard let executable = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/exe"), executable.hasPrefix(Child.binaries + "/"),
                let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline")
            else { return nil }
            let arguments = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            guard arguments.contains(where: { $0.contains("/\(cluster)/") }) else { return nil }
            return Entry(pid: pid, executable: (executable as NSString).lastPathComponent, arguments: arguments)
        }
    }

    /// Seconds on a processor so far.
    package static func processorTime(_ pid: pid_t) -> Double {
        let stat = FileManager.default.contents(atPath: "/proc/\(pid)/stat").map { String(decoding: $0, as: UTF8.self) } ?? ""
        guard let end = stat.lastIndex(of: ")") else { return 0 }
        let ticks = stat[stat.index(after: end)...].split(separator: " ").dropFirst(11).prefix(2).compactMap { Double($0) }.reduce(0, +)
        return ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// Resident and anonymous memory in MB (1024 x 1024).
    package static func memory(_ pid: pid_t) -> (resident: Double, anonymous: Double) {
        let status = FileManager.default.contents(atPath: "/proc/\(pid)/status").map { String(decoding: $0, as: UTF8.self) } ?? ""
        func megabytes(_ field: String) -> Double {
            status.split(separator: "\n").first { $0.hasPrefix(field + ":") }.flatMap { $0.split(whereSeparator: \.isWhitespace).dropFirst().first }.flatMap { Double($0) }
                .map { $0 / 1024 } ?? .nan
        }
        return (megabytes("VmRSS"), megabytes("RssAnon"))
    }
}
