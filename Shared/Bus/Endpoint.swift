import CLinux
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

    /// A socket file that a dead process left would keep us from binding. Anything else at its place stays, and is an error.
    func removeStaleFile() throws {
        guard let path else { return }
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & UInt32(S_IFMT) == UInt32(S_IFSOCK) else {
            throw RequestError(RequestErrorCode.invalid, "\(path) exists and is not a socket")
        }
        unlink(path)
    }
}
