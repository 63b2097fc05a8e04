import CLinux
import Foundation
import Messages

/// Entries of a journal that mean nothing after the machine's next boot, in a file of the run directory: they survive the process and cost no flush.
///
/// Records as in ``FileJournal``'s file: 4 bytes length, 4 bytes checksum, both little-endian, then the payload. The first payload is the lineage of the journal that this file
/// belongs to; the others are sequence, time and wall-clock time (8 bytes each, little-endian) and the JSON of the input. What follows a torn record was never acknowledged.
final class BootJournal {
    let path: String
    /// What the file holds: at the next snapshot they go to the history.
    private(set) var entries: [JournalEntry] = []
    private var descriptor: Int32 = -1
    private var lineage = ""

    init(path: String) { self.path = path }

    /// The entries of this boot; none if the file belongs to another journal.
    func open(lineage: String) throws -> [JournalEntry] {
        self.lineage = lineage
        try restart(with: try Self.entries(path: path, lineage: lineage))
        return entries
    }

    static func entries(path: String, lineage: String) throws -> [JournalEntry] {
        var payloads = FileJournal.payloads(in: try FileJournal.read(path))[...]
        let isOurs = payloads.popFirst().map { String(decoding: $0, as: UTF8.self) } == lineage
        return isOurs ? payloads.compactMap(entry) : []
    }

    /// Known to the kernel when it returns: the end of this process loses none.
    func append(_ entries: [JournalEntry]) throws(JournalError) {
        // Of a batch that is tried again some may be there.
        let newest = self.entries.last?.sequence ?? 0
        let new = entries.filter { $0.sequence > newest }
        if new.isEmpty { return }
        try FileJournal.write(Self.frames(new), to: descriptor)
        self.entries += new
    }

    /// Begins the file anew: a snapshot covers what it held.
    func restart(with entries: [JournalEntry]) throws(JournalError) {
        let fresh = path + ".new"
        let file = cl_open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0o600)
        guard file >= 0 else { throw FileJournal.error("open \(fresh)") }
        do throws(JournalError) {
            try FileJournal.write(FileJournal.frame(Data(lineage.utf8)) + Self.frames(entries), to: file)
            guard rename(fresh, path) == 0 else { throw FileJournal.error("rename") }
        } catch {
            close(file)
            throw error
        }
        if descriptor >= 0 { close(descriptor) }
        descriptor = file
        self.entries = entries
    }

    private static func frames(_ entries: [JournalEntry]) -> Data {
        entries.reduce(into: Data()) { data, entry in
            var payload = Data(capacity: 24 + entry.input.count)
            for word in [entry.sequence, UInt64(bitPattern: entry.time.nanoseconds), UInt64(bitPattern: entry.wallTime ?? 0)] {
                withUnsafeBytes(of: word.littleEndian) { payload.append(contentsOf: $0) }
            }
            data += FileJournal.frame(payload + entry.input)
        }
    }

    private static func entry(_ payload: Data.SubSequence) -> JournalEntry? {
        guard payload.count > 24 else { return nil }
        let words = payload.prefix(24).withUnsafeBytes { bytes in (0..<3).map { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) } }
        return JournalEntry(sequence: words[0], time: Instant(nanoseconds: Int64(bitPattern: words[1])), input: Data(payload.dropFirst(24)), wallTime: Int64(bitPattern: words[2]))
    }
}
