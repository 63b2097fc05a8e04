import CLinux
#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif
import Glibc
import Messages

/// Files for the eyes of their owner, never seen half written.
enum PrivateFile {
    static func write(_ content: Data, to path: String) throws {
        let temporary = "\(path).\(getpid()).new"
        unlink(temporary)
        let file = cl_open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure("cannot create", temporary) }
        defer { close(file) }
        let written = content.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(file, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
        guard written, fchmod(file, 0o600) == 0, fsync(file) == 0, rename(temporary, path) == 0 else {
            let error = failure("cannot write", path)
            unlink(temporary)
            throw error
        }
    }

    static func read(_ path: String, isSecret: Bool) throws -> Data {
        let file = cl_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard file >= 0 else { throw failure("cannot open", path) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw failure("cannot look at", path) }
        let mode = status.st_mode & 0o7777
        guard !isSecret || mode == 0o600 else {
            throw RequestError(RequestErrorCode.invalid, "\(path) holds secrets and has mode 0\(String(mode, radix: 8)); it must be 0600: chmod 0600 \(path)")
        }
        var content = Data()
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = Glibc.read(file, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure("cannot read", path) }
            if count == 0 { return content }
            content.append(contentsOf: buffer[..<count])
        }
    }

    private static func failure(_ what: String, _ path: String) -> RequestError {
        RequestError(RequestErrorCode.invalid, "\(what) \(path): \(String(cString: strerror(errno)))")
    }
}
