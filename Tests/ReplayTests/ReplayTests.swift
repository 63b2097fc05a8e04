import Bus
import Foundation
import LeaseEngine
import Messages
import Replay
import SQLiteJournal
import ServiceKit
import Testing

/// Journals of older versions, and what is found when something is not as it was.
@Suite struct ReplayTests {
    @Test("every journal of an older version leads to the same decisions, and reading it changes nothing", arguments: Fixtures.all)
    func identical(name: String) throws {
        let path = try Fixtures.copy(name)
        let before = FileManager.default.contents(atPath: path)
        let history = try journalHistory(path: path)
        let replayed = try Fixtures.replay(history, at: path)
        #expect(replayed.comparison.differences == [])
        #expect(replayed.last == history.entries.last?.sequence && replayed.last > 15)
        #expect(FileManager.default.contents(atPath: path) == before)
        let directory = (path as NSString).deletingLastPathComponent
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory).count == 1, "no file beside it")
    }

    @Test("the fixtures say enough that identical means something")
    func enough() throws {
        let replays = try Fixtures.all.map { try Fixtures.replay(try journalHistory(path: Fixtures.path($0)), at: Fixtures.path($0)) }
        #expect(replays.count == 10)
        #expect(replays.map(\.comparison.decisions).reduce(0, +) == 149)
        #expect(replays.map(\.comparison.replies).reduce(0, +) == 90)
    }

    @Test("a service starts from a journal of an older version, goes on, and the whole can be replayed", arguments: Fixtures.all)
    func starts(name: String) throws {
        let path = try Fixtures.copy(name)
        let old = try journalHistory(path: path)
        let service = try #require(JournaledService(of: old, at: path))
        let journal: any Journal = path.hasSuffix(".sqlite") ? SQLiteJournal(path: path) : FileJournal(path: path)
        let contents = try journal.open(as: service.rawValue)
        #expect(contents.lineage == old.lineage && contents.lastSequence == old.entries.last?.sequence)
        // What the shell decodes: the newest state and the entries after it.
        var rest = old
        rest.snapshots = contents.snapshot.map { [$0] } ?? []
        rest.entries = contents.entries
        #expect(try service.replay(rest).last == contents.lastSequence)

        var batch = JournalBatch()
        batch.entries = [JournalEntry(sequence: contents.lastSequence + 1, time: try #require(contents.lastInstant), input: Data(#"{"wake":{}}"#.utf8), wallTime: 1)]
        batch.decisions = [Decision("vm/none", "nothing", why: "no engine decided it")]
        batch.decisions[0].entry = contents.lastSequence + 1
        try journal.append(batch)
        let history = try journalHistory(path: path)
        #expect(history.lives.map(\.service) == [service.rawValue] && history.lives.map(\.firstSequence) == [contents.lastSequence + 1])
        let differences = try service.replay(history).comparison.differences
        if service != .lease {
            #expect(differences.map(\.entry) == [contents.lastSequence + 1], "only what was added does not follow")
            #expect(differences.first?.recorded == "vm/none: nothing - no engine decided it" && differences.first?.replayed == nil)
        }
    }

    private let fencing = Fixtures.path("0.1.0/fencing-service/journal.sqlite")

    @Test("a decision that was changed is found, with its entry and its time")
    func changedDecision() throws {
        var history = try journalHistory(path: fencing)
        let index = try #require(history.decisions.firstIndex { $0.what == "fence case opened" })
        history.decisions[index].why = "somebody wished it"
        let difference = try #require(try Fixtures.replay(history, at: fencing).comparison.differences.first)
        #expect(difference.entry == 19 && difference.time == history.decisions[index].time)
        #expect(difference.recorded?.contains("somebody wished it") == true && difference.replayed?.contains("no heartbeat for 5000 ms") == true)
    }

    @Test("a decision that is missing, or too many, is found, and only that one")
    func countOfDecisions() throws {
        let whole = try journalHistory(path: fencing)
        var fewer = whole
        let removed = fewer.decisions.remove(at: 20)
        let missing = try Fixtures.replay(fewer, at: fencing).comparison.differences
        #expect(missing.count == 1 && missing.first?.recorded == nil && missing.first?.replayed?.contains(removed.why) == true)
        var more = whole
        more.decisions.insert(Decision("host/host9", "fenced", why: "no reason"), at: 20)
        let added = try Fixtures.replay(more, at: fencing).comparison.differences
        #expect(added.count == 1 && added.first?.recorded == "host/host9: fenced - no reason" && added.first?.replayed == nil)

        fewer.decisions[30].why = "somebody wished it"
        let both = try Fixtures.replay(fewer, at: fencing).comparison.differences
        #expect(both.count == 2 && both.last?.recorded?.contains("somebody wished it") == true && both.last?.replayed != nil)
    }

    @Test("an input that was changed by one digit leads elsewhere")
    func changedInput() throws {
        var history = try journalHistory(path: fencing)
        let text = String(decoding: history.entries[8].input, as: UTF8.self)
        history.entries[8].input = Data(text.replacingOccurrences(of: #""bootID":"e"#, with: #""bootID":"f"#).utf8)
        let differences = try Fixtures.replay(history, at: fencing).comparison.differences
        #expect(differences.first?.entry == 9 && differences.first?.recorded?.contains("heard - first heartbeat, boot id ef6ca307") == true)
        #expect(differences.first?.replayed?.contains("heard - first heartbeat, boot id ff6ca307") == true)
    }

    @Test("an outcome of a request, a gap and an unknown input are found")
    func otherDifferences() throws {
        let whole = try journalHistory(path: fencing)
        var refused = whole
        let id = try #require(refused.replies.first { $0.frame != nil }).id
        for index in refused.replies.indices where refused.replies[index].id == id {
            refused.replies[index].frame = ReplyFrame.encode(id: id, .refused(RequestError(code: "host.other", message: "no")))
        }
        let differences = try Fixtures.replay(refused, at: fencing).comparison.differences
        #expect(differences.map(\.recorded) == ["\(id): host.other"] && differences.map(\.replayed) == ["\(id): ok"])

        var torn = whole
        torn.entries.remove(at: 40)
        #expect(try Fixtures.replay(torn, at: fencing).comparison.differences.contains { $0.kind == .gap && $0.recorded == "no entries from 41 to 41" })

        var foreign = whole
        foreign.entries[3].input = Data(#"{"hostTeleported":{}}"#.utf8)
        #expect { try Fixtures.replay(foreign, at: fencing) } throws: { "\($0)".contains("entry 4 is not one that this version understands") }
    }

    @Test("of lease-service the durable state is compared: a fact that was changed is found")
    func leaseStates() throws {
        let path = Fixtures.path("0.1.0/host1/lease-service/journal")
        var history = try journalHistory(path: path)
        var engine = LeaseEngine()
        for entry in history.entries { _ = engine.handle(try JSON.decode(LeaseInput.self, entry.input), at: entry.time) }
        let state = String(decoding: try JSON.encode(engine), as: UTF8.self)
        history.snapshots = [JournalSnapshot(sequence: 20, state: Data(state.utf8))]
        let same = try Fixtures.replay(history, at: path).comparison
        #expect(same.states == 1 && same.differences == [])
        let changed = state.replacingOccurrences(of: #""generation":2"#, with: #""generation":3"#)
        #expect(changed != state)
        history.snapshots = [JournalSnapshot(sequence: 20, state: Data(changed.utf8))]
        #expect(try Fixtures.replay(history, at: path).comparison.differences.map(\.kind) == [.state])
    }
}
