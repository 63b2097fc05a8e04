import Bus
import CLinux
import Foundation
import Logging
import Messages
import ServiceKit
import Synchronization
import Testing

/// Counts; the thinnest engine that shows what the shell promises.
struct Counter: Engine {
    enum Input: EngineInput {
        case add(RequestID, Int)
        case later(RequestID)
        case finishLater
        /// Seen in passing: not journaled.
        case glimpse(Int)
        case wake
        var isEphemeral: Bool { if case .glimpse = self { true } else { false } }
    }

    struct State: Codable, Sendable {
        var total: Int
        var glimpsed = 0
    }
    struct Snapshot: Decodable {
        var seq: UInt64
        var body: State
    }
    struct Amount: Codable, Sendable { var amount: Int }

    var total = 0
    var glimpsed = 0
    var waiting: [RequestID] = []
    var publicState: any Encodable & Sendable { State(total: total, glimpsed: glimpsed) }

    mutating func handle(_ input: Input, at now: Instant) -> [Effect<Int>] {
        switch input {
        case .add(let id, let amount):
            total += amount
            return [
                .decide(Decision("counter/main", "add", why: "asked")), .perform(total), .reply(to: id, .success(State(total: total))),
                .publish(Event("counter.changed", subject: "main", body: State(total: total))),
            ]
        case .later(let id):
            waiting.append(id)
            return []
        case .finishLater:
            defer { waiting = [] }
            return waiting.map { .reply(to: $0, .done) }
        case .glimpse(let amount):
            glimpsed = amount
            return [.publish(Event("counter.glimpsed", body: Amount(amount: amount)))]
        case .wake:
            return []
        }
    }
}

/// A journal in memory whose commits wait for the test, or fail as if the disk were full.
final class HeldJournal: Journal {
    final class Disk: Sendable {
        struct State {
            var open = true
            var full = false
            var batches: [JournalBatch] = []
        }
        let state = Mutex(State())
    }

    let entriesBetweenSnapshots = 10
    let disk: Disk
    init(_ disk: Disk) { self.disk = disk }

    func open(as service: String) throws -> JournalContents {
        disk.state.withLock { state in
            var replies: [RequestID: StoredReply] = [:]
            for reply in state.batches.flatMap(\.replies) { replies[reply.id] = reply }
            let snapshot = state.batches.last { $0.snapshot != nil }?.snapshot
            let entries = state.batches.flatMap(\.entries).filter { $0.sequence > snapshot?.sequence ?? 0 }
            return JournalContents(
                lineage: "lineage", term: 1, snapshot: snapshot, entries: entries, lastSequence: entries.last?.sequence ?? snapshot?.sequence ?? 0,
                lastInstant: entries.last?.time, replies: Array(replies.values))
        }
    }

    func append(_ batch: JournalBatch) throws(JournalError) {
        while !disk.state.withLock({ $0.open }) { usleep(500) }
        if disk.state.withLock({ $0.full }) { throw .full("test") }
        disk.state.withLock { $0.batches.append(batch) }
    }

    func decisions(subject: String?, limit: Int) -> [Decision] {
        disk.state.withLock { $0.batches.flatMap(\.decisions).filter { subject == nil || $0.subject == subject }.suffix(limit) }
    }
}

/// One counter service on ipc:// in this process.
@ReactorActor private final class CounterService {
    let shell: EngineShell<Counter>
    private(set) var performed: [Int] = []

    init(_ disk: HeldJournal.Disk, directory: String) throws {
        Reactor.shared.start()
        final class Performed { var note: (@ReactorActor (Int) -> Void)? }
        let performed = Performed()
        var setup = ShellSetup<Counter>(
            source: "counter", journal: HeldJournal(disk), requests: ["ipc://\(directory)/requests"], events: ["ipc://\(directory)/events"], security: nil,
            routes: [
                Route("counter.add", [.operator_]) { .add($0.header.id, try $0.body(Counter.Amount.self).amount) },
                Route("counter.later", [.operator_]) { .later($0.header.id) },
                Route("counter.secret", [.service]) { .later($0.header.id) },
                Route(reading: "counter.read") { engine, _ in .success(Counter.State(total: engine.total)) },
            ],
            logger: Logger(label: "counter"), perform: { action, _ in performed.note?(action) })
        setup.target = "boot-1"
        shell = try EngineShell(setup)
        performed.note = { [unowned self] in self.performed.append($0) }
        try shell.start()
    }
}

private func call(_ directory: String, _ type: String, _ body: any Encodable & Sendable = Nothing(), id: String? = nil, timeout: Duration = .seconds(10)) throws -> Data {
    try BlockingClient(endpoint: "ipc://\(directory)/requests", serverKey: nil, security: nil).call(type, body, id: id, timeout: timeout)
}

private func code(_ work: () throws -> Data) -> String? {
    do {
        _ = try work()
        return nil
    } catch {
        return (error as? RequestError)?.code ?? "\(error)"
    }
}

