import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// Who may change an index of leases, and what a change never touches.
@Suite("Changes of a lease index")
struct IndexTests {
    private let bench = CrashBench()
    private var one: SimulatedHost { bench.world.hosts[0] }
    private var two: SimulatedHost { bench.world.hosts[1] }

    private func code(_ reply: Reply?) -> String? {
        switch reply {
        case .success?: "done"
        case .refused(let error)?: error.code
        case nil: nil
        }
    }

    private func slot(_ number: Int) -> UInt64 { UInt64((3 + number) * World.geometry.alignment) }

    private func leader(_ number: Int) -> LeaderRecord? {
        bench.world.disk.read(CrashBench.xleases, slot(number), World.geometry.sectorSize).flatMap { try? LeaderRecord($0[...]) }
    }

    private func hold(_ resource: String, on host: SimulatedHost) throws -> SimulatedGuard {
        host.startGuard("holder", attempt: 1, images: [resource], generation: nil)
        bench.world.run(for: .seconds(2))
        let guest = try #require(host.guards.last)
        #expect(guest.isRunning)
        return guest
    }

    /// Writes a lease that this host holds into a slot that no record names.
    private func orphan(_ number: Int, ownerID: UInt64, generation: UInt64, shared: Bool = false) {
        var area = Images.resource("orphan", lockspace: World.lockspace, geometry: World.geometry)
        var leader = LeaderRecord(lockspace: World.lockspace, resource: "orphan", geometry: World.geometry)
        leader.lver = 3
        leader.ownerID = ownerID
        leader.ownerGeneration = generation
        leader.timestamp = shared ? 0 : 99
        area.replaceSubrange(..<World.geometry.sectorSize, with: leader.sector)
        if shared {
            var block = BallotBlock(mbal: 1, lver: 3)
            block.sharedGeneration = generation
            let start = World.geometry.blockOffset(host: Int(ownerID))
            area.replaceSubrange(start..<(start + World.geometry.sectorSize), with: block.sector(World.geometry))
        }
        bench.world.disk.write(CrashBench.xleases, slot(number), area)
    }

    /// Where a lease was found is believed only as long as the index names it there: a host that used the old place would hold it beside a host that uses the new one.
    @Test func aLeaseThatMovedIsTakenWhereTheIndexNamesIt() throws {
        let lver = try #require(bench.elect(one))
        let before = try hold("image-1", on: two)
        before.end("test")
        bench.world.run(for: .seconds(6))
        #expect(two.engine.places[LeaseName(lockspace: World.lockspace, resource: "image-1")] == 0)
        #expect(code(bench.remove("image-1", one, lver)) == "done")
        #expect(code(bench.create("other", one, lver)) == "done")
        #expect(code(bench.create("image-1", one, lver)) == "done")
        // As if the removal had not come to erase the lease's old area.
        bench.world.disk.write(CrashBench.xleases, slot(0), Images.resource("image-1", lockspace: World.lockspace, geometry: World.geometry))
        two.startGuard("holder", attempt: 2, images: ["image-1"], generation: nil)
        bench.world.run(for: .seconds(2))
        #expect(two.guards.last?.isRunning == true)
        #expect(leader(0)?.isFree == true && leader(3)?.isFree == false)
        #expect(two.engine.places[LeaseName(lockspace: World.lockspace, resource: "image-1")] == 3)
    }

    @Test func S5_aLeaseIsRemovedOnlyByWhoCanTakeIt() throws {
        let lver = try #require(bench.elect(one))
        let there = try hold("image-1", on: two)
        #expect(code(bench.remove("image-1", one, lver)) == "lease.held")
        let here = try hold("image-2", on: one)
        #expect(code(bench.remove("image-2", one, lver)) == "lease.held-here")
        #expect(there.isRunning && here.isRunning)
        #expect(leader(0)?.isFree == false && leader(1)?.isFree == false)
        there.end("test")
        here.end("test")
        bench.world.run(for: .seconds(6))
        #expect(code(bench.remove("image-1", one, lver)) == "done")
        #expect(code(bench.remove("image-2", one, lver)) == "done")
        #expect(code(bench.remove("image-2", one, lver)) == "done", "is none there: done")
        #expect(bench.list(one)?.leases.map(\.lease.resource) == ["SDM", "image-3"])
        #expect(leader(0)?.name == "" && leader(1)?.name == "")
        #expect(one.engine.grants.count == 1, "SDM alone is held")
    }

