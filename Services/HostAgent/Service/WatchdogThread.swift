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
        case close
    }

    private let waiting = Mutex<[Work]>([])
    private let call = DispatchSemaphore(value: 0)
    private let mark: String
    private let report: @Sendable (Watchdog.Input) -> Void

    /// - Parameters:
    ///   - device: a character device, or `fake:` for the lab's.
    ///   - report: called on this thread.
    init(device: String, run: String, report: @escaping @Sendable (Watchdog.Input) -> Void) {
        mark = "\(run)/watchdog.counts"
        self.report = report
        let thread = Thread { [self] in
            if device == Self.fake { serve(ChassisWatchdog(path: "\(run)/watchdog")) } else { serve(KernelWatchdog(path: device)) }
        }
        thread.name = "watchdog"
        thread.stackSize = 512 << 10
        thread.start()
    }

    static let fake = "fake:"

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
            if let next { report(perform(next, &driver)) }
        }
    }

    /// The clock is read last: what was decided too long ago is not done.
    private func perform(_ work: Work, _ driver: inout some WatchdogDriver) -> Watchdog.Input {
        switch work {
        case .open(let timeout, let notAfter): return open(timeout, notAfter, &driver)
        case .feed(let notAfter):
            guard cl_boottime() <= notAfter.nanoseconds else { return .fed(failure: nil) }
            return .fed(failure: driver.feed()?.message)
        case .close:
            let failure = driver.close()
            if failure == nil { unlink(mark) }
            return .closed(failure: failure?.message)
        }
    }

    private func open(_ timeout: Duration, _ notAfter: Instant, _ driver: inout some WatchdogDriver) -> Watchdog.Input {
        let wasCounting = isCounting
        let file = cl_open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { return .openFailed(WatchdogFailure("cannot write \(mark)", errno, "the watchdog is not opened").message) }
        Glibc.close(file)
        let isLate = cl_boottime() > notAfter.nanoseconds
        let opened = isLate ? .failure(WatchdogFailure("it took too long to open the watchdog; it is tried again")) : driver.open(timeout: timeout)
        switch opened {
        case .success(let device):
            return .opened(device)
        case .failure(let failure):
            if !wasCounting { unlink(mark) }
            return .openFailed(failure.message)
        }
    }
}
