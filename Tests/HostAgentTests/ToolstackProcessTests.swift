import Bus
import CLinux
import Foundation
import Glibc
import Messages
import Testing

/// The real host-agent with real check and restart commands, a real guard and a real QEMU: toolstack down is not VM down.
@Suite(.serialized, .enabled(if: getuid() == 0 && access("/usr/bin/qemu-system-x86_64", X_OK) == 0, "needs root and QEMU"))
struct ToolstackProcessTests {
    /// Two scripts and what they go by.
    private final class Commands {
        private let directory = TemporaryDirectory()

        init() throws {
            try script(
                "check",
                """
                read mode < \(directory.path)/mode
                case "$mode" in
                  fails) echo "Failed to connect socket: Connection refused ($BULWARK_HOST)" >&2; exit 1;;
                  hangs) sleep 1000 & echo $! > \(directory.path)/sleeper; wait;;
                esac
                """)
            try script("restart", "echo again >> \(directory.path)/restarts; [ ! -e \(directory.path)/helps ] || echo works > \(directory.path)/mode.new && mv \(directory.path)/mode.new \(directory.path)/mode")
            try set("works")
        }

        private func script(_ name: String, _ text: String) throws {
            try Data("#!/bin/sh\n\(text)\n".utf8).write(to: URL(fileURLWithPath: "\(directory.path)/\(name)"))
            chmod("\(directory.path)/\(name)", 0o700)
        }

        /// works, fails, hangs
        func set(_ mode: String) throws { try Data("\(mode)\n".utf8).write(to: URL(fileURLWithPath: "\(directory.path)/mode"), options: .atomic) }

        func letRestartsHelp() throws { try Data().write(to: URL(fileURLWithPath: "\(directory.path)/helps")) }

        private func text(_ name: String) -> String { FileManager.default.contents(atPath: "\(directory.path)/\(name)").map { String(decoding: $0, as: UTF8.self) } ?? "" }

        var restarts: Int { text("restarts").split(separator: "\n").count }
        /// What a check that hangs has started.
        var sleeper: pid_t? { pid_t(text("sleeper").trimmingCharacters(in: .whitespacesAndNewlines)) }

        var configuration: String {
            """
            toolstack: {check: \(directory.path)/check now, restart: \(directory.path)/restart, every: 300ms, timeout: 1s, restartTimeout: 5s, restarts: 2, pause: 200ms}
            """
        }
    }

    /// A zombie does not: whoever is process 1 here may leave it.
    private func lives(_ pid: pid_t) -> Bool {
        let stat = FileManager.default.contents(atPath: "/proc/\(pid)/stat").map { String(decoding: $0, as: UTF8.self) } ?? ") Z"
        return stat.split(separator: ")").last.map { !$0.hasPrefix(" Z") } ?? false
    }

    private struct Snapshot: Decodable { var body: AgentSnapshot }

    private func heartbeat(_ bench: AgentBench) throws -> AgentHeartbeat {
        try ReplyFrame.body(Snapshot.self, bench.ask("snapshot", [String: String](), target: nil)).body.heartbeat
    }

    private func waits(_ bench: AgentBench, for state: ToolstackReport.State?) throws -> Bool { try bench.wait { try heartbeat(bench).toolstack?.state == state } }

    @Test func aToolstackThatDiesIsRestartedAndTheGuestIsTheSame() throws {
        let commands = try Commands()
        let bench = try AgentBench(more: commands.configuration)
        try bench.startAgent()
        let pid = try #require(try bench.start(attempt: 1).pid)
        try commands.letRestartsHelp()
        try commands.set("fails")
        #expect(try bench.wait { try bench.observe(attempt: 1).state == .unknown })
        let seen = try bench.observe(attempt: 1)
        #expect(seen.pid == pid && seen.ended == nil && kill(pid, 0) == 0)
        #expect(try bench.wait { commands.restarts == 1 })
        #expect(try waits(bench, for: nil))
        let back = try bench.observe(attempt: 1)
        #expect(back.state == .running && back.pid == pid && commands.restarts == 1)
        #expect(try bench.stop(attempt: 1).ended != nil)
    }

    @Test func aLostToolstackIsToldStartsNothingAndAGuestIsStoppedOnEvidence() throws {
        let commands = try Commands()
        let bench = try AgentBench(more: commands.configuration)
        try bench.startAgent()
        let pid = try #require(try bench.start(attempt: 1).pid)
        try commands.set("fails")
        #expect(try waits(bench, for: .lost))
        #expect(commands.restarts == 2)
        let why = try heartbeat(bench).toolstack?.why ?? ""
        #expect(why.contains("check now: exit status 1") && why.contains("Connection refused (host1)"), "\(why)")
        #expect(try bench.problems().contains { $0.contains("cannot be controlled") })
        // What was told outlives its agent, which restarts nothing again.
        try bench.startAgent()
        #expect(try waits(bench, for: .lost))
        #expect(try bench.observe(attempt: 1).state == .unknown && kill(pid, 0) == 0)
        #expect(try bench.refusal { _ = try bench.start(attempt: 2) } == "vm.still-here")
        let stopped = try bench.stop(attempt: 1)
        #expect(stopped.state == .stopped && stopped.ended?.proof.covers(holder: bench.vm, attempt: 1) == true && kill(pid, 0) != 0)
        #expect(try bench.refusal { _ = try bench.start(attempt: 3) } == "vm.toolstack-down")
        try commands.set("works")
        #expect(try waits(bench, for: nil))
        #expect(try bench.start(attempt: 4).state == .running && commands.restarts == 2)
    }

    /// Heartbeats and guards do not wait for it, and nothing of it is left behind.
    @Test func aCheckThatHangsIsKilledWithAllItStarted() throws {
        let commands = try Commands()
        let bench = try AgentBench(more: commands.configuration)
        try bench.startAgent()
        #expect(try bench.start(attempt: 1).state == .running)
        try commands.set("hangs")
        #expect(try bench.wait { commands.sleeper != nil })
        let first = try #require(commands.sleeper)
        let sequence = try heartbeat(bench).sequence
        let began = cl_boottime()
        #expect(try bench.stop(attempt: 1).ended != nil)
        #expect(Double(cl_boottime() - began) / 1e9 < 5)
        #expect(try waits(bench, for: .failing))
        #expect(try bench.wait { !lives(first) })
        #expect(try heartbeat(bench).sequence > sequence)
        try commands.set("works")
        #expect(try waits(bench, for: nil))
        #expect(try bench.wait { commands.sleeper.map { !lives($0) } ?? true })
    }

    /// Its guard proves that it runs; QMP says nothing.
    @Test func aGuestWhoseMonitorDoesNotAnswerRuns() throws {
        let bench = try AgentBench()
        try bench.startAgent()
        let pid = try #require(try bench.start(attempt: 1).pid)
        kill(pid, SIGSTOP)
        #expect(try bench.wait { try bench.observe(attempt: 1).isMute == true })
        #expect(try bench.observe(attempt: 1).state == .running)
        kill(pid, SIGCONT)
        #expect(try bench.wait { try bench.observe(attempt: 1).isMute == nil })
        #expect(try bench.stop(attempt: 1).ended != nil)
    }
}
