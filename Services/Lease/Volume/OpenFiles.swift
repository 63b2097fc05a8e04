import CLinux
import Glibc
public import LeaseEngine
import Messages
import Synchronization

/// Performs a lane's work on files that stay open from one turn to the next.
///
/// A turn uses a kept descriptor only while the path still leads to the same file: what was mounted over, restored or made anew is opened anew.
public final class OpenFiles: Sendable {
    fileprivate struct Key: Hashable {
        var path: String
        var flags: Int32
    }

    /// A descriptor and the file that it leads to, which stays the same for as long as it is open.
    private struct Open {
        var descriptor: Int32
        var device: dev_t
        var inode: ino_t

        /// - Throws: `DirectFile.OpenError`.
        init(_ path: String, _ flags: Int32) throws(DirectFile.OpenError) {
            descriptor = try DirectFile.open(path, flags)
            var found = stat()
            // Of an open file it fails only where files have no numbers; then it is never kept.
            let isKnown = fstat(descriptor, &found) == 0
            device = isKnown ? found.st_dev : .max
            inode = isKnown ? found.st_ino : .max
        }

        func isAt(_ path: String) -> Bool {
            var there = stat()
            return stat(path, &there) == 0 && there.st_dev == device && there.st_ino == inode
        }
    }

    /// Descriptors kept for one file: more are closed when they are given back.
    private static let kept = 16
    private let idle = Mutex<[Key: [Open]]>([:])

    public init() {}

    /// - Parameter goOn: asked before each further I/O of a sequence; `false` ends it where it is.
    public func perform(_ work: VolumeWork, _ goOn: () -> Bool) -> IOResult {
        switch work {
        case .one(let operation):
            return Turn(self, writes: false).perform(operation)
        case .sequence(var sequence):
            let turn = Turn(self, writes: true)
            var next = sequence.begin
            while let operation = next, goOn() {
                let result = turn.perform(operation)
                next = sequence.next(result, at: Instant(nanoseconds: cl_boottime()))
            }
            return .sequence(sequence)
        }
    }

    /// The files of one piece of work, given back at its end.
    private final class Turn {
        private let files: OpenFiles
        /// Reads use descriptors that can write, too: what reads and writes in turn needs one.
        private let writes: Bool
        private var taken: [(key: Key, file: Open)] = []

        init(_ files: OpenFiles, writes: Bool) {
            self.files = files
            self.writes = writes
        }

        deinit { for (key, file) in taken { files.giveBack(file, key) } }

        func perform(_ operation: VolumeOperation) -> IOResult {
            do throws(DirectFile.OpenError) {
                let result = switch operation {
                case .read(let path, let offset, let length):
                    DirectFile.read(try descriptor(path, writes ? O_RDWR : O_RDONLY), path: path, offset: offset, length: length)
                case .write(let path, let offset, let bytes, let notAfter, let create):
                    DirectFile.write(
                        try descriptor(path, writes ? O_RDWR : O_WRONLY, create: create), path: path, offset: offset, bytes: bytes, notAfter: notAfter)
                }
                // A descriptor can go stale for good where its path still leads to the same numbers, as on NFS.
                if case .failed = result { letGo() }
                return result
            } catch {
                return error.result
            }
        }

        private func letGo() {
            for (_, file) in taken { Glibc.close(file.descriptor) }
            taken = []
        }

        private func descriptor(_ path: String, _ flags: Int32, create: Bool = false) throws(DirectFile.OpenError) -> Int32 {
            if let known = taken.first(where: { $0.key.flags == flags && $0.key.path == path }) { return known.file.descriptor }
            let key = Key(path: path, flags: flags)
            let file = try files.take(key, create: create)
            taken.append((key, file))
            return file.descriptor
        }
    }

    /// Lets go of every file in this directory, so that what is mounted there can be unmounted.
    public func close(under root: String) {
        let files = idle.withLock { idle in
            let gone = idle.filter { $0.key.path.hasPrefix(root + "/") }
            for key in gone.keys { idle[key] = nil }
            return gone.values.flatMap(\.self)
        }
        for file in files { Glibc.close(file.descriptor) }
    }

    private func take(_ key: Key, create: Bool) throws(DirectFile.OpenError) -> Open {
        while let file = idle.withLock({ $0[key]?.popLast() }) {
            if file.isAt(key.path) { return file }
            Glibc.close(file.descriptor)
        }
        return try Open(key.path, key.flags | (create ? O_CREAT : 0))
    }

    private func giveBack(_ file: Open, _ key: Key) {
        let isKept = idle.withLock { idle in
            guard idle[key]?.count ?? 0 < Self.kept else { return false }
            idle[key, default: []].append(file)
            return true
        }
        if !isKept { Glibc.close(file.descriptor) }
    }
}
