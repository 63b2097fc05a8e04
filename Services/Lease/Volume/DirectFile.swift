import CLinux
import Glibc
public import LeaseEngine
public import Messages

/// Aligned direct, synchronous I/O of whole sectors: what is written is on the device, what is read comes from it, past every cache of this host.
///
/// O_DSYNC and not O_SYNC: time stamps need not be on the device, and on a journaling file system waiting for them costs more than the sector itself.
public enum DirectFile {
    /// Memory pages: enough for every sector size.
    private static let alignment = 4096
    /// The smallest there are.
    private static let sector = 512

    /// Exactly `length` bytes at `offset`, both multiples of the sector size.
    public static func read(path: String, offset: UInt64, length: Int) -> IOResult {
        opened(path, O_RDONLY) { read($0, path: path, offset: offset, length: length) }
    }

    /// Whole sectors in one write, unless CLOCK_BOOTTIME has passed `notAfter` right before it (S8).
    ///
    /// - Parameter create: makes the file if there is none; never truncates one.
    public static func write(path: String, offset: UInt64, bytes: [UInt8], notAfter: Instant, create: Bool) -> IOResult {
        opened(path, O_WRONLY | (create ? O_CREAT : 0)) { write($0, path: path, offset: offset, bytes: bytes, notAfter: notAfter) }
    }

    /// A descriptor for direct I/O.
    /// - Throws: `IOResult` that says why there is none.
    static func open(_ path: String, _ flags: Int32) throws(OpenError) -> Int32 {
        let file = cl_open(path, flags | O_DIRECT | O_DSYNC | O_CLOEXEC, 0o660)
        guard file >= 0 else { throw OpenError(result: errno == ENOENT ? .missing("\(path) does not exist") : .failed(describe("open", path))) }
        return file
    }

    struct OpenError: Error { var result: IOResult }

    static func read(_ file: Int32, path: String, offset: UInt64, length: Int) -> IOResult {
        var failure: IOResult?
        // Read into the array itself, where that is aligned, and moved to its beginning: an area is too much to be copied between two places for each renewal.
        let bytes = [UInt8](unsafeUninitializedCapacity: length + alignment) { array, read in
            guard let start = array.baseAddress else { return }
            let buffer = UnsafeMutableRawPointer(start).alignedUp(toMultipleOf: alignment)
            while read < length {
                let count = pread(file, buffer + read, length - read, off_t(offset) + off_t(read))
                if count < 0 && errno == EINTR { continue }
                guard count >= 0 else { return failure = .failed(describe("read", path)) }
                read += count
                // Direct I/O cannot go on in the middle of a sector: only a file that ends there stops there.
                guard count > 0, read == length || read % sector == 0 else { return failure = .missing("\(path) ends at byte \(offset + UInt64(read))") }
            }
            memmove(start, buffer, read)
        }
        return failure ?? .data(bytes)
    }

    static func write(_ file: Int32, path: String, offset: UInt64, bytes: [UInt8], notAfter: Instant) -> IOResult {
        withBuffer(bytes.count) { buffer in
            bytes.withUnsafeBytes { source in
                if let start = source.baseAddress { buffer.copyMemory(from: start, byteCount: bytes.count) }
            }
            var done = 0
            while done < bytes.count {
                guard VolumeOperation.mayWrite(at: Instant(nanoseconds: cl_boottime()), notAfter: notAfter) else { return .expired }
                let count = pwrite(file, buffer + done, bytes.count - done, off_t(offset) + off_t(done))
                if count < 0 && errno == EINTR { continue }
                guard count >= 0 else { return .failed(describe("write", path)) }
                done += count
                // A file system that is full takes a part; what it says of the rest is the reason.
                guard count > 0, done % sector == 0 else { return .failed("only \(done) bytes of \(bytes.count) written to \(path)") }
            }
            return .written
        }
    }

    private static func opened(_ path: String, _ flags: Int32, _ work: (Int32) -> IOResult) -> IOResult {
        do throws(OpenError) {
            let file = try open(path, flags)
            defer { close(file) }
            return work(file)
        } catch {
            return error.result
        }
    }

    /// The buffer belongs to the calling thread until the I/O has ended, however long that takes.
    private static func withBuffer(_ count: Int, _ work: (UnsafeMutableRawPointer) -> IOResult) -> IOResult {
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: alignment)
        defer { buffer.deallocate() }
        return work(buffer)
    }

    private static func describe(_ what: String, _ path: String) -> String {
        let reason = String(cString: strerror(errno))
        return "cannot \(what) \(path): \(reason)"
    }
}
