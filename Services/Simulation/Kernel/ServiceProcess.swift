import Invariants
import Messages
import ServiceCore

/// A process that runs an engine: what `EngineShell` is in reality, around the same ``ShellCore``, with a journal whose commits take time and which a kill may part from
/// their effects at every point.
class ServiceProcess<E: Engine>: Process, Publisher {
    typealias Completion = (Reply) -> Void

    let source: String
    /// Who it is for people.
    private let teller: String
    private var core = ShellCore(engine: E(), sequence: 0)
    private(set) var journal: StableJournal<E>
    /// Of the machine, in its last life.
    private var boot = 0
    private var offset = Duration.zero
    /// Counts arms of the timer: an earlier one says nothing any more.
    private var timer = 0
    private var commits: [(number: UInt64, write: () -> Void)] = []
    private var isCommitting = false
    private var waiters: [RequestID: [Completion]] = [:]
    private var questions: [UInt64: () -> Void] = [:]
    private var lastQuestion: UInt64 = 0
    private(set) var subscriptions: [Subscription] = []
    /// Of a manager service.
    var greetings = Greetings()
    private(set) var seq: UInt64 = 0
    private(set) var typeSeq: [String: UInt64] = [:]

    init(source: String, name: String, on machine: Machine) {
        self.source = source
        teller = source
        journal = StableJournal(lineage: "\(source)-journal")
        super.init(name, on: machine)
    }

    /// One of a set of managers.
    init(_ service: ProcessName, of managers: ManagerSet) {
        source = service.description
        teller = source + managers.suffix
        journal = StableJournal(lineage: "\(source)-journal" + managers.suffix)
        super.init(teller, on: managers.machine)
    }

    /// Begins with what another one had written, as from a backup.
    func restore(_ copy: StableJournal<E>) { journal = copy }

    /// Processes of other machines at the same address: whoever asks reaches one or the other.
    var besides: [ServiceProcess<E>] = []
    /// Who connects takes it for what it says it is.
    var isEnrolled: Bool { true }

    /// The process that a message to this address reaches; of several chance decides.
    func reached(from asker: Process) -> ServiceProcess<E>? {
        if asker.machine === machine { return self }
        guard !besides.isEmpty else { return isEnrolled ? self : nil }
        let possible = ([self] + besides).filter { $0.machine.isOn && $0.isEnrolled }
        return possible.isEmpty ? nil : possible[possible.count == 1 ? 0 : world.random.below(possible.count)]
    }

    /// Another machine answers at the same address from now on.
    func add(beside other: ServiceProcess<E>) {
        besides.append(other)
        for subscription in subscriptions { subscription.follow(other) }
    }

    /// It answers no more.
    func remove(beside other: ServiceProcess<E>) {
        besides.removeAll { $0 === other }
        for subscription in subscriptions { subscription.leave(other) }
    }

    var publishersBeside: [any Publisher] { besides }

    var engine: E { core.engine }
    var epoch: String { "\(journal.lineage).\(journal.term)" }
    /// Manager services count time over boots; lease-service overrides this.
    var continuesTime: Bool { true }
    var now: Instant { clock + offset }
    /// A further accepted `target`: the boot id.
    var target: String? { nil }
    var caller: Caller { Caller(role: .service, from: source, lineage: journal.lineage, term: journal.term) }

    // MARK: Life

    override func begin() {
        if machine.boots != boot { journal.machineRebooted() }
        boot = machine.boots
        do {
            core = ShellCore(engine: try journal.open(throughJSON: world.random.chance(0.2)), sequence: journal.sequence)
        } catch {
            return world.violate(.I6, "\(name) cannot read its own journal: \(error)")
        }
        offset = continuesTime ? max(.zero, (journal.lastInstant ?? clock) - clock) : .zero
        timer += 1
        commits = []
        isCommitting = false
        waiters = [:]
        questions = [:]
        greetings = Greetings()
        seq = 0
        typeSeq = [:]
        for subscription in subscriptions { subscription.publisherStarted() }
        world.tell(name, "starts")
        started()
    }

    override func end() {
        world.tell(name, "is gone")
        subscriptions.removeAll { !$0.subscriber.startsAtBoot }
    }

    override func dismantle() {
        super.dismantle()
        subscriptions = []
        commits = []
        waiters = [:]
        questions = [:]
    }

    /// Submits the engine's first input, follows others; overridden.
    func started() {}
    /// Does what the engine wants; overridden.
    func perform(_ action: E.Action) {}
    /// The engine is about to change.
    func inputTaken() {}
    /// What an agent said to this service's hello.
    func greeted(_ host: String, refusal: String?) {}
    /// For the checker and the timeline.
    func published(_ event: Event) {}

    // MARK: Inputs

    func submit(_ input: E.Input) {
        guard isAlive else { return }
        inputTaken()
        carryOut(core.submit(input, at: now))
    }

