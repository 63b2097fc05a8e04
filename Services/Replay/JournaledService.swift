import DomainMonitorEngine
import FencingEngine
import Foundation
import HostAgentEngine
import LeaseEngine
import Messages
import PlacementEngine
import SPMEngine
import SQLiteJournal
public import ServiceKit

/// A service whose journal can be replayed.
public enum JournaledService: String, CaseIterable, Codable, Sendable {
    case fencing = "fencing-service"
    case spm = "spm-coordinator"
    case placement = "placement-service"
    case domains = "domain-monitor"
    case agent = "host-agent"
    case lease = "lease-service"

    /// - Parameter source: as events name it: `fencing-service`, `host1/host-agent`.
    init?(source: String) { self.init(rawValue: source.split(separator: "/").last.map(String.init) ?? source) }

    /// Whose journal this is: what its last start says, else the source of its decisions, else the directory it lies in; `nil` if nothing tells.
    public init?(of history: JournalHistory, at path: String) {
        let directory = URL(fileURLWithPath: path).deletingLastPathComponent().lastPathComponent
        let sources = [history.lives.last?.service, history.decisions.last?.source, directory].compactMap { $0 }
        guard let known = sources.lazy.compactMap(Self.init(source:)).first else { return nil }
        self = known
    }

    /// Runs the journal through this service's engine of today.
    /// - Parameter sequence: the last entry to run.
    /// - Throws: ``ReplayError``.
    public func replay(_ history: JournalHistory, through sequence: UInt64 = .max) throws -> Replayed {
        switch self {
        case .fencing: try Replay<FencingEngine>(history).run(through: sequence)
        case .spm: try Replay<SPMCoordinator>(history).run(through: sequence)
        case .placement: try Replay<PlacementEngine>(history).run(through: sequence)
        case .domains: try Replay<DomainMonitor>(history).run(through: sequence)
        case .agent: try Replay<HostAgentEngine>(history).run(through: sequence)
        // What it decides rests on its I/O and its guards, which are not journaled.
        case .lease: try Replay<LeaseEngine>(history, comparing: .states).run(through: sequence)
        }
    }
}

/// Reads a journal of either kind, without changing it.
/// - Throws: `JournalError`, or SQLite's own.
public func journalHistory(path: String) throws -> JournalHistory {
    guard let file = FileHandle(forReadingAtPath: path) else { throw JournalError.failed("\(path) cannot be read") }
    defer { try? file.close() }
    let isSQLite = try file.read(upToCount: 15) == Data("SQLite format 3".utf8)
    return try isSQLite ? SQLiteJournal.history(path: path) : FileJournal.history(path: path)
}
