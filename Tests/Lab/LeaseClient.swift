import CLinux
import Foundation
import Messages

/// Speaks as a guard does to a lease-service: holds its lock files, asks for leases over the guards' socket.
package final class LeaseClient {
    package enum Answer: Sendable {
        case granted(deadline: Int64, leases: [GuardLease])
        case refused(code: String, message: String)

        package var leases: [GuardLease] { if case .granted(_, let leases) = self { leases } else { [] } }
        package var code: String? { if case .refused(let code, _) = self { code } else { nil } }
    }

    package let holder: Holder
    private let run: String
    private var socket: LocalSocket?
    private var locks: [(path: String, descriptor: Int32)] = []

    /// Connects; takes the VM's lock.
    /// - Parameter run: the host's run directory.
    package init(run: String, holder: Holder) throws {
        self.run = run
        self.holder = holder
        try lock("\(run)/locks/\(holder.role.rawValue)-\(holder.name).lock")
        try connect()
    }

    deinit { vanish() }

    /// Anew, as after lease-service restarted.
    package func connect() throws { socket = try LocalSocket("\(run)/lease-service.guards", .packets) }

    /// As if killed: connection and locks are gone.
    package func vanish() {
        socket = nil
        // Not only closed: a child that another thread is starting now has the descriptors until it executes its program.
        for lock in locks {
            flock(lock.descriptor, LOCK_UN)
            close(lock.descriptor)
        }
        locks = []
    }

    // MARK: Messages

    /// - Parameters:
    ///   - proofs: path of a file of signed proofs.
    ///   - more: further keys of the message.
    package func acquire(_ leases: [LeaseName], _ mode: LeaseMode = .exclusive, proofs: String? = nil, more: [(String, String)] = [], seconds: Double = 30) throws -> Answer {
        try answer(exchange(acquisition(of: leases, mode, proofs: proofs, more: more), seconds: seconds))
    }

    /// Shares a lease that it holds, or owns one that it shares. `unchanged` is a refusal.
    package func convert(_ lease: LeaseName, to mode: LeaseMode, seconds: Double = 30) throws -> Answer {
        let message = GuardMessage("convert", [("holder", holder.description), ("lease", "\(lease.lockspace)|\(lease.resource)|\(mode.rawValue)")])
        return try answer(exchange(Array(message.text.utf8), seconds: seconds))
    }

    /// The bytes of an `acquire`, with the lock files taken: for those who send the same many times.
    package func acquisition(of leases: [LeaseName], _ mode: LeaseMode = .exclusive, proofs: String? = nil, more: [(String, String)] = []) throws -> [UInt8] {
        let disks = try leases.map { try lock("\(run)/locks/disk-\($0.resource).lock") }
        var fields = [("holder", holder.description), ("lock", locks[0].path)] + leases.map { ("lease", GuardLease(name: $0, mode: mode).request) } + disks.map { ("disklock", $0) }
        if let proofs { fields.append(("proofs", proofs)) }
        return Array(GuardMessage("acquire", fields + more).text.utf8)
    }

    package func adopt(_ leases: [GuardLease], deadline: Int64, seconds: Double = 10) throws -> Answer {
        let fields = [("holder", holder.description), ("lock", locks[0].path)] + leases.map { ("lease", $0.grant) } + locks.dropFirst().map { ("disklock", $0.path) }
        return try answer(exchange(Array(GuardMessage("adopt", fields + [("deadline", String(deadline))]).text.utf8), seconds: seconds))
    }

    package var giveBack: [UInt8] { Array(GuardMessage("release", [("holder", holder.description)]).text.utf8) }

    package func release(seconds: Double = 30) throws {
        let text = try exchange(giveBack, seconds: seconds)
        guard Self.isVerb("released", text) else { throw LabFailure("\(holder): release was answered \(String(decoding: text, as: UTF8.self))") }
    }

    /// Sends, and returns the answer; what lease-service says of itself meanwhile is none.
    package func exchange(_ bytes: [UInt8], seconds: Double = 30) throws -> [UInt8] {
        guard let socket else { throw LabFailure("\(holder) is not connected") }
        try socket.send(bytes)
        while true {
            let text = try socket.receive(GuardMessage.maximumLength, seconds: seconds)
            guard !text.isEmpty else { throw LabFailure("\(holder): lease-service closed the connection") }
            if !Self.isVerb("deadline", text) && !Self.isVerb("requested", text) { return text }
        }
    }

    /// The next message that nobody asked for, such as `lost`; `nil` if none arrives in time.
    package func next(seconds: Double) throws -> GuardMessage? {
        guard let socket, socket.isReadable(within: seconds) else { return nil }
        return GuardMessage(text: String(decoding: try socket.receive(GuardMessage.maximumLength, seconds: 1), as: UTF8.self))
    }

    package static func isVerb(_ verb: StaticString, _ text: [UInt8]) -> Bool {
        verb.withUTF8Buffer { text.count > $0.count && text[$0.count] == UInt8(ascii: "\n") && text.starts(with: $0) }
    }

    private func answer(_ text: [UInt8]) throws -> Answer {
        guard let message = GuardMessage(text: String(decoding: text, as: UTF8.self)) else { throw LabFailure("\(holder): an unreadable answer") }
        switch message.verb {
        case "granted", "converted": return .granted(deadline: message["deadline"].flatMap(Int64.init) ?? 0, leases: message.all("lease").compactMap(GuardLease.init))
        case "refused", "unchanged": return .refused(code: message["code"] ?? "", message: message["message"] ?? "")
        default: throw LabFailure("\(holder): \"\(message.verb)\" is no answer")
        }
    }

    /// Takes the lock file, if this client does not have it yet.
    @discardableResult private func lock(_ path: String) throws -> String {
        if locks.contains(where: { $0.path == path }) { return path }
        let descriptor = cl_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0, flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let reason = String(cString: strerror(errno))
            if descriptor >= 0 { close(descriptor) }
            throw LabFailure("\(path): \(reason)")
        }
        locks.append((path, descriptor))
        return path
    }
}
