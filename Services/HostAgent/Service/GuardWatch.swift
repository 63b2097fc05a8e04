import Bus
import CLinux
import Foundation
import HostAgentEngine
import Messages
import ServiceKit

/// Keeps in touch with one guard: its control socket while it answers, its lock and result when it does not. Reports changes only.
@ReactorActor
final class GuardWatch {
    private let examination: GuardExamination
    private let patienceUntil: Instant
    private let report: @ReactorActor (GuardSighting) -> Void
    private var socket: Int32 = -1
    private var watch: WatchID?
    private var last: GuardSighting?
    private var stopWhy: String?
    private var heardAt = Clock.boottime()
    private var failingSince: Instant?
    private var confirmed: (pid: Int32, paused: Bool)?
    private var isConfirming = false
    private var isClosed = false

    /// A guard that answers nothing for this long is unclear.
    private static let silence = Duration.seconds(5)
    private static let greeting = Duration.seconds(2)

    init(_ examination: GuardExamination, patienceUntil: Instant, report: @escaping @ReactorActor (GuardSighting) -> Void) {
        self.examination = examination
        self.patienceUntil = patienceUntil
        self.report = report
    }

    func close() {
        isClosed = true
        disconnect()
    }

    func stop(_ why: String) {
        stopWhy = why
        if socket >= 0 { send(GuardMessage("stop", [("why", why)])) }
    }

    // MARK: Connection

    func connect() {
        guard !isClosed, socket < 0 else { return }
        guard let connected = GuardSocket.connect(to: examination.socket) else { return examine() }
        socket = connected
        heardAt = Clock.boottime()
        watch = Reactor.shared.watch(fileDescriptor: connected, events: Int16(POLLIN)) { [self] _ in receive() }
        send(GuardMessage("status"))
        if let stopWhy { send(GuardMessage("stop", [("why", stopWhy)])) }
        keepAsking()
    }

    private func disconnect() {
        if let watch { Reactor.shared.unwatch(watch) }
        if socket >= 0 { Glibc.close(socket) }
        watch = nil
        socket = -1
    }

    private func send(_ message: GuardMessage) {
        if !GuardSocket.send(message, to: socket) { lost() }
    }

    private func lost() {
        guard socket >= 0 else { return }
        disconnect()
        examine()
    }

    /// A stopped process keeps its socket open: only answers count.
    private func keepAsking() {
        let asked = socket
        Reactor.shared.after(.seconds(2)) { [self] in
            guard !isClosed, socket == asked, socket >= 0 else { return }
            if Clock.boottime() - heardAt > Self.silence { tell(.unclear(evidence: "its guard holds its lock, but has not answered for \(Int(Self.silence.seconds)) s")) }
            send(GuardMessage("status"))
            keepAsking()
        }
    }

    private func receive() {
        while socket >= 0 {
            switch GuardSocket.receive(from: socket) {
            case .none: return
            case .broken: return lost()
            case .message(let message): onStatus(message)
            }
        }
    }

    private func onStatus(_ message: GuardMessage) {
        heardAt = Clock.boottime()
        failingSince = nil
        switch message["state"] {
        case "acquiring":
            tell(.acquiring)
        case "running":
            let lver = message.all("lease").first.flatMap(GuardLease.init)?.lver ?? 0
            if let pid = message["pid"].flatMap({ Int32($0) }), !isConfirming { onRunning(pid, lver) }
        case "ending", "ended":
            tell(.ending(why: message["message"] ?? ""))
        default:
            break
        }
    }

    /// The guest's QEMU is asked once; a guest that cannot answer yet is reported after a while all the same.
    private func onRunning(_ pid: Int32, _ lver: UInt64, since: Instant = Clock.boottime()) {
        if let confirmed, confirmed.pid == pid { return tell(.running(pid: pid, lver: lver, paused: confirmed.paused)) }
        guard case .guest = examination.spec.payload else { return tell(.running(pid: pid, lver: lver, paused: false)) }
        isConfirming = true
        Blocking.run("qmp") { [examination] in
            examination.isPaused()
        } then: { [self] paused in
            isConfirming = false
            guard !isClosed, socket >= 0 else { return }
            if paused == nil, Clock.boottime() - since < Self.greeting {
                isConfirming = true
                Reactor.shared.after(.milliseconds(20)) { [self] in onRunning(pid, lver, since: since) }
                return
            }
            confirmed = (pid, paused ?? false)
            if case .ending = last { return }
            tell(.running(pid: pid, lver: lver, paused: paused ?? false))
        }
    }

    // MARK: Without a connection

    private func examine() {
        guard !isClosed else { return }
        // A guard that was just started does not hold its lock yet: taking it now would call its start off.
        if last == nil, Clock.boottime() < patienceUntil, access(examination.places.files(of: examination.spec.holder) + ".result", F_OK) != 0 { return again(.milliseconds(10)) }
        Blocking.run("examine") { [examination] in
            examination.run()
        } then: { [self] seen in
            guard !isClosed else { return }
            guard case .unclear = seen else { return tell(seen) }
            let since = failingSince ?? Clock.boottime()
            failingSince = since
            // Between its result and its last breath a guard still holds its lock.
            if Clock.boottime() - since > Self.greeting { tell(seen) }
            again(Clock.boottime() - since > Self.greeting ? .milliseconds(500) : .milliseconds(20))
        }
    }

    private func again(_ pause: Duration) {
        Reactor.shared.after(pause) { [self] in connect() }
    }

    private func tell(_ sighting: GuardSighting) {
        guard sighting != last, !isClosed else { return }
        last = sighting
        report(sighting)
    }
}
