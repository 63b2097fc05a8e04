import CLinux
import Foundation
import TestLab
import Testing

/// A whole cluster of real processes for the tests of one suite: brought up from the executables beside this test bundle, always taken down again.
final class InteropCluster: Sendable {
    /// The cluster of the running suite.
    @TaskLocal static var current: InteropCluster?

    let name: String
    private let scratch: String

    /// - Throws: ``Failure`` if it does not come up.
    static func up(hosts: Int = 3, grace: String = "5s") throws -> InteropCluster {
        let cluster = try InteropCluster(name: "it-\(getpid())")
        do {
            try cluster.run(["up", "--name", cluster.name, "--hosts", String(hosts), "--grace", grace], deadline: 240)
            try cluster.wait("all hosts Up and all VMs up", deadline: 120) {
                let hosts = try cluster.json([Listed].self, "host", "list")
                let vms = try cluster.json([Listed].self, "vm", "list")
                return !vms.isEmpty && hosts.allSatisfy { $0.status == "Up" } && vms.allSatisfy { $0.status == "up" }
            }
        } catch {
            cluster.down()
            throw error
        }
        return cluster
    }

    private init(name: String) throws {
        self.name = name
        scratch = NSTemporaryDirectory() + "bulwark-\(name)"
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
    }

    /// Stops everything of this cluster and removes its state.
    func down() {
        _ = try? run(["down", "--name", name, "--purge"], deadline: 60)
        try? FileManager.default.removeItem(atPath: scratch)
    }

    /// An element of any list.
    struct Listed: Decodable {
        var name: String
        var status: String
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// Runs the command on this cluster and returns what it printed.
    /// - Throws: ``Failure`` with its words if its exit status is not 0.
    @discardableResult
    func run(_ arguments: [String], deadline: Double = 30) throws -> Data {
        let child = try Background(Self.executables + "/bulwark", arguments, environment: ["BULWARK_CLUSTER": name], scratch: scratch)
        guard let status = child.wait(deadline: deadline) else {
            throw Failure(description: "bulwark \(arguments.joined(separator: " ")) did not end within \(deadline) s: \(child.text)\(child.complaints)")
        }
        guard status == 0 else {
            throw Failure(description: "bulwark \(arguments.joined(separator: " ")) ended with \(status): \(child.text)\(child.complaints)")
        }
        return child.output
    }

    /// The same with `--json`, decoded.
    func json<Value: Decodable>(_ type: Value.Type, _ arguments: String...) throws -> Value {
        let printed = try run(arguments + ["--json"])
        do {
            return try JSONDecoder().decode(type, from: printed)
        } catch {
            throw Failure(description: "bulwark \(arguments.joined(separator: " ")) --json: \(error): \(String(decoding: printed, as: UTF8.self))")
        }
    }

    /// Starts another program, such as a Python client, with its output in files.
    func start(_ program: String, _ arguments: [String], input: Data = Data()) throws -> Background {
        try Background(program, arguments, environment: [:], scratch: scratch, input: input)
    }

    /// Asks until it is so.
    /// - Throws: ``Failure`` with the last error when time runs out.
    func wait(_ what: String, deadline: Double, until condition: () throws -> Bool) throws {
        let end = Date(timeIntervalSinceNow: deadline)
        var last = ""
        while true {
            do {
                if try condition() { return }
                last = ""
            } catch {
                last = ": \(error)"
            }
            guard Date() < end else { throw Failure(description: "not within \(deadline) s: \(what)\(last)") }
            Thread.sleep(forTimeInterval: 0.2)
        }
    }

    /// Where the executables of this build are: beside the test bundle.
    static let executables: String = {
        let beside = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().path
        if FileManager.default.isExecutableFile(atPath: beside + "/bulwark") { return beside }
        return sources.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent(".build/debug").path
    }()

    /// This folder.
    static let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent()

    static func script(_ name: String) -> String { sources.appendingPathComponent("Python/\(name)").path }
}

/// A child with its output in files, so that nothing it leaves running can keep a pipe open.
final class Background {
    private let child: Child
    private let base: String

    init(_ program: String, _ arguments: [String], environment: [String: String], scratch: String, input: Data = Data()) throws {
        base = "\(scratch)/\(UUID().uuidString)"
        try input.write(to: URL(fileURLWithPath: base + ".in"))
        child = try Child.start(
            program, arguments, environment: ProcessInfo.processInfo.environment.merging(environment) { $1 }, input: base + ".in", log: base + ".out", complaints: base + ".err")
    }

    var output: Data { FileManager.default.contents(atPath: base + ".out") ?? Data() }
    var text: String { String(decoding: output, as: UTF8.self) }
    var complaints: String { String(decoding: FileManager.default.contents(atPath: base + ".err") ?? Data(), as: UTF8.self) }

    /// The exit status; `nil` if it had to be ended.
    func wait(deadline: Double) -> Int32? {
        let end = cl_boottime() + Int64(deadline * 1e9)
        while child.isRunning, cl_boottime() < end { usleep(5000) }
        guard let status = child.exitStatus else {
            child.kill()
            return nil
        }
        return status
    }
}

/// Brings one cluster up for a whole suite and takes it down after its last test.
struct RunningCluster: SuiteTrait, TestScoping {
    func provideScope(for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void) async throws {
        let cluster = try InteropCluster.up()
        defer { cluster.down() }
        try await InteropCluster.$current.withValue(cluster) { try await function() }
    }
}

extension Trait where Self == RunningCluster {
    static var runningCluster: Self { Self() }
}
