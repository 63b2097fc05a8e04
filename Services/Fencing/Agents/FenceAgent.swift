import Bus
import CLinux
import Foundation
public import Messages
public import ServiceKit

/// Runs any executable of the FenceAgentAPI (`fence_ipmilan`, `fence_redfish`, ...): options over standard input, never in an argument list.
///
/// Each run is in a PID namespace that ends with this service and inherits a lock of its host, so that a new run waits until nothing of an older one is left (S18).
public struct FenceAgent: Sendable {
    /// How a run ended. What the device did is told by a later `status` alone.
    public enum End: Hashable, Sendable {
        /// Exit 0: done; for `status`: on.
        case succeeded
        /// Exit 2 of `status`.
        case readsOff
        /// It ended and says that it failed, in its own words, or it could not be started.
        case failed(String)
        /// It was killed at its deadline, or an older run still holds the lock.
        case timedOut(String)
    }

    /// Where the executables are.
    public var directory: String
    /// Where the lock files of the hosts are.
    public var lockDirectory: String

    public init(directory: String, lockDirectory: String) {
        self.directory = directory
        self.lockDirectory = lockDirectory
    }

    /// Blocking: call it on a thread of its own. Never throws; whatever goes wrong is an end.
    ///
    /// - Parameters:
    ///   - action: `status`, `off`, `on`.
    ///   - name: of the lock of the device's runs: the host, or one of its devices.
    ///   - deadline: for the lock and the run together; then its whole group is killed.
    public func run(_ action: String, on device: FenceDevice, of name: String, deadline: Duration) -> End {
        let began = cl_boottime()
        guard Self.isAgentName(device.agent) else { return .failed("\"\(device.agent)\" is not the name of a fence agent") }
        let secret: String?
        let input: Data
        do throws(Unusable) {
            secret = try Self.secret(of: device)
            input = try Self.input(action, device, secret)
        } catch {
            return .failed(error.text)
        }
        guard let lock = HostLock(path: "\(lockDirectory)/\(name).lock") else { return .failed("the lock \(lockDirectory)/\(name).lock cannot be opened") }
        guard lock.take(until: began + deadline.nanoseconds) else { return .timedOut("an older run of the agent for \(name) has not ended") }
        var child = ChildProcess(
            "\(directory)/\(device.agent)",
            environment: Self.environment, input: input,
            deadline: Duration(nanoseconds: max(1, began + deadline.nanoseconds - cl_boottime())))
        child.ownPIDNamespace = true
        child.inheriting = [lock.descriptor]
        child.outputLimit = 4096
        let outcome = child.run()
        let said = Self.scrub(outcome.errorOutput.isEmpty ? outcome.output : outcome.errorOutput, of: secret)
        switch outcome.end {
        case .exited(0): return .succeeded
        case .exited(2) where action == "status": return .readsOff
        case .exited(let code): return .failed(said.isEmpty ? "\(device.agent) \(action) ended with exit status \(code)" : said)
        case .signalled(let signal): return .failed("\(device.agent) \(action) was killed by signal \(signal)")
        case .timedOut: return .timedOut(said.isEmpty ? "\(device.agent) \(action) did not end" : said)
        case .notStarted(let why): return .failed(why)
        }
    }

    /// Runs the agents of several devices of one host at once, each on a thread of its own, and tells how each ended, in their order.
    ///
    /// - Parameter host: whose locks they take, one for each device.
    @ReactorActor public func run(
        _ action: FenceAction, on devices: [FenceDevice], of host: String, deadline: Duration, then: @escaping @Sendable @ReactorActor ([FencePart]) -> Void
    ) {
        let collected = Collected(devices.count)
        for (index, device) in devices.enumerated() {
            let lock = index == 0 ? host : "\(host).\(index)"
            let began = Clock.boottime()
            Blocking.run(
                "fence \(lock)", { run(action.rawValue, on: device, of: lock, deadline: deadline).outcome },
                then: { outcome in
                    if let all = collected.add(FencePart(outcome: outcome, took: Clock.boottime() - began), at: index) { then(all) }
                })
        }
    }

