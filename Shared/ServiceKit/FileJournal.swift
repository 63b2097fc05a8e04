import Bus
import CLinux
import Foundation
public import Messages

/// A small append-only, checksummed file: the journal of lease-service and host-agent, so that no database stall touches renewals.
///
/// Records: 4 bytes length, 4 bytes checksum (FNV-1a, 32 bit, over the payload), both little-endian, then JSON. A torn tail (the last append of a crash) is cut off at
/// start; a file that cannot be read, or is damaged before its tail, is never replaced: the service does not start. The first record names the journal. A snapshot rewrites the file beside itself and renames it over the old one; the newest 1000 entries stay, with a snapshot before them. Every append is flushed with fdatasync before it returns.
/// Entries that mean nothing after the next boot go to a file of their own in the run directory, unflushed; a snapshot covers both.
public final class FileJournal: Journal {
    public let entriesBetweenSnapshots = 200
    public var bootEntriesBetweenSnapshots: Int? { boot == nil ? nil : 4000 }
    private let path: String
    private let boot: BootJournal?
    private static let decisionsKept = 500
    private static let livesKept = 100
    private let retention: JournalRetention
    private var descriptor: Int32 = -1
    private var head = Head(lineage: "", term: 0)
    /// The newest snapshot, the entries since the oldest, and the rest: with `head`, what a rewrite must write.
    private var latest = JournalBatch()

    private struct Head: Codable {
        var lineage: String
        var term: UInt64
        /// `nil` in files of 0.1.0.
        var lives: [JournalLife]?
        /// Snapshots before the newest, oldest first: what can be replayed begins at the first. `nil` in files of 0.1.0.
        var past: [JournalSnapshot]?
        /// Where entries of this boot are. `nil`: here, or in files of 0.1.0.
        var bootPath: String?
    }

    private enum Record: Codable {
        case head(Head)
        case batch(JournalBatch)
    }

    /// - Parameters:
    ///   - path: the file; its directory must exist.
    ///   - bootPath: the file for entries of this boot, in a directory that is emptied at each boot.
    public convenience init(path: String, bootPath: String? = nil) {
        self.init(path: path, bootPath: bootPath, retention: JournalRetention(entries: 1000, spread: 200))
    }

    package init(path: String, bootPath: String? = nil, retention: JournalRetention) {
        self.path = path
        boot = bootPath.map(BootJournal.init)
        self.retention = retention
    }

    public func open(as service: String) throws -> JournalContents {
        let known = try load()
        if !known { head = Head(lineage: UUID().uuidString.lowercased(), term: 0) }
        head.term += 1
        let covered = latest.snapshot?.sequence ?? 0
        let entries = (latest.entries + (try boot?.open(lineage: head.lineage) ?? [])).filter { $0.sequence > covered }.sorted { $0.sequence < $1.sequence }
        let last = entries.last?.sequence ?? latest.entries.last?.sequence ?? covered
        head.bootPath = boot?.path
        head.lives = (head.lives ?? []) + [JournalLife(term: head.term, service: service, firstSequence: last + 1, startedAt: cl_realtime())]
        forget()
        try rewrite()
        return JournalContents(
            lineage: head.lineage, term: head.term, snapshot: latest.snapshot, entries: entries,
            lastSequence: last, lastInstant: entries.last?.time ?? latest.entries.last?.time, replies: latest.replies)
    }

    /// All that a journal holds; reads only.
    public static func history(path: String) throws -> JournalHistory {
        let journal = FileJournal(path: path)
        guard try journal.load() else { throw JournalError.failed("\(path) is not a journal") }
        var history = JournalHistory(lineage: journal.head.lineage)
        history.lives = journal.head.lives ?? []
        history.snapshots = (journal.head.past ?? []) + (journal.latest.snapshot.map { [$0] } ?? [])
        let newest = journal.latest.snapshot?.sequence ?? 0
        let ofThisBoot = try journal.head.bootPath.map { try BootJournal.entries(path: $0, lineage: journal.head.lineage) } ?? []
        history.entries = (journal.latest.entries + ofThisBoot.filter { $0.sequence > newest }).sorted { $0.sequence < $1.sequence }
        history.decisions = journal.latest.decisions
        history.lacksOldDecisions = history.decisions.count >= decisionsKept
        history.replies = journal.latest.replies
        return history
    }

