import CLinux
import Foundation
import Messages
import Testing

/// A cluster of real processes, guests and BMCs, brought up by `bulwark up` under a name of its own and gone when the test ends.
final class TestCluster: Sendable {
    struct Output: Sendable {
        var status: Int32
        var text: String
        var errorText: String
    }

    struct HostRow: Codable, Sendable {
        var name: String
        var status: String
        var incarnation: UInt64?
    }

    struct VMRow: Codable, Sendable, Equatable {
        var name: String
        var status: String
        var host: String?
        var attempt: UInt64?
        var pid: Int32?
    }

    static let hostNames = ["host1", "host2", "host3"]

    let name: String
    let directory: String
    private let eventsFollower: pid_t
    let binaries: String

    /// - Parameter grace: silence that is forgiven.
    convenience init(grace: String = "5s", _ more: String..., function: String = #function) throws { try self.init(grace: grace, more: more, function: function) }

    /// - Parameter overriding: `SERVICE.KEY=VALUE` of its configuration.
    convenience init(grace: String, overriding: [String], function: String = #function) throws {
        try self.init(grace: grace, more: overriding.flatMap { ["--config-override", $0] }, function: function)
    }

    private init(grace: String, more: [String], function: String) throws {
        let word = function.prefix { $0.isLetter }.lowercased().prefix(10)
        name = "t\(getpid() % 100_000)\(word)"
        directory = "/var/lib/bulwark/\(name)"
        binaries = Self.findBinaries()
        let up = Self.run(binaries, ["up", "--name", name, "--hosts", "3", "--grace", grace] + more, deadline: 120)
        guard up.status == 0 else {
            print("bulwark up failed:\n\(up.text)\n\(up.errorText)")
            Self.showLogs(directory)
            _ = Self.run(binaries, ["down", "--name", name, "--purge"], deadline: 60)
            throw Failure("bulwark up: exit \(up.status): \(up.errorText.suffix(600))")
        }
        eventsFollower = Self.start(binaries, ["--cluster", name, "--json", "events", "--follow"], output: directory + "/events.jsonl")
    }

    /// Ends everything of this cluster; called by `withCluster` also when the test failed.
    func down() {
        kill(eventsFollower, SIGKILL)
        var status: Int32 = 0
        waitpid(eventsFollower, &status, 0)
        let result = Self.run(binaries, ["down", "--name", name, "--purge"], deadline: 60)
        if result.status != 0 { Issue.record("bulwark down: \(result.errorText)") }
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
        init(_ description: String) { self.description = description }
    }

    // MARK: The command

    /// - Parameter expecting: exit status that is right; `nil`: any.
    @discardableResult
    func bulwark(_ arguments: String..., expecting: Int32? = 0, deadline: Double = 60) throws -> Output {
        let output = Self.run(binaries, ["--cluster", name] + arguments, deadline: deadline)
        if let expecting, output.status != expecting {
            throw Failure("bulwark \(arguments.joined(separator: " ")): exit \(output.status), expected \(expecting): \(output.errorText)\(output.text)")
        }
        return output
    }

    func lab(_ arguments: String...) throws {
        let output = Self.run(binaries, ["--cluster", name, "lab"] + arguments, deadline: 60)
        guard output.status == 0 else { throw Failure("bulwark lab \(arguments.joined(separator: " ")): \(output.errorText)\(output.text)") }
    }

    func hosts() throws -> [String: HostRow] {
        let rows = try JSONDecoder().decode([HostRow].self, from: Data(try bulwark("--json", "host", "list").text.utf8))
        return Dictionary(rows.map { ($0.name, $0) }, uniquingKeysWith: { a, _ in a })
    }

    func vms() throws -> [VMRow] {
        try JSONDecoder().decode([VMRow].self, from: Data(try bulwark("--json", "vm", "list").text.utf8)).sorted { $0.name < $1.name }
    }

    func vms(on host: String) throws -> [String] { try vms().filter { $0.host == host }.map(\.name) }

    /// The host that serves as SPM.
    func spm() throws -> String? {
        struct Pool: Codable {
            var spm: String?
            var status: String
        }
        let text = try bulwark("--json", "pool", "show").text
        let several = try? JSONDecoder().decode([Pool].self, from: Data(text.utf8))
        let pools = try several ?? [JSONDecoder().decode(Pool.self, from: Data(text.utf8))]
        return pools.first { $0.status == "Up" }?.spm
    }

    // MARK: Waiting

    /// Waits for a condition with a deadline in seconds; a command that fails meanwhile counts as "not yet".
    func wait(_ what: String, within seconds: Double, _ condition: () throws -> Bool) throws {
        let until = cl_boottime() + Int64(seconds * 1e9)
        var last = ""
        while cl_boottime() < until {
            do {
                if try condition() { return }
                last = ""
            } catch {
                last = " (\(error))"
            }
            usleep(100_000)
        }
        Self.showLogs(directory)
        let now = Self.run(binaries, ["--cluster", name, "status"], deadline: 20).text
        throw Failure("not within \(seconds) s: \(what)\(last)\n\(now)")
    }

    /// All hosts Up and every VM up, each once.
    func waitForAllUp(within seconds: Double = 60, count: Int = 4) throws {
        try wait("every host Up and every VM up", within: seconds) {
            let hosts = try hosts()
            let vms = try vms()
            return hosts.count == 3 && hosts.values.allSatisfy { $0.status == "Up" } && vms.count == count && vms.allSatisfy { $0.status == "up" }
        }
    }

    func waitForHost(_ host: String, _ status: String, within seconds: Double) throws {
        try wait("\(host) \(status)", within: seconds) { try hosts()[host]?.status == status }
    }

    /// Every VM is up on another host than this one.
    func waitForVMsElsewhere(than host: String, within seconds: Double, count: Int = 4) throws {
        try wait("all VMs up elsewhere than \(host)", within: seconds) {
            let vms = try vms()
            return vms.count == count && vms.allSatisfy { $0.status == "up" && $0.host != host && $0.host != nil }
        }
    }

    // MARK: Evidence

    /// No disk ever had two writers: read from the disks themselves.
    func expectOneWriter(_ comment: Comment? = nil) throws {
        let ticks = Self.run(binaries, ["--cluster", name, "lab", "ticks"], deadline: 30)
        #expect(ticks.status == 0, "two writers on a disk:\n\(ticks.text)")
        #expect(try vms().allSatisfy { ticks.text.contains($0.name) }, "every VM's disk was read:\n\(ticks.text)")
    }

    /// Disks are being written now by every VM.
    func expectTicking() throws {
        let before = Self.run(binaries, ["--cluster", name, "--json", "lab", "ticks"], deadline: 30).text
        try wait("the disks are written", within: 20) { Self.run(binaries, ["--cluster", name, "--json", "lab", "ticks"], deadline: 30).text != before }
    }

    /// Power commands that reached a BMC and changed power, over all hosts.
    func powerActions() -> [String] {
        Self.hostsLogs(directory).filter { $0.contains(" set power ") }
    }

    /// Everything that a quiet cluster must not change: who runs what where, as which process, how often power was switched.
    func quietState() throws -> [String] {
        try vms().map(quietLine) + powerActions()
    }

    func quietLine(_ vm: VMRow) -> String { "\(vm.name) \(vm.host ?? "-") attempt \(vm.attempt ?? 0) pid \(vm.pid ?? 0)" }

    /// Raw event frames seen so far, as text lines.
    func events() -> [String] {
        String(decoding: FileManager.default.contents(atPath: directory + "/events.jsonl") ?? Data(), as: UTF8.self).split(separator: "\n").map(String.init)
    }

    func explain(_ area: String, _ name: String) throws -> String { try bulwark("explain", area, name).text }

    private static func hostsLogs(_ directory: String) -> [String] {
        hostNames.flatMap { host in
            let path = "\(directory)/logs/\(host)/bmc.log"
            return String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self).split(separator: "\n").map { "\(host): \($0)" }
        }
    }

