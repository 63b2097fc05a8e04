import Glibc
import Messages

/// An address that a socket binds or connects to, checked.
struct Endpoint: Sendable {
    /// sun_path less its ending zero.
    static let longestPath = 107

    let address: String
    /// The socket file of an ipc:// endpoint.
    let path: String?
    let isNetwork: Bool
    /// Whether only this machine reaches it.
    let isLocal: Bool

    /// - Throws: ``Messages/RequestError`` `request.invalid` for another scheme than ipc, tcp and inproc, and for a path that the kernel would cut.
    init(_ address: String) throws {
        self.address = address
        func rest(_ scheme: String) -> String? { address.hasPrefix(scheme) ? String(address.dropFirst(scheme.count)) : nil }
        if let path = rest("ipc://") {
            guard !path.isEmpty, path.utf8.count <= Self.longestPath else {
                throw RequestError(
                    RequestErrorCode.invalid, "the socket path \(path) has \(path.utf8.count) bytes; it needs 1 to \(Self.longestPath): use a shorter run directory")
            }
            self.path = path
            isNetwork = false
            isLocal = true
        } else if let host = rest("tcp://") {
            path = nil
            isNetwork = true
            isLocal = host.hasPrefix("127.") || host.hasPrefix("localhost:") || host.hasPrefix("[::1]:")
        } else if rest("inproc://") != nil {
            path = nil
            isNetwork = false
            isLocal = true
        } else {
            throw RequestError(RequestErrorCode.invalid, "\(address) is not an ipc:// or tcp:// endpoint")
        }
    }

    /// Makes the listening socket of an ipc:// endpoint: its file has mode 0600 from its first moment. One that a dead process left is replaced; anything
    /// else at its place stays, and is an error.
    ///
    /// libzmq would do this itself, but removes the file when its I/O thread gets to it: after a quick restart in the same process, that of the successor.
    func listen(at path: String) throws -> Int32 {
        func failure(_ what: String) -> RequestError { RequestError(RequestErrorCode.invalid, "\(what) \(path): \(String(cString: strerror(errno)))") }
        var status = stat()
        if lstat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFSOCK else { throw RequestError(RequestErrorCode.invalid, "\(path) exists and is not a socket") }
            unlink(path)
        }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: path.utf8.prefix(Self.longestPath)) }
        let file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard file >= 0 else { throw failure("no socket for") }
        let bound = withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                fchmod(file, 0o600) == 0 && bind(file, address, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard bound, Glibc.listen(file, 1024) == 0 else {
            let error = failure("cannot bind")
            close(file)
            throw error
        }
        return file
    }
}
