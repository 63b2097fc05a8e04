import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// Power fails at every write of every operation, with every part of it on disk: what is left can be read, `index.rebuild` repairs it, and the operation can be done again.
@Suite("Crashes at every write", .serialized)
struct CrashTests {
    private func isDone(_ reply: Reply?) -> Bool { if case .success? = reply { true } else { false } }

    /// Runs an operation without a crash, then once for each place where power can fail.
    private func each(
        prepare: (CrashBench) throws -> Void = { _ in }, operation: (CrashBench) throws -> Void, then: (CrashBench, CrashBench.Crash, UInt64) throws -> Void
    ) throws -> Int {
        let whole = CrashBench()
        try prepare(whole)
        whole.watch(whole.world.hosts[0])
        try operation(whole)
        let crashes = CrashBench.crashes(whole.lengths)
        for crash in crashes {
            let bench = CrashBench()
            try prepare(bench)
            bench.watch(bench.world.hosts[0], crash)
            try operation(bench)
            #expect(!bench.world.hosts[0].isOn, "\(crash): power did not fail")
            bench.stopWatching()
            try bench.checkReadable(crash)
            try then(bench, crash, try bench.repair(crash))
        }
        return crashes.count
    }

    @Test func ofAcquire() throws {
        let count = try each { bench in
            bench.world.hosts[0].startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
            bench.world.run(for: .seconds(2))
        } then: { bench, crash, _ in
            #expect(bench.canHave("image-1", bench.world.hosts[1]), "\(crash)")
        }
        #expect(count == 6)
    }

    @Test func ofRelease() throws {
        let count = try each { bench in
            bench.world.hosts[0].startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
            bench.world.run(for: .seconds(2))
        } operation: { bench in
            bench.world.hosts[0].guards.last?.end("test")
            bench.world.run(for: .seconds(2))
        } then: { bench, crash, _ in
            #expect(bench.canHave("image-1", bench.world.hosts[1]), "\(crash)")
        }
        #expect(count == 4)
    }

    @Test func ofCreate() throws {
        var lver: UInt64 = 0
        let count = try each { bench in
            lver = try #require(bench.elect(bench.world.hosts[0]))
        } operation: { bench in
            _ = bench.create("image-4", bench.world.hosts[0], lver)
        } then: { bench, crash, lver in
            let two = bench.world.hosts[1]
            #expect(isDone(bench.create("image-4", two, lver)), "\(crash)")
            #expect(bench.list(two)?.leases.map(\.lease.resource).sorted() == ["SDM", "image-1", "image-2", "image-3", "image-4"], "\(crash)")
            #expect(bench.canHave("image-4", two), "\(crash)")
        }
        #expect(count == 7)
    }

    @Test func ofRemove() throws {
        var lver: UInt64 = 0
        let count = try each { bench in
            lver = try #require(bench.elect(bench.world.hosts[0]))
        } operation: { bench in
            _ = bench.remove("image-1", bench.world.hosts[0], lver)
        } then: { bench, crash, lver in
            let two = bench.world.hosts[1]
            #expect(isDone(bench.remove("image-1", two, lver)), "\(crash)")
            #expect(bench.list(two)?.leases.map(\.lease.resource).sorted() == ["SDM", "image-2", "image-3"], "\(crash)")
            #expect(isDone(bench.create("image-1", two, lver)), "\(crash)")
            #expect(bench.canHave("image-1", two) && bench.canHave("image-2", two), "\(crash)")
        }
        #expect(count == 3 * 2 + 2 + 5)
    }

