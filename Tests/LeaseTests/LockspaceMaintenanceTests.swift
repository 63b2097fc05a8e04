import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

@Suite("Maintenance of a lockspace")
struct LockspaceMaintenanceTests {
    private func calmWorld(hosts: Int = 2) -> World {
        let world = World(seed: 7, hosts: hosts)
        world.isStormy = false
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        #expect(world.hosts.allSatisfy { $0.generation == 1 })
        return world
    }

    private func drain(_ host: SimulatedHost, _ id: String, open: Bool = false) -> LockspaceDrainView? {
        host.submit(.drain(id, LockspaceDrain(lockspace: World.lockspace, open: open, who: "op", why: "test")))
        host.world.run(for: .seconds(1))
        guard case .success(let body)? = host.replies[id] else { return nil }
        return body as? LockspaceDrainView
    }

    private func repair(_ host: SimulatedHost, _ id: String, departed: [SimulatedHost]) {
        let facts = LockspaceFacts(departures: departed.map { LockspaceFacts.Departure(host: $0.name, hostID: $0.id, bootID: "b", age: .zero) })
        let body = LockspaceRepair(lockspace: World.lockspace, path: World.root, backup: "/backup", facts: facts, who: "op", why: "test")
        host.submit(.repair(id, body, [], restores: false, time: 1))
    }

    private func refusal(_ host: SimulatedHost, _ id: String, after delay: Duration = .zero) -> String? {
        host.world.run(for: delay)
        if case .refused(let error)? = host.replies[id] { return error.code } else { return nil }
    }

