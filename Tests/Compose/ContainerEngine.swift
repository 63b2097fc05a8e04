import CLinux
import Foundation
import Testing

/// A container engine of this test run, with the cluster of `compose/compose.yaml` on it. The trait ``onContainerEngine`` starts it before a suite and ends it after.
final class ContainerEngine: Sendable {
    struct Output: Sendable {
        var status: Int32
        var text: String
        var errorText: String
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
        init(_ description: String) { self.description = description }
    }

    @TaskLocal static var current: ContainerEngine?

    private static let repository = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
    private static let script = repository + "/compose/lab/engine"
    private static let directoryPrefix = "/tmp/bulwark-engine-"

    let directory: String
    private let environment: [String: String]

    /// Starts the engine and makes the images. What a killed test run left is removed first.
    init() throws {
        Self.removeStale()
        directory = Self.directoryPrefix + "\(getpid())"
        _ = try Self.expect(Self.run(Self.script, ["prepare"], deadline: 300))
        do {
            _ = try Self.expect(Self.run(Self.script, ["up", directory], deadline: 60))
            _ = try Self.expect(Self.run(Self.repository + "/compose/lab/collect-executables", [Self.executables(), Self.repository + "/.build/prebuilt"], deadline: 60))
            let lines = try Self.expect(Self.run(Self.script, ["env", directory])).split(separator: "\n")
            var environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("BULWARK_") }
            for line in lines {
                let sides = line.split(separator: "=", maxSplits: 1)
                environment[String(sides[0])] = String(sides[1])
            }
            environment["BULWARK_EXECUTABLES"] = "prebuilt"
            self.environment = environment
            try Data("services: {fencing-service: {environment: {BULWARK_LIVENESS_GRACE: 5s}}}\n".utf8).write(to: URL(fileURLWithPath: directory + "/test.yaml"))
        } catch {
            print(Self.run(Self.script, ["down", directory], deadline: 60).errorText)
            throw error
        }
        do { try compose("build", "--quiet", "files", "host1", deadline: 120) } catch {
            end()
            throw error
        }
    }

    /// Ends everything of this engine.
    func end() {
        let output = Self.run(Self.script, ["down", directory], deadline: 60)
        if output.status != 0 { Issue.record("engine down: \(output.errorText)") }
    }

    // MARK: Commands

    /// `docker compose`; a status other than 0 is a failure.
    @discardableResult
    func compose(_ arguments: String..., deadline: Double = 60) throws -> String {
        try Self.expect(run(["compose", "-f", Self.repository + "/compose/compose.yaml", "-f", directory + "/test.yaml", "--progress", "quiet"] + arguments, deadline))
    }

    /// The operator's command, where the compose file puts it.
    @discardableResult
    func bulwark(_ arguments: String..., in service: String = "operator") throws -> String {
        try Self.expect(
            run(
                ["compose", "-f", Self.repository + "/compose/compose.yaml", "-f", directory + "/test.yaml", "exec", "-T", service, "bulwark"] + arguments, 60))
    }

    /// `docker compose` with the file for separate machines; each project has volumes of its own, as a machine has.
    @discardableResult
    func composeMachine(_ project: String, _ arguments: String..., input: String? = nil) throws -> String {
        let file = Self.repository + "/compose/compose.separate-machines.yaml"
        return try Self.expect(
            Self.run(
                "/usr/bin/env", ["docker", "compose", "-p", project, "-f", file, "-f", directory + "/machine.yaml", "--progress", "quiet"] + arguments,
                environment.merging(["BULWARK_SHARED": directory + "/shared", "BULWARK_ACCELERATOR": "tcg", "BULWARK_SETTLE": "0s"]) { $1 }, input: input, deadline: 90))
    }

    @discardableResult
    func docker(_ arguments: String...) throws -> String { try Self.expect(run(arguments, 60)) }

    /// The process id, on this machine, of a container's main process.
    func mainProcess(_ service: String) throws -> pid_t {
        guard let pid = pid_t(try docker("inspect", "--format", "{{.State.Pid}}", "bulwark-\(service)-1")), pid > 1 else { throw Failure("\(service) does not run") }
        return pid
    }

    private func run(_ arguments: [String], _ deadline: Double) -> Output {
        // `env` looks the program up in the engine's PATH.
        Self.run("/usr/bin/env", ["docker"] + arguments, environment, deadline: deadline)
    }

    // MARK: The cluster

    static let controlServices = ["fencing-service", "spm-coordinator", "placement-service", "domain-monitor"]
    static let hosts = ["host1", "host2", "host3"]

    struct Row: Codable {
        var name: String
        var status: String
        var host: String?
        var attempt: UInt64?
        var pid: Int32?
        var incarnation: UInt64?
    }

    func rows(_ area: String) throws -> [Row] {
        try JSONDecoder().decode([Row].self, from: Data(try bulwark("--json", area, "list").utf8)).sorted { $0.name < $1.name }
    }

    /// What nothing but a fault may change: who runs what where, as which process, how often power was switched.
    func quietState() throws -> [String] {
        let power = try bulwarkFiles("logs/*/bmc.log").split(separator: "\n").filter { $0.contains(" set power ") }
        return try rows("vm").map { "\($0.name) \($0.host ?? "-") attempt \($0.attempt ?? 0) pid \($0.pid ?? 0)" } + power.map(String.init)
    }

    private func bulwarkFiles(_ pattern: String) throws -> String {
        try compose("exec", "-T", "operator", "sh", "-c", "tail -n +1 /var/lib/bulwark/demo/\(pattern)")
    }

    func health() throws -> [String: String] {
        struct Status: Codable {
            struct Process: Codable {
                var name: String
                var health: String
            }
            var processes: [Process]
        }
        let status = try JSONDecoder().decode(Status.self, from: Data(try bulwark("--json", "status").utf8))
        return Dictionary(status.processes.map { ($0.name, $0.health) }, uniquingKeysWith: { a, _ in a })
    }

    /// Every process answers without complaint, every host Up, every VM up, an SPM serves.
    func waitUntilWell(_ what: String, within seconds: Double = 20) throws {
        try wait("all is well after \(what)", within: seconds) {
            let health = try health()
            guard health.count == 10, health.values.allSatisfy({ $0 == "ok" }) else { return "\(health.filter { $0.value != "ok" })" }
            let hosts = try rows("host")
            let vms = try rows("vm")
            let wrong = (hosts.filter { $0.status != "Up" } + vms.filter { $0.status != "up" }).map { "\($0.name) \($0.status)" }
            guard hosts.count == 3, vms.count == 4, wrong.isEmpty else { return wrong.joined(separator: ", ") }
            return try bulwark("pool", "show").contains(" Up") ? nil : "no SPM"
        }
    }

    /// Waits until nothing is missing; a command that fails counts as missing.
    func wait(_ what: String, within seconds: Double, _ missing: () throws -> String?) throws {
        let end = cl_boottime() + Int64(seconds * 1e9)
        var last: String?
        repeat {
            do { last = try missing() } catch { last = "\(error)" }
            if last == nil { return }
            usleep(200_000)
        } while cl_boottime() < end
        print((try? compose("logs", "--tail", "30")) ?? "")
        throw Failure("not within \(seconds) s: \(what): \(last ?? "")")
    }

    /// Read from the disks: none ever had two writers, and all are being written.
    func expectOneWriter() throws {
        let before = try bulwark("lab", "ticks")
        #expect(try rows("vm").allSatisfy { before.contains($0.name) })
        try wait("the disks are written", within: 20) { try bulwark("lab", "ticks") == before ? "no" : nil }
    }

    // MARK: Processes

    private static func removeStale() {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: "/tmp")) ?? [] {
            let path = "/tmp/" + name
            guard path.hasPrefix(directoryPrefix), let owner = pid_t(path.dropFirst(directoryPrefix.count)), kill(owner, 0) != 0 else { continue }
            print("an earlier run left \(path): \(run(script, ["down", path], deadline: 60).errorText)")
        }
    }

    /// The test bundle lies beside the executables.
    private static func executables() -> String {
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
        let beside = (bundle as NSString).deletingLastPathComponent
        return FileManager.default.isExecutableFile(atPath: beside + "/bulwark") ? beside : repository + "/.build/debug"
    }

    private static func expect(_ output: Output) throws -> String {
        guard output.status == 0 else { throw Failure("exit \(output.status): \(output.errorText.suffix(1500))\(output.text.suffix(500))") }
        return output.text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private static func run(_ program: String, _ arguments: [String], _ environment: [String: String]? = nil, input: String? = nil, deadline: Double = 60) -> Output {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        if let environment { process.environment = environment }
        let base = NSTemporaryDirectory() + "bulwark-compose-" + UUID().uuidString
        for end in [".out", ".err"] { _ = FileManager.default.createFile(atPath: base + end, contents: nil) }
        defer { for end in [".out", ".err"] { try? FileManager.default.removeItem(atPath: base + end) } }
        process.standardOutput = FileHandle(forWritingAtPath: base + ".out")
        process.standardError = FileHandle(forWritingAtPath: base + ".err")
        process.standardInput = input.flatMap { FileHandle(forReadingAtPath: $0) } ?? FileHandle.nullDevice
        do { try process.run() } catch { return Output(status: -1, text: "", errorText: "\(program): \(error)") }
        let until = cl_boottime() + Int64(deadline * 1e9)
        while process.isRunning && cl_boottime() < until { usleep(5000) }
        var late = ""
        if process.isRunning {
            kill(process.processIdentifier, SIGKILL)
            late = "killed after \(deadline) s: \(program) \(arguments.joined(separator: " "))\n"
        }
        process.waitUntilExit()
        func text(_ end: String) -> String { String(decoding: FileManager.default.contents(atPath: base + end) ?? Data(), as: UTF8.self) }
        return Output(status: late.isEmpty ? process.terminationStatus : -1, text: text(".out"), errorText: late + text(".err"))
    }
}

/// One engine, with the whole set up and healthy, for all tests of a suite.
struct OnContainerEngine: SuiteTrait, TestScoping {
    var isRecursive: Bool { false }

    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void) async throws {
        let engine = try ContainerEngine()
        defer { engine.end() }
        do { try engine.compose("up", "--detach", "--wait", "--no-build", deadline: 120) } catch {
            print((try? engine.compose("ps", "--all")) ?? "", (try? engine.compose("logs", "--tail", "20")) ?? "")
            throw error
        }
        try await ContainerEngine.$current.withValue(engine) { try await function() }
    }
}

extension Trait where Self == OnContainerEngine {
    static var onContainerEngine: Self { OnContainerEngine() }
}
