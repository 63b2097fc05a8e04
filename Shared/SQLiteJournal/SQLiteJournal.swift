import Foundation
import GRDB
public import Messages
public import ServiceKit

/// The journal of a manager service: one SQLite file, WAL, synchronous=FULL (read back at start, for GRDB's own set-up changes it), one connection.
///
/// Tables: `meta` (lineage, term), `life` (starts), `entry` (inputs in order), `snapshot` (the newest state, and older ones to replay from), `reply` (24 h),
/// `decision` (what `explain` shows).
public final class SQLiteJournal: Journal {
    public let entriesBetweenSnapshots = 500
    static let decisionsKept = 50_000
    static let livesKept = 1000

    private let path: String
    /// Of entries, with a snapshot before them.
    private let retention: JournalRetention
    private var database: DatabaseQueue?

    /// - Parameter path: the file; its directory must exist.
    public convenience init(path: String) { self.init(path: path, retention: JournalRetention(entries: 50_000, spread: 10_000)) }

    package init(path: String, retention: JournalRetention) {
        self.path = path
        self.retention = retention
    }

    public func open(as service: String) throws -> JournalContents {
        var configuration = GRDB.Configuration()
        configuration.label = "journal"
        let database = try DatabaseQueue(path: path, configuration: configuration)
        self.database = database
        try database.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA journal_mode = WAL")
            try db.execute(sql: "PRAGMA synchronous = FULL")
            guard try Int.fetchOne(db, sql: "PRAGMA synchronous") == 2, try String.fetchOne(db, sql: "PRAGMA journal_mode") == "wal" else {
                throw JournalError.failed("\(path): SQLite does not accept WAL with synchronous=FULL here")
            }
        }
        return try database.write { db in
            try Self.createTables(db)
            let lineage = try Self.meta(db, "lineage") ?? UUID().uuidString.lowercased()
            let term = (UInt64(try Self.meta(db, "term") ?? "0") ?? 0) + 1
            try Self.setMeta(db, "lineage", lineage)
            try Self.setMeta(db, "term", String(term))
            try db.execute(sql: "DELETE FROM reply WHERE acceptedAt < ?", arguments: [Self.wallClock() - StoredReply.keptNanoseconds])

            let snapshot = try Row.fetchOne(db, sql: "SELECT sequence, state FROM snapshot ORDER BY sequence DESC LIMIT 1").map {
                JournalSnapshot(sequence: UInt64($0["sequence"] as Int64), state: $0["state"])
            }
            let entries = try Self.entries(db, after: snapshot?.sequence ?? 0)
            let last = try Row.fetchOne(db, sql: "SELECT sequence, time FROM entry ORDER BY sequence DESC LIMIT 1")
            let lastSequence = last.map { UInt64($0["sequence"] as Int64) } ?? snapshot?.sequence ?? 0
            let life = JournalLife(term: term, service: service, firstSequence: lastSequence + 1, startedAt: Self.wallClock())
            try db.execute(
                sql: "INSERT INTO life (term, service, version, firstSequence, startedAt) VALUES (?, ?, ?, ?, ?)",
                arguments: [Int64(term), life.service, life.version, Int64(life.firstSequence), life.startedAt])
            try db.execute(sql: "DELETE FROM life WHERE term <= ?", arguments: [Int64(term) - Int64(Self.livesKept)])
            return JournalContents(
                lineage: lineage, term: term, snapshot: snapshot, entries: entries, lastSequence: lastSequence,
                lastInstant: last.map { Instant(nanoseconds: $0["time"]) }, replies: try Self.replies(db))
        }
    }

    /// All that a journal holds; changes nothing, also while its service runs.
    public static func history(path: String) throws -> JournalHistory {
        var configuration = GRDB.Configuration()
        configuration.readonly = true
        // Without a write-ahead log nobody has it open: then SQLite needs no shared memory beside it, which reading alone would make.
        let isOpen = FileManager.default.fileExists(atPath: path + "-wal")
        let name = isOpen ? path : "file:\(path.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) ?? path)?immutable=1"
        return try DatabaseQueue(path: name, configuration: configuration).read { db in
            guard try db.tableExists("meta"), let lineage = try meta(db, "lineage") else { throw JournalError.failed("\(path) is not a journal") }
            var history = JournalHistory(lineage: lineage)
            if try db.tableExists("life") {
                history.lives = try Row.fetchAll(db, sql: "SELECT term, service, version, firstSequence, startedAt FROM life ORDER BY term").map {
                    JournalLife(
                        term: UInt64($0["term"] as Int64), service: $0["service"], firstSequence: UInt64($0["firstSequence"] as Int64), startedAt: $0["startedAt"],
                        version: $0["version"])
                }
            }
            history.snapshots = try Row.fetchAll(db, sql: "SELECT sequence, state FROM snapshot ORDER BY sequence").map {
                JournalSnapshot(sequence: UInt64($0["sequence"] as Int64), state: $0["state"])
            }
            history.entries = try entries(db, after: 0)
            history.decisions = try Data.fetchAll(db, sql: "SELECT body FROM decision ORDER BY number").map { try JSONDecoder().decode(Decision.self, from: $0) }
            history.lacksOldDecisions = try Int64.fetchOne(db, sql: "SELECT min(number) FROM decision") ?? 1 > 1
            history.replies = try replies(db)
            return history
        }
    }

    private static func entries(_ db: Database, after sequence: UInt64) throws -> [JournalEntry] {
        let wallTime = try hasWallTime(db) ? "wallTime" : "NULL AS wallTime"
        return try Row.fetchAll(
            db, sql: "SELECT sequence, time, input, \(wallTime) FROM entry WHERE sequence > ? ORDER BY sequence", arguments: [Int64(sequence)]
        ).map { JournalEntry(sequence: UInt64($0["sequence"] as Int64), time: Instant(nanoseconds: $0["time"]), input: $0["input"], wallTime: $0["wallTime"]) }
    }

    private static func hasWallTime(_ db: Database) throws -> Bool { try db.columns(in: "entry").contains { $0.name == "wallTime" } }

    private static func replies(_ db: Database) throws -> [StoredReply] {
        try Row.fetchAll(db, sql: "SELECT id, digest, frame, acceptedAt FROM reply").map {
            StoredReply(id: $0["id"], digest: UInt64(bitPattern: $0["digest"] as Int64), frame: $0["frame"], acceptedAt: $0["acceptedAt"])
        }
    }

    public func append(_ batch: JournalBatch) throws(JournalError) {
        guard let database else { throw .failed("the journal is not open") }
        do {
            try database.write { db in
                for entry in batch.entries + batch.bootEntries {
                    try db.execute(
                        sql: "INSERT INTO entry (sequence, time, input, wallTime) VALUES (?, ?, ?, ?)",
                        arguments: [Int64(entry.sequence), entry.time.nanoseconds, entry.input, entry.wallTime])
                }
                for reply in batch.replies {
                    try db.execute(
                        sql: "INSERT OR REPLACE INTO reply (id, digest, frame, acceptedAt) VALUES (?, ?, ?, ?)",
                        arguments: [reply.id, Int64(bitPattern: reply.digest), reply.frame, reply.acceptedAt])
                }
                for decision in batch.decisions {
                    try db.execute(
                        sql: "INSERT INTO decision (subject, body) VALUES (?, ?)", arguments: [decision.subject, try JSONEncoder().encode(decision)])
                }
                if let snapshot = batch.snapshot { try take(snapshot, db) }
            }
        } catch let error as DatabaseError where error.resultCode == .SQLITE_FULL {
            throw .full(error.message ?? "SQLITE_FULL")
        } catch let error as DatabaseError where error.extendedResultCode == .SQLITE_IOERR_WRITE || error.extendedResultCode == .SQLITE_IOERR_SHMSIZE {
            // How SQLite reports ENOSPC and quotas on the WAL of some file systems; a broken disk shows itself by never getting better, and `health` says so.
            throw .full(error.message ?? "SQLITE_IOERR")
        } catch {
            throw .failed("\(error)")
        }
    }

    public func decisions(subject: String?, limit: Int) throws -> [Decision] {
        guard let database else { return [] }
        let bodies = try database.read { db in
            if let subject {
                try Data.fetchAll(db, sql: "SELECT body FROM decision WHERE subject = ? ORDER BY number DESC LIMIT ?", arguments: [subject, limit])
            } else {
                try Data.fetchAll(db, sql: "SELECT body FROM decision ORDER BY number DESC LIMIT ?", arguments: [limit])
            }
        }
        return try bodies.reversed().map { try JSONDecoder().decode(Decision.self, from: $0) }
    }

    private static func createTables(_ db: Database) throws {
        try db.execute(
            sql: """
                CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS life (
                    term INTEGER PRIMARY KEY, service TEXT NOT NULL, version TEXT NOT NULL, firstSequence INTEGER NOT NULL, startedAt INTEGER NOT NULL);
                CREATE TABLE IF NOT EXISTS entry (sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, input BLOB NOT NULL);
                CREATE TABLE IF NOT EXISTS snapshot (sequence INTEGER PRIMARY KEY, state BLOB NOT NULL);
                CREATE TABLE IF NOT EXISTS reply (id TEXT PRIMARY KEY, digest INTEGER NOT NULL, frame BLOB, acceptedAt INTEGER NOT NULL) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS decision (number INTEGER PRIMARY KEY, subject TEXT NOT NULL, body BLOB NOT NULL);
                CREATE INDEX IF NOT EXISTS decisionBySubject ON decision (subject, number);
                """)
        // Files of 0.1.0 have no such column.
        if try !hasWallTime(db) { try db.execute(sql: "ALTER TABLE entry ADD COLUMN wallTime INTEGER") }
    }

    private func take(_ snapshot: JournalSnapshot, _ db: Database) throws {
        try db.execute(sql: "INSERT OR REPLACE INTO snapshot (sequence, state) VALUES (?, ?)", arguments: [Int64(snapshot.sequence), snapshot.state])
        let snapshots = try Int64.fetchAll(db, sql: "SELECT sequence FROM snapshot ORDER BY sequence").map(UInt64.init)
        let kept = retention.kept(of: snapshots)
        for sequence in snapshots where !kept.snapshots.contains(sequence) {
            try db.execute(sql: "DELETE FROM snapshot WHERE sequence = ?", arguments: [Int64(sequence)])
        }
        try db.execute(sql: "DELETE FROM entry WHERE sequence <= ?", arguments: [Int64(kept.after)])
        try db.execute(sql: "DELETE FROM decision WHERE number <= (SELECT max(number) FROM decision) - ?", arguments: [Self.decisionsKept])
        try db.execute(sql: "DELETE FROM reply WHERE acceptedAt < ?", arguments: [Self.wallClock() - StoredReply.keptNanoseconds])
    }

    private static func meta(_ db: Database, _ name: String) throws -> String? {
        try String.fetchOne(db, sql: "SELECT value FROM meta WHERE name = ?", arguments: [name])
    }

    private static func setMeta(_ db: Database, _ name: String, _ value: String) throws {
        try db.execute(sql: "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", arguments: [name, value])
    }

    private static func wallClock() -> Int64 { Int64(Date().timeIntervalSince1970 * 1e9) }
}