    private func carryOut(_ steps: [ShellCore<E>.Step]) {
        let life = life
        for step in steps {
            guard self.life == life, isAlive else { return }
            switch step {
            case .journal(let record): commit(record)
            case .note(let decisions): tell(decisions)
            case .effect(let effect):
                if world.diesHere(self) { return }
                carryOut(effect)
            case .answer(let question): questions.removeValue(forKey: question)?()
            case .wake(let at): arm(at)
            }
        }
    }

    private func carryOut(_ effect: Effect<E.Action>) {
        switch effect {
        case .reply(let id, let reply):
            journal.answer(id, reply)
            for waiter in waiters.removeValue(forKey: id) ?? [] { waiter(reply) }
        case .publish(let event): publish(event)
        case .perform(let action): perform(action)
        case .wake(let at): arm(at)
        case .decide(let decision): tell([decision])
        }
    }

    private func arm(_ time: Instant) {
        timer += 1
        let armed = timer
        after(max(.zero, time - now)) { [self] in
            guard timer == armed else { return }
            inputTaken()
            carryOut(core.wakeUp(at: now))
        }
    }

    private func tell(_ decisions: [Decision]) {
        for decision in decisions { world.decided(teller, decision) }
    }

    // MARK: Journal

    /// Group commit: what came while one was under way goes with the next.
    private func commit(_ record: ShellCore<E>.Record) {
        let snapshot = record.sequence % StableJournal<E>.entriesBetweenSnapshots == 0 ? core.engine : nil
        commits.append((record.number, { [self] in
            journal.append(record.input, sequence: record.sequence, at: record.time, snapshot: snapshot)
            for (id, reply) in record.replies { journal.answer(id, reply) }
            tell(record.decisions)
        }))
        flush()
    }

    private func flush() {
        guard !isCommitting, !commits.isEmpty else { return }
        isCommitting = true
        let slow = world.random.chance(world.chaos.ioSlow)
        let takes = slow ? world.random.between(100_000_000, 3_000_000_000) : world.random.between(300_000, max(400_000, world.scenario.pace.journal.nanoseconds))
        let fails = world.random.chance(world.chaos.journalFail)
        after(Duration(nanoseconds: takes)) { [self] in
            let batch = commits
            commits = []
            isCommitting = false
            guard let last = batch.last?.number else { return }
            // Nobody knows what of it is on the disk: the process ends.
            if fails, world.random.chance(0.5) { return kill() }
            if world.diesHere(self) { return }
            for item in batch { item.write() }
            if fails { return kill() }
            if world.diesHere(self) { return }
            let life = life
            carryOut(core.durable(through: last))
            if self.life == life { flush() }
        }
    }

    func whenDurable(_ work: @escaping () -> Void) {
        lastQuestion += 1
        questions[lastQuestion] = work
        carryOut(core.ask(lastQuestion))
    }

    // MARK: Requests

    /// What the real shell does with a request: `target`, idempotency, then the input.
    func receive(_ id: RequestID, target: String?, _ input: E.Input, _ completion: @escaping Completion) {
        if let target, target != epoch, target != self.target {
            return completion(.refused(RequestError(RequestErrorCode.wrongTarget, "\(source) is not \(target): it was restarted or rebooted")))
        }
        if let known = journal.replies[id] {
            guard let reply = known else {
                waiters[id, default: []].append(completion)
                return
            }
            return whenDurable { completion(reply) }
        }
        journal.accept(id)
        waiters[id] = [completion]
        submit(input)
    }

    func read(_ completion: @escaping Completion, _ work: (E) throws(RequestError) -> Reply) {
        let reply: Reply
        do throws(RequestError) { reply = try work(engine) } catch { reply = .refused(error) }
        whenDurable { completion(reply) }
    }

    // MARK: Events

    func subscribe(_ subscription: Subscription) { subscriptions.append(subscription) }
    func unsubscribe(_ subscription: Subscription) { subscriptions.removeAll { $0 === subscription } }

    private func publish(_ event: Event) {
        seq += 1
        typeSeq[event.type, default: 0] += 1
        published(event)
        guard !subscriptions.isEmpty else { return }
        var header: EventHeader?
        for subscription in subscriptions where subscription.wants(event) {
            let made = header ?? EventHeader(source: source, epoch: epoch, seq: seq, typeSeq: typeSeq[event.type] ?? 0, time: "", type: event.type)
            header = made
            subscription.send(event, made)
        }
    }

    /// The state as a snapshot request finds it.
    func snapshot(_ completion: @escaping ((any Sendable), EventPosition) -> Void) {
        let capture = core.capture()
        whenDurable { [self] in
            guard core.stands(capture) else { return after(.zero) { [self] in snapshot(completion) } }
            completion(capture.state, EventPosition(epoch: epoch, seq: seq, typeSeq: typeSeq))
        }
    }
}
