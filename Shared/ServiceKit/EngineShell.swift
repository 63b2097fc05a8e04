public import Bus
import CLinux
import Foundation
public import Logging
public import Messages
public import ServiceCore

/// All that an ``EngineShell`` needs to run an engine as a process.
public struct ShellSetup<E: Engine> {
    /// The service's name: `source` of its events.
    public var source: String
    public var journal: any Journal
    public var requests: [String]
    public var events: [String]
    /// Needed for tcp endpoints.
    public var security: BusSecurity?
    /// Engine time continues over boots of the machine from the last journaled instant; `false`: raw CLOCK_BOOTTIME (lease deadlines are absolute).
    public var continuesTime = true
    /// A further accepted `target` of requests, such as the boot id; the epoch always is.
    public var target: String?
    public var routes: [Route<E>]
    public var logger: Logger
    /// Performs an action; its result comes back through `submit`. Must not block.
    public var perform: @ReactorActor (E.Action, EngineShell<E>) -> Void

    public init(
        source: String, journal: any Journal, requests: [String], events: [String], security: BusSecurity?, routes: [Route<E>], logger: Logger,
        perform: @escaping @ReactorActor (E.Action, EngineShell<E>) -> Void
    ) {
        self.source = source
        self.journal = journal
        self.requests = requests
        self.events = events
        self.security = security
        self.routes = routes
        self.logger = logger
        self.perform = perform
    }
}

/// Runs one engine: decodes requests to inputs, applies and journals them, and lets effects out once the commit that covers them is durable.
///
/// The engine is changed in memory at once; replies, events, actions, snapshots and explanations leave in order, each after the journal entries that it rests on (S15).
@ReactorActor
public final class EngineShell<E: Engine>: RunningService {
    public var engine: E { core.engine }
    public let source: String
    /// Uuid of the journal.
    public let lineage: String
    /// Start counter of the journal.
    public let term: UInt64
    public var epoch: String { "\(lineage).\(term)" }

    private let setup: ShellSetup<E>
    /// Beside its setup, all of which would be copied with it.
    @usableFromInline let perform: @ReactorActor (E.Action, EngineShell<E>) -> Void
    private let routes: [String: Route<E>]
    private let logger: Logger
    @usableFromInline let timeOffset: Duration
    @usableFromInline let entriesBetweenSnapshots: Int
    @usableFromInline let bootEntriesBetweenSnapshots: Int?
    @usableFromInline let immediate: (@Sendable (JournalEntry) throws(JournalError) -> Void)?
    private var writer: JournalWriter?
    private var server: RequestServer?
    private var publisher: EventPublisher?
    private var problems: [String: String] = [:]

    @usableFromInline var core: ShellCore<E>
    @usableFromInline var entriesSinceSnapshot: Int
    @usableFromInline var bootEntriesSinceSnapshot = 0
    private var ledger = RequestLedger<Data>()
    private var returnPaths: [RequestID: [ReturnPath]] = [:]
    private var lastQuestion: UInt64 = 0
    /// Work that waits for what it rests on to be durable.
    private var questions: [UInt64: @ReactorActor () -> Void] = [:]
    @usableFromInline var timer: TimerID?
    private var stopping = false

    /// Opens the journal, rebuilds the engine from it and binds nothing yet.
    ///
    /// - Throws: when the journal cannot be read, or was written by a version that this one does not understand.
    public init(_ setup: ShellSetup<E>) throws {
        self.setup = setup
        perform = setup.perform
        source = setup.source
        logger = setup.logger
        routes = Dictionary(setup.routes.map { ($0.type, $0) }, uniquingKeysWith: { first, _ in first })
        let contents = try setup.journal.open(as: setup.source)
        lineage = contents.lineage
        term = contents.term
        entriesBetweenSnapshots = setup.journal.entriesBetweenSnapshots
        bootEntriesBetweenSnapshots = setup.journal.bootEntriesBetweenSnapshots
        immediate = setup.journal.immediate
        let boottime = Clock.boottime()
        timeOffset = setup.continuesTime ? max(.zero, (contents.lastInstant ?? boottime) - boottime) : .zero

        var engine = E()
        do {
            if let snapshot = contents.snapshot { engine = try JSON.decode(E.self, snapshot.state) }
            for entry in contents.entries { _ = engine.handle(try JSON.decode(E.Input.self, entry.input), at: entry.time) }
        } catch {
            throw RequestError(
                code: "journal.unreadable",
                message: "the journal of \(setup.source) was written by another version or is damaged (\(error)); start the version that wrote it, or move the file away")
        }
        core = ShellCore(engine: engine, sequence: contents.lastSequence)
        entriesSinceSnapshot = contents.entries.count
        for reply in contents.replies {
            ledger.restore(reply.id, .init(digest: reply.digest, reply: reply.frame, acceptedAt: reply.acceptedAt))
        }
    }