    public func append(_ batch: JournalBatch) throws(JournalError) {
        var batch = batch
        let bootEntries = batch.bootEntries
        batch.bootEntries = []
        batch.decisions = batch.decisions.suffix(Self.decisionsKept)
        if let boot {
            try boot.append(bootEntries)
            if let snapshot = batch.snapshot {
                batch.entries += boot.entries.filter { $0.sequence <= snapshot.sequence }
                try rewrite(with: batch)
                return try boot.forget(through: snapshot.sequence)
            }
        } else {
            batch.entries = (batch.entries + bootEntries).sorted { $0.sequence < $1.sequence }
        }
        if batch.isEmpty { return }
        guard batch.snapshot == nil else { return try rewrite(with: batch) }
        try Self.write(Self.frame(.batch(batch)), to: descriptor)
        guard fdatasync(descriptor) == 0 else { throw Self.error("fdatasync") }
        remember(batch)
    }

    private func rewrite(with batch: JournalBatch) throws(JournalError) {
        // Tried again after a full disk: what was not written is not remembered.
        let before = (head, latest)
        remember(batch)
        // Entries of this boot come later than those beside them, and twice if their file could not be begun anew.
        latest.entries.sort { $0.sequence < $1.sequence }
        latest.entries = latest.entries.reduce(into: []) { if $0.last?.sequence != $1.sequence { $0.append($1) } }
        forget()
        do throws(JournalError) {
            try rewrite()
        } catch {
            (head, latest) = before
            throw error
        }
    }

    public var immediate: (@Sendable (JournalEntry) throws(JournalError) -> Void)? {
        guard let boot, boot.isInMemory else { return nil }
        return { entry throws(JournalError) in try boot.append([entry]) }
    }

    public func decisions(subject: String?, limit: Int) -> [Decision] {
        Array(latest.decisions.filter { subject == nil || $0.subject == subject }.suffix(limit))
    }

    /// - Returns: whether the file names a journal.
    private func load() throws -> Bool {
        var known = false
        for record in try Self.records(in: try Self.read(path)) {
            switch record {
            case .head(let head):
                self.head = head
                known = true
            case .batch(let batch):
                remember(batch)
            }
        }
        return known
    }

    private func remember(_ batch: JournalBatch) {
        if let snapshot = batch.snapshot {
            if let before = latest.snapshot, before.sequence < snapshot.sequence { head.past = (head.past ?? []) + [before] }
            latest.snapshot = snapshot
        }
        latest.entries += batch.entries
        for reply in batch.replies {
            if let index = latest.replies.lastIndex(where: { $0.id == reply.id }) { latest.replies[index] = reply } else { latest.replies.append(reply) }
        }
        latest.decisions = (latest.decisions + batch.decisions).suffix(Self.decisionsKept)
    }

    /// Lets go of what is too old, before a rewrite.
    private func forget() {
        let oldest = cl_realtime() - StoredReply.keptNanoseconds
        latest.replies.removeAll { $0.acceptedAt < oldest }
        guard let newest = latest.snapshot else { return }
        let kept = retention.kept(of: (head.past ?? []).map(\.sequence) + [newest.sequence])
        head.past?.removeAll { !kept.snapshots.contains($0.sequence) }
        latest.entries.removeAll { $0.sequence <= kept.after }
        let first = latest.entries.first?.sequence ?? newest.sequence
        // The life that wrote the first entry, and those after it.
        if let lives = head.lives, let begin = lives.lastIndex(where: { $0.firstSequence <= first }) { head.lives = Array(lives[begin...].suffix(Self.livesKept)) }
    }

