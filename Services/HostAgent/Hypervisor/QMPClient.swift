import CLinux
import Foundation

/// One question or command to a guest's QEMU over its QMP socket. Blocking, with a deadline; for a thread of its own.
public struct QMPClient: Sendable {
    public enum Failure: Error, CustomStringConvertible, Sendable {
        case unreachable(String)
        case noAnswer
        case refused(String)

        public var description: String {
            switch self {
            case .unreachable(let why): "QMP socket: \(why)"
            case .noAnswer: "QMP did not answer in time"
            case .refused(let why): "QMP: \(why)"
            }
        }
    }

    public var path: String
    /// Milliseconds for the whole exchange.
    public var timeout: Int64

    public init(path: String, timeout: Int64 = 2000) {
        self.path = path
        self.timeout = timeout
    }

    /// `running`, `paused`, `io-error`, `internal-error`, ... as QEMU says.
    public func status() -> Result<String, Failure> {
        exchange("query-status").flatMap { reply in
            guard let status = reply["status"] as? String else { return .failure(.refused("query-status without a status")) }
            return .success(status)
        }
    }

    /// Goes on after a pause.
    public func resume() -> Failure? { if case .failure(let failure) = exchange("cont") { failure } else { nil } }

    private func exchange(_ command: String) -> Result<[String: Any], Failure> {
        let until = cl_boottime() + timeout * 1_000_000
        let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard socket >= 0 else { return .failure(.unreachable(String(cString: strerror(errno)))) }
        defer { close(socket) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return .failure(.unreachable("path too long")) }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard connected == 0 else { return .failure(.unreachable(String(cString: strerror(errno)))) }
        // The command only to a QEMU that answers: what waits in the socket of one that is stopped would be done much later.
        return ask("qmp_capabilities", id: 0, socket, until).flatMap { _ in ask(command, id: 1, socket, until) }
    }

    private func ask(_ command: String, id: Int, _ socket: Int32, _ until: Int64) -> Result<[String: Any], Failure> {
        let text = "{\"execute\":\"\(command)\",\"id\":\(id)}\n"
        guard text.utf8CString.withUnsafeBufferPointer({ send(socket, $0.baseAddress, $0.count - 1, Int32(MSG_NOSIGNAL)) }) == text.utf8.count else {
            return .failure(.unreachable(String(cString: strerror(errno))))
        }
        return answer(id, from: socket, until: until)
    }

    /// The reply with this id; greeting and events are passed over.
    private func answer(_ id: Int, from socket: Int32, until: Int64) -> Result<[String: Any], Failure> {
        var received = Data()
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            while let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                let line = received[received.startIndex..<end]
                received = Data(received[(end + 1)...])
                guard let object = (try? JSONSerialization.jsonObject(with: line)) as? [String: Any], object["id"] as? Int == id else { continue }
                if let value = object["return"] as? [String: Any] { return .success(value) }
                return .failure(.refused(String(decoding: line, as: UTF8.self)))
            }
            let left = (until - cl_boottime()) / 1_000_000
            var waiting = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            guard left > 0, poll(&waiting, 1, Int32(clamping: left)) > 0 else { return .failure(.noAnswer) }
            let count = recv(socket, &buffer, buffer.count, 0)
            guard count > 0 else { return .failure(.unreachable("closed")) }
            received.append(contentsOf: buffer[..<count])
        }
    }
}
