import ArgumentParser
import Bus
import Foundation
import Messages
import Replay
import ServiceKit

/// `bulwark replay`: does a journal lead to the same decisions again, and why was something as it was at a moment?
struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay", abstract: "Run a service's journal again, compare every decision, and show any moment of it.",
        discussion: """
            Reads the journal of a stopped or a running service and changes nothing. Exit status 1 if anything came out differently.
            JOURNAL is a manager service's journal.sqlite, or the file journal of a host-agent or lease-service.
            """)
    @Argument(help: "The journal.") var journal: String
    @Option(help: "Show this moment: 03:12:07 (the last such time that the journal knows), an RFC 3339 time, or an entry's number.") var at: String?
    @Option(help: "Show what concerns this: host/host2, vm/web1, spm/<pool>, domain/<uuid>; or a bare name.") var subject: String?
    @Option(help: "Whose journal it is, if the file cannot tell.") var service: String?
    @Flag(help: "Show the whole public state, at the end or the moment.") var state = false
    @OptionGroup var options: GlobalOptions

    func run() throws {
        let history = try read()
        guard let service = service.map({ JournaledService(rawValue: $0) }) ?? JournaledService(of: history, at: journal) else {
            throw ValidationError("say with --service whose journal it is: \(JournaledService.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        let whole = try replaying { try service.replay(history) }
        let report = ReplayReport(service: service, history: history, whole: whole)
        let moment = try at.map { try Moment($0, history: history, timeline: report.timeline) }
        var told = ReplayStory(report: report, subject: subject, moment: moment)
        if moment != nil || subject != nil || state {
            let last = moment?.entry ?? whole.last
            let there = last == whole.last ? whole : try replaying { try service.replay(history, through: last) }
            told.show(there, history: history, wholeState: state)
        }
        try options.show(told.json) { told.text }
        if !whole.comparison.differences.isEmpty { throw ExitCode(1) }
    }

    private func read() throws -> JournalHistory {
        do {
            return try journalHistory(path: journal)
        } catch {
            throw RequestError(code: "journal.unreadable", message: "\(journal) cannot be read as a journal: \(error)")
        }
    }

    private func replaying<T>(_ work: () throws -> T) throws -> T {
        do {
            return try work()
        } catch let error as ReplayError {
            throw RequestError(code: "journal.unreadable", message: "\(journal) cannot be replayed: \(error)")
        }
    }
}

/// A moment that a person named.
struct Moment {
    /// The last entry of it.
    var entry: UInt64
    var wallTime: Int64?

    /// - Throws: `RequestError` if it is no moment of the journal.
    init(_ text: String, history: JournalHistory, timeline: Timeline) throws {
        guard let first = history.entries.first?.sequence, let last = history.entries.last?.sequence else { throw Self.outside(text, "it has no entries") }
        if let number = UInt64(text) {
            guard (first...last).contains(number) else { throw Self.outside(text, "it holds the entries \(first) to \(last)") }
            self.init(entry: number, wallTime: timeline.wallTime(of: number))
            return
        }
        guard let begin = timeline.moments.first?.wallTime, let end = timeline.moments.last?.wallTime else {
            throw Self.outside(text, "its entries do not say when they were: name one by its number (\(first) to \(last))")
        }
        guard let wallTime = Timeline.nanoseconds(text) ?? Self.lastTime(text, upTo: end) else {
            throw ValidationError("--at takes 03:12:07, an RFC 3339 time such as \(Clock.rfc3339(nanoseconds: end)), or the number of an entry")
        }
        guard let entry = timeline.entry(at: wallTime) else {
            throw Self.outside(text, "it begins at \(Clock.rfc3339(nanoseconds: begin)) and ends at \(Clock.rfc3339(nanoseconds: end))")
        }
        self.init(entry: entry, wallTime: wallTime)
    }

    private init(entry: UInt64, wallTime: Int64?) {
        self.entry = entry
        self.wallTime = wallTime
    }

    private static func outside(_ text: String, _ why: String) -> RequestError {
        RequestError(RequestErrorCode.invalid, "the journal does not know the moment \(text): \(why)")
    }

    /// `03:12:07.250` of the machine's own day, the last time it was so before the end.
    private static func lastTime(_ text: String, upTo end: Int64) -> Int64? {
        let parts = text.split(separator: ":")
        guard (2...3).contains(parts.count), let hour = Int(parts[0]), let minute = Int(parts[1]), let second = parts.count == 3 ? Double(parts[2]) : 0,
            (0..<24).contains(hour), (0..<60).contains(minute), second >= 0, second < 61
        else { return nil }
        let last = Date(timeIntervalSince1970: Double(end) / 1e9)
        for daysBack in 0...1 {
            guard let day = Calendar.current.date(byAdding: .day, value: -daysBack, to: last),
                let whole = Calendar.current.date(bySettingHour: hour, minute: minute, second: 0, of: day)
            else { continue }
            let time = Int64((whole.timeIntervalSince1970 + second) * 1e9)
            if time <= end { return time }
        }
        return nil
    }
}