    private static func showLogs(_ directory: String) {
        let logs = directory + "/logs"
        for file in ((try? FileManager.default.subpathsOfDirectory(atPath: logs)) ?? []).sorted() where file.hasSuffix(".log") {
            let text = String(decoding: FileManager.default.contents(atPath: "\(logs)/\(file)") ?? Data(), as: UTF8.self)
            print("--- \(file)\n" + text.split(separator: "\n").suffix(25).joined(separator: "\n"))
        }
    }

    // MARK: Processes

    /// A process of this cluster as this machine sees it: of this program, with that word among its arguments or in its environment.
    func process(_ program: String, with word: String) throws -> pid_t {
        for pid in try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap({ pid_t($0) }).sorted() {
            func words(_ file: String) -> [String] { (FileManager.default.contents(atPath: "/proc/\(pid)/\(file)") ?? Data()).split(separator: 0).map { String(decoding: $0, as: UTF8.self) } }
            let arguments = words("cmdline")
            if arguments.first?.hasSuffix(program) == true, (arguments + words("environ")).contains(word) { return pid }
        }
        throw Failure("no \(program) with \(word) runs")
    }

    private static func findBinaries() -> String {
        // The test bundle lies beside the executables.
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
        let beside = (bundle as NSString).deletingLastPathComponent
        if FileManager.default.isExecutableFile(atPath: beside + "/bulwark") { return beside }
        return FileManager.default.currentDirectoryPath + "/.build/debug"
    }

    private static func run(_ binaries: String, _ arguments: [String], deadline: Double) -> Output {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: binaries + "/bulwark")
        process.arguments = arguments
        let base = NSTemporaryDirectory() + "bulwark-run-" + UUID().uuidString
        for end in [".out", ".err"] { _ = FileManager.default.createFile(atPath: base + end, contents: nil) }
        defer { for end in [".out", ".err"] { try? FileManager.default.removeItem(atPath: base + end) } }
        process.standardOutput = FileHandle(forWritingAtPath: base + ".out")
        process.standardError = FileHandle(forWritingAtPath: base + ".err")
        process.standardInput = FileHandle.nullDevice
        do { try process.run() } catch { return Output(status: -1, text: "", errorText: "\(error)") }
        let until = cl_boottime() + Int64(deadline * 1e9)
        while process.isRunning && cl_boottime() < until { usleep(5000) }
        var late = ""
        if process.isRunning {
            kill(process.processIdentifier, SIGKILL)
            late = "killed after \(deadline) s\n"
        }
        process.waitUntilExit()
        func text(_ end: String) -> String { String(decoding: FileManager.default.contents(atPath: base + end) ?? Data(), as: UTF8.self) }
        return Output(status: late.isEmpty ? process.terminationStatus : -1, text: text(".out"), errorText: late + text(".err"))
    }

    private static func start(_ binaries: String, _ arguments: [String], output: String) -> pid_t {
        _ = FileManager.default.createFile(atPath: output, contents: nil)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: binaries + "/bulwark")
        process.arguments = arguments
        process.standardOutput = FileHandle(forWritingAtPath: output)
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return -1 }
        return process.processIdentifier
    }
}

/// Runs a scenario on a fresh cluster and always takes it down.
func withCluster(grace: String = "5s", function: String = #function, _ scenario: (TestCluster) throws -> Void) throws {
    let cluster = try TestCluster(grace: grace, function: function)
    defer { cluster.down() }
    try scenario(cluster)
    try cluster.expectSameDecisionsAgain()
}
