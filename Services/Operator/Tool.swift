import Foundation
import Messages
import ServiceKit

/// Runs the machine's own programs: `ip`, `fence_ipmilan`, the lab's scripts.
enum Tool {
    static let path = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]

    /// Where a program is: beside this executable, else in the system's directories.
    static func find(_ name: String, beside directory: String? = nil) -> String? {
        if name.hasPrefix("/") { return FileManager.default.isExecutableFile(atPath: name) ? name : nil }
        return ((directory.map { [$0] } ?? []) + path).map { "\($0)/\(name)" }.first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// - Returns: standard output.
    /// - Throws: `RequestError` with what the program said, unless it ended with status 0.
    @discardableResult
    static func run(_ name: String, _ arguments: [String], deadline: Duration = .seconds(30)) throws -> String {
        guard let executable = find(name) else {
            throw RequestError(code: "tool.missing", message: "\(name) is not installed; compose/lab/install-packages installs what is needed")
        }
        let outcome = ChildProcess(executable, arguments, deadline: deadline).run()
        guard outcome.end == .exited(0) else {
            let said = (outcome.errorOutput + outcome.output).trimmingCharacters(in: .whitespacesAndNewlines)
            throw RequestError(code: "tool.failed", message: "\(name) \(arguments.joined(separator: " ")): \(said.isEmpty ? "\(outcome.end)" : said)")
        }
        return outcome.output
    }
}
