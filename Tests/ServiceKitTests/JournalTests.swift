import CLinux
import Foundation
import Messages
import SQLiteJournal
import Testing

@testable import ServiceKit

enum JournalKind: CaseIterable, Sendable {
    case file, sqlite

    func path(_ directory: String) -> String { directory + (self == .file ? "/journal" : "/journal.sqlite") }

    func journal(_ directory: String) -> any Journal {
        switch self {
        case .file: FileJournal(path: path(directory))
        case .sqlite: SQLiteJournal(path: path(directory))
        }
    }

    func journal(_ directory: String, keeping retention: JournalRetention) -> any Journal {
        switch self {
        case .file: FileJournal(path: path(directory), retention: retention)
        case .sqlite: SQLiteJournal(path: path(directory), retention: retention)
        }
    }

    func history(_ directory: String) throws -> JournalHistory {
        switch self {
        case .file: try FileJournal.history(path: path(directory))
        case .sqlite: try SQLiteJournal.history(path: path(directory))
        }
    }
}

/// A directory that is gone when the test ends.
final class ScratchDirectory: Sendable {
    let path: String
    private let mounted: Bool

    /// - Parameter size: bytes of a tmpfs of its own (needs root); `nil`: an ordinary directory.
    init(tmpfs size: Int? = nil) throws {
        path = NSTemporaryDirectory() + "bulwark-test-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        mounted = size != nil
        if let size { try #require(mount("tmpfs", path, "tmpfs", 0, "size=\(size)") == 0, "tmpfs needs root") }
    }

    /// Leaves no room for anything, until ``makeRoom()``.
    func fill() {
        var ballast: Data? = Data(count: 1 << 20)
        while let data = ballast, (try? data.write(to: URL(fileURLWithPath: path + "/ballast"))) == nil {
            ballast = data.count > 4096 ? data.dropLast(4096) : nil
        }
    }

    func makeRoom() throws { try FileManager.default.removeItem(atPath: path + "/ballast") }

    deinit {
        if mounted { umount2(path, Int32(MNT_DETACH)) }
        try? FileManager.default.removeItem(atPath: path)
    }
}

private func entry(_ sequence: UInt64, _ text: String) -> JournalEntry {
    JournalEntry(sequence: sequence, time: Instant(nanoseconds: Int64(sequence) * 10), input: Data(text.utf8))
}

@Suite struct JournalTests {
    @Test(arguments: JournalKind.allCases) func whatWasAppendedIsThereAfterReopening(kind: JournalKind) throws {
        let directory = try ScratchDirectory()
        let first = kind.journal(directory.path)
        let begun = try first.open(as: "test")
        #expect(begun.term == 1 && begun.entries.isEmpty)
        var batch = JournalBatch()
        batch.entries = [entry(1, "a"), entry(2, "b")]
        batch.replies = [StoredReply(id: "r1", digest: 0xffff_ffff_ffff_fff1, frame: nil, acceptedAt: cl_realtime())]
        batch.decisions = [Decision("vm/web1", "start", why: "because"), Decision("host/h1", "up", why: "heard")]
        try first.append(batch)
        var second = JournalBatch()
        second.replies = [StoredReply(id: "r1", digest: 0xffff_ffff_ffff_fff1, frame: Data("reply".utf8), acceptedAt: cl_realtime())]
        try first.append(second)

        let again = kind.journal(directory.path)
        let contents = try again.open(as: "test")
        #expect(contents.lineage == begun.lineage && contents.term == 2)
        #expect(contents.entries.map { String(decoding: $0.input, as: UTF8.self) } == ["a", "b"])
        #expect(contents.lastSequence == 2 && contents.lastInstant == Instant(nanoseconds: 20))
        #expect(contents.replies.map(\.frame) == [Data("reply".utf8)])
        #expect(contents.replies.first?.digest == 0xffff_ffff_ffff_fff1)
        #expect(try again.decisions(subject: "vm/web1", limit: 10).map(\.what) == ["start"])
        #expect(try again.decisions(subject: nil, limit: 1).map(\.what) == ["up"])
    }

