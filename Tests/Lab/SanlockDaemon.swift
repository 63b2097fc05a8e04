import CLinux
import Foundation
import Messages
import ServiceKit

/// A real sanlock daemon, one of several on this machine: its run directory keeps them apart. Without watchdog, memory locking and high priority.
package final class SanlockDaemon {
    package static let executable = "/usr/sbin/sanlock"
    package static var isInstalled: Bool { access(executable, X_OK) == 0 }

    package let name: String
    package let run: String
    private let logs: Bool
    private var starter: Child?
    package private(set) var pid: pid_t = -1

    /// Starts it.
    /// - Parameters:
    ///   - name: its host name.
    ///   - directory: an existing one; short, for sockets are in it.
    ///   - logs: whether it writes what it does to a log there, which costs it time.
    package init(name: String, in directory: String, logs: Bool = true) throws {
        self.name = name
        run = "\(directory)/\(name)"
        self.logs = logs
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        try start()
    }

    deinit { kill() }

    package var log: String { FileManager.default.contents(atPath: "\(run)/log").map { String(decoding: $0, as: UTF8.self) } ?? "" }

    package func start() throws {
        for left in ["sanlock.sock", "sanlock.pid"] { unlink("\(run)/\(left)") }
        let options = ["-w", "0", "-l", "0", "-h", "0", "-U", "root", "-G", "root", "-R", "1", "-L", "-1", "-S", "-1", "-e", name]
        // Without -D it goes to the background, a child of nobody.
        starter = try Child.start(Self.executable, ["daemon"] + (logs ? ["-D"] : []) + options, environment: environment, log: logs ? "\(run)/log" : nil, diesWithThread: logs)
        try Wait.until("sanlock \(name) listens", seconds: 10) {
            guard LocalSocket.isListening(at: "\(run)/sanlock.sock", .stream) else { return false }
            let text = FileManager.default.contents(atPath: "\(run)/sanlock.pid").map { String(decoding: $0, as: UTF8.self) } ?? ""
            pid = logs ? starter?.pid ?? -1 : pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? -1
            return pid > 0
        }
    }

    /// kill -9: what it held stays on disk. Its helper process sees that and ends.
    package func kill() {
        guard pid > 0 else { return }
        let process = cl_pidfd_open(pid)
        defer { close(process) }
        if process >= 0, (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/exe")) == Self.executable {
            _ = cl_pidfd_send_signal(process, SIGKILL)
            var ended = pollfd(fd: process, events: Int16(POLLIN), revents: 0)
            poll(&ended, 1, 10_000)
        }
        starter?.kill()
        starter = nil
        pid = -1
    }

    package func freeze() { Glibc.kill(pid, SIGSTOP) }
    package func thaw() { Glibc.kill(pid, SIGCONT) }

    // MARK: The command

    private var environment: [String: String] { ["SANLOCK_RUN_DIR": run, "SANLOCK_PRIVILEGED": "0", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"] }

    /// `sanlock client ...` at this daemon: exit status and what it printed on both outputs.
    package func client(_ arguments: String..., seconds: Int64 = 120) -> (status: Int32, text: String) { Self.run(["client"] + arguments, environment, seconds) }

    /// `sanlock direct ...`, which needs no daemon.
    @discardableResult package static func direct(_ arguments: String...) throws -> String { try direct(arguments) }

    @discardableResult package static func direct(_ arguments: [String]) throws -> String {
        let (status, text) = run(["direct"] + arguments, [:], 60)
        guard status == 0 else { throw LabFailure("sanlock direct \(arguments.joined(separator: " ")): \(status) \(text)") }
        return text
    }

    private static func run(_ arguments: [String], _ environment: [String: String], _ seconds: Int64) -> (status: Int32, text: String) {
        let outcome = ChildProcess(executable, arguments, environment: environment, deadline: .seconds(seconds)).run()
        let text = outcome.output + outcome.errorOutput
        if case .exited(let status) = outcome.end { return (status, text) }
        return (-1, "\(outcome.end) \(text)")
    }

    /// Becomes a host of the lockspace; blocks about 2 x io_timeout + 1 s, or until an earlier holder of the id is dead.
    package func join(_ lockspace: String, hostID: Int, at path: String, ioTimeout: Int = 1, seconds: Int64 = 240) throws {
        let (status, text) = client("add_lockspace", "-s", "\(lockspace):\(hostID):\(path):0", "-o", String(ioTimeout), seconds: seconds)
        guard status == 0 else { throw LabFailure("\(name) cannot join \(lockspace): \(text)") }
    }

    package func leave(_ lockspace: String, hostID: Int, at path: String) throws {
        let (status, text) = client("rem_lockspace", "-s", "\(lockspace):\(hostID):\(path):0")
        guard status == 0 else { throw LabFailure("\(name) cannot leave \(lockspace): \(text)") }
    }

    /// A process that holds the resource for as long as it lives; sanlock may kill it.
    package func command(holding resource: String, _ program: [String] = ["/bin/sleep", "1000"], log: String? = nil) throws -> Child {
        try Child.start(Self.executable, ["client", "command", "-r", resource, "-c"] + program, environment: environment, log: log, diesWithThread: true)
    }

    package func connect() throws -> SanlockClient { try SanlockClient(run: run) }
}

/// A registered client of a sanlock daemon, over its socket: this very process holds what it acquires, and sanlock would kill it if the lockspace were lost.
package final class SanlockClient {
    private enum Command: UInt32 { case register = 1, acquire = 7, release = 8 }
    private static let magic: UInt32 = 0x0428_2010
    private static let headerSize = 32

    /// Where a resource is.
    package struct Resource: Hashable, Sendable {
        package var lockspace: String
        package var name: String
        package var path: String
        package var offset: UInt64
        package init(lockspace: String, name: String, path: String, offset: UInt64) {
            self.lockspace = lockspace
            self.name = name
            self.path = path
            self.offset = offset
        }

        /// As the command takes it.
        package var text: String { "\(lockspace):\(name):\(path):\(offset)" }

        fileprivate func bytes(isShared: Bool) -> [UInt8] {
            var bytes = [UInt8](repeating: 0, count: 128 + 1040)
            bytes.replaceSubrange(0..<lockspace.utf8.count, with: lockspace.utf8)
            bytes.replaceSubrange(48..<(48 + name.utf8.count), with: name.utf8)
            put(UInt32(isShared ? 0x4 : 0), into: &bytes, at: 120)
            put(UInt32(1), into: &bytes, at: 124)
            bytes.replaceSubrange(128..<(128 + path.utf8.count), with: path.utf8)
            put(offset, into: &bytes, at: 128 + 1024)
            return bytes
        }

        private func put<Value>(_ value: Value, into bytes: inout [UInt8], at offset: Int) {
            withUnsafeBytes(of: value) { bytes.replaceSubrange(offset..<(offset + $0.count), with: $0) }
        }
    }

    private let socket: LocalSocket

    package init(run: String) throws {
        socket = try LocalSocket("\(run)/sanlock.sock", .stream)
        // The only command without an answer.
        try socket.send(Self.message(.register))
    }

    /// 0, or sanlock's error: -243 its owner is alive.
    package func acquire(_ resource: Resource, shared: Bool = false, seconds: Double = 240) throws -> Int32 {
        try exchange(Self.acquisition(of: resource, shared: shared), seconds: seconds)
    }

    /// The bytes of an acquire: for those who send the same many times.
    package static func acquisition(of resource: Resource, shared: Bool = false) -> [UInt8] {
        message(.acquire, data: 1, resource.bytes(isShared: shared) + [UInt8](repeating: 0, count: 56))
    }

    /// Everything this connection holds.
    package func release(seconds: Double = 60) throws -> Int32 { try exchange(Self.giveBack, seconds: seconds) }
    package static let giveBack = message(.release, flags: 1)

    package func exchange(_ message: [UInt8], seconds: Double = 60) throws -> Int32 {
        try socket.send(message)
        let reply = try socket.receive(Self.headerSize, whole: true, seconds: seconds)
        guard reply.count == Self.headerSize else { throw LabFailure("sanlock closed the connection") }
        return reply.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 24, as: Int32.self) }
    }

    /// Eight 32-bit numbers in the machine's order (magic, version, command, flags, length, sequence, data, data2) and what follows. data2 -1: for this connection.
    private static func message(_ command: Command, flags: UInt32 = 0, data: UInt32 = 0, _ body: [UInt8] = []) -> [UInt8] {
        let header: [UInt32] = [magic, 1, command.rawValue, flags, UInt32(headerSize + body.count), 0, data, .max]
        return header.withUnsafeBytes { [UInt8]($0) } + body
    }
}
