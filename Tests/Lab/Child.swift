import CLinux
import Foundation
import Messages
import ServiceKit

/// Processes that a measurement starts itself: they end with it.
package final class Child {
    /// This very executable.
    package static let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
    /// Directory of the executables that are measured: beside this one.
    package static let binaries = (own as NSString).deletingLastPathComponent

    package let process: Process
    package var pid: pid_t { process.processIdentifier }

    private init(_ process: Process) { self.process = process }

    /// - Parameters:
    ///   - environment: `nil`: this process's.
    ///   - log: where its output goes; `nil`: nowhere.
    package static func start(_ executable: String, _ arguments: [String], environment: [String: String]? = nil, log: String? = nil) throws -> Child {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        if let environment { process.environment = environment }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.standardError
        if let log {
            _ = FileManager.default.createFile(atPath: log, contents: nil)
            let file = FileHandle(forWritingAtPath: log) ?? .nullDevice
            process.standardOutput = file
            process.standardError = file
        }
        try process.run()
        return Child(process)
    }

    package func kill() {
        if process.isRunning { Glibc.kill(pid, SIGKILL) }
        process.waitUntilExit()
    }

    package func await(_ what: String, seconds: Double, _ condition: () throws -> Bool) throws {
        try Wait.until(what, seconds: seconds, pause: 2000) {
            if !process.isRunning { throw LabFailure("\(process.executableURL?.lastPathComponent ?? "?") ended before \(what)") }
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
