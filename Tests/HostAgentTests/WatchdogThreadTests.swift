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
        guard case .opened(let opened, _) = try reports.next() else { return #expect(Bool(false), "not opened") }
        #expect(opened.timeout == .seconds(6) && opened.canDisarm && opened.outlivesProcess)
        #expect(thread.isCounting)
        let first = device
        #expect(first.hasPrefix("6 "))

        thread.submit(.feed(notAfter: soon))
        guard case .fed(nil, .some) = try reports.next() else { return #expect(Bool(false), "not fed") }
        let second = device
        #expect(second != first)
        thread.submit(.feed(notAfter: Instant(nanoseconds: cl_boottime() - 1)))
        guard case .fed(nil, nil) = try reports.next() else { return #expect(Bool(false), "no answer") }
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

    @Test("what is no watchdog is neither written to nor called one", arguments: ["file", "/dev/null"])
    func strange(name: String) throws {
        defer { try? FileManager.default.removeItem(atPath: run) }
        let path = name.hasPrefix("/") ? name : "\(run)/\(name)"
        if path != name { try Data("mine".utf8).write(to: URL(fileURLWithPath: path)) }
        let reports = Reports()
        let thread = WatchdogThread(device: path, run: run) { reports.add($0) }
        for _ in 0..<2 {
            thread.submit(.open(timeout: .seconds(30), notAfter: soon))
            guard case .openFailed(let why) = try reports.next() else { return #expect(Bool(false), "opened") }
            #expect(why.contains("\(path) is not a watchdog"))
        }
        #expect(!thread.isCounting)
        if path != name { #expect(FileManager.default.contents(atPath: path) == Data("mine".utf8)) }
    }

    @Test("an agent whose watchdog.device was changed while the watchdog counts does not start, and says which one that is")
    func changed() throws {
        defer { try? FileManager.default.removeItem(atPath: run) }
        try WatchdogThread.check(device: "", run: run)
        let reports = Reports()
        let thread = WatchdogThread(device: WatchdogThread.fake, run: run) { reports.add($0) }
        thread.submit(.open(timeout: .seconds(6), notAfter: soon))
        guard case .opened = try reports.next() else { return #expect(Bool(false), "not opened") }
        try WatchdogThread.check(device: WatchdogThread.fake, run: run)
        for other in ["", "/dev/watchdog1"] {
            #expect { try WatchdogThread.check(device: other, run: run) } throws: { ($0 as? RequestError)?.message.contains("the watchdog fake: is armed") == true }
        }
        thread.submit(.close)
        _ = try reports.next()
        try WatchdogThread.check(device: "", run: run)
    }

    @Test("nowayout is read where this device has it; what cannot be read is not known, and never taken for a watchdog that can be disarmed")
    func forEver() throws {
        defer { try? FileManager.default.removeItem(atPath: run) }
        func write(_ text: String, _ path: String) throws {
            let file = URL(fileURLWithPath: "\(run)/\(path)")
            try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        func isForEver(_ major: UInt32, _ minor: UInt32, _ driver: String) -> Bool? { WatchdogAttributes.isForEver(major: major, minor: minor, driver, system: run) }
        #expect(isForEver(10, 130, "iTCO_wdt") == nil)
        #expect(isForEver(249, 1, "iTCO_wdt") == nil)
        #expect(isForEver(10, 130, "IPMI") == nil)
        try write("0\n", "class/watchdog/watchdog0/nowayout")
        try write("iTCO_wdt\n", "class/watchdog/watchdog0/identity")
        try write("1\n", "dev/char/249:1/nowayout")
        #expect(isForEver(10, 130, "iTCO_wdt") == false)
        #expect(isForEver(10, 130, "an old driver") == nil, "watchdog0 is another one")
        #expect(isForEver(10, 130, "IPMI") == nil)
        #expect(isForEver(249, 1, "iTCO_wdt") == true)
        try write("Y\n", "module/ipmi_watchdog/parameters/nowayout")
        #expect(isForEver(10, 130, "IPMI") == true)
    }
}