    /// The engine's clock.
    @inlinable public var now: Instant { Clock.boottime() + timeOffset }

    /// Binds the endpoints and begins to answer; the service then submits its `started` input.
    public func start() throws {
        let writer = JournalWriter(
            journal: setup.journal,
            durable: { [self] in carryOut(core.durable(through: $0)) },
            problem: { [self] in setProblem("journal", $0) },
            failed: { [logger] text in
                logger.critical("\(text); ending, a restart continues from what is durable")
                exit(70)
            })
        self.writer = writer
        publisher = try EventPublisher(endpoints: setup.events, security: setup.security, source: source, epoch: epoch)
        server = try RequestServer(endpoints: setup.requests, security: setup.security) { [self] in receive($0) }
        publish(Event("service.started", body: ServiceLife(version: Version.text, pid: getpid())))
        keepAlive()
    }

    /// Tells health that something is not as it should be; `nil` clears it.
    public func setProblem(_ key: String, _ text: String?) {
        if let text, problems[key] != text { logger.warning("\(text)") }
        if text == nil, problems[key] != nil { logger.notice("\(key): well again") }
        problems[key] = text
    }

    public var health: Health {
        Health(
            service: source, status: problems.isEmpty ? .ok : .degraded, version: Version.text, pid: getpid(), epoch: epoch,
            problems: problems.keys.sorted().compactMap { problems[$0] })
    }

    // MARK: Inputs

    /// Applies an input at once; its effects leave when it is durable (ephemeral inputs: at once).
    ///
    /// Inlinable like all that carries it out, so that a service runs its engine without the price of generics.
    @inlinable public func submit(_ input: E.Input) { carryOut(core.submit(input, at: now)) }

    // MARK: What follows

    /// - Parameter accepted: the request that the input came with; it becomes durable with it.
    @inlinable
    func carryOut(_ steps: [ShellCore<E>.Step], accepting accepted: StoredReply? = nil) {
        for step in steps {
            switch step {
            case .journal(let record): append(record, accepting: accepted)
            case .note(let decisions): note(decisions)
            case .effect(let effect): carryOut(effect)
            case .answer(let question): answer(question)
            case .wake(let at):
                if let timer { Reactor.shared.cancel(timer) }
                timer = Reactor.shared.after(max(.zero, at - now)) { [self] in
                    timer = nil
                    carryOut(core.wakeUp(at: now))
                }
            }
        }
    }

    @usableFromInline
    func note(_ decisions: [Decision]) {
        var batch = JournalBatch()
        batch.decisions = decisions.map(told)
        writer?.append(batch, through: 0)
    }

    @usableFromInline
    func answer(_ question: UInt64) { questions.removeValue(forKey: question)?() }

    /// What most inputs of this boot are: an entry alone, which reaches the kernel at once.
    @inlinable
    func append(_ record: ShellCore<E>.Record, accepting accepted: StoredReply?) {
        guard accepted == nil, record.replies.isEmpty, record.decisions.isEmpty, record.input.isOfThisBoot, let limit = bootEntriesBetweenSnapshots,
            bootEntriesSinceSnapshot + 1 < limit, entriesSinceSnapshot < entriesBetweenSnapshots, core.durableThrough + 1 == record.number,
            appendAtOnce(record.input.quickJSON, record.sequence, record.time)
        else { return commit(record, accepting: accepted) }
        bootEntriesSinceSnapshot += 1
        carryOut(core.durable(through: record.number))
    }

    /// - Returns: whether it is known to the kernel.
    @usableFromInline
    func appendAtOnce(_ input: [UInt8]?, _ sequence: UInt64, _ time: Instant) -> Bool {
        guard let input, let immediate else { return false }
        do throws(JournalError) {
            try immediate(JournalEntry(sequence: sequence, time: time, input: Data(input), wallTime: cl_realtime()))
            return true
        } catch {
            // The writer tries again, waits for space, or ends the process.
            return false
        }
    }

