import CLinux
import Glibc
public import HostAgentEngine
public import Messages

/// Blocking.
extension VolumeBuild {
    private var layout: DomainLayout { DomainLayout(root: domain) }
    private var temporary: String { "\(layout.image(image))/.task-\(task).\(lver)" }

    /// The volume is there already.
    public var isPublished: Bool { StorageFile.exists(layout.volume(image: image)) }

    /// Makes the volume's bytes durable under its temporary name.
    ///
    /// - Throws: `storage.failed`; `task.failed` for a size that no file can have.
    public func build() throws(RequestError) {
        let length = try wholeBlocks()
        try StorageFile.makeDirectory(layout.image(image))
        discardLeftovers()
        let file = cl_open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw StorageFile.failure("cannot open", temporary) }
        defer { close(file) }
        if let source { try copy(source, into: file) }
        guard ftruncate(file, length) == 0, fsync(file) == 0 else { throw StorageFile.failure("cannot write", temporary) }
    }

    /// Gives it its name, unless a volume has it already. Only after the lease was seen to be held still.
    public func publish() throws(RequestError) {
        guard link(temporary, layout.volume(image: image)) == 0 || errno == EEXIST else { throw StorageFile.failure("cannot publish", temporary) }
        unlink(temporary)
        try StorageFile.syncDirectory(layout.image(image))
        try StorageFile.syncDirectory(layout.images)
    }

    /// Direct I/O wants whole blocks.
    private func wholeBlocks() throws(RequestError) -> off_t {
        let (padded, isBeyond) = size.addingReportingOverflow(4095)
        guard !isBeyond, let length = off_t(exactly: padded / 4096 * 4096) else {
            throw RequestError(AgentErrorCode.taskFailed, "no file can have the \(size) bytes of volume \(image)")
        }
        return length
    }

    private func copy(_ source: String, into file: Int32) throws(RequestError) {
        let input = cl_open(source, O_RDONLY | O_CLOEXEC, 0)
        guard input >= 0 else { throw StorageFile.failure("cannot open", source) }
        defer { close(input) }
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        var left = size
        while left > 0 {
            let count = read(input, &buffer, min(buffer.count, Int(clamping: left)))
            guard count >= 0 else { throw StorageFile.failure("cannot read", source) }
            guard count > 0 else { return }
            guard write(file, buffer, count) == count else { throw StorageFile.failure("cannot write", temporary) }
            left -= UInt64(count)
        }
    }

    private func discardLeftovers() {
        guard let directory = opendir(layout.image(image)) else { return }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            guard name.hasPrefix(".task-"), let version = name.split(separator: ".").last.flatMap({ UInt64($0) }), version < lver else { continue }
            unlink("\(layout.image(image))/\(name)")
        }
    }
}
