import CLinux
import Glibc
import Messages

/// Local SOCK_SEQPACKET sockets: one ``GuardMessage`` for each packet.
enum Packet {
    enum Received {
        case message(GuardMessage)
        /// Nothing there now.
        case none
        /// The other side is gone, or sent what cannot be read.
        case broken(String)
    }

    static func listen(at path: String) -> Int32? {
        unlink(path)
        return socket(path) { bind($0, $1, $2) == 0 && Glibc.listen($0, 8) == 0 }
    }

    static func connect(to path: String) -> Int32? {
        socket(path) { Glibc.connect($0, $1, $2) == 0 }
    }

    /// A waiting connection of the same user or root; others are turned away.
    static func accept(from listener: Int32) -> Int32? {
        let descriptor = accept4(listener, __SOCKADDR_ARG(__sockaddr__: nil), nil, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
        guard descriptor >= 0 else { return nil }
        guard isTrusted(descriptor) else {
            close(descriptor)
            return nil
        }
        return descriptor
    }

    /// Whether the peer runs as root or as this user.
    static func isTrusted(_ descriptor: Int32) -> Bool {
        var pid: pid_t = 0
        var user: uid_t = 0
        return cl_peer_credentials(descriptor, &pid, &user) == 0 && (user == 0 || user == getuid())
    }

    static func send(_ message: GuardMessage, to descriptor: Int32) -> Bool {
        var text = message.text
        return text.withUTF8 { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) == $0.count }
    }

    static func receive(from descriptor: Int32) -> Received {
        withUnsafeTemporaryAllocation(byteCount: GuardMessage.maximumLength, alignment: 1) { buffer in
            let count = recv(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
            if count == 0 { return .broken("closed") }
            if count < 0 { return errno == EAGAIN || errno == EINTR ? .none : .broken(Log.error(errno)) }
            guard let message = GuardMessage(text: String(decoding: buffer[..<count], as: UTF8.self)) else { return .broken("unreadable message") }
            return .message(message)
        }
    }

    private static func socket(_ path: String, _ use: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Bool) -> Int32? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { field in
            guard path.utf8.count < field.count else { return false }
            field.copyBytes(from: path.utf8)
            return true
        }
        guard fits else {
            errno = ENAMETOOLONG
            return nil
        }
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        let done = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { use(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard done else {
            let failure = errno
            close(descriptor)
            errno = failure
            return nil
        }
        return descriptor
    }
}