    @Test(arguments: JournalKind.allCases) func aSnapshotReplacesTheEntriesBeforeIt(kind: JournalKind) throws {
        let directory = try ScratchDirectory()
        let journal = kind.journal(directory.path)
        _ = try journal.open(as: "test")
        var batch = JournalBatch()
        batch.entries = [entry(1, "a"), entry(2, "b")]
        batch.snapshot = JournalSnapshot(sequence: 2, state: Data("state".utf8))
        try journal.append(batch)
        var more = JournalBatch()
        more.entries = [entry(3, "c")]
        try journal.append(more)
        let contents = try kind.journal(directory.path).open(as: "test")
        #expect(contents.snapshot?.state == Data("state".utf8))
        #expect(contents.entries.map(\.sequence) == [3])
        #expect(contents.lastSequence == 3)
    }

    /// The newest entries stay, with a state before the first of them, however often a snapshot is taken or the service starts.
    @Test(arguments: JournalKind.allCases) func thePastThatIsKeptBeginsWithAState(kind: JournalKind) throws {
        let directory = try ScratchDirectory()
        let retention = JournalRetention(entries: 40, spread: 10)
        for life in 0..<10 as Range<UInt64> {
            let journal = kind.journal(directory.path, keeping: retention)
            #expect(try journal.open(as: "test").lastSequence == life * 20)
            for step in 1...10 as ClosedRange<UInt64> {
                let number = life * 20 + step * 2
                var batch = JournalBatch()
                batch.entries = [entry(number - 1, "a"), entry(number, "b")]
                if step.isMultiple(of: 2) { batch.snapshot = JournalSnapshot(sequence: number, state: Data("state \(number)".utf8)) }
                try journal.append(batch)
                let history = try kind.history(directory.path)
                #expect(history.entries.map(\.sequence) == Array((history.entries.first?.sequence ?? 0)...number), "no gap")
                #expect(history.entries.count >= min(Int(number), 40) && history.entries.count < 60)
                let base = history.snapshots.first?.sequence ?? 0
                #expect(history.entries.first?.sequence == 1 || base + 1 == history.entries.first?.sequence)
                #expect(history.snapshots.count <= 7)
            }
        }
        let contents = try kind.journal(directory.path, keeping: retention).open(as: "test")
        #expect(contents.snapshot?.sequence == 200 && contents.entries.isEmpty && contents.lastSequence == 200 && contents.lastInstant == Instant(nanoseconds: 2000))
    }

    @Test(arguments: JournalKind.allCases) func readingTheHistoryOfARunningServiceChangesNothing(kind: JournalKind) throws {
        let directory = try ScratchDirectory()
        let journal = kind.journal(directory.path)
        #expect(try journal.open(as: "host1/lease-service").term == 1)
        var batch = JournalBatch()
        batch.entries = [entry(1, "a")]
        batch.decisions = [Decision("vm/web1", "start", why: "because")]
        try journal.append(batch.stamped(at: 1_700_000_000_000_000_000))
        let before = FileManager.default.contents(atPath: kind.path(directory.path))
        let history = try kind.history(directory.path)
        #expect(history.entries.map(\.wallTime) == [1_700_000_000_000_000_000] && history.decisions.map(\.entry) == [1])
        #expect(history.lives.map(\.term) == [1] && history.lives.map(\.service) == ["host1/lease-service"] && history.lives.map(\.firstSequence) == [1])
        #expect(FileManager.default.contents(atPath: kind.path(directory.path)) == before)
        #expect(try kind.journal(directory.path).open(as: "host1/lease-service").term == 2)
    }

