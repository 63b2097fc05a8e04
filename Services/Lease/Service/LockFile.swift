import CLinux
import Glibc
import Messages

/// flock files of this host. Descriptors of a guard's locks are inherited by all it starts: a lock that can be taken has no process behind it (S3).
enum LockFile {
    /// Whether nobody holds the lock; one that does not exist was never taken in this boot.
    static func isFree(_ path: String) -> Bool {
        let file = cl_open(path, O_RDWR | O_CLOEXEC, 0)
        guard file >= 0 else { return errno == ENOENT }
        defer { close(file) }
        // Shared and at once given up: the shortest moment in which a guard could find it taken.
        return flock(file, LOCK_SH | LOCK_NB) == 0
    }

    /// Takes the lock for the life of this process; waits 5 s for a predecessor that is just ending.
    ///
    /// - Throws: `RequestError` if another process keeps it.
    static func takeAlone(_ path: String) throws -> Int32 {
        let file = cl_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw RequestError(code: "config.invalid", message: "cannot open \(path): \(String(cString: strerror(errno)))") }
        for _ in 0..<100 {
            if flock(file, LOCK_EX | LOCK_NB) == 0 { return file }
            usleep(50_000)
        }
        close(file)
        throw RequestError(code: "service.running", message: "another lease-service of this machine is running (\(path))")
    }
}