    private func rewrite() throws(JournalError) {
        let fresh = path + ".new"
        let file = cl_open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0o600)
        guard file >= 0 else { throw Self.error("open \(fresh)") }
        do throws(JournalError) {
            try Self.write(Self.frame(.head(head)), to: file)
            try Self.write(Self.frame(.batch(latest)), to: file)
            guard fsync(file) == 0 else { throw Self.error("fsync") }
            guard rename(fresh, path) == 0 else { throw Self.error("rename") }
            try Self.syncDirectory(of: path)
        } catch {
            close(file)
            throw error
        }
        if descriptor >= 0 { close(descriptor) }
        descriptor = file
    }

    /// After a full disk the file may end in half a record: cut it off, so that the next try appends to a whole one.
    static func write(_ bytes: some Collection<UInt8> & ContiguousBytes, to file: Int32) throws(JournalError) {
        var done = 0
        let count = bytes.count
        while done < count {
            let n = bytes.withUnsafeBytes { bytes in
                guard let start = bytes.baseAddress else { return 0 }
                return Foundation.write(file, start + done, count - done)
            }
            if n < 0 && errno == EINTR { continue }
            guard n > 0 else {
                let error = error("write")
                ftruncate(file, lseek(file, 0, SEEK_END) - off_t(done))
                throw error
            }
            done += n
        }
    }

    private static func syncDirectory(of path: String) throws(JournalError) {
        let directory = cl_open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        guard directory >= 0 else { throw error("open directory") }
        defer { close(directory) }
        guard fsync(directory) == 0 else { throw error("fsync directory") }
    }

    static func error(_ what: String) -> JournalError {
        let why = errno
        let text = "\(what): \(String(cString: strerror(why)))"
        return why == ENOSPC || why == EDQUOT ? .full(text) : .failed(text)
    }

    static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 { bytes.reduce(0x811c_9dc5) { ($0 ^ UInt32($1)) &* 0x0100_0193 } }

    private static func checksum(_ data: Data) -> UInt32 { data.withUnsafeBytes { checksum($0) } }

    private static func frame(_ record: Record) throws(JournalError) -> Data {
        do {
            guard case .batch(let batch) = record else { return frame(try JSONEncoder().encode(record)) }
            return frame(try json(of: batch))
        } catch {
            throw .failed("\(error)")
        }
    }

    /// Entries are many, and their encoding is most of what a rewrite costs.
    private static func json(of batch: JournalBatch) throws -> Data {
        let (decisions, replies) = (try JSON.encode(batch.decisions), try JSON.encode(batch.replies))
        let snapshot = try batch.snapshot.map { try JSON.encode($0) }
        var writer = JSONWriter(capacity: 1024 + batch.entries.count * 768)
        writer.field("batch") { writer in
            writer.field("_0") { writer in
                writer.field("decisions", json: decisions)
                writer.field("entries", batch.entries) { writer, entry in
                    writer.field("input", entry.input.base64EncodedString())
                    writer.field("sequence", entry.sequence)
                    writer.field("time", entry.time.nanoseconds)
                    writer.field("wallTime", entry.wallTime)
                }
                writer.field("replies", json: replies)
                if let snapshot { writer.field("snapshot", json: snapshot) }
            }
        }
        return Data(writer.finish())
    }

    static func frame(_ payload: Data) -> Data {
        var data = Data(capacity: 8 + payload.count)
        for word in [UInt32(payload.count), checksum(payload)] { withUnsafeBytes(of: word.littleEndian) { data.append(contentsOf: $0) } }
        data.append(payload)
        return data
    }

    /// The file's bytes; empty only if there is no file.
    static func read(_ path: String) throws -> Data {
        let file = cl_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard file >= 0 else {
            let why = errno
            if why == ENOENT { return Data() }
            throw JournalError.failed("\(path) cannot be read: \(String(cString: strerror(why)))")
        }
        defer { close(file) }
        var data = Data()
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let n = Foundation.read(file, &buffer, buffer.count)
            if n < 0 && errno == EINTR { continue }
            guard n >= 0 else { throw JournalError.failed("\(path) cannot be read: \(String(cString: strerror(errno)))") }
            if n == 0 { return data }
            data.append(contentsOf: buffer.prefix(n))
        }
    }

    private static func records(in data: Data) throws -> [Record] {
        let payloads = payloads(in: data)
        let records = try payloads.map { try JSONDecoder().decode(Record.self, from: $0) }
        let rest = data.dropFirst(payloads.reduce(0) { $0 + 8 + $1.count })
        // Only the last append can be torn. A whole record behind a bad one means that something acknowledged was damaged.
        for skipped in stride(from: 1, to: rest.count, by: 1) where firstPayload(rest.dropFirst(skipped)) != nil {
            throw JournalError.failed("it is damaged at byte \(data.count - rest.count), with whole records behind; restore the file, or move it away and treat the host as reinstalled")
        }
        return records
    }

    /// The payloads of all records before the first that is not whole.
    static func payloads(in data: Data) -> [Data.SubSequence] {
        var payloads: [Data.SubSequence] = []
        var rest = data[...]
        while let payload = firstPayload(rest) {
            payloads.append(payload)
            rest = rest.dropFirst(8 + payload.count)
        }
        return payloads
    }

    /// The payload of the record that begins the bytes; `nil` if none is whole.
    private static func firstPayload(_ bytes: Data.SubSequence) -> Data.SubSequence? {
        guard bytes.count > 8 else { return nil }
        let (length, sum) = bytes.prefix(8).withUnsafeBytes {
            (UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)), UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))
        }
        guard length > 1, Int(length) <= bytes.count - 8 else { return nil }
        let payload = bytes.dropFirst(8).prefix(Int(length))
        return checksum(payload) == sum ? payload : nil
    }
}
