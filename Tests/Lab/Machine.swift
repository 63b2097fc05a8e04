import CLinux
import Foundation
import LeaseVolume
import Messages

/// Where the figures come from: they mean nothing without it.
package struct Machine: Codable, Sendable {
    package var cpu: String
    package var cores: Int
    package var memoryMiB: Int
    package var kernel: String
    package var hypervisor: String
    /// File system of the state directory, and what one 512-byte O_DIRECT|O_SYNC write costs there.
    package var disk: String
    /// 1, 5 and 15 minutes.
    package var load: String

    package static func survey() -> Machine {
        let cpuinfo = text("/proc/cpuinfo").split(separator: "\n")
        func field(_ name: String) -> String {
            guard let line = cpuinfo.first(where: { $0.hasPrefix(name) }), let value = line.split(separator: ":", maxSplits: 1).last else { return "unknown" }
            return value.trimmingCharacters(in: .whitespaces)
        }
        let total = Int(text("/proc/meminfo").split(whereSeparator: \.isWhitespace).dropFirst().first ?? "") ?? 0
        return Machine(
            cpu: field("model name"), cores: ProcessInfo.processInfo.processorCount, memoryMiB: total / 1024,
            kernel: text("/proc/sys/kernel/osrelease").trimmingCharacters(in: .whitespacesAndNewlines),
            hypervisor: field("flags").split(separator: " ").contains("hypervisor") ? "virtual machine" : "bare metal", disk: disk(), load: load())
    }

    package static func load() -> String { text("/proc/loadavg").split(separator: " ").prefix(3).joined(separator: " ") }

    package var text: String {
        "\(cpu), \(cores) cores (\(hypervisor)), \(memoryMiB) MiB, Linux \(kernel), \(disk), load \(load)\n"
    }

    private static func disk() -> String {
        let directory = "/var/lib/bulwark"
        try? FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var best: (place: Substring, description: String)?
        for line in text("/proc/self/mounts").split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 2, directory.hasPrefix(fields[1]), fields[1].count > best?.place.count ?? 0 else { continue }
            best = (fields[1], "\(fields[2]) on \(fields[0])")
        }
        let path = "\(directory)/survey-\(getpid())"
        defer { unlink(path) }
        let writes = (0..<50).map { _ in
            let began = cl_boottime()
            _ = DirectFile.write(path: path, offset: 0, bytes: [UInt8](repeating: 0, count: 512), notAfter: Instant(nanoseconds: .max), create: true)
            return Double(cl_boottime() - began) / 1000
        }
        return "\(best?.description ?? "disk") (\(Int(writes.percentile(0.5))) us a synchronous sector)"
    }

    private static func text(_ path: String) -> String { FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? "" }
}
