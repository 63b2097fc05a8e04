import CLinux
import Foundation
import Messages
import ServiceKit
import Testing

@Suite struct ChildProcessTests {
    @Test func inputOutputAndStatusArrive() {
        let outcome = ChildProcess("/bin/sh", ["-c", "cat; echo bad >&2; exit 3"], input: Data("hello".utf8), deadline: .seconds(10)).run()
        #expect(outcome.end == .exited(3) && outcome.output == "hello" && outcome.errorOutput == "bad\n")
    }

    @Test func manyBytesDoNotBlock() {
        let outcome = ChildProcess("/bin/sh", ["-c", "cat"], input: Data(count: 1 << 20), deadline: .seconds(10)).run()
        #expect(outcome.end == .exited(0) && outcome.output.utf8.count == 64 * 1024)
    }

    @Test func theWholeGroupDiesAtTheDeadline() throws {
        let directory = try ScratchDirectory()
        let outcome = ChildProcess(
            "/bin/sh", ["-c", "sleep 1000 & echo $! > \(directory.path)/pid; wait"], deadline: .milliseconds(500)
        ).run()
        #expect(outcome.end == .timedOut)
        let pid = try #require(Int32(String(decoding: FileManager.default.contents(atPath: directory.path + "/pid") ?? Data(), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)))
        #expect(gone(pid))
    }

    /// A grandchild that left the group is gone too when the namespace's first process ends.
    @Test func nothingOutlivesItsNamespace() throws {
        let mark = "1\(UInt32.random(in: 100_000...999_999))"
        var child = ChildProcess("/bin/sh", ["-c", "setsid sleep \(mark) & exit 0"], deadline: .seconds(10))
        child.ownPIDNamespace = true
        #expect(child.run().end == .exited(0))
        #expect(ChildProcess("/usr/bin/pgrep", ["-f", "^sleep \(mark)"], deadline: .seconds(5)).run().end == .exited(1))
    }

    @Test func aMissingProgramIsNotStarted() {
        guard case .notStarted(let why) = ChildProcess("/nonexistent/agent", deadline: .seconds(1)).run().end else {
            Issue.record("it started")
            return
        }
        #expect(why.contains("/nonexistent/agent"))
    }

    private func gone(_ pid: Int32) -> Bool {
        let until = cl_boottime() + 5_000_000_000
        while cl_boottime() < until {
            let stat = FileManager.default.contents(atPath: "/proc/\(pid)/stat").map { String(decoding: $0, as: UTF8.self) }
            guard let state = stat?.split(separator: ")").last?.split(separator: " ").first, !"ZX".contains(state) else { return true }
            usleep(2000)
        }
        return false
    }
}
