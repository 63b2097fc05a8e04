import Bus
import CLinux
import Foundation
import LeaseEngine
import Logging
import Messages
import ServiceKit

/// The local socket where guards ask for leases: one SOCK_SEQPACKET packet for each ``GuardMessage``, peers of root or of this user only.
@ReactorActor
final class GuardListener {
    private let path: String
    private let check: ProofCheck
    private let logger: Logger
    private var listener: Int32 = -1
    private var listening: WatchID?
    private var connections: [UInt64: (descriptor: Int32, watch: WatchID)] = [:]
    private var lastConnection: UInt64 = 0
    private var buffer = [UInt8](repeating: 0, count: GuardMessage.maximumLength)
    private var submit: (@ReactorActor (LeaseInput) -> Void)?

    init(path: String, proofs: ProofCheck, logger: Logger) {
        self.path = path
        check = proofs
        self.logger = logger
    }

    /// - Throws: `RequestError` when the socket cannot be bound.
    func start(_ submit: @escaping @ReactorActor (LeaseInput) -> Void) throws {
        self.submit = submit
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { field in
            guard path.utf8.count < field.count else { return false }
            field.copyBytes(from: path.utf8)
            return true
        }
        unlink(path)
        listener = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard fits, bound == 0, chmod(path, 0o600) == 0, listen(listener, 64) == 0 else {
            throw RequestError(code: "config.invalid", message: "cannot listen at \(path): \(String(cString: strerror(errno)))")
        }
        listening = Reactor.shared.watch(fileDescriptor: listener, events: Int16(POLLIN)) { [self] _ in accept() }
    }

    func close() {
        if let listening { Reactor.shared.unwatch(listening) }
        listening = nil
        if listener >= 0 { Glibc.close(listener) }
        listener = -1
        for connection in connections.keys.sorted() { drop(connection) }
    }

    /// A guard that does not read is as good as gone: it comes back and adopts, or its locks tell its end.
    func send(_ message: GuardMessage, to connection: UInt64) {
        guard let descriptor = connections[connection]?.descriptor else { return }
        var text = message.text
        let sent = text.withUTF8 { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) == $0.count }
        if !sent { disconnect(connection) }
    }

    private func accept() {
        while true {
            let descriptor = accept4(listener, __SOCKADDR_ARG(__sockaddr__: nil), nil, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
            guard descriptor >= 0 else { return }
            var pid: pid_t = 0
            var user: uid_t = 0
            guard cl_peer_credentials(descriptor, &pid, &user) == 0, user == 0 || user == getuid() else {
                logger.warning("turned away user \(user), process \(pid), at \(path)")
                Glibc.close(descriptor)
                continue
            }
            lastConnection += 1
            let connection = lastConnection
            let watch = Reactor.shared.watch(fileDescriptor: descriptor, events: Int16(POLLIN)) { [self] _ in receive(connection) }
            connections[connection] = (descriptor, watch)
        }
    }

    /// One message: guards ask and wait, and whatever more there is makes the descriptor ready again.
    private func receive(_ connection: UInt64) {
        guard let descriptor = connections[connection]?.descriptor else { return }
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count > 0 else { return disconnect(connection) }
        guard let message = GuardMessage(text: String(decoding: buffer[..<count], as: UTF8.self)) else {
            return refuse(connection, RequestError(RequestErrorCode.malformed, "a guard's message is a verb and key=value lines"))
        }
        handle(message, connection)
    }

    private func disconnect(_ connection: UInt64) {
        drop(connection)
        submit?(.disconnected(connection: connection))
    }

    private func drop(_ connection: UInt64) {
        guard let (descriptor, watch) = connections.removeValue(forKey: connection) else { return }
        Reactor.shared.unwatch(watch)
        Glibc.close(descriptor)
    }

    private func refuse(_ connection: UInt64, _ error: RequestError) {
        send(GuardMessage("refused", [("code", error.code), ("message", error.message)]), to: connection)
    }

    // MARK: Messages

    private func handle(_ message: GuardMessage, _ connection: UInt64) {
        do throws(RequestError) {
            let input = try LeaseInput(message, on: connection, isFree: LockFile.isFree) { path throws(RequestError) in
                try proofs(path, message["holder"] ?? "")
            }
            submit?(input)
        } catch {
            refuse(connection, error)
        }
    }

    /// The proofs that are what they say; others are told and left out.
    private func proofs(_ path: String, _ holder: String) throws(RequestError) -> [AcceptedProof] {
        guard let data = FileManager.default.contents(atPath: path), let signed = try? JSON.decode([SignedProof].self, data) else {
            throw RequestError(LeaseErrorCode.badProof, "the proofs at \(path) cannot be read")
        }
        let received = Clock.boottime()
        return signed.compactMap { signed in
            guard let proof = check.verified(signed)?.proof else {
                logger.warning("\(holder): proof \(signed.proof.id) is not acceptable: signature, key or maker")
                return nil
            }
            return AcceptedProof(proof: proof, age: max(.zero, signed.age), receivedAt: received)
        }
    }
}