@Suite(.serialized) struct EngineShellTests {
    @Test func nothingLeavesBeforeItsCommit() async throws {
        let directory = try ScratchDirectory()
        let disk = HeldJournal.Disk()
        let service = try await CounterService(disk, directory: directory.path)
        _ = try call(directory.path, "ping")
        disk.state.withLock { $0.open = false }
        #expect(code { try call(directory.path, "counter.add", Counter.Amount(amount: 2), id: "a", timeout: .milliseconds(300)) } == "outcome.unknown")
        #expect(await service.performed == [])
        #expect(code { try call(directory.path, "snapshot", timeout: .milliseconds(300)) } == "outcome.unknown", "what is not committed is not shown")
        disk.state.withLock { $0.open = true }
        let reply = try ReplyFrame.body(Counter.State.self, try call(directory.path, "counter.add", Counter.Amount(amount: 2), id: "a"))
        #expect(reply.total == 2, "the same id has one effect")
        #expect(await service.performed == [2])
        _ = try call(directory.path, "snapshot")
        await service.shell.drain {}
    }

    @Test("a snapshot knows every event that its number covers, also one that left at once while it waited for the disk")
    func snapshotCoversItsEvents() async throws {
        let directory = try ScratchDirectory()
        let disk = HeldJournal.Disk()
        let service = try await CounterService(disk, directory: directory.path)
        _ = try call(directory.path, "ping")
        disk.state.withLock { $0.open = false }
        await service.shell.submit(.add("a", 2))
        let client = try await RequestClient(endpoint: "ipc://\(directory.path)/requests", serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
        let (answers, answer) = AsyncStream<Result<Data, RequestError>>.makeStream()
        // Of the same client: the ping is answered after the snapshot was asked for, and the snapshot waits for the disk.
        for type in ["snapshot", "ping"] {
            await client.request(type, bodyJSON: Data("{}".utf8), timeout: .seconds(10)) { answer.yield($0) }
        }
        var next = answers.makeAsyncIterator()
        _ = try await next.next()?.get()
        await service.shell.submit(.glimpse(7))
        disk.state.withLock { $0.open = true }
        let snapshot = try ReplyFrame.body(Counter.Snapshot.self, try #require(await next.next()).get())
        #expect(snapshot.body.total == 2 && snapshot.body.glimpsed == 7)
        #expect(snapshot.seq == 3, "service.started, the glimpse, then what waited for the disk")
        await client.close()
        await service.shell.drain {}
    }

    @Test func theSameIDIsAnsweredFromTheJournalAfterARestart() async throws {
        let directory = try ScratchDirectory()
        let disk = HeldJournal.Disk()
        let first = try await CounterService(disk, directory: directory.path)
        _ = try call(directory.path, "counter.add", Counter.Amount(amount: 5), id: "x")
        #expect(code { try call(directory.path, "counter.later", id: "y", timeout: .milliseconds(200)) } == "outcome.unknown")
        await first.shell.drain {}

        let second = try await CounterService(disk, directory: directory.path)
        #expect(try ReplyFrame.body(Counter.State.self, try call(directory.path, "counter.add", Counter.Amount(amount: 5), id: "x")).total == 5)
        #expect(code { try call(directory.path, "counter.add", Counter.Amount(amount: 6), id: "x") } == "request.id-reused")
        #expect(code { try call(directory.path, "counter.later", id: "y", timeout: .milliseconds(200)) } == "outcome.unknown")
        #expect(await second.shell.engine.waiting == ["y"], "asked again after the restart, accepted once")
        await second.shell.submit(.finishLater)
        _ = try call(directory.path, "counter.later", id: "y")
        await second.shell.drain {}
    }

    @Test func aFullDiskRefusesSaysSoAndResumes() async throws {
        let directory = try ScratchDirectory()
        let disk = HeldJournal.Disk()
        let service = try await CounterService(disk, directory: directory.path)
        disk.state.withLock { $0.full = true }
        #expect(code { try call(directory.path, "counter.add", Counter.Amount(amount: 1), id: "f1", timeout: .milliseconds(300)) } == "outcome.unknown")
        var health = try ReplyFrame.body(Health.self, try call(directory.path, "health"))
        let until = cl_boottime() + 10_000_000_000
        while health.status == .ok, cl_boottime() < until { health = try ReplyFrame.body(Health.self, try call(directory.path, "health")) }
        #expect(health.status == .degraded && health.problems.first?.contains("full") == true)
        #expect(code { try call(directory.path, "counter.add", Counter.Amount(amount: 1), id: "f2") } == "journal.full")
        disk.state.withLock { $0.full = false }
        #expect(try ReplyFrame.body(Counter.State.self, try call(directory.path, "counter.add", Counter.Amount(amount: 1), id: "f1")).total == 1)
        await service.shell.drain {}
    }

    @Test func strangersAndStrangeRequestsAreRefused() async throws {
        let directory = try ScratchDirectory()
        let service = try await CounterService(HeldJournal.Disk(), directory: directory.path)
        #expect(code { try call(directory.path, "counter.unheard-of") } == "request.unknown-type")
        #expect(code { try call(directory.path, "counter.secret") } == "request.forbidden")
        #expect(code { try call(directory.path, "counter.add", ["amount": "two"]) } == "request.malformed")
        #expect(await service.shell.engine.total == 0)
        await service.shell.drain {}
    }

    @Test func decisionsAreExplained() async throws {
        let directory = try ScratchDirectory()
        let service = try await CounterService(HeldJournal.Disk(), directory: directory.path)
        _ = try call(directory.path, "counter.add", Counter.Amount(amount: 1))
        let story = try ReplyFrame.body(Explanation.self, try call(directory.path, "explain", ExplainRequest(subject: "counter/main")))
        #expect(story.decisions.map(\.what) == ["add"] && story.decisions.first?.source == "counter" && story.decisions.first?.time != nil)
        await service.shell.drain {}
    }
}