    @Test func aDrainedHostLeavesOnceNobodyHoldsAndLetsNothingIn() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        one.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        world.run(for: .seconds(2))
        let guest = try #require(one.guards.last)
        #expect(guest.isRunning)
        let first = try #require(drain(one, "d1"))
        #expect(!first.hasLeft && first.holders == [guest.holder.description] && guest.isRunning, "guests are not ended by it")
        one.startGuard("db", attempt: 1, images: ["image-2"], generation: nil)
        world.run(for: .seconds(2))
        #expect(one.guards.last?.refusal == "lockspace.closed")
        guest.end("stopped")
        world.run(for: .seconds(8))
        #expect(drain(one, "d2")?.hasLeft == true)
        one.submit(.join("j", Caller(role: .agent), LockspaceJoin(lockspace: World.lockspace, path: World.root)))
        world.run(for: .seconds(3))
        #expect(refusal(one, "j") == "lockspace.closed" && one.generation == nil)
        one.killService()
        one.startService()
        world.run(for: .seconds(8))
        #expect(one.generation == nil, "it stays drained over restarts")
        #expect(drain(one, "d3", open: true)?.isClosed == false)
        world.run(for: .seconds(8))
        #expect(one.generation == 2)
    }

    @Test func aServiceThatIsKilledGoesOnWithWhatItBegan() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        for host in world.hosts { _ = drain(host, "d") }
        world.run(for: .seconds(8))
        repair(one, "r1", departed: world.hosts)
        // Into the wait after the markers.
        world.run(for: .seconds(2))
        let ids = DomainLayout(root: World.root).ids
        #expect(ReinitializationMarker(try #require(world.disk.read(ids, 0, 512))[...])?.request == "r1")
        one.killService()
        world.run(for: .seconds(2))
        one.startService()
        repair(one, "r1", departed: world.hosts)
        world.run(for: .seconds(12))
        guard case .success(let body)? = one.replies["r1"], let done = body as? LockspaceAssessment else { throw RequestError(code: "test", message: "no success: \(String(describing: one.replies["r1"]))") }
        #expect(done.isDone && one.engine.maintenance[World.lockspace]?.order == nil)
        // The same request again has no effect.
        let before = world.disk.read(ids, 0, 1 << 20)
        one.replies["r1"] = nil
        repair(one, "r1", departed: world.hosts)
        world.run(for: .seconds(2))
        #expect(one.replies["r1"] != nil && world.disk.read(ids, 0, 1 << 20) == before)
        for host in world.hosts { _ = drain(host, "o", open: true) }
        world.run(for: .seconds(8))
        #expect(world.hosts.allSatisfy { $0.generation == 2 }, "generations go on")
    }

    @Test func whatCannotGoOnAtOnceDoesLater() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        for host in world.hosts { _ = drain(host, "d") }
        world.run(for: .seconds(8))
        repair(one, "r1", departed: world.hosts)
        world.run(for: .seconds(2))
        let ids = DomainLayout(root: World.root).ids
        one.killService()
        world.disk.ends[ids] = 0
        one.startService()
        world.run(for: .seconds(40))
        #expect(one.engine.maintenance[World.lockspace]?.order != nil, "its storage is not there")
        for (id, dryRun, resume, code) in [("r1", true, false, "lockspace.unfinished"), ("r2", true, true, "request.invalid")] {
            one.submit(.repair(id, LockspaceRepair(lockspace: World.lockspace, path: World.root, dryRun: dryRun, resume: resume, who: "op", why: "test"), [], restores: false, time: 1))
            #expect(refusal(one, id, after: .seconds(1)) == code)
        }
        world.disk.ends[ids] = nil
        world.run(for: .seconds(45))
        #expect(one.engine.maintenance[World.lockspace]?.order == nil && one.engine.maintenance[World.lockspace]?.finished?.request == "r1")
        #expect(one.engine.jobs.isEmpty && one.engine.nextResume == nil)
    }

    @Test func nothingIsWrittenWhileAnEarlierWriteMayLandOrOnceItIsOpened() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        for host in world.hosts { _ = drain(host, "d") }
        world.run(for: .seconds(8))
        one.engine.tokens[9999] = .membership(World.lockspace, attempt: 0)
        repair(one, "r1", departed: world.hosts)
        #expect(refusal(one, "r1", after: .seconds(1)) == LeaseErrorCode.io.rawValue)
        one.submit(.landed(9999))
        repair(one, "r2", departed: world.hosts)
        one.submit(.drain("o", LockspaceDrain(lockspace: World.lockspace, open: true, who: "op", why: "test")))
        #expect(refusal(one, "r2", after: .seconds(8)) == RequestErrorCode.conflict.rawValue)
        #expect(one.generation == 2)
    }

    @Test func nothingIsWrittenByAHostThatHasNotLeft() throws {
        let world = calmWorld()
        let ids = DomainLayout(root: World.root).ids
        repair(world.hosts[0], "r", departed: [])
        world.run(for: .seconds(1))
        #expect(refusal(world.hosts[0], "r") == RequestErrorCode.conflict.rawValue)
        #expect(ReinitializationMarker(try #require(world.disk.read(ids, 0, 512))[...]) == nil)
    }

    // MARK: Void

    private func void(_ host: SimulatedHost, _ id: String, generation: UInt64 = 1, spm: Bool = false, dryRun: Bool = false) -> LeaseVoidView? {
        host.submit(.void(id, LeaseVoid(lockspace: World.lockspace, hostID: 2, generation: generation, spm: spm, dryRun: dryRun, who: "op", why: "test")))
        host.world.run(for: .seconds(4))
        guard case .success(let body)? = host.replies[id] else { return nil }
        return body as? LeaseVoidView
    }

    @Test func S1_onlyASilentHostIsVoidedAndWhatItAffectsIsToldFirst() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        two.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        world.run(for: .seconds(2))
        #expect(void(one, "v1") == nil && refusal(one, "v1") == "lockspace.in-use")
        two.powerOff()
        world.run(for: .seconds(40))
        #expect(void(one, "v2") == nil && refusal(one, "v2") == "lockspace.in-use", "silent, but not for its own dead time")
        world.run(for: .seconds(60))
        #expect(void(one, "v3", generation: 2) == nil && refusal(one, "v3") == "lockspace.generation-mismatch")
        let told = try #require(void(one, "v4", dryRun: true))
        #expect(told.leases == ["image-1"] && !told.isDone)
        let sector = { try LeaderRecord(try #require(world.disk.read(DomainLayout(root: World.root).ids, World.geometry.deltaOffset(host: 2), 4096))[...]) }
        #expect(try !sector().isFree)
        one.submit(.void("v5", LeaseVoid(lockspace: World.lockspace, hostID: 2, generation: 1, spm: false, dryRun: false, who: "op", why: "test")))
        var isKnown = false
        for _ in 0..<1000 where !isKnown {
            world.run(for: .milliseconds(1))
            isKnown = one.engine.tokens.values.contains { if case .job = $0 { $0.mayWrite(World.lockspace) } else { false } }
        }
        #expect(isKnown, "its write is one that others wait for")
        world.run(for: .seconds(4))
        guard case .success(let body)? = one.replies["v5"] else { throw RequestError(code: "test", message: "not voided") }
        let done = try #require(body as? LeaseVoidView)
        #expect(done.isDone && done.leases == ["image-1"])
        #expect(try sector().isFree && sector().ownerGeneration == 1)
        one.startGuard("web", attempt: 2, images: ["image-1"], generation: nil)
        world.run(for: .seconds(10))
        #expect(one.guards.last?.isRunning == true)
    }

    @Test func S1_SDMIsVoidedOnlyIfItIsNamed() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        var leader = LeaderRecord(lockspace: World.lockspace, resource: DomainLayout.sdm, geometry: World.geometry)
        leader.ownerID = 2
        leader.ownerGeneration = 1
        leader.lver = 3
        leader.timestamp = 9
        world.disk.write(DomainLayout(root: World.root).leases, UInt64(World.geometry.alignment), leader.sector)
        two.powerOff()
        world.run(for: .seconds(100))
        #expect(void(one, "v1") == nil && refusal(one, "v1") == RequestErrorCode.conflict.rawValue)
        #expect(void(one, "v2", spm: true)?.isDone == true)
    }

    // MARK: Backups

    @Test func theLowestLivingHostBacksUp() throws {
        var live = HostObservation(record: record(2, "host2", 1), firstSeen: Instant(nanoseconds: 0))
        live.see(record(2, "host2", 1, timestamp: 2), at: Instant(nanoseconds: 1_000_000_000))
        let now = Instant(nanoseconds: 2_000_000_000)
        #expect(LeaseEngine.isLowest(1, among: [2: live], firing: .seconds(60), at: now))
        #expect(!LeaseEngine.isLowest(3, among: [2: live], firing: .seconds(60), at: now))
        #expect(LeaseEngine.isLowest(3, among: [2: live], firing: .seconds(60), at: now + .seconds(200)))
    }

    // MARK: Anomalies

    private func record(_ id: UInt64, _ name: String, _ generation: UInt64, timestamp: UInt64 = 1) -> LeaderRecord {
        var record = LeaderRecord(lockspace: "dom1", ioTimeout: 2)
        record.ownerID = id
        record.name = name
        record.ownerGeneration = generation
        record.timestamp = timestamp
        return record
    }

    @Test func anomaliesAreToldOnceAndEnd() {
        var found = LockspaceAnomalies(lockspace: "dom1")
        found.cannotRead(3)
        #expect(found.takeNews().isEmpty)
        found.cannotRead(3)
        found.cannotRead(3)
        #expect(found.takeNews().map(\.kind) == [.unreadableSector] && found.current.count == 1)
        found.saw(3, record(3, "host3", 5), before: nil)
        #expect(found.takeNews().map(\.isOver) == [true] && found.current.isEmpty)
        // A host that takes over a free id, or a later generation, is none.
        found.saw(3, record(3, "new", 6), before: record(3, "host3", 5))
        #expect(found.current.isEmpty)
        found.saw(3, record(3, "host3", 6), before: record(3, "new", 6))
        #expect(found.takeNews().map(\.kind) == [.twoNames])
        found.saw(3, record(3, "host3", 4), before: record(3, "host3", 6))
        #expect(found.takeNews().map(\.kind) == [.generationWentBack])
        found.saw(3, record(3, "host3", 7), before: record(3, "host3", 4))
        #expect(found.current.isEmpty)
    }

    @Test func slowRenewalsAndRefusalsAreTold() {
        var found = LockspaceAnomalies(lockspace: "dom1")
        found.renewed(latency: .seconds(1), ok: false, ioTimeout: 2)
        #expect(found.current.isEmpty)
        found.renewed(latency: .seconds(4), ok: true, ioTimeout: 2)
        #expect(found.current.map(\.kind) == [.slowRenewals])
        for _ in 0..<3 { found.renewed(latency: .milliseconds(5), ok: true, ioTimeout: 2) }
        #expect(found.current.isEmpty)
        var now = Instant(nanoseconds: 0)
        for _ in 0..<5 {
            #expect(found.current.isEmpty)
            now = now + .seconds(60)
            found.refused("image-1", RequestError(LeaseErrorCode.held, "held"), at: now)
        }
        #expect(found.current.map(\.kind) == [.repeatedRefusals])
        found.took("image-1")
        found.refused("image-2", RequestError(LeaseErrorCode.corrupt, "bad"), at: now)
        #expect(found.current.map(\.subject) == ["lease/image-2"])
        for _ in 0..<9 {
            now = now + .seconds(300)
            found.refused("image-3", RequestError(LeaseErrorCode.held, "held"), at: now)
        }
        #expect(found.current.count == 1, "seldom enough")
    }
}