    @usableFromInline
    func commit(_ record: ShellCore<E>.Record, accepting accepted: StoredReply?) {
        let isOfThisBoot = record.input.isOfThisBoot && bootEntriesBetweenSnapshots != nil
        var batch = JournalBatch()
        if let accepted { batch.replies.append(accepted) }
        var entry: JournalEntry
        do {
            entry = JournalEntry(sequence: record.sequence, time: record.time, input: try record.input.quickJSON.map { Data($0) } ?? JSON.encode(record.input))
            if isOfThisBoot { bootEntriesSinceSnapshot += 1 } else { entriesSinceSnapshot += 1 }
            if entriesSinceSnapshot >= entriesBetweenSnapshots || bootEntriesSinceSnapshot >= bootEntriesBetweenSnapshots ?? .max {
                batch.snapshot = JournalSnapshot(sequence: record.sequence, state: try JSON.encode(engine))
                entriesSinceSnapshot = 0
                bootEntriesSinceSnapshot = 0
            }
        } catch {
            logger.critical("an input or the state cannot be written as JSON (\(error)); ending before anything rests on it")
            exit(70)
        }
        entry.wallTime = cl_realtime()
        batch.decisions = record.decisions.map(told)
        for index in batch.decisions.indices { batch.decisions[index].entry = entry.sequence }
        for (id, reply) in record.replies { if let stored = settled(id, ReplyFrame.encode(id: id, reply)) { batch.replies.append(stored) } }
        if isOfThisBoot, batch.replies.isEmpty, appendAtOnce(entry, record.number) {
            // What is left rests on the entry, and nothing rests on it.
            if !batch.isEmpty { writer?.append(batch, through: 0) }
            return carryOut(core.durable(through: record.number))
        }
        if isOfThisBoot { batch.bootEntries.append(entry) } else { batch.entries.append(entry) }
        writer?.append(batch, through: record.number)
    }

    /// Where a boot entry reaches the kernel without waiting for a device, if nothing before it waits: no other thread is needed for it then.
    private func appendAtOnce(_ entry: JournalEntry, _ number: UInt64) -> Bool {
        guard let immediate, core.durableThrough + 1 == number else { return false }
        do throws(JournalError) {
            try immediate(entry)
            return true
        } catch {
            // The writer tries again, waits for space, or ends the process.
            return false
        }
    }

    @inlinable
    func carryOut(_ effect: Effect<E.Action>) {
        switch effect {
        case .reply(let id, let reply): answer(id, reply)
        case .publish(let event): publish(event)
        case .perform(let action): perform(action, self)
        // ``ShellCore`` makes steps of their own of these.
        case .wake, .decide: break
        }
    }

    @usableFromInline
    func answer(_ id: RequestID, _ reply: Reply) {
        if let frame = ledger[id]?.reply { return answer(id, frame) }
        // Of an input that leaves no entry: nothing was stored before.
        let frame = ReplyFrame.encode(id: id, reply)
        if let stored = settled(id, frame) {
            var batch = JournalBatch()
            batch.replies = [stored]
            writer?.append(batch, through: 0)
        }
        answer(id, frame)
    }

    private func told(_ decision: Decision) -> Decision {
        var decision = decision
        decision.time = Clock.rfc3339()
        decision.source = source
        logger.info("\(decision.subject): \(decision.what): \(decision.why)")
        return decision
    }

    private func settled(_ id: RequestID, _ frame: Data) -> StoredReply? {
        ledger.settle(id, frame).map { StoredReply(id: id, digest: $0.digest, frame: frame, acceptedAt: $0.acceptedAt) }
    }

    /// Runs work after everything submitted so far is durable, in order with its effects.
    private func whenDurable(_ work: @escaping @ReactorActor () -> Void) {
        lastQuestion += 1
        questions[lastQuestion] = work
        carryOut(core.ask(lastQuestion))
    }

    @usableFromInline
    func publish(_ event: Event) { publisher?.publish(event) }

    private func keepAlive() {
        guard !stopping else { return }
        publisher?.publishAlive()
        _ = Reactor.shared.after(.seconds(1)) { [self] in keepAlive() }
        forgetOldReplies()
    }

    private var nextForgetting = Instant(nanoseconds: 0)

    private func forgetOldReplies() {
        guard now >= nextForgetting else { return }
        nextForgetting = now + .seconds(600)
        ledger.forget(acceptedThrough: cl_realtime() - StoredReply.keptNanoseconds)
    }

    // MARK: Requests

    private func receive(_ request: IncomingRequest) {
        let header = request.header
        do throws(RequestError) {
            if let target = header.target, target != epoch, target != setup.target {
                throw RequestError(
                    RequestErrorCode.wrongTarget, "\(source) is not \(target): it was restarted or rebooted; look at its present state before asking again",
                    details: ["epoch": epoch, "target": setup.target ?? ""])
            }
            if try answerBuiltIn(request) { return }
            guard let route = routes[header.type] else {
                throw RequestError(RequestErrorCode.unknownType, "\(source) does not know the request type \"\(header.type)\"")
            }
            guard route.roles.contains(request.caller.role) else {
                throw RequestError(RequestErrorCode.forbidden, "a \(request.caller.role.rawValue) may not send \(header.type)")
            }
            switch route.handling {
            case .reading(let read):
                let reply = try asRequestError { try read(engine, request) }
                whenDurable { [self] in send(ReplyFrame.encode(id: header.id, reply), to: request.returnPath) }
            case .input(let make):
                try accept(request, make)
            }
        } catch {
            send(ReplyFrame.encode(id: header.id, .refused(error)), to: request.returnPath)
        }
    }

