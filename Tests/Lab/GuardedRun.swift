import CLinux
import Foundation
import Messages

/// A real `vm-guard` with a payload that sleeps, on one host: started as its agent starts it.
package final class GuardedRun {
    package let holder: Holder
    private let run: String
    private let leases: [LeaseName]
    /// Makes the payload recognizable in /proc.
    private let mark = "97\(UInt32.random(in: 100_000_000...999_999_999))"
    private var child: Child?

    /// Starts it.
    /// - Parameter run: the host's run directory.
    package init(_ holder: Holder, _ leases: [LeaseName], run: String) throws {
        self.holder = holder
        self.run = run
        self.leases = leases
        try FileManager.default.createDirectory(atPath: "\(run)/guards", withIntermediateDirectories: true)
        unlink("\(run)/guards/\(holder).result")
        var arguments = ["run", "--holder", holder.description, "--run", run, "--boot-id", "lab", "--vm-lock", "\(run)/locks/\(holder.role.rawValue)-\(holder.name).lock", "--log", log]
        for lease in leases { arguments += ["--lease", "\(lease.lockspace)|\(lease.resource)", "--disk-lock", "\(run)/locks/disk-\(lease.resource).lock"] }
        child = try Child.start("\(Child.binaries)/vm-guard", arguments + ["--", "/bin/sleep", mark], diesWithThread: true)
    }

    deinit { kill() }

    private var log: String { "\(run)/guards/\(holder).log" }
    package var pid: pid_t { child?.pid ?? -1 }
    package var isRunning: Bool { child?.isRunning ?? false }
    package var exitStatus: Int32? { child?.exitStatus }
    package func kill() { child?.kill() }

    /// The payload, while it is there.
    package var payload: pid_t? {
        ProcessTable.pids.first { pid in
            FileManager.default.contents(atPath: "/proc/\(pid)/cmdline")?.split(separator: 0).map { String(decoding: $0, as: UTF8.self) } == ["/bin/sleep", mark]
        }
    }

    /// What it left when it ended.
    package var result: GuardMessage? { FileManager.default.contents(atPath: "\(run)/guards/\(holder).result").flatMap { GuardMessage(text: String(decoding: $0, as: UTF8.self)) } }

    /// What it says of itself; `nil`: it does not answer.
    package func ask(_ verb: String = "status") -> GuardMessage? {
        guard let socket = try? LocalSocket("\(run)/guards/\(holder).sock", .packets), (try? socket.send(Array(GuardMessage(verb).text.utf8))) != nil,
            let answer = try? socket.receive(GuardMessage.maximumLength, seconds: 5)
        else { return nil }
        return GuardMessage(text: String(decoding: answer, as: UTF8.self))
    }

    package var deadline: Int64? { ask()?["deadline"].flatMap(Int64.init) }

    /// - Returns: what was granted.
    @discardableResult package func awaitPayload(seconds: Double = 30) throws -> [GuardLease] {
        var granted: [GuardLease] = []
        try Wait.until("\(holder) runs", seconds: seconds) {
            if let result { throw LabFailure("\(holder) ended: \(result.text)") }
            guard let status = ask(), status["state"] == "running" else { return false }
            granted = status.all("lease").compactMap(GuardLease.init)
            return true
        }
        return granted
    }

    /// Until it has left its result.
    package func awaitEnd(seconds: Double = 30) throws -> GuardMessage {
        try Wait.until("\(holder) ends", seconds: seconds) { result != nil && !isRunning }
        guard let result else { throw LabFailure("\(holder) left no result") }
        return result
    }

    /// Told to stop, to the end.
    package func stop() throws -> GuardMessage {
        _ = ask("stop")
        return try awaitEnd()
    }
}
