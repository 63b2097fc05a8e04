import CLinux
import Glibc

/// Lock files of a host: one for each VM, one for each writable disk; never unlinked while the host is on (S3).
enum FileLock {
    /// Takes the exclusive flock, creating the file; `nil` if it is held or cannot be opened.
    ///
    /// The descriptor is inherited by whatever this process starts, so that the lock is free only when all of that is gone.
    static func take(_ path: String) -> Int32? {
        let file = cl_open(path, O_RDWR | O_CREAT, 0o600)
        guard file >= 0 else { return nil }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            close(file)
            return nil
        }
        return file
    }
}

enum Pipe {
    /// Both ends are closed by an exec.
    static func make() -> (read: Int32, write: Int32)? {
        var ends: [Int32] = [-1, -1]
        guard pipe2(&ends, O_CLOEXEC) == 0 else { return nil }
        return (ends[0], ends[1])
    }
}

enum ResultFile {
    /// Written beside, made durable and renamed: it is there as a whole or not at all.
    static func write(_ text: String, to path: String) {
        let temporary = path + ".new"
        let file = cl_open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { return Log.line("\(temporary): \(Log.error(errno))") }
        var text = text
        let written = text.withUTF8 { Glibc.write(file, $0.baseAddress, $0.count) == $0.count }
        guard written, fsync(file) == 0, rename(temporary, path) == 0 else {
            Log.line("cannot write \(path): \(Log.error(errno))")
            close(file)
            return
        }
        close(file)
    }
}