    /// A crash can leave any prefix of the last record: what was acknowledged before it stays, the rest is cut off.
    @Test func aTornTailIsCutOff() throws {
        let directory = try ScratchDirectory()
        let path = directory.path + "/journal"
        let journal = FileJournal(path: path)
        _ = try journal.open(as: "test")
        var sizes: [Int] = []
        for number in 1...3 as ClosedRange<UInt64> {
            var batch = JournalBatch()
            batch.entries = [entry(number, "input \(number)")]
            try journal.append(batch)
            sizes.append(try #require(FileManager.default.contents(atPath: path)).count)
        }
        let whole = try #require(FileManager.default.contents(atPath: path))
        for length in sizes[1]..<sizes[2] {
            let copy = directory.path + "/torn"
            try whole.prefix(length).write(to: URL(fileURLWithPath: copy))
            #expect(try FileJournal(path: copy).open(as: "test").entries.map(\.sequence) == [1, 2])
        }
        var damaged = whole
        damaged[sizes[1] + 20] ^= 1
        try damaged.write(to: URL(fileURLWithPath: path))
        #expect(try FileJournal(path: path).open(as: "test").lastSequence == 2)
    }

    /// What was acknowledged is not forgotten because it cannot be read: the service does not start, and the file stays as it is.
    @Test func aDamagedOrUnreadableFileIsNotReplaced() throws {
        let directory = try ScratchDirectory()
        let path = directory.path + "/journal"
        let journal = FileJournal(path: path)
        _ = try journal.open(as: "test")
        var sizes: [Int] = []
        for number in 1...3 as ClosedRange<UInt64> {
            var batch = JournalBatch()
            batch.entries = [entry(number, "input \(number)")]
            try journal.append(batch)
            sizes.append(try #require(FileManager.default.contents(atPath: path)).count)
        }
        var damaged = try #require(FileManager.default.contents(atPath: path))
        damaged[sizes[0] + 20] ^= 1
        try damaged.write(to: URL(fileURLWithPath: path))
        #expect(throws: JournalError.self) { try FileJournal(path: path).open(as: "test") }
        #expect(FileManager.default.contents(atPath: path) == damaged)
        try FileManager.default.createDirectory(atPath: directory.path + "/other/journal", withIntermediateDirectories: true)
        #expect(throws: JournalError.self) { try FileJournal(path: directory.path + "/other/journal").open(as: "test") }
    }

    /// A batch that had to be tried again is there once.
    @Test func aSnapshotThatDidNotFitIsNotRememberedTwice() throws {
        let directory = try ScratchDirectory(tmpfs: 1 << 20)
        let journal = FileJournal(path: directory.path + "/journal")
        _ = try journal.open(as: "test")
        directory.fill()
        var batch = JournalBatch()
        batch.entries = [entry(1, "a"), JournalEntry(sequence: 2, time: Instant(nanoseconds: 2), input: Data(count: 200_000))]
        batch.snapshot = JournalSnapshot(sequence: 1, state: Data("state".utf8))
        #expect(throws: JournalError.self) { try journal.append(batch) }
        try directory.makeRoom()
        try journal.append(batch)
        #expect(try FileJournal(path: directory.path + "/journal").open(as: "test").entries.map(\.sequence) == [2])
    }

    @Test(arguments: JournalKind.allCases) func aFullDiskIsSaidAndGetsWellAgain(kind: JournalKind) throws {
        let directory = try ScratchDirectory(tmpfs: 1 << 20)
        let journal = kind.journal(directory.path)
        _ = try journal.open(as: "test")
        directory.fill()
        var batch = JournalBatch()
        batch.entries = [JournalEntry(sequence: 1, time: Instant(nanoseconds: 1), input: Data(count: 200_000))]
        #expect { try journal.append(batch) } throws: { error in
            if case JournalError.full = error { true } else { false }
        }
        try directory.makeRoom()
        try journal.append(batch)
        #expect(try kind.journal(directory.path).open(as: "test").lastSequence == 1)
    }
}

@Suite struct BootJournalTests {
    private func journal(_ directory: String) -> FileJournal {
        FileJournal(path: "\(directory)/journal", bootPath: "\(directory)/boot", retention: JournalRetention(entries: 40, spread: 10))
    }

    private func append(_ journal: FileJournal, _ entries: [JournalEntry] = [], boot: [JournalEntry] = [], snapshot: UInt64? = nil) throws {
        var batch = JournalBatch()
        batch.entries = entries
        batch.bootEntries = boot
        batch.snapshot = snapshot.map { JournalSnapshot(sequence: $0, state: Data("state \($0)".utf8)) }
        try journal.append(batch)
    }

    @Test func entriesOfThisBootOutliveTheProcess() throws {
        let directory = try ScratchDirectory()
        let first = journal(directory.path)
        _ = try first.open(as: "test")
        try append(first, [entry(1, "a")])
        try append(first, boot: [entry(2, "b"), entry(3, "c")])
        try append(first, [entry(4, "d")], boot: [entry(5, "e")])
        let contents = try journal(directory.path).open(as: "test")
        #expect(contents.entries.map { String(decoding: $0.input, as: UTF8.self) } == ["a", "b", "c", "d", "e"])
        #expect(contents.lastSequence == 5 && contents.lastInstant == Instant(nanoseconds: 50))
        #expect(try FileJournal.history(path: "\(directory.path)/journal").entries.map(\.sequence) == [1, 2, 3, 4, 5])
    }