    /// lease-service alone dies: it comes back with the same generation, and gives back what the removal had taken.
    @Test func ofLeaseServiceWhileRemoving() throws {
        for milliseconds in stride(from: 0, to: 300, by: 15) as StrideTo<Int64> {
            let bench = CrashBench()
            let (one, two) = (bench.world.hosts[0], bench.world.hosts[1])
            let lver = try #require(bench.elect(one))
            one.submit(.remove("r", bench.caller, LeaseRequest(lease: LeaseName(lockspace: World.lockspace, resource: "image-1"), lver: lver)))
            bench.world.run(for: .milliseconds(milliseconds))
            one.killService()
            one.startService()
            bench.world.run(for: .seconds(8))
            #expect(one.generation == 1)
            let index = try LeaseIndex(
                try #require(bench.world.disk.read(CrashBench.xleases, LeaseIndex.offset(World.geometry), LeaseIndex.length))[...], geometry: World.geometry)
            if index.lookup("image-1") != nil { #expect(bench.canHave("image-1", two), "after \(milliseconds) ms") }
            #expect(one.engine.grants.isEmpty, "after \(milliseconds) ms")
        }
    }

    @Test func ofRebuild() throws {
        var lver: UInt64 = 0
        let count = try each { bench in
            lver = try #require(bench.elect(bench.world.hosts[0]))
            // A lease whose leader is lost, with blocks of its past, and one that no record names.
            let slot = { (number: Int) in UInt64((3 + number) * World.geometry.alignment) }
            var lost = [UInt8](repeating: 0, count: World.geometry.alignment)
            let old = World.geometry.blockOffset(host: 1)
            lost.replaceSubrange(old..<(old + World.geometry.sectorSize), with: BallotBlock(mbal: 5000, lver: 7).sector(World.geometry))
            bench.world.disk.write(CrashBench.xleases, slot(0), lost)
            bench.world.disk.write(CrashBench.xleases, slot(4), Images.resource("image-9", lockspace: World.lockspace, geometry: World.geometry))
        } operation: { bench in
            _ = bench.rebuild(bench.world.hosts[0], lver)
        } then: { bench, crash, lver in
            let two = bench.world.hosts[1]
            #expect(bench.list(two)?.leases.map(\.lease.resource).sorted() == ["SDM", "image-1", "image-2", "image-3"], "\(crash)")
            #expect(bench.canHave("image-1", two) && bench.canHave("image-3", two), "\(crash)")
        }
        // Two areas, leader last; the mark, the whole index, the commit.
        #expect(count == 2 * (5 + 2) + 2 + 5 + 2)
    }

    /// A lockspace whose making did not finish is none; made again, it is joined.
    @Test func ofInitialize() throws {
        func initialize(_ bench: CrashBench, _ host: SimulatedHost) -> Reply? {
            bench.ask(host) { .initialize($0, bench.caller, LockspaceInitialize(lockspace: "dom2", path: "/shared/dom2", ioTimeout: 2), time: 1) }
        }
        let whole = CrashBench()
        whole.watch(whole.world.hosts[0])
        #expect(isDone(initialize(whole, whole.world.hosts[0])))
        let crashes = CrashBench.crashes(whole.lengths, sector: 512)
        #expect(crashes.count > 15)
        for crash in crashes {
            let bench = CrashBench()
            let two = bench.world.hosts[1]
            bench.watch(bench.world.hosts[0], crash)
            _ = initialize(bench, bench.world.hosts[0])
            bench.stopWatching()
            let isMade = crash.write == whole.lengths.count - 1 && crash.torn == .everything
            let first = bench.world.disk.read("/shared/dom2/dom_md/ids", 0, 512).flatMap { try? LeaderRecord($0[...]) }
            #expect((first != nil) == isMade, "\(crash)")
            switch initialize(bench, two) {
            case .refused(let error)?: #expect(isMade && error.code == "object.exists", "\(crash)")
            case .success?: #expect(!isMade, "\(crash)")
            case nil: Issue.record("\(crash): no answer")
            }
            let reply = bench.ask(two) { .join($0, bench.caller, LockspaceJoin(lockspace: "dom2", path: "/shared/dom2")) }
            #expect(isDone(reply), "\(crash): joined")
        }
    }
}
