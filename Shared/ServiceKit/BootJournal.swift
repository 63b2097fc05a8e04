import CLinux
import Foundation
import Messages
import Synchronization

/// Entries of a journal that mean nothing after the machine's next boot, in a file of the run directory: they survive the process and cost no flush.
///
/// Records as in ``FileJournal``'s file: 4 bytes length, 4 bytes checksum, both little-endian, then the payload. The first payload is the lineage of the journal that this file
/// belongs to; the others are sequence, time and wall-clock time (8 bytes each, little-endian) and the JSON of the input. What follows a torn record was never acknowledged.
/// The writer's thread begins it anew; entries come from there or, where that never waits for a device, from the thread that made them (``isInMemory``).
final class BootJournal: Sendable {
    private struct State {
        /// What the file holds: at the next snapshot they go to the history.
        var entries: [JournalEntry] = []
        var descriptor: Int32 = -1
        var lineage = ""
        var isInMemory = false
    }

    /// tmpfs and ramfs.
    private static let inMemory: Set<Int64> = [0x0102_1994, 0x8584_58f6]

    let path: String
    private let state = Mutex(State())

    init(path: String) { self.path = path }

    var entries: [JournalEntry] { state.withLock { $0.entries } }
    /// The file is in a file system without a device: what is written to it is there at once.
    var isInMemory: Bool { state.withLock { $0.isInMemory } }

    /// The entries of this boot; none if the file belongs to another journal.
    func open(lineage: String) throws -> [JournalEntry] {
        let found = try Self.entries(path: path, lineage: lineage)
        try state.withLock { state throws(JournalError) in
            state.lineage = lineage
            try restart(&state, with: found)
        }
        return found
    }

    static func entries(path: String, lineage: String) throws -> [JournalEntry] {
        var payloads = FileJournal.payloads(in: try FileJournal.read(path))[...]
        let isOurs = payloads.popFirst().map { String(decoding: $0, as: UTF8.self) } == lineage
        return isOurs ? payloads.compactMap(entry) : []
    }

    /// Known to the kernel when it returns: the end of this process loses none.
    func append(_ entries: [JournalEntry]) throws(JournalError) {
        try state.withLock { state throws(JournalError) in
            // Of a batch that is tried again some may be there.
            let newest = state.entries.last?.sequence ?? 0
            let new = entries.filter { $0.sequence > newest }
            if new.isEmpty { return }
            try FileJournal.write(Self.frames(new), to: state.descriptor)
            state.entries += new
        }
    }

    /// Begins the file anew: a snapshot covers what it held up to this entry.
    func forget(through sequence: UInt64) throws(JournalError) {
        try state.withLock { state throws(JournalError) in try restart(&state, with: state.entries.filter { $0.sequence > sequence }) }
    }

    private func restart(_ state: inout State, with entries: [JournalEntry]) throws(JournalError) {
        let fresh = path + ".new"
        let file = cl_open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0o600)
        guard file >= 0 else { throw FileJournal.error("open \(fresh)") }
        do throws(JournalError) {
            try FileJournal.write(FileJournal.frame(Data(state.lineage.utf8)), to: file)
            try FileJournal.write(Self.frames(entries), to: file)
            guard rename(fresh, path) == 0 else { throw FileJournal.error("rename") }
        } catch {
            close(file)
            throw error
        }
        if state.descriptor >= 0 { close(state.descriptor) }
        state.descriptor = file
        state.entries = entries
        state.isInMemory = Self.inMemory.contains(cl_file_system(file))
    }

    private static func frames(_ entries: [JournalEntry]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(entries.reduce(0) { $0 + 32 + $1.input.count })
        for entry in entries {
            let start = bytes.count
            append(UInt32(24 + entry.input.count), to: &bytes)
            append(UInt32(0), to: &bytes)
            for word in [entry.sequence, UInt64(bitPattern: entry.time.nanoseconds), UInt64(bitPattern: entry.wallTime ?? 0)] { append(word, to: &bytes) }
            bytes.append(contentsOf: entry.input)
            bytes.withUnsafeMutableBytes { bytes in
                let sum = FileJournal.checksum(UnsafeRawBufferPointer(rebasing: bytes[(start + 8)...]))
                bytes.storeBytes(of: sum.littleEndian, toByteOffset: start + 4, as: UInt32.self)
            }
        }
        return bytes
    }

    private static func append(_ word: some FixedWidthInteger, to bytes: inout [UInt8]) { withUnsafeBytes(of: word.littleEndian) { bytes.append(contentsOf: $0) } }

    private static func entry(_ payload: Data.SubSequence) -> JournalEntry? {
        guard payload.count > 24 else { return nil }
        let words = payload.prefix(24).withUnsafeBytes { bytes in (0..<3).map { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) } }
        return JournalEntry(sequence: words[0], time: Instant(nanoseconds: Int64(bitPattern: words[1])), input: Data(payload.dropFirst(24)), wallTime: Int64(bitPattern: words[2]))
    }
}