    @Test func aSnapshotCoversThem() throws {
        let directory = try ScratchDirectory()
        let first = journal(directory.path)
        _ = try first.open(as: "test")
        try append(first, boot: [entry(1, "a"), entry(2, "b")])
        try append(first, [entry(3, "c")])
        try append(first, boot: [entry(4, "d"), entry(5, "e")], snapshot: 4)
        let contents = try journal(directory.path).open(as: "test")
        #expect(contents.snapshot?.sequence == 4 && contents.entries.map(\.sequence) == [5])
        #expect(try FileJournal.history(path: "\(directory.path)/journal").entries.map(\.sequence) == [1, 2, 3, 4, 5], "the past has no gap")
    }

    /// The run directory is emptied at each boot; another journal's file is none.
    @Test func theyEndWithTheMachine() throws {
        let directory = try ScratchDirectory()
        let first = journal(directory.path)
        _ = try first.open(as: "test")
        try append(first, [entry(1, "a")])
        try append(first, boot: [entry(2, "b")])
        try FileManager.default.removeItem(atPath: "\(directory.path)/boot")
        #expect(try journal(directory.path).open(as: "test").entries.map(\.sequence) == [1])

        let other = try ScratchDirectory()
        let second = journal(other.path)
        _ = try second.open(as: "test")
        try append(second, boot: [entry(7, "foreign")])
        try FileManager.default.removeItem(atPath: "\(directory.path)/boot")
        try FileManager.default.copyItem(atPath: "\(other.path)/boot", toPath: "\(directory.path)/boot")
        #expect(try journal(directory.path).open(as: "test").entries.map(\.sequence) == [1])
    }

    /// Where no device is waited for, entries need no other thread; what a snapshot covers meanwhile is in the history, and what came after it stays.
    @Test func aFileInMemoryTakesEntriesFromAnyThread() throws {
        let memory = try ScratchDirectory(tmpfs: 1 << 20), directory = try ScratchDirectory()
        func journal() -> FileJournal { FileJournal(path: "\(directory.path)/journal", bootPath: "\(memory.path)/boot", retention: JournalRetention(entries: 40, spread: 10)) }
        let first = journal()
        #expect(first.immediate == nil, "before it is open nobody knows")
        _ = try first.open(as: "test")
        let append = try #require(first.immediate)
        try append(entry(1, "a"))
        try append(entry(2, "b"))
        try append(entry(3, "c"))
        try self.append(first, snapshot: 2)
        try append(entry(4, "d"))
        let second = journal()
        let contents = try second.open(as: "test")
        #expect(contents.snapshot?.sequence == 2 && contents.entries.map(\.sequence) == [3, 4])
        #expect(try FileJournal.history(path: "\(directory.path)/journal").entries.map(\.sequence) == [1, 2, 3, 4])
        let appendMore = try #require(second.immediate)
        memory.fill()
        #expect(throws: JournalError.self) { for number in 5...2000 as ClosedRange<UInt64> { try appendMore(entry(number, "no room")) } }
        try memory.makeRoom()
        try appendMore(entry(3000, "e"))
        #expect(try journal().open(as: "test").lastSequence == 3000, "what did not fit is no torn record before what follows")
    }

    /// What follows a torn append was never acknowledged, and the next append begins after what is whole.
    @Test func aTornAppendIsLeftOut() throws {
        let directory = try ScratchDirectory()
        let first = journal(directory.path)
        _ = try first.open(as: "test")
        try append(first, boot: [entry(1, "a"), entry(2, "b")])
        let file = try #require(FileHandle(forWritingAtPath: "\(directory.path)/boot"))
        try file.truncate(atOffset: file.seekToEndOfFile() - 3)
        let second = journal(directory.path)
        #expect(try second.open(as: "test").entries.map(\.sequence) == [1])
        try append(second, boot: [entry(2, "c")])
        #expect(try journal(directory.path).open(as: "test").entries.map { String(decoding: $0.input, as: UTF8.self) } == ["a", "c"])
    }
}
