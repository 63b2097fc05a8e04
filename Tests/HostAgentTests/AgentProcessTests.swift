import Bus
import CLinux
import Foundation
import Glibc
import HostAgentEngine
import HostAgentHypervisor
import HostAgentStorage
import Messages
import Testing

/// The real host-agent, real guards and real QEMU, without a lease-service: its VMs are defined without leases.
@Suite(.serialized, .enabled(if: getuid() == 0 && access("/usr/bin/qemu-system-x86_64", X_OK) == 0, "needs root and QEMU"))
struct AgentProcessTests {
    @Test func aGuestOutlivesItsAgentAndNotItsGuard() throws {
        let bench = try AgentBench()
        try bench.startAgent()
        let running = try bench.start(attempt: 1)
        #expect(running.state == .running)
        let pid = try #require(running.pid)
        kill(bench.agent, SIGKILL)
        try bench.startAgent()
        #expect(kill(pid, 0) == 0)
        let seen = try bench.observe(attempt: 1)
        #expect(seen.state == .running && seen.pid == pid)
        #expect(try bench.refusal { _ = try bench.start(attempt: 2) } == "vm.still-here")

        kill(try #require(bench.guardProcess), SIGKILL)
        let over = try bench.wait { try bench.observe(attempt: 1).ended != nil }
        #expect(over)
        #expect(ProcessScan.run().guest(uuid: GuestUUID.of(vm: bench.vm)) == nil)
        #expect(try bench.observe(attempt: 1).ended?.proof.covers(holder: bench.vm, attempt: 1) == true)
        #expect(try bench.refusal { _ = try bench.start(attempt: 2) } == "vm.attempt-stale")
        #expect(try bench.start(attempt: 3).state == .running)
        #expect(try bench.stop(attempt: 3).ended != nil)
    }

    @Test func anAgentThatLostItsJournalProvesNothingOverThatStillRuns() throws {
        let bench = try AgentBench()
        try bench.startAgent()
        let pid = try #require(try bench.start(attempt: 1).pid)
        try bench.startAgent(forgetful: true)
        let seen = try bench.observe(attempt: 1)
        #expect(seen.state == .unknown && seen.pid == pid && seen.ended == nil)
        #expect(try bench.refusal { _ = try bench.start(attempt: 2) } == "vm.still-here")
        kill(try #require(bench.guardProcess), SIGKILL)
        #expect(try bench.wait { try bench.observe(attempt: 1).ended != nil })
        #expect(ProcessScan.run().guest(uuid: GuestUUID.of(vm: bench.vm)) == nil)
    }

    @Test func aGuestThatCannotStartLeavesNothing() throws {
        let bench = try AgentBench(qemu: "/nonexistent/qemu")
        try bench.startAgent()
        #expect(try bench.refusal { _ = try bench.start(attempt: 1) } == "vm.start-failed")
        #expect(try bench.wait { try bench.observe(attempt: 1).ended != nil })
    }

    /// What its journal says of its last life is no look at this one.
    @Test func anAgentThatIsStartedAgainOpensItsWatchdogOnlyAfterItHasLooked() throws {
        let bench = try AgentBench(watchdog: true)
        try bench.startAgent()
        #expect(try bench.start(attempt: 1).state == .running)
        let standing = try #require(bench.guardProcess)
        #expect(!bench.watchdogIsOpen)
        try bench.armWatchdog()
        kill(standing, SIGSTOP)
        defer { kill(standing, SIGCONT) }
        try bench.startAgent()
        #expect(try bench.wait { try bench.problems().contains { $0.contains("host-agent still finds out what runs here") } })
        #expect(!bench.watchdogIsOpen)
        kill(standing, SIGCONT)
        #expect(try bench.wait { bench.watchdogIsOpen })
    }

    @Test func anAgentWhoseRunDirectoryWasEmptiedDoesNotStart() throws {
        let bench = try AgentBench()
        try bench.startAgent()
        try bench.startAgent()
        let words = try bench.endOfAgentWithoutItsRunDirectory()
        #expect(words.contains("was emptied since this machine's boot"), "\(words)")
    }

    @Test func anotherBootIsNotObeyed() throws {
        let bench = try AgentBench()
        try bench.startAgent()
        #expect(try bench.refusal { _ = try bench.ask("vm.start", bench.order(attempt: 1), target: "boot0") } == "request.wrong-target")
    }
}

/// One agent with a domain and a disk.
final class AgentBench {
    private let directory = TemporaryDirectory()
    private let run = "/tmp/bulwark-agent-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    let vm = "vm-\(UInt32.random(in: 0...UInt32.max))"
    private let domain = UUID().uuidString.lowercased()
    private(set) var agent: pid_t = 0

    /// - Parameter more: further lines of its configuration.
    init(qemu: String = "qemu-system-x86_64", watchdog: Bool = false, more: String = "") throws {
        mkdir(run, 0o700)
        let path = "\(directory.path)/\(domain)"
        let made = FileDomain(StorageCreate(domain: domain, path: path, name: "data", ioTimeout: 2))
        _ = try made.prepare()
        try made.publish()
        let volume = VolumeBuild(task: "t", lver: 1, domain: path, image: "disk", size: 1 << 20, source: nil)
        try volume.build()
        try volume.publish()
        try write("boot1\n", "boot-id")
        try write("HW1\n", "hardware-id")
        try write("cluster: test\nstate: \(directory.path)\nrun: \(run)\nkeys: \(directory.path)/keys\nservices: {}\n", "cluster.yaml")
        try write(
            """
            host: {name: host1, id: 1, bootIDFile: \(directory.path)/boot-id, hardwareIDFile: \(directory.path)/hardware-id}
            run: \(run)
            state: \(directory.path)/host1
            agent: {qemu: \(qemu), imageLocking: false}
            storage: {probe: 200ms}
            watchdog: {device: "\(watchdog ? "fake:" : "")", timeout: 6s}
            \(more)
            """, "agent.yaml")
    }

    /// As an earlier life of the agent leaves it, which is over before that counts.
    func armWatchdog() throws {
        end()
        try Data("fake:".utf8).write(to: URL(fileURLWithPath: "\(run)/watchdog.counts"))
    }

    var watchdogIsOpen: Bool { access("\(run)/watchdog", F_OK) == 0 }

    func problems() throws -> [String] { try ReplyFrame.body(Health.self, ask("health", [String: String](), target: nil)).problems }

    deinit {
        if let guardProcess { kill(guardProcess, SIGKILL) }
        end()
        try? FileManager.default.removeItem(atPath: run)
    }

    private func write(_ text: String, _ name: String) throws { try Data(text.utf8).write(to: URL(fileURLWithPath: "\(directory.path)/\(name)")) }

    private func end() {
        guard agent > 0 else { return }
        kill(agent, SIGKILL)
        waitpid(agent, nil, 0)
        agent = 0
    }

    /// Started (again), connected to its domain; forgetful: without its journal.
    func startAgent(forgetful: Bool = false) throws {
        end()
        if forgetful { try FileManager.default.removeItem(atPath: "\(directory.path)/host1/host-agent") }
        agent = try spawn(
            besideTests("host-agent"), ["--cluster", "\(directory.path)/cluster.yaml", "--config", "\(directory.path)/agent.yaml", "--log-level", "error"])
        _ = try ask("storage.connect", StorageConnect(domain: domain, path: "\(directory.path)/\(domain)"))
    }

    /// What it says to that.
    func endOfAgentWithoutItsRunDirectory() throws -> String {
        end()
        try FileManager.default.removeItem(atPath: run)
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: besideTests("host-agent"))
        process.arguments = ["--cluster", "\(directory.path)/cluster.yaml", "--config", "\(directory.path)/agent.yaml", "--log-level", "error"]
        process.standardError = output
        process.standardOutput = output
        try process.run()
        let text = try output.fileHandleForReading.readToEnd().map { String(decoding: $0, as: UTF8.self) } ?? ""
        process.waitUntilExit()
        return process.terminationStatus == 0 ? "it ended well" : text
    }

    func ask(_ type: String, _ body: any Encodable, target: String? = "boot1") throws -> Data {
        let client = try BlockingClient(endpoint: "ipc://\(run)/agent.requests")
        defer { client.close() }
        return try client.call(type, body, target: target, timeout: .seconds(10))
    }

    func order(attempt: UInt64) -> VMStart {
        let disk = DiskDefinition(image: "disk", domain: domain, size: 1 << 20)
        return VMStart(vm: VMDefinition(name: vm, memoryMiB: 4, disks: [disk], leases: false), attempt: attempt, generations: [:], proofs: [])
    }

    func start(attempt: UInt64) throws -> VMObservation { try ReplyFrame.body(VMObservation.self, ask("vm.start", order(attempt: attempt))) }
    func stop(attempt: UInt64) throws -> VMObservation { try ReplyFrame.body(VMObservation.self, ask("vm.stop", VMAttempt(vm: vm, attempt: attempt))) }
    func observe(attempt: UInt64) throws -> VMObservation { try ReplyFrame.body(VMObservation.self, ask("vm.observe", VMAttempt(vm: vm, attempt: attempt))) }

    /// The code of the refusal.
    func refusal(_ work: () throws -> Void) throws -> String? {
        do {
            try work()
            return nil
        } catch let error as RequestError {
            return error.code
        }
    }

    /// The guard of this VM, by its command line.
    var guardProcess: pid_t? {
        let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return processes.compactMap { pid_t($0) }.first { pid in
            let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline").map { String(decoding: $0, as: UTF8.self) } ?? ""
            return line.contains("vm-guard\0run") && line.contains("vm:\(vm):")
        }
    }

    /// Whether it becomes true within 10 s.
    func wait(_ condition: () throws -> Bool) throws -> Bool {
        for _ in 0..<200 {
            if try condition() { return true }
            usleep(50000)
        }
        return false
    }
}
