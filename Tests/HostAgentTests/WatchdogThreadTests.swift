import CLinux
import Foundation
import HostAgentEngine
import Messages
import Synchronization
import Testing

@testable import host_agent

/// The thread that touches the watchdog, with the device that the lab's chassis watches.
@Suite struct WatchdogThreadTests {
    private final class Reports: Sendable {
        private let inputs = Mutex<[Watchdog.Input]>([])

        func add(_ input: Watchdog.Input) { inputs.withLock { $0.append(input) } }

        /// The next one that comes, within 10 s.
        func next() throws -> Watchdog.Input {
            let until = cl_boottime() + 10_000_000_000
            while cl_boottime() < until {
                if let input = inputs.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return input }
                usleep(2000)
            }
            throw NothingCame()
        }
    }

    private struct NothingCame: Error {}

    private let run: String
    private var soon: Instant { Instant(nanoseconds: cl_boottime() + 10_000_000_000) }
    private var device: String { FileManager.default.contents(atPath: "\(run)/watchdog").map { String(decoding: $0, as: UTF8.self) } ?? "" }

    init() throws {
        run = NSTemporaryDirectory() + "watchdog-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
    }

    @Test("what is opened counts on after its process, one can have it, a late feeding is none, and disarmed leaves nothing")
    func life() throws {
        defer { try? FileManager.default.removeItem(atPath: run) }
        let reports = Reports()
        let thread = WatchdogThread(device: WatchdogThread.fake, run: run) { reports.add($0) }
        #expect(!thread.isCounting)
        thread.submit(.open(timeout: .seconds(6), notAfter: soon))
        guard case .opened(let opened) = try reports.next() else { return #expect(Bool(false), "not opened") }
        #expect(opened.timeout == .seconds(6) && opened.canDisarm && opened.outlivesProcess)
        #expect(thread.isCounting)
        let first = device
        #expect(first.hasPrefix("6 "))

        thread.submit(.feed(notAfter: soon))
        guard case .fed(nil) = try reports.next() else { return #expect(Bool(false), "not fed") }
        let second = device
        #expect(second != first)
        thread.submit(.feed(notAfter: Instant(nanoseconds: cl_boottime() - 1)))
        guard case .fed(nil) = try reports.next() else { return #expect(Bool(false), "no answer") }
        #expect(device == second, "it was too late")

        let others = Reports()
        let other = WatchdogThread(device: WatchdogThread.fake, run: run) { others.add($0) }
        #expect(other.isCounting)
        other.submit(.open(timeout: .seconds(6), notAfter: soon))
        guard case .openFailed(let why) = try others.next() else { return #expect(Bool(false), "opened twice") }
        #expect(why.contains("another process has it"))
        #expect(thread.isCounting && device == second)

        thread.submit(.close)
        guard case .closed(nil) = try reports.next() else { return #expect(Bool(false), "not closed") }
        #expect(!thread.isCounting && device.hasPrefix("V "))
    }

    @Test("a device that is not there is told with the way out, and does not count")
    func missing() throws {
        defer { try? FileManager.default.removeItem(atPath: run) }
        let reports = Reports()
        let thread = WatchdogThread(device: "\(run)/nothing", run: run) { reports.add($0) }
        thread.submit(.open(timeout: .seconds(30), notAfter: soon))
        guard case .openFailed(let why) = try reports.next() else { return #expect(Bool(false), "opened") }
        #expect(why.contains("\(run)/nothing") && why.contains("load the driver"))
        #expect(!thread.isCounting)
        thread.submit(.open(timeout: .seconds(30), notAfter: Instant(nanoseconds: cl_boottime() - 1)))
        guard case .openFailed(let late) = try reports.next() else { return #expect(Bool(false), "opened late") }
        #expect(late.contains("too long"))
        #expect(!thread.isCounting)
    }
}
