import CLinux
import Foundation

/// A connected local socket that blocks.
package final class LocalSocket {
    private let descriptor: Int32

    package enum Kind { case stream, packets }

    /// - Throws: ``LabFailure`` when nobody listens there.
    package init(_ path: String, _ kind: Kind) throws {
        descriptor = socket(AF_UNIX, Int32(kind == .stream ? SOCK_STREAM.rawValue : SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        // `deinit` closes it, also when this throws.
        guard Self.connect(descriptor, path) else { throw LabFailure("\(path): \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }

    package func send(_ bytes: [UInt8]) throws {
        guard Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else { throw failure("send") }
    }

    /// What has arrived, at most `most` bytes; exactly so many if `whole`. Empty when the other side is gone.
    /// - Throws: ``LabFailure`` also when nothing arrives in time.
    package func receive(_ most: Int, whole: Bool = false, seconds: Double) throws -> [UInt8] {
        guard isReadable(within: seconds) else { throw LabFailure("no answer within \(seconds) s") }
        return try [UInt8](unsafeUninitializedCapacity: most) { buffer, count in
            let received = recv(descriptor, buffer.baseAddress, most, whole ? Int32(MSG_WAITALL) : 0)
            guard received >= 0 || errno == ECONNRESET else { throw failure("receive") }
            count = max(0, received)
        }
    }

    package func isReadable(within seconds: Double) -> Bool {
        var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&watched, 1, Int32(seconds * 1000)) > 0
    }

    /// Whether somebody listens at a socket file now.
    package static func isListening(at path: String, _ kind: Kind) -> Bool { (try? LocalSocket(path, kind)) != nil }

    private static func connect(_ descriptor: Int32, _ path: String) -> Bool {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { field in
            guard path.utf8.count < field.count else { return false }
            field.copyBytes(from: path.utf8)
            return true
        }
        return fits && withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 }
        }
    }

    private func failure(_ what: String) -> LabFailure { LabFailure("cannot \(what): \(String(cString: strerror(errno)))") }
}
