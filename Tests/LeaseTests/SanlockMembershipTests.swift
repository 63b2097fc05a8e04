import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// A membership that a sanlock daemon keeps: its sector is only read.
@Suite("Memberships that a sanlock daemon keeps")
struct SanlockMembershipTests {
    /// The daemon's sector, and when it was last read.
    private struct Bench {
        var membership: Membership
        var own = LeaderRecord(lockspace: "domain", ioTimeout: 10)
        var now = Instant(nanoseconds: 1_000_000_000_000)

        init(knows generation: UInt64? = nil) {
            let host = HostIdentity(name: "host1", hostID: 1, bootID: "b", hardwareID: "h", sanlock: SanlockSettings(run: "/run/sanlock", library: "library"))
            var record = MembershipRecord(lockspace: "domain", path: "/domain", hardwareID: "h", bootID: "b")
            record.generation = generation ?? 0
            record.isOfDaemon = generation.map { _ in true }
            membership = Membership(record: record, host: host)
        }

        var sector: IOResult { .data([UInt8](own.sector)) }

        mutating func renew() { own.timestamp += 20 }
        mutating func pass(_ seconds: Int64) { now = now + .seconds(seconds) }

        /// Up to the question to the daemon.
        mutating func ask() -> SanlockCall? {
            _ = membership.begin()
            _ = membership.onResult(sector, at: now)
            pass(1)
            if case .daemon(let call)? = membership.onResult(sector, at: now).first { return call }
            return nil
        }

        /// Its answer, and a read of what the sector says then.
        mutating func answer(_ result: Int32) -> [Membership.Step] {
            let steps = membership.onDaemon(result, at: now)
            guard case .io? = steps.first else { return steps }
            return membership.onResult(sector, at: now)
        }

        /// The read that is due, which takes a second.
        mutating func look() -> [Membership.Step] {
            now = max(now, membership.nextWake ?? now)
            let steps = membership.tick(at: now)
            guard case .io? = steps.first else { return steps }
            pass(1)
            return membership.onResult(sector, at: now)
        }

        /// A member, by the daemon's joining as generation 4.
        mutating func join() {
            own.ownerID = 1
            own.name = "daemon"
            own.ownerGeneration = 3
            #expect(ask() == .add(SanlockLockspace(name: "domain", hostID: 1, ids: "/domain/dom_md/ids"), ioTimeout: 10))
            pass(21)
            own.ownerGeneration = 4
            own.timestamp = 100
            let steps = answer(0)
            guard case .note(let record)? = steps.first else {
                Issue.record("\(steps)")
                return
            }
            _ = membership.onNoted(record, at: now)
            pass(1)
            _ = membership.onResult(sector, at: now)
            #expect(membership.isJoined && membership.record.generation == 4 && membership.record.generationBefore == 3)
        }
    }

    @Test("the deadline counts from the last read that did not show the renewal, not from the read that did")
    func deadline() {
        var bench = Bench()
        let began = bench.now
        bench.join()
        // What was read before the daemon was asked did not show it.
        #expect(bench.membership.deadline == began + .seconds(80))
        _ = bench.look()
        let unchanged = bench.now - .seconds(1)
        #expect(bench.membership.deadline == began + .seconds(80))
        bench.renew()
        let steps = bench.look()
        #expect(bench.membership.deadline == unchanged + .seconds(80))
        guard case .renewed(let sample)? = steps.first, sample.ok, !sample.isLate else {
            Issue.record("\(steps)")
            return
        }
    }

    @Test("a daemon that renews no more loses the lockspace at the deadline")
    func silent() throws {
        var bench = Bench()
        bench.join()
        let deadline = try #require(bench.membership.deadline)
        while bench.membership.isJoined, bench.now < deadline + .seconds(60) {
            let steps = bench.look()
            if case .lost? = steps.first { break }
        }
        #expect(bench.membership.isLost && bench.now == deadline)
    }

    @Test("another generation, another name or a free sector loses it at once", arguments: 0..<3)
    func overwritten(_ what: Int) {
        var bench = Bench()
        bench.join()
        bench.renew()
        if what == 0 { bench.own.ownerGeneration += 1 } else if what == 1 { bench.own.name = "other" } else { bench.own.timestamp = 0 }
        guard case .lost? = bench.look().first else {
            Issue.record("still \(bench.membership.state)")
            return
        }
    }

    @Test("after a restart it is taken up again if the daemon never left it and renews, without a new generation")
    func adopted() {
        var bench = Bench(knows: 4)
        bench.own.ownerID = 1
        bench.own.name = "daemon"
        bench.own.ownerGeneration = 4
        bench.own.timestamp = 100
        #expect(bench.ask() == .has(SanlockLockspace(name: "domain", hostID: 1, ids: "/domain/dom_md/ids")))
        #expect(bench.answer(0).isEmpty && !bench.membership.isJoined)
        #expect(bench.look().isEmpty && bench.membership.deadline == nil)
        let unchanged = bench.now - .seconds(1)
        bench.renew()
        guard case .joined(again: true)? = bench.look().first else {
            Issue.record("\(bench.membership.state)")
            return
        }
        #expect(bench.membership.deadline == unchanged + .seconds(80) && bench.membership.record.generation == 4)
    }

    @Test("after a restart a daemon that left, or joined anew, is not joined to: living guests still count on the generation", arguments: [true, false])
    func notAdopted(_ left: Bool) {
        var bench = Bench(knows: 4)
        bench.own.ownerID = 1
        bench.own.ownerGeneration = left ? 4 : 5
        bench.own.timestamp = 100
        _ = bench.ask()
        guard case .lost? = bench.answer(left ? SanlockCode.noSuchFile : 0).first else {
            Issue.record("\(bench.membership.state)")
            return
        }
    }

    @Test("what the native engine joined is not taken up by sanlock's, nor the other way round")
    func otherEngine() {
        var bench = Bench(knows: 4)
        bench.membership.record.isOfDaemon = nil
        #expect(!Membership(record: bench.membership.record, host: bench.membership.host).mayAdopt)
        bench.membership.record.isOfDaemon = true
        var host = bench.membership.host
        #expect(Membership(record: bench.membership.record, host: host).mayAdopt)
        host.sanlock = nil
        #expect(!Membership(record: bench.membership.record, host: host).mayAdopt)
    }

    @Test("a lockspace whose leases are still in use is not left")
    func stays() {
        var bench = Bench()
        bench.join()
        guard case .daemon(.remove)? = bench.membership.leave(at: bench.now).first, case .stayed? = bench.answer(SanlockCode.busy).first else {
            Issue.record("\(bench.membership.state)")
            return
        }
        #expect(bench.membership.isJoined)
    }
}
