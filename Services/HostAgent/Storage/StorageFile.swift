import CLinux
import Glibc
public import Messages

/// System calls on files of a domain, with errors that name the file.
public enum StorageFile {
    static func failure(_ what: String, _ path: String) -> RequestError {
        RequestError(code: "storage.failed", message: "\(what) \(path): \(String(cString: strerror(errno)))")
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    static func makeDirectory(_ path: String) throws(RequestError) {
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw failure("cannot make directory", path) }
    }

    /// Makes a directory and those above it.
    static func makeDirectories(_ path: String) throws(RequestError) {
        var made = ""
        for part in path.split(separator: "/") {
            made += "/\(part)"
            try makeDirectory(made)
        }
    }

    /// Makes sure that a file has at least this size; new space is sparse.
    static func makeFile(_ path: String, size: off_t) throws(RequestError) {
        let file = cl_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw failure("cannot open", path) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_size >= size || ftruncate(file, size) == 0, fsync(file) == 0 else { throw failure("cannot size", path) }
    }

    /// Written beside, made durable and renamed.
    static func write(_ text: String, to path: String) throws(RequestError) {
        let temporary = "\(path).new"
        let file = cl_open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw failure("cannot open", temporary) }
        defer { close(file) }
        let bytes = Array(text.utf8)
        guard Glibc.write(file, bytes, bytes.count) == bytes.count, fsync(file) == 0, rename(temporary, path) == 0 else { throw failure("cannot write", path) }
    }

    /// Makes the names in a directory durable.
    public static func syncDirectory(_ path: String) throws(RequestError) {
        let directory = cl_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        guard directory >= 0 else { throw failure("cannot open", path) }
        defer { close(directory) }
        guard fsync(directory) == 0 else { throw failure("cannot sync", path) }
    }

    /// The first block (at most 4096 bytes), read from the storage itself: no page cache.
    static func readDirect(_ path: String) throws(RequestError) -> [UInt8] {
        let file = cl_open(path, O_RDONLY | O_DIRECT | O_CLOEXEC, 0)
        guard file >= 0 else { throw failure("cannot open", path) }
        defer { close(file) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { buffer.deallocate() }
        let count = read(file, buffer.baseAddress, buffer.count)
        guard count >= 0 else { throw failure("cannot read", path) }
        return Array(buffer[..<count])
    }
}
