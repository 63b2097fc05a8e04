import Foundation
import LeaseEngine
import LeaseFormat
import LeaseVolume
import Messages
import Synchronization
import Testing

@Suite("Direct I/O and lanes")
struct VolumeTests {
    private let later = Instant(nanoseconds: .max)

    private func withDirectory(_ work: (String) throws -> Void) throws {
        // Not the temporary directory: that may be a file system without direct I/O.
        let directory = "/var/tmp/bulwark-lease-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try work(directory)
    }

    @Test func whatIsWrittenIsRead() throws {
        try withDirectory { directory in
            let path = "\(directory)/ids"
            let image = Images.lockspace("LS1", ioTimeout: 2)
            #expect(DirectFile.write(path: path, offset: 1 << 20, bytes: image, notAfter: later, create: true) == .written)
            #expect(DirectFile.read(path: path, offset: 1 << 20, length: image.count) == .data(image))
            #expect(DirectFile.read(path: path, offset: 0, length: 512) == .data([UInt8](repeating: 0, count: 512)), "the hole before it")
        }
    }

    @Test func whatIsNotThereIsMissing() throws {
        try withDirectory { directory in
            let path = "\(directory)/ids"
            guard case .missing = DirectFile.read(path: path, offset: 0, length: 512) else { return #expect(Bool(false)) }
            guard case .missing = DirectFile.write(path: path, offset: 0, bytes: [UInt8](repeating: 1, count: 512), notAfter: later, create: false) else {
                return #expect(Bool(false))
            }
            _ = DirectFile.write(path: path, offset: 0, bytes: [UInt8](repeating: 1, count: 512), notAfter: later, create: true)
            guard case .missing = DirectFile.read(path: path, offset: 0, length: 1024) else { return #expect(Bool(false), "a short file") }
        }
    }

    /// S8: a thread that wakes up too late does not write.
    @Test func aLateWriteIsNotBegun() throws {
        try withDirectory { directory in
            let path = "\(directory)/ids"
            #expect(DirectFile.write(path: path, offset: 0, bytes: [UInt8](repeating: 1, count: 512), notAfter: Instant(nanoseconds: 1), create: true) == .expired)
            guard case .missing = DirectFile.read(path: path, offset: 0, length: 512) else { return #expect(Bool(false)) }
        }
    }

    /// A descriptor that stays open must not write to a file that its path does not lead to any more.
    @Test func anotherFileAtTheSamePathIsOpenedAnew() throws {
        try withDirectory { directory in
            let path = "\(directory)/ids"
            let files = OpenFiles()
            func sector(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 512) }
            func write(_ byte: UInt8) -> IOResult {
                files.perform(.one(.write(path: path, offset: 0, bytes: sector(byte), notAfter: later, create: false))) { true }
            }
            _ = DirectFile.write(path: path, offset: 0, bytes: sector(1), notAfter: later, create: true)
            #expect(write(2) == .written)
            #expect(rename(path, path + ".old") == 0)
            guard case .missing = write(3) else { return #expect(Bool(false), "there is no such file") }
            _ = DirectFile.write(path: path, offset: 0, bytes: sector(4), notAfter: later, create: true)
            #expect(write(5) == .written)
            #expect(DirectFile.read(path: path, offset: 0, length: 512) == .data(sector(5)))
            #expect(DirectFile.read(path: path + ".old", offset: 0, length: 512) == .data(sector(2)))
            func open() -> Int {
                let links = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
                return links.filter { (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)"))?.hasPrefix(directory) ?? false }.count
            }
            #expect(open() == 1)
            files.close(under: directory)
            #expect(open() == 0)
        }
    }

    private final class Reports: Sendable {
        let seen = Mutex<[String]>([])
        func wait(for count: Int) -> [String] {
            for _ in 0..<2000 {
                let now = seen.withLock { $0 }
                if now.count >= count { return now }
                usleep(2000)
            }
            return seen.withLock { $0 }
        }
    }

    @Test func stuckWorkDelaysNeitherItsLaneNorOthers() {
        let reports = Reports()
        let gate = DispatchSemaphore(value: 0)
        let lanes = LaneThreads<String> { report in
            let line = switch report {
            case .completed(let token, let text): "\(token) \(text)"
            case .timedOut(let token): "\(token) timed out"
            case .landed(let token): "\(token) landed"
            }
            reports.seen.withLock { $0.append(line) }
        }
        lanes.submit(lane: "a", token: 1, timeout: .milliseconds(150)) { _ in
            gate.wait()
            return "late"
        }
        lanes.submit(lane: "a", token: 2, timeout: .seconds(5)) { _ in "second" }
        lanes.submit(lane: "b", token: 3, timeout: .seconds(5)) { _ in "other" }
        #expect(reports.wait(for: 3) == ["3 other", "1 timed out", "2 second"])
        gate.signal()
        #expect(reports.wait(for: 4).last == "1 landed")
    }

    /// Whoever submits may do the work in the lane's place; what hangs there is abandoned as anywhere, and the lane goes on.
    @Test func oneThreadDoesWhatItSubmitsUntilThatHangs() throws {
        let reports = Reports()
        let gate = DispatchSemaphore(value: 0)
        let lanes = LaneThreads<String> { report in
            let line = switch report {
            case .completed(let token, let text): "\(token) \(text)"
            case .timedOut(let token): "\(token) timed out"
            case .landed(let token): "\(token) landed"
            }
            reports.seen.withLock { $0.append(line) }
        }
        let here: @Sendable (Bool) -> String = { $0 ? "here" : "there" }
        let isDone = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            let thread = pthread_self()
            lanes.standIn()
            lanes.submit(lane: "a", token: 1, timeout: .seconds(5), orHere: true) { _ in here(pthread_self() == thread) }
            lanes.submit(lane: "b", token: 2, timeout: .seconds(5), orHere: true) { _ in here(pthread_self() == thread) }
            _ = reports.wait(for: 1)
            lanes.next()?()
            _ = reports.wait(for: 2)
            lanes.submit(lane: "b", token: 3, timeout: .seconds(5)) { _ in here(pthread_self() == thread) }
            _ = reports.wait(for: 3)
            lanes.submit(lane: "a", token: 4, timeout: .milliseconds(150), orHere: true) { goOn in
                gate.wait()
                return goOn() ? "goes on" : "stops"
            }
            lanes.submit(lane: "a", token: 5, timeout: .seconds(5)) { _ in here(pthread_self() == thread) }
            lanes.next()?()
            isDone.signal()
        }
        #expect(reports.wait(for: 5) == ["2 there", "1 here", "3 there", "4 timed out", "5 there"])
        gate.signal()
        isDone.wait()
        #expect(reports.wait(for: 6).last == "4 landed")
    }

    @Test func storageThatHangsForEverCostsAFewThreadsOnly() {
        let reports = Reports()
        let gate = DispatchSemaphore(value: 0)
        let begun = Mutex(0)
        let lanes = LaneThreads<String> { report in
            let line = switch report {
            case .completed(let token, let text): "\(token) \(text)"
            case .timedOut(let token): "\(token) timed out"
            case .landed(let token): "\(token) landed"
            }
            reports.seen.withLock { $0.append(line) }
        }
        for token in 1...8 as ClosedRange<UInt64> {
            lanes.submit(lane: "a", token: token, timeout: .milliseconds(100)) { _ in
                begun.withLock { $0 += 1 }
                gate.wait()
                return "late"
            }
        }
        let hung = reports.wait(for: 12)
        #expect(hung.prefix(4) == ["1 timed out", "2 timed out", "3 timed out", "4 timed out"])
        #expect(hung.dropFirst(4) == (5...8).flatMap { ["\($0) timed out", "\($0) landed"] }[...])
        #expect(begun.withLock { $0 } == LaneOrder.limit)
        lanes.submit(lane: "a", token: 9, timeout: .seconds(5)) { _ in "ninth" }
        gate.signal()
        let well = reports.wait(for: 14)
        #expect(well.count == 14 && well.contains("9 ninth"), "\(well)")
        for _ in 0..<3 { gate.signal() }
        #expect(reports.wait(for: 17).filter { $0.hasSuffix("landed") }.count == 8)
    }
}
