import ArgumentParser
import Bus
import Foundation
import Messages
import Replay
import ServiceKit
import Testing

@testable import bulwark

/// `bulwark replay`: its exit status, and the answer to "why was host2 fenced?".
@Suite struct CommandTests {
    private let fencing = Fixtures.path("0.1.0/fencing-service/journal.sqlite")

    private func story(_ at: String, _ subject: String?) throws -> (moment: Moment, story: ReplayStory) {
        let history = try journalHistory(path: fencing)
        let whole = try JournaledService.fencing.replay(history)
        let report = ReplayReport(service: .fencing, history: history, whole: whole)
        let moment = try Moment(at, history: history, timeline: report.timeline)
        var story = ReplayStory(report: report, subject: subject, moment: moment)
        story.show(try JournaledService.fencing.replay(history, through: moment.entry), history: history, wholeState: false)
        return (moment, story)
    }

    @Test("a moment is answered with the state and the decisions that led to it, and with nothing later", arguments: ["host/host2", "host2"])
    func why(subject: String) throws {
        let (moment, story) = try story("2026-11-21T11:58:56.000Z", subject)
        #expect(moment.entry == 22)
        #expect(story.text.contains("status: NonResponsive") && story.text.contains("id: host2-case-1"))
        #expect(story.text.contains("fence case opened - no heartbeat for 5000 ms (5 missed, grace 5000 ms)"))
        #expect(!story.text.contains("proven over") && !story.text.contains("host/host1"))
        #expect(story.json["why"]?.elements.last?["what"]?.string == "NonResponsive")
        #expect(try self.story("2026-11-21T11:58:57.000Z", subject).story.text.contains("proven over: incarnations <= 1 - host2 reads off already"))
    }

    @Test("a moment may be a time of day, the last one that the journal knows, or an entry")
    func moments() throws {
        let seconds = try #require(WallClock.seconds("2026-11-21T11:58:56.000Z"))
        let time = String(WallClock.short("2026-11-21T11:58:56.000Z", now: Date(timeIntervalSince1970: seconds)).prefix(8))
        #expect(try story(time, nil).moment.entry == 22)
        #expect(try story("22", nil).story.text.contains("entry 22: {"))
        #expect(throws: RequestError.self) { try story("2026-11-21T11:00:00Z", nil) }
        #expect(throws: RequestError.self) { try story("73", nil) }
        #expect(throws: ValidationError.self) { try story("noon", nil) }
    }

    @Test("exit status 0 when identical, 1 when not, and when it is no journal")
    func exitStatus() throws {
        try ReplayCommand.parse([fencing]).run()
        let agent = Fixtures.path("0.1.0/host2/host-agent/journal")
        let history = try journalHistory(path: agent)
        let directory = NSTemporaryDirectory() + "replay-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        for why in [nil, "somebody wished it"] {
            let path = "\(directory)/\(why == nil ? "same" : "changed")"
            let journal = FileJournal(path: path)
            _ = try journal.open(as: "host2/host-agent")
            var batch = JournalBatch()
            batch.entries = history.entries
            batch.decisions = history.decisions
            if let why { batch.decisions[5].why = why }
            try journal.append(batch)
            if why == nil {
                try ReplayCommand.parse([path, "--json"]).run()
            } else {
                #expect(throws: ExitCode(1)) { try ReplayCommand.parse([path]).run() }
            }
        }
        try Data("no journal".utf8).write(to: URL(fileURLWithPath: directory + "/text"))
        #expect { try ReplayCommand.parse([directory + "/text"]).run() } throws: { ($0 as? RequestError)?.code == "journal.unreadable" }
        #expect(throws: RequestError.self) { try ReplayCommand.parse([directory + "/nothing"]).run() }
    }
}
