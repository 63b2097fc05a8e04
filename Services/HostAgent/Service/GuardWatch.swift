import Bus
import CLinux
import Foundation
import HostAgentEngine
import Messages
import ServiceKit

/// Keeps in touch with one guard: does what its watcher wants, and tells it what comes of that.
@ReactorActor
final class GuardWatch {
    private let examiner: GuardExaminer
    private let report: @ReactorActor (GuardSighting) -> Void
    /// What came of an operator's wish that it goes on.
    private let resumed: @ReactorActor (ResumeOutcome) -> Void
    /// Whether the guest's monitor answers, when that changes.
    private let monitor: @ReactorActor (Bool) -> Void
    /// Every message of the guard, also when it says nothing new.
    private let heard: @ReactorActor (GuardMessage) -> Void
    private var watcher: GuardWatcher
    private var socket: Int32 = -1
    private var watch: WatchID?
    private var timer: (id: TimerID, at: Instant)?
    private var isClosed = false

    init(
        _ examiner: GuardExaminer, patience: Duration, heard: @escaping @ReactorActor (GuardMessage) -> Void,
        resumed: @escaping @ReactorActor (ResumeOutcome) -> Void, monitor: @escaping @ReactorActor (Bool) -> Void, report: @escaping @ReactorActor (GuardSighting) -> Void
    ) {
        self.monitor = monitor
        self.examiner = examiner
        self.report = report
        self.heard = heard
        self.resumed = resumed
        watcher = GuardWatcher(isGuest: examiner.isGuest, patienceUntil: Clock.boottime() + patience)
    }

    func begin() { feed(.begin) }

    func stop(_ why: String) { feed(.stop(why: why)) }

    func resume(asked: Bool) { feed(.resume(asked: asked)) }

    func close() {
        isClosed = true
        if let timer { Reactor.shared.cancel(timer.id) }
        timer = nil
        disconnect()
    }

    private func feed(_ input: GuardWatcher.Input) {
        guard !isClosed else { return }
        for step in watcher.handle(input, at: Clock.boottime()) { perform(step) }
        arm()
    }

    private func perform(_ step: GuardWatcher.Step) {
        switch step {
        case .connect: connect()
        case .send(let message): if socket >= 0, !GuardSocket.send(message, to: socket) { lost() }
        case .examine: Blocking.run("examine") { [examiner] in examiner.run() } then: { [self] in feed(.examined($0)) }
        case .confirm: Blocking.run("qmp") { [examiner] in examiner.guestStatus() } then: { [self] in feed(.confirmed($0)) }
        case .resumeGuest: Blocking.run("qmp") { [examiner] in examiner.resumeGuest() } then: { [self] in feed(.resumed(failure: $0)) }
        case .answer(let outcome): resumed(outcome)
        case .report(let sighting): report(sighting)
        case .monitor(let answers): monitor(answers)
        }
    }

    private func arm() {
        guard !isClosed, watcher.nextWake != timer?.at else { return }
        if let timer { Reactor.shared.cancel(timer.id) }
        timer = watcher.nextWake.map { at in
            let id = Reactor.shared.after(at - Clock.boottime()) { [self] in
                timer = nil
                feed(.tick)
            }
            return (id, at)
        }
    }

    // MARK: Connection

    private func connect() {
        guard let connected = GuardSocket.connect(to: examiner.socket) else { return feed(.connectFailed(resultIsThere: examiner.resultIsThere)) }
        socket = connected
        watch = Reactor.shared.watch(fileDescriptor: connected, events: Int16(POLLIN)) { [self] _ in receive() }
        feed(.connected)
    }

    private func disconnect() {
        if let watch { Reactor.shared.unwatch(watch) }
        if socket >= 0 { Glibc.close(socket) }
        watch = nil
        socket = -1
    }

    private func lost() {
        disconnect()
        feed(.broken)
    }

    private func receive() {
        while socket >= 0 {
            switch GuardSocket.receive(from: socket) {
            case .none: return
            case .broken: return lost()
            case .message(let message):
                heard(message)
                feed(.message(message))
            }
        }
    }
}
