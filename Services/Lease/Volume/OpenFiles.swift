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

    /// Descriptors kept for one file: more are closed when they are given back.
    private static let kept = 4
    private let idle = Mutex<[Key: [Int32]]>([:])

    public init() {}

    /// - Parameter goOn: asked before each further I/O of a sequence; `false` ends it where it is.
    public func perform(_ work: VolumeWork, _ goOn: () -> Bool) -> IOResult {
        var taken: [(key: Key, file: Int32)] = []
        defer { for (key, file) in taken { giveBack(file, key) } }
        func perform(_ operation: VolumeOperation) -> IOResult {
            do throws(DirectFile.OpenError) {
                let wanted = Key(operation)
                let key = Key(path: wanted.path, flags: wanted.flags & ~O_CREAT)
                let file: Int32
                if let known = taken.first(where: { $0.key == key }) {
                    file = known.file
                } else {
                    file = try take(key, create: wanted != key)
                    taken.append((key, file))
                }
                return switch operation {
                case .read(let path, let offset, let length): DirectFile.read(file, path: path, offset: offset, length: length)
                case .write(let path, let offset, let bytes, let notAfter, _): DirectFile.write(file, path: path, offset: offset, bytes: bytes, notAfter: notAfter)
                }
            } catch {
                return error.result
            }
        }
        switch work {
        case .one(let operation):
            return perform(operation)
        case .sequence(var sequence):
            var next = sequence.begin
            while let operation = next, goOn() {
                let result = perform(operation)
                next = sequence.next(result, at: Instant(nanoseconds: cl_boottime()))
            }
            return .sequence(sequence)
        }
    }

    /// Lets go of every file in this directory, so that what is mounted there can be unmounted.
    public func close(under root: String) {
        let files = idle.withLock { idle in
            let gone = idle.filter { $0.key.path.hasPrefix(root + "/") }
            for key in gone.keys { idle[key] = nil }
            return gone.values.flatMap(\.self)
        }
        for file in files { Glibc.close(file) }
    }

    private func take(_ key: Key, create: Bool) throws(DirectFile.OpenError) -> Int32 {
        while let file = idle.withLock({ $0[key]?.popLast() }) {
            if Self.leads(key.path, to: file) { return file }
            Glibc.close(file)
        }
        return try DirectFile.open(key.path, key.flags | (create ? O_CREAT : 0))
    }

    private func giveBack(_ file: Int32, _ key: Key) {
        let isKept = idle.withLock { idle in
            guard idle[key]?.count ?? 0 < Self.kept else { return false }
            idle[key, default: []].append(file)
            return true
        }
        if !isKept { Glibc.close(file) }
    }

    private static func leads(_ path: String, to file: Int32) -> Bool {
        var there = stat()
        var open = stat()
        return stat(path, &there) == 0 && fstat(file, &open) == 0 && there.st_dev == open.st_dev && there.st_ino == open.st_ino
    }
}

extension OpenFiles.Key {
    fileprivate init(_ operation: VolumeOperation) {
        switch operation {
        case .read(let path, _, _): self.init(path: path, flags: O_RDONLY)
        case .write(let path, _, _, _, let create): self.init(path: path, flags: O_WRONLY | (create ? O_CREAT : 0))
        }
    }
}
