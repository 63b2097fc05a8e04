import CLinux
import Glibc

/// The lock files of a host, one for each VM and one for each writable disk: free means that a guard and everything it started is gone (S3).
public enum LockFile {
    /// Runs `work` while holding the lock.
    ///
    /// - Returns: `nil` if another process holds it, or the file cannot be opened.
    public static func holding<T>(_ path: String, _ work: () -> T) -> T? {
        let file = cl_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { return nil }
        defer { close(file) }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else { return nil }
        return work()
    }
}
