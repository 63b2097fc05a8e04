import CLinux
import Foundation

/// A process that survives its starter's memory: its pid and when it began, so that a recycled pid is never mistaken for it.
struct ProcessRecord: Hashable, Sendable {
    var pid: pid_t
    /// Clock ticks since the machine's start, from `/proc/<pid>/stat`.
    var startTime: UInt64

    /// `nil`: no such process, or it is dead and only not reaped.
    init?(pid: pid_t) {
        guard pid > 0, let found = Self.look(pid), !found.dead else { return nil }
        self.pid = pid
        startTime = found.startTime
    }

    /// The process whose record was left in a file; `nil` if there is none or it is gone.
    init?(file: String) {
        guard let parts = (try? String(contentsOfFile: file, encoding: .utf8))?.split(whereSeparator: \.isWhitespace), parts.count == 2,
            let pid = pid_t(parts[0]), let startTime = UInt64(parts[1]), let record = ProcessRecord(pid: pid), record.startTime == startTime
        else { return nil }
        self = record
    }

    func save(_ file: String) throws { try Data("\(pid) \(startTime)\n".utf8).write(to: URL(fileURLWithPath: file), options: .atomic) }

    var isAlive: Bool { ProcessRecord(pid: pid) == self }

    /// Signals this very process and no other: its pid cannot be recycled while the descriptor is open.
    @discardableResult
    func signal(_ number: Int32) -> Bool {
        let descriptor = cl_pidfd_open(pid)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return isAlive && cl_pidfd_send_signal(descriptor, number) == 0
    }

    /// Waits until it is gone.
    /// - Returns: whether it is.
    func awaitEnd(seconds: Double) -> Bool { waitUntil(seconds: seconds) { !isAlive } }

    private static func look(_ pid: pid_t) -> (dead: Bool, startTime: UInt64)? {
        guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8), let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: end)...].split(separator: " ")
        guard fields.count > 19, let state = fields.first, let startTime = UInt64(fields[19]) else { return nil }
        return (state == "Z" || state == "X", startTime)
    }
}

/// Looks every 20 ms whether something has become true.
/// - Returns: whether it did in time.
func waitUntil(seconds: Double, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = cl_boottime() + Int64(seconds * 1e9)
    while true {
        if try condition() { return true }
        if cl_boottime() >= end { return false }
        usleep(20_000)
    }
}
