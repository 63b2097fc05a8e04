import CLinux
import Foundation
import Synchronization
import TestLab

/// One who wants the lease.
struct Contender {
    var name: String
    var acquire: () throws -> Bool
    var release: () throws -> Void
}

/// A number in a file that everybody raises by one while holding the lease: a lost update, or a foreign hand in between, shows that two held it.
struct Counter: Sendable {
    let path: String
    /// How often each kind of contender raises it.
    let rounds: Int

    /// - Parameter contenders: each is made in its own thread; those of one name share their rounds.
    func contend(_ contenders: [@Sendable () throws -> Contender]) throws {
        try write(0)
        let end = cl_boottime() + Int64(60 + rounds) * 1_000_000_000
        let state = Mutex((left: [String: Int](), raised: 0, failure: String?.none))
        let done = DispatchSemaphore(value: 0)
        for make in contenders {
            Thread.detachNewThread {
                do {
                    let contender = try make()
                    state.withLock { if $0.left[contender.name] == nil { $0.left[contender.name] = rounds } }
                    while state.withLock({ $0.failure == nil && $0.left[contender.name] ?? 0 > 0 }) {
                        try expect(cl_boottime() < end, "\(contender.name) does not get its turns: \(state.withLock { $0.left })")
                        guard try contender.acquire() else {
                            usleep(UInt32.random(in: 1000...20_000))
                            continue
                        }
                        try raise()
                        state.withLock {
                            $0.left[contender.name, default: 0] -= 1
                            $0.raised += 1
                        }
                        try contender.release()
                        // The others' turn: they only try from time to time.
                        usleep(UInt32.random(in: 1000...40_000))
                    }
                } catch {
                    state.withLock { $0.failure = $0.failure ?? "\(error)" }
                }
                done.signal()
            }
        }
        for _ in contenders { done.wait() }
        let (left, raised, failure) = state.withLock { $0 }
        if let failure { throw LabFailure(failure) }
        try expect(left.values.allSatisfy { $0 <= 0 }, "left: \(left)")
        try expect(read() == raised, "the counter is \(try read()) after \(raised) rounds: an update was lost")
    }

    /// Slowly, so that whoever comes between is seen.
    private func raise() throws {
        let before = try read()
        usleep(500)
        try write(before + 1)
        usleep(500)
        try expect(read() == before + 1, "somebody else wrote \(try read()) over \(before + 1)")
    }

    private func read() throws -> Int {
        guard let text = FileManager.default.contents(atPath: path), let value = Int(String(decoding: text, as: UTF8.self)) else { throw LabFailure("\(path) is unreadable") }
        return value
    }

    private func write(_ value: Int) throws {
        let file = cl_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        defer { close(file) }
        let text = Array(String(value).utf8)
        guard Glibc.write(file, text, text.count) == text.count else { throw LabFailure("\(path) cannot be written") }
    }
}