    @Test func S12_onlyTheSPMChangesAnIndex() throws {
        for reply in [bench.remove("image-1", one, 1), bench.rebuild(one, 1)] { #expect(code(reply) == "spm.not-here") }
        let lver = try #require(bench.elect(one))
        for reply in [bench.remove("image-1", one, lver + 1), bench.rebuild(one, lver + 1), bench.remove("image-1", two, lver), bench.rebuild(two, lver)] {
            #expect(code(reply) == "spm.not-here")
        }
        #expect(code(bench.remove(DomainLayout.sdm, one, lver)) == "request.invalid")
        #expect(bench.list(one)?.leases.count == 4)
    }

    @Test func changesWaitForEachOther() throws {
        let lver = try #require(bench.elect(one))
        for (id, resource) in [("a", "image-4"), ("b", "image-5")] {
            one.submit(.create(id, bench.caller, LeaseRequest(lease: LeaseName(lockspace: World.lockspace, resource: resource), lver: lver)))
        }
        one.submit(.remove("c", bench.caller, LeaseRequest(lease: LeaseName(lockspace: World.lockspace, resource: "image-1"), lver: lver)))
        one.submit(.rebuild("d", bench.caller, IndexRebuildRequest(lockspace: World.lockspace, lver: lver), time: 9))
        bench.world.run(for: .seconds(20))
        #expect(["a", "b", "c", "d"].map { code(one.replies[$0]) } == ["done", "done", "done", "done"])
        #expect(bench.list(one)?.leases.map(\.lease.resource).sorted() == ["SDM", "image-2", "image-3", "image-4", "image-5"])
    }

    @Test(arguments: [false, true]) func aRebuildLeavesWhatSomebodyMayUse(_ shared: Bool) throws {
        let lver = try #require(bench.elect(one))
        orphan(3, ownerID: 2, generation: 1, shared: shared)
        guard case .success(let reply)? = bench.rebuild(one, lver), let report = reply as? IndexRebuildReport else { return #expect(Bool(false)) }
        #expect(report.refused.count == 1 && report.steps.isEmpty && report.leases == 3, "\(report)")
        #expect(leader(3)?.name == "orphan")
        // A later generation says that it is over.
        two.powerOff()
        bench.world.run(for: .seconds(1))
        two.powerOn()
        bench.world.run(for: .seconds(15))
        #expect(two.generation == 2)
        guard case .success(let again)? = bench.rebuild(one, lver), let report = again as? IndexRebuildReport else { return #expect(Bool(false)) }
        #expect(report.refused.isEmpty && report.steps.count == 1, "\(report)")
        #expect(leader(3)?.name == "")
    }

    @Test(arguments: [false, true]) func aNewLeasePassesOverASlotInUse(_ shared: Bool) throws {
        let lver = try #require(bench.elect(one))
        orphan(3, ownerID: 2, generation: 1, shared: shared)
        #expect(code(bench.create("image-4", one, lver)) == "done")
        #expect(leader(3)?.name == "orphan" && leader(4)?.name == "image-4")
        #expect(bench.canHave("image-4", two))
    }

    @Test func aSlotThatNobodyUsesIsUsedAgain() throws {
        let lver = try #require(bench.elect(one))
        orphan(3, ownerID: 1, generation: 1)
        #expect(code(bench.create("image-4", one, lver)) == "done", "its owner is this host, which has no such grant")
        #expect(leader(3)?.name == "image-4")
    }

    @Test func listTellsWhatIsWrong() throws {
        let lver = try #require(bench.elect(one))
        let index = LeaseIndex.offset(World.geometry)
        var block = try #require(bench.world.disk.read(CrashBench.xleases, index, 4096))
        block[512 + 61] = UInt8(ascii: "u")
        block[512 + 64 + 50] = UInt8(ascii: "x")
        bench.world.disk.write(CrashBench.xleases, index, block)
        bench.world.disk.write(CrashBench.xleases, slot(2), [UInt8](repeating: 7, count: 4096))
        let list = try #require(bench.list(one))
        #expect(list.leases.map(\.lease.resource) == ["SDM"])
        #expect(list.problems?.map { "\($0.resource ?? "?") \($0.state.rawValue)" } == ["image-1 updating", "? corrupt", "image-3 corrupt"])
        block[70] = UInt8(ascii: "u")
        bench.world.disk.write(CrashBench.xleases, index, block)
        #expect(bench.list(one)?.problems?.first?.state == .updating)
        #expect(code(bench.ask(one) { .lookup($0, LeaseRequest(lease: LeaseName(lockspace: World.lockspace, resource: "image-1"))) }) == "lease.index-updating")
        #expect(code(bench.create("image-4", one, lver)) == "lease.index-updating")
        #expect(code(bench.remove("image-1", one, lver)) == "lease.index-updating")
        #expect(code(bench.rebuild(one, lver)) == "done")
        #expect(bench.list(one)?.problems == [])
        #expect(bench.list(one)?.leases.map(\.lease.resource) == ["SDM", "image-1", "image-2", "image-3"])
        block[0] = 0
        bench.world.disk.write(CrashBench.xleases, index, block)
        #expect(bench.list(one)?.problems?.first?.state == .corrupt)
        #expect(code(bench.rebuild(one, lver)) == "lease.corrupt", "an index whose header is lost can only be formatted")
    }
}