    private func accept(_ request: IncomingRequest, _ make: (IncomingRequest) throws -> E.Input) throws(RequestError) {
        let id = request.header.id
        let digest = try asRequestError { try RequestDigest.of(request) }
        switch try ledger.judge(id, digest: digest) {
        case .new: break
        case .answered(let frame): return whenDurable { [self] in send(frame, to: request.returnPath) }
        case .underWay:
            returnPaths[id, default: []].append(request.returnPath)
            if returnPaths[id, default: []].count > 8 { returnPaths[id]?.removeFirst() }
            return
        }
        if let full = problems["journal"] { throw RequestError(RequestErrorCode.journalFull, full) }
        if let timeout = request.header.timeout, Clock.boottime() - request.receivedAt > .milliseconds(timeout) {
            throw RequestError(RequestErrorCode.timeout, "\(request.header.type) waited longer than its \(timeout) ms before work began; it had no effect")
        }
        let input = try asRequestError { try make(request) }
        let accepted = ledger.accept(id, digest: digest, at: cl_realtime())
        returnPaths[id] = [request.returnPath]
        carryOut(core.submit(input, at: now), accepting: StoredReply(id: id, digest: digest, frame: nil, acceptedAt: accepted.acceptedAt))
    }

    private func answerBuiltIn(_ request: IncomingRequest) throws(RequestError) -> Bool {
        let id = request.header.id
        let path = request.returnPath
        switch request.header.type {
        case "ping":
            send(ReplyFrame.encode(id: id, .done), to: path)
        case "health":
            send(ReplyFrame.encode(id: id, .success(health)), to: path)
        case "snapshot":
            answerSnapshot(id, path)
        case "explain":
            let question = try asRequestError { try request.body(ExplainRequest.self) }
            let limit = min(max(question.limit ?? 200, 1), 5000)
            writer?.read { journal in
                let reply: Reply
                do {
                    reply = .success(Explanation(decisions: try journal.decisions(subject: question.subject, limit: limit)))
                } catch {
                    reply = .refused(RequestError(code: "journal.unreadable", message: "decisions cannot be read: \(error)"))
                }
                let frame = ReplyFrame.encode(id: id, reply)
                Reactor.shared.post { [self] in send(frame, to: path) }
            }
        case "config.reload":
            throw RequestError(RequestErrorCode.conflict, "\(source) reads its configuration at start: restart it, nothing it holds is lost")
        default:
            return false
        }
        return true
    }

    private func answerSnapshot(_ id: RequestID, _ path: ReturnPath) {
        let capture = core.capture()
        whenDurable { [self] in
            guard let publisher else { return }
            guard core.stands(capture) else { return Reactor.shared.post { [self] in answerSnapshot(id, path) } }
            send(SnapshotFrame.encode(id: id, epoch: epoch, seq: publisher.seq, typeSeq: publisher.typeSeq, body: capture.state), to: path)
        }
    }

    private func answer(_ id: RequestID, _ frame: Data) {
        for path in returnPaths.removeValue(forKey: id) ?? [] { send(frame, to: path) }
    }

    private func send(_ frame: Data, to path: ReturnPath) { server?.send(frame, to: path) }

    private func asRequestError<T>(_ work: () throws -> T) throws(RequestError) -> T {
        do {
            return try work()
        } catch let error as RequestError {
            throw error
        } catch {
            throw RequestError(RequestErrorCode.malformed, "\(error)")
        }
    }

    // MARK: Stopping

    /// Says so, waits for the journal, writes a snapshot and closes; calls `done` on the reactor.
    public func drain(_ done: @escaping @Sendable () -> Void) {
        guard !stopping else { return }
        stopping = true
        publish(Event("service.stopping", body: ServiceLife(version: Version.text, pid: getpid())))
        var batch = JournalBatch()
        if let state = try? JSON.encode(engine) { batch.snapshot = JournalSnapshot(sequence: core.sequence, state: state) }
        writer?.append(batch, through: 0)
        writer?.read { [self] _ in
            Reactor.shared.post { [self] in
                server?.close()
                publisher?.close()
                done()
            }
        }
    }
}
