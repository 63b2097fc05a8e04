import Foundation
import GRDB
public import Messages
public import ServiceKit

/// The journal of a manager service: one SQLite file, WAL, synchronous=FULL (read back at start, for GRDB's own set-up changes it), one connection.
///
/// Tables: `meta` (lineage, term), `entry` (inputs in order), `snapshot` (the newest state), `reply` (24 h), `decision` (what `explain` shows).
public final class SQLiteJournal: Journal {
    public let entriesBetweenSnapshots = 500
    /// Entries and decisions kept for explanation and replay, newest first in, oldest out.
    public static let entriesKept = 50_000
    public static let decisionsKept = 50_000

    private let path: String
    private var database: DatabaseQueue?

    /// - Parameter path: the file; its directory must exist.
    public init(path: String) { self.path = path }

    public func open() throws -> JournalContents {
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
            let entries = try Row.fetchAll(
                db, sql: "SELECT sequence, time, input FROM entry WHERE sequence > ? ORDER BY sequence", arguments: [Int64(snapshot?.sequence ?? 0)]
            ).map { JournalEntry(sequence: UInt64($0["sequence"] as Int64), time: Instant(nanoseconds: $0["time"]), input: $0["input"]) }
            let replies = try Row.fetchAll(db, sql: "SELECT id, digest, frame, acceptedAt FROM reply").map {
                StoredReply(id: $0["id"], digest: UInt64(bitPattern: $0["digest"] as Int64), frame: $0["frame"], acceptedAt: $0["acceptedAt"])
            }
            let last = try Row.fetchOne(db, sql: "SELECT sequence, time FROM entry ORDER BY sequence DESC LIMIT 1")
            return JournalContents(
                lineage: lineage, term: term, snapshot: snapshot, entries: entries,
                lastSequence: last.map { UInt64($0["sequence"] as Int64) } ?? snapshot?.sequence ?? 0,
                lastInstant: last.map { Instant(nanoseconds: $0["time"]) }, replies: replies)
        }
    }

    public func append(_ batch: JournalBatch) throws(JournalError) {
        guard let database else { throw .failed("the journal is not open") }
        do {
            try database.write { db in
                for entry in batch.entries {
                    try db.execute(
                        sql: "INSERT INTO entry (sequence, time, input) VALUES (?, ?, ?)",
                        arguments: [Int64(entry.sequence), entry.time.nanoseconds, entry.input])
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
                if let snapshot = batch.snapshot { try Self.take(snapshot, db) }
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
                CREATE TABLE IF NOT EXISTS entry (sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, input BLOB NOT NULL);
                CREATE TABLE IF NOT EXISTS snapshot (sequence INTEGER PRIMARY KEY, state BLOB NOT NULL);
                CREATE TABLE IF NOT EXISTS reply (id TEXT PRIMARY KEY, digest INTEGER NOT NULL, frame BLOB, acceptedAt INTEGER NOT NULL) WITHOUT ROWID;
                CREATE TABLE IF NOT EXISTS decision (number INTEGER PRIMARY KEY, subject TEXT NOT NULL, body BLOB NOT NULL);
                CREATE INDEX IF NOT EXISTS decisionBySubject ON decision (subject, number);
                """)
    }

    private static func take(_ snapshot: JournalSnapshot, _ db: Database) throws {
        try db.execute(sql: "INSERT OR REPLACE INTO snapshot (sequence, state) VALUES (?, ?)", arguments: [Int64(snapshot.sequence), snapshot.state])
        try db.execute(sql: "DELETE FROM snapshot WHERE sequence < ?", arguments: [Int64(snapshot.sequence)])
        try db.execute(sql: "DELETE FROM entry WHERE sequence <= ?", arguments: [Int64(snapshot.sequence) - Int64(entriesKept)])
        try db.execute(sql: "DELETE FROM decision WHERE number <= (SELECT max(number) FROM decision) - ?", arguments: [decisionsKept])
        try db.execute(sql: "DELETE FROM reply WHERE acceptedAt < ?", arguments: [wallClock() - StoredReply.keptNanoseconds])
    }

    private static func meta(_ db: Database, _ name: String) throws -> String? {
        try String.fetchOne(db, sql: "SELECT value FROM meta WHERE name = ?", arguments: [name])
    }

    private static func setMeta(_ db: Database, _ name: String, _ value: String) throws {
        try db.execute(sql: "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", arguments: [name, value])
    }

    private static func wallClock() -> Int64 { Int64(Date().timeIntervalSince1970 * 1e9) }
}
