import CLinux
import Foundation
import Glibc
import Messages

/// A lease-service that says what a test wants it to say, on the guards' socket.
final class FakeLeaseService {
    private var listener: Int32
    private var guardConnection: Int32 = -1
    let path: String

    init(run: String) {
        path = "\(run)/lease-service.guards"
        listener = Self.listen(at: path)
    }

    deinit { crash() }

    /// The next message of the guard, waiting at most 5 s; connections are accepted on the way.
    func next() -> GuardMessage? {
        let end = Date().addingTimeInterval(5)
        while Date() < end {
            if guardConnection < 0 {
                guard isReadable(listener) else { continue }
                guardConnection = accept(listener, __SOCKADDR_ARG(__sockaddr__: nil), nil)
            }
            guard isReadable(guardConnection) else { continue }
            var buffer = [UInt8](repeating: 0, count: GuardMessage.maximumLength)
            let count = recv(guardConnection, &buffer, buffer.count, 0)
            guard count > 0 else {
                close(guardConnection)
                guardConnection = -1
                continue
            }
            return GuardMessage(text: String(decoding: buffer[..<count], as: UTF8.self))
        }
        return nil
    }

    func say(_ verb: String, _ fields: [(String, String)] = []) {
        let text = Array(GuardMessage(verb, fields).text.utf8)
        send(guardConnection, text, text.count, Int32(MSG_NOSIGNAL))
    }

    /// As if killed: socket and connection are gone.
    func crash() {
        if guardConnection >= 0 { close(guardConnection) }
        if listener >= 0 { close(listener) }
        guardConnection = -1
        listener = -1
        unlink(path)
    }

    func restart() { listener = Self.listen(at: path) }

    private func isReadable(_ descriptor: Int32) -> Bool {
        var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&watched, 1, 100) > 0
    }

    private static func listen(at path: String) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let listener = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0)
        unlink(path)
        withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        _ = Glibc.listen(listener, 4)
        return listener
    }
}
