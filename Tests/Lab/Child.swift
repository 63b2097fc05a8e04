import CLinux
import Foundation
import Messages
import ServiceKit

/// Processes that a measurement starts itself: they end with it.
package final class Child {
    /// This very executable.
    package static let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
    /// Directory of the executables: beside this one; those of tests, which a helper of the toolchain runs, are in the debug build.
    package static let binaries: String = {
        let beside = (own as NSString).deletingLastPathComponent
        if access("\(beside)/lease-service", X_OK) == 0 { return beside }
        return URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent(".build/debug").path
    }()

    package let pid: pid_t
    private let name: String
    private var status: Int32?

    private init(_ pid: pid_t, _ executable: String) {
        self.pid = pid
        name = (executable as NSString).lastPathComponent
    }

    /// Not with Foundation's `Process`, which needs a run loop and cannot have one on every thread.
    ///
    /// - Parameters:
    ///   - environment: `nil`: this process's.
    ///   - input: the file that it reads; `nil`: nothing.
    ///   - log: where its output goes; `nil`: nowhere, and what it complains of to our standard error.
    ///   - complaints: where its standard error goes, if not to `log`.
    ///   - diesWithThread: it is killed when the calling thread ends, however that comes about.
    package static func start(
        _ executable: String, _ arguments: [String], environment: [String: String]? = nil, input: String? = nil, log: String? = nil, complaints: String? = nil,
        diesWithThread: Bool = false
    ) throws -> Child {
        func open(_ path: String?, _ flags: Int32) -> Int32 { cl_open(path ?? "/dev/null", flags | O_CLOEXEC, 0o600) }
        let files = [open(input, O_RDONLY), open(log, O_WRONLY | O_CREAT | O_TRUNC), open(complaints, O_WRONLY | O_CREAT | O_TRUNC)]
        defer { for file in files { close(file) } }
        let error = complaints != nil ? files[2] : log != nil ? files[1] : STDERR_FILENO
        let pid = Spawn.spawn(
            executable, arguments, environment ?? ProcessInfo.processInfo.environment, input: files[0], output: files[1], error: error, newSession: false,
            diesWithThread: diesWithThread)
        guard pid > 0 else { throw LabFailure("\(executable): \(String(cString: strerror(errno)))") }
        return Child(pid, executable)
    }

    package var isRunning: Bool {
        if status == nil {
            var ended: Int32 = 0
            if waitpid(pid, &ended, WNOHANG) == pid { status = cl_wait_exited(ended) != 0 ? cl_wait_exit_status(ended) : -cl_wait_signal(ended) }
        }
        return status == nil
    }

    /// Exit status, or the negative number of the signal that ended it; `nil`: it runs.
    package var exitStatus: Int32? { isRunning ? nil : status }

    package func kill() {
        if isRunning { Glibc.kill(pid, SIGKILL) }
        while isRunning { usleep(500) }
    }

    package func await(_ what: String, seconds: Double, _ condition: () throws -> Bool) throws {
        try Wait.until(what, seconds: seconds, pause: 2000) {
            if let exitStatus { throw LabFailure("\(name) ended (\(exitStatus)) before \(what)") }
            return try condition()
        }
    }

    /// Runs it to its end; what it says of failures goes to our standard error.
    package static func output(_ executable: String, _ arguments: [String]) -> (status: Int32, text: String) {
        var child = ChildProcess(executable, arguments, deadline: .seconds(300))
        child.outputLimit = 1 << 20
        let outcome = child.run()
        guard case .exited(let status) = outcome.end else { return (-1, "\(outcome.end) \(outcome.errorOutput)") }
        if status != 0 { FileHandle.standardError.write(Data(outcome.errorOutput.utf8)) }
        return (status, outcome.output)
    }

    /// A TCP port of the loopback that nobody listens on.
    package static func freePort() -> Int32 {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(file) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(file, $0, length)
                _ = getsockname(file, $0, &length)
            }
        }
        return Int32(UInt16(bigEndian: address.sin_port))
    }
}

package enum Wait {
    /// - Parameter pause: microseconds between two looks.
    package static func until(_ what: String, seconds: Double, pause: UInt32 = 20_000, _ condition: () throws -> Bool) throws {
        let end = cl_boottime() + Int64(seconds * 1e9)
        while cl_boottime() < end {
            if try condition() { return }
            usleep(pause)
        }
        throw LabFailure("not within \(seconds) s: \(what)")
    }

    /// Whether somebody listens at a socket file now. A bus client that met nobody tries again only after 100 ms, which a measurement cannot use.
    package static func isListening(at path: String) -> Bool { LocalSocket.isListening(at: path, .stream) }
}

package struct LabFailure: Error, CustomStringConvertible {
    package var description: String
    package init(_ description: String) { self.description = description }
}