    @ReactorActor private final class Collected {
        private var parts: [FencePart?]
        init(_ count: Int) { parts = Array(repeating: nil, count: count) }

        /// - Returns: all of them, once they are there.
        func add(_ part: FencePart, at index: Int) -> [FencePart]? {
            parts[index] = part
            let ended = parts.compactMap { $0 }
            return ended.count == parts.count ? ended : nil
        }
    }

    static let environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"]

    struct Unusable: Error { var text: String }

    static func isAgentName(_ name: String) -> Bool {
        name.hasPrefix("fence_") && name.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 95 || $0 == 45 }
    }

    /// `name=value` lines; what the definition says of address and user, then its options, the action last.
    static func input(_ action: String, _ device: FenceDevice, _ secret: String?) throws(Unusable) -> Data {
        var values: [(String, String)] = [("ip", device.address)]
        if let username = device.username { values.append(("username", username)) }
        if let secret { values.append(("password", secret)) }
        let options = device.options ?? [:]
        for name in options.keys.sorted() where !["action", "ip", "username", "password"].contains(name) { values.append((name, options[name] ?? "")) }
        values.append(("action", action))
        for (name, value) in values where name.contains(where: \.isNewline) || value.contains(where: \.isNewline) || name.contains("=") {
            throw Unusable(text: "the option \(name.prefix(32)) of \(device.agent) cannot be passed: it has a line break or \"=\" in its name")
        }
        return Data(values.map { "\($0.0)=\($0.1)\n" }.joined().utf8)
    }

    /// The first line of the secret file.
    static func secret(of device: FenceDevice) throws(Unusable) -> String? {
        guard let path = device.secretFile else { return nil }
        var about = stat()
        guard stat(path, &about) == 0 else { throw Unusable(text: "the secret file \(path) cannot be read") }
        guard about.st_mode & 0o077 == 0 else { throw Unusable(text: "the secret file \(path) must have mode 0600: others can read it") }
        guard let data = FileManager.default.contents(atPath: path) else { throw Unusable(text: "the secret file \(path) cannot be read") }
        return String(decoding: data, as: UTF8.self).split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
    }

    /// One line, bounded, without the password.
    static func scrub(_ text: String, of secret: String?) -> String {
        var text = text
        if let secret, !secret.isEmpty { text = text.replacingOccurrences(of: secret, with: "***") }
        // Python's logger puts its own time before each line: a reason must read the same each time.
        let stamp = #/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ (ERROR|WARNING|INFO): /#
        let lines = text.split(whereSeparator: \.isNewline).map { $0.replacing(stamp, with: "").trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        return String(lines.joined(separator: "; ").prefix(400))
    }
}

/// The lock of one host's fence runs: inherited by the agent and all that it starts, so it is free only when they are gone.
private final class HostLock {
    let descriptor: Int32

    init?(path: String) {
        descriptor = cl_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if descriptor < 0 { return nil }
    }

    deinit { close(descriptor) }

    func take(until deadline: Int64) -> Bool {
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard cl_boottime() < deadline else { return false }
            usleep(20_000)
        }
        return true
    }
}

extension FenceAgent.End {
    public var outcome: FenceOutcome {
        switch self {
        case .succeeded: .succeeded
        case .readsOff: .readsOff
        case .failed(let text): .failed(text)
        case .timedOut(let text): .timedOut(text)
        }
    }
}

extension FenceOutcome {
    /// Of a program that is no fence agent.
    public init(ofCommand outcome: ChildProcess.Outcome) {
        let said = FenceAgent.scrub(outcome.errorOutput.isEmpty ? outcome.output : outcome.errorOutput, of: nil)
        self =
            switch outcome.end {
            case .exited(0): .succeeded
            case .exited(let code): .failed(said.isEmpty ? "it ended with exit status \(code)" : said)
            case .signalled(let signal): .failed("it was killed by signal \(signal)")
            case .timedOut: .timedOut(said.isEmpty ? "it did not end" : said)
            case .notStarted(let why): .failed(why)
            }
    }
}
