import Bus
import FencingEngine
import Foundation
import Logging
import Messages
import Replay
import SQLiteJournal
import ServiceKit
import Testing

/// What today's shell writes.
@Suite(.timeLimit(.minutes(1))) struct ShellTests {
    @Test("a journal that the shell writes in two lives says on which entry each decision was made and by whom, and leads to the same decisions")
    func journalOfTheShell() async throws {
        let directory = NSTemporaryDirectory() + "replay-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let path = directory + "/journal.sqlite"
        let inputs = try journalHistory(path: Fixtures.path("0.1.0/fencing-service/journal.sqlite")).entries.map { try JSON.decode(FencingInput.self, $0.input) }
        let first = Array(inputs.prefix(40))
        try await Self.live(first, journal: path, directory: directory)
        try await Self.live(Array(inputs.dropFirst(40)), journal: path, directory: directory)

        let history = try journalHistory(path: path)
        #expect(history.lives.map(\.term) == [1, 2] && history.lives.map(\.version) == [Version.text, Version.text])
        #expect(history.lives[0].firstSequence == 1 && history.lives[1].firstSequence > 40)
        #expect(history.entries.first?.sequence == 1 && history.entries.allSatisfy { $0.wallTime != nil })
        #expect(history.snapshots.count == 2, "one at the end of each life, the first stays to replay from")
        let replayed = try Fixtures.replay(history, at: "/elsewhere/unknown")
        #expect(replayed.comparison.differences == [])
        #expect(history.decisions.count > 10 && replayed.comparison.decisions == history.decisions.count)

        var changed = history
        changed.decisions[3].what += "!"
        #expect(try Fixtures.replay(changed, at: path).comparison.differences.map(\.entry) == [history.decisions[3].entry])
    }

    /// One life of fencing-service that is told these things and ends in order.
    private static func live(_ inputs: [FencingInput], journal: String, directory: String) async throws {
        let shell = try await start(journal: journal, directory: directory)
        await withCheckedContinuation { ended in
            Reactor.shared.post {
                for input in inputs { shell.submit(input) }
                shell.drain { ended.resume() }
            }
        }
    }

    @ReactorActor private static func start(journal: String, directory: String) throws -> EngineShell<FencingEngine> {
        Reactor.shared.start()
        let shell = try EngineShell(ShellSetup<FencingEngine>(
            source: "fencing-service", journal: SQLiteJournal(path: journal), requests: ["ipc://\(directory)/requests"], events: ["ipc://\(directory)/events"],
            security: nil, routes: [], logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, perform: { _, _ in }))
        try shell.start()
        return shell
    }
}
