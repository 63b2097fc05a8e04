import CLinux
import Dispatch
import Foundation
import HostAgentEngine
import Messages
import Synchronization

/// The one thread that touches the watchdog: a driver that does not answer blocks nothing else, and nothing else delays a feeding.
///
/// A file in the run directory says that it counts: written before it is opened, removed after it is disarmed, gone with the machine's boot.
final class WatchdogThread: Sendable {
    enum Work: Sendable {
        case open(timeout: Duration, notAfter: Instant)
        case feed(notAfter: Instant)
        case shorten
        case close
    }

    private let waiting = Mutex<[Work]>([])
    private let call = DispatchSemaphore(value: 0)
    private let mark: String
    private let device: String
    private let report: @Sendable (Watchdog.Input) -> Void

    /// - Parameters:
    ///   - device: a character device, or `fake:` for the lab's.
    ///   - report: called on this thread.
    init(device: String, run: String, report: @escaping @Sendable (Watchdog.Input) -> Void) {
        mark = Self.mark(run)
        self.device = device
        self.report = report
        let thread = Thread { [self] in
            if device == Self.fake { serve(ChassisWatchdog(path: "\(run)/watchdog")) } else { serve(KernelWatchdog(path: device)) }
        }
        thread.name = "watchdog"
        thread.stackSize = 512 << 10
        thread.start()
    }

    static let fake = "fake:"

    private static func mark(_ run: String) -> String { "\(run)/watchdog.counts" }

    /// What an earlier life of this agent has armed must be fed and disarmed by this one.
    static func check(device: String, run: String) throws(RequestError) {
        guard let armed = FileManager.default.contents(atPath: mark(run)).map({ String(decoding: $0, as: UTF8.self) }), armed != device, !(armed.isEmpty && !device.isEmpty) else { return }
        throw RequestError(
            code: "config.invalid",
            message: "watchdog.device is \(device.isEmpty ? "empty" : device), but the watchdog \(armed.isEmpty ? "of this host" : armed) is armed and resets this host soon unless it is fed: "
                + "set watchdog.device to what it was, end what needs it (`bulwark host maintenance`), and change it when host-agent has disarmed it; "
                + "if its driver cannot disarm it, reboot this host with the new setting (the mark is \(mark(run)))")
    }

    /// An earlier life of this agent has opened it and did not disarm it.
    var isCounting: Bool { access(mark, F_OK) == 0 }

    func submit(_ work: Work) {
        waiting.withLock { $0.append(work) }
        call.signal()
    }

    private func serve(_ driver: some WatchdogDriver) {
        var driver = driver
        while true {
            call.wait()
            let next = waiting.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            if let next, let result = perform(next, &driver) { report(result) }
        }
    }

    /// The clock is read last: what was decided too long ago is not done.
    private func perform(_ work: Work, _ driver: inout some WatchdogDriver) -> Watchdog.Input? {
        switch work {
        case .open(let timeout, let notAfter): return open(timeout, notAfter, &driver)
        case .feed(let notAfter):
            guard now <= notAfter else { return .fed(failure: nil, at: nil) }
            let failure = driver.feed()
            return .fed(failure: failure?.message, at: now)
        case .shorten:
            driver.shorten()
            return nil
        case .close:
            let failure = driver.close()
            if failure == nil { unlink(mark) }
            return .closed(failure: failure?.message)
        }
    }

    private var now: Instant { Instant(nanoseconds: cl_boottime()) }

    private func open(_ timeout: Duration, _ notAfter: Instant, _ driver: inout some WatchdogDriver) -> Watchdog.Input {
        let wasCounting = isCounting
        let file = cl_open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        let name = Array(device.utf8)
        let isWritten = file >= 0 && pwrite(file, name, name.count, 0) == name.count && ftruncate(file, off_t(name.count)) == 0
        let error = errno
        if file >= 0 { Glibc.close(file) }
        guard isWritten else {
            if !wasCounting { unlink(mark) }
            return .openFailed(WatchdogFailure("cannot write \(mark)", error, "the watchdog is not opened").message)
        }
        let isLate = now > notAfter
        let opened = isLate ? .failure(WatchdogFailure("it took too long to open the watchdog; it is tried again")) : driver.open(timeout: timeout)
        switch opened {
        case .success(let device):
            return .opened(device, at: now)
        case .failure(let failure):
            if !wasCounting { unlink(mark) }
            return .openFailed(failure.message)
        }
    }
}
