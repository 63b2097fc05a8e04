import Foundation
import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// One test for each safety rule that the lease engine keeps, by its name.
@Suite("Safety rules of leases")
struct RuleTests {
    /// Hosts that are on and joined, in calm weather.
    private func calmWorld(hosts: Int = 2) -> World {
        let world = World(seed: 7, hosts: hosts)
        world.isStormy = false
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        #expect(world.hosts.allSatisfy { $0.generation == 1 })
        return world
    }

    private func start(_ world: World, _ host: SimulatedHost, _ attempt: UInt64, _ images: [String] = ["image-1"], generation: UInt64? = nil, wait: Duration = .seconds(2)) -> SimulatedGuard? {
        host.startGuard("web", attempt: attempt, images: images, generation: generation)
        world.run(for: wait)
        return host.guards.last
    }

    private func leader(_ world: World, _ image: Int) throws -> LeaderRecord {
        let offset = UInt64((3 + image) * World.geometry.alignment)
        return try LeaderRecord(try #require(world.disk.read(DomainLayout(root: World.root).xleases, offset, 4096))[...])
    }

    @Test func S1_aProofOpensWhatItCoversAndNothingElse() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        #expect(start(world, one, 1)?.isRunning == true)
        one.powerOff()
        world.run(for: .seconds(3))
        #expect(start(world, two, 2)?.refusal == "lease.held", "silence proves nothing")
        let sector = world.disk.read(DomainLayout(root: World.root).ids, 0, 4096)
        world.proveOff(one)
        let third = start(world, two, 3, wait: .seconds(7))
        #expect(third?.isRunning == true)
        let isUntouched = world.disk.read(DomainLayout(root: World.root).ids, 0, 4096) == sector
        #expect(isUntouched, "the dead host's sector is not written")
        #expect(try leader(world, 0).lver == 2)
        // The same proof says nothing about the host's next life.
        one.powerOn()
        world.run(for: .seconds(8))
        #expect(one.generation == 2)
        third?.end("moves back")
        world.run(for: .seconds(2))
        #expect(start(world, one, 4)?.isRunning == true)
        one.powerOff()
        world.run(for: .seconds(3))
        #expect(start(world, two, 5, wait: .seconds(10))?.refusal == "lease.held")
    }

    /// A host died between its proposal and its commit: others have to decide for it, and then need a proof against *it*.
    @Test(arguments: [false, true]) func S1_aDeadContendersValueIsNotTheEnd(_ isProven: Bool) throws {
        let world = calmWorld(hosts: 3)
        let (one, two) = (world.hosts[0], world.hosts[1])
        one.powerOff()
        if isProven { world.proveOff(one) }
        var block = BallotBlock(mbal: 1, lver: 1)
        block.bal = 1
        block.owner = 1
        block.ownerGeneration = 1
        block.ownerTimestamp = 77
        world.disk.write(DomainLayout(root: World.root).xleases, UInt64(3 * World.geometry.alignment + World.geometry.blockOffset(host: 1)), block.sector(World.geometry))
        let guest = start(world, two, 1, wait: .seconds(8))
        let leader = try leader(world, 0)
        if isProven {
            #expect(guest?.isRunning == true)
            #expect(leader.ownerID == 2 && leader.lver == 2)
        } else {
            #expect(guest?.refusal == "lease.held")
            #expect(leader.ownerID == 1 && leader.lver == 1 && leader.writeID == 2 && leader.timestamp == 77)
        }
    }

    /// Without a proof too: the owner's later generation says that its leases are void, not that its last write has landed.
    @Test func S4_aVoidLeaseIsOpenOnlyOnceItsLastWritesHaveSettled() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        #expect(start(world, one, 1)?.isRunning == true)
        one.powerOff()
        world.run(for: .seconds(1))
        one.powerOn()
        world.run(for: .seconds(1))
        let guest = start(world, two, 2, wait: .seconds(4))
        #expect(guest?.isRunning == false && guest?.refusal == nil)
        world.run(for: .seconds(2))
        #expect(guest?.isRunning == true)
    }

    @Test func S4_whatEndedWhileItsStorageHungIsFreeOnlyOnceItsLastWritesHaveSettled() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        let guest = try #require(start(world, one, 1))
        one.stalledUntil = world.now + .seconds(8)
        guest.vanish()
        world.run(for: .seconds(10))
        #expect(start(world, two, 2)?.refusal == "lease.held")
        world.run(for: .seconds(3))
        #expect(start(world, two, 3)?.isRunning == true)
    }

    /// Trouble that was known before it ended says nothing of when the storage answers again.
    @Test func S4_whatEndedInALongHangIsFreeOnlyOnceItsLastWritesHaveSettledAfterThat() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        let guest = try #require(start(world, one, 1))
        let heals = world.now + .seconds(9)
        one.stalledUntil = heals
        world.run(for: .milliseconds(8900))
        guest.vanish()
        world.run(for: heals + .milliseconds(4300) - world.now)
        #expect(start(world, two, 2, wait: .milliseconds(600))?.refusal == "lease.held")
        world.run(for: .seconds(3))
        #expect(start(world, two, 3)?.isRunning == true)
    }

    @Test func S2_aRestartedServiceTakesUpItsMembership() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        let guest = start(world, one, 1)
        one.killService()
        world.run(for: .seconds(9))
        one.startService()
        world.run(for: .seconds(1))
        #expect(one.generation == 1 && guest?.isRunning == true)
        world.run(for: .seconds(60))
        #expect(one.generation == 1 && guest?.isRunning == true, "renewals go on")
    }

    @Test func S2_joinsAnewOnlyAfterItsGuardsAreReaped() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        let guest = try #require(start(world, one, 1))
        one.killService()
        world.run(for: .seconds(10))
        #expect(guest.isRunning)
        world.run(for: .seconds(10))
        #expect(!guest.isRunning, "its deadline has passed")
        // A process of the guest that cannot be killed keeps the locks.
        guest.state = .ending
        one.startService()
        world.run(for: .seconds(60))
        #expect(one.generation == nil)
        guest.vanish()
        world.run(for: .seconds(6))
        #expect(one.generation == 2)
    }

    @Test func S2_aNameAloneOpensNoHostID() throws {
        let world = calmWorld()
        var copy = LeaseEngine()
        _ = copy.handle(.started(HostIdentity(name: "host1", hostID: 1, bootID: "b", hardwareID: "another machine")), at: world.now)
        var membership = Membership(
            record: MembershipRecord(lockspace: World.lockspace, path: World.root, hardwareID: "hardware-1", bootID: "boot-1-1", generation: 1),
            host: HostIdentity(name: "host1", hostID: 1, bootID: "b", hardwareID: "another machine"))
        func read() -> IOResult { .data(world.disk.read(DomainLayout(root: World.root).ids, 0, 4096) ?? []) }
        _ = membership.begin()
        _ = membership.onResult(read(), at: world.now)
        _ = membership.onResult(read(), at: world.now)
        #expect(membership.nextWake == world.now + .seconds(76), "8 x io_timeout + 60 s")
        world.run(for: .seconds(76))
        _ = membership.tick(at: world.now)
        guard case .refused(let error) = try #require(membership.onResult(read(), at: world.now).first) else { return #expect(Bool(false)) }
        #expect(error.code == "lockspace.host-id-busy")
    }

    /// What is journaled many times a second is written by hand: it must stay what a journal of any version reads.
    @Test func whatIsJournaledOfGrantsIsWhatTheyAre() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let holder = Holder(role: .vm, name: "web \"1\" \\ ä", attempt: 7)
        let shared = GuardLease(name: LeaseName(lockspace: "dom1", resource: "disk/2"), lver: 3, generation: 9, mode: .shared)
        for state in Grant.State.allCases {
            for leases in [[], [GuardLease(name: LeaseName(lockspace: "dom1", resource: "disk1"))], [shared, shared]] {
                let grant = Grant(holder: holder, bootID: "boot", lock: "/run/l\u{1}ck", diskLocks: leases.map(\.name.resource), leases: leases, state: state)
                let input = LeaseInput.noted(.grant(grant))
                let written = Data(try #require(input.quickJSON))
                guard case .noted(let fact) = try JSONDecoder().decode(LeaseInput.self, from: written) else { return #expect(Bool(false)) }
                #expect(fact == .grant(grant))
                #expect(try encoder.encode(input) == written)
            }
        }
        let ended = LeaseInput.noted(.ended(holder))
        #expect(try encoder.encode(ended) == Data(try #require(ended.quickJSON)))
        #expect(LeaseInput.wake.quickJSON == nil && LeaseInput.noted(.pins(ManagerPins())).quickJSON == nil)
    }

    @Test func S3_aLeaseOfThisHostBelongsToOneGuard() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        #expect(start(world, one, 1)?.isRunning == true)
        let second = SimulatedGuard(Holder(role: .vm, name: "other", attempt: 1), images: ["image-1"], generation: nil, on: one)
        one.guards.append(second)
        second.connect()
        world.run(for: .seconds(2))
        #expect(second.state == .acquiring)
        world.run(for: .seconds(2))
        #expect(second.refusal == "lease.held-here")
    }

    @Test func S3_aLostGuardsLeaseIsFreedOnlyWithItsLocks() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        let guest = try #require(start(world, one, 1))
        // The guard is gone; something it started still has the locks.
        let connection = try #require(guest.connection)
        guest.state = .ending
        guest.connection = nil
        one.disconnect(connection)
        world.run(for: .seconds(10))
        #expect(start(world, two, 2)?.refusal == "lease.held")
        guest.vanish()
        world.run(for: .seconds(2))
        #expect(start(world, two, 3)?.isRunning == true)
    }

    @Test func S4_aProofWaitsTheSettleTime() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        _ = start(world, one, 1)
        one.powerOff()
        world.proveOff(one)
        let guest = start(world, two, 2, wait: .milliseconds(4900))
        #expect(guest?.state == .acquiring)
        world.run(for: .milliseconds(400))
        #expect(guest?.isRunning == true)
    }

    @Test func S6_anExpiredOwnerIsStillAnOwner() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        _ = start(world, one, 1)
        one.freeze()
        world.run(for: .seconds(1000))
        #expect(start(world, two, 2)?.refusal == "lease.held")
    }

    /// Somebody's reading was wrong, or is old: whom this host sees renew keeps what it holds.
    @Test(arguments: [false, true]) func S6_aProofThatLeasesExpiredOpensNothingOfAHostThatIsSeenAlive(isAlive: Bool) throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        _ = start(world, one, 1)
        if isAlive {
            world.run(for: .seconds(60))
        } else {
            one.powerOff()
            world.run(for: .seconds(1000))
        }
        world.proveOff(one, by: .leaseExpired)
        let guest = start(world, two, 2, wait: .seconds(7))
        #expect(guest?.isRunning == !isAlive)
        if isAlive { #expect(guest?.refusal == "lease.held") }
    }

    @Test func S8_theDeadlineCountsFromTheSubmissionOfARenewal() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        let guest = try #require(start(world, one, 1))
        one.stalledUntil = world.now + .seconds(1000)
        let renewed = try #require(one.engine.memberships[World.lockspace]?.verified)
        #expect(guest.deadline == renewed + .seconds(16))
        world.run(for: renewed + .seconds(15) - world.now)
        #expect(guest.isRunning)
        world.run(for: .seconds(2))
        #expect(!guest.isRunning)
    }

    /// What is held back behind a journal commit never contains a renewal.
    @Test func S8_renewalsDoNotWaitForTheJournal() throws {
        let world = calmWorld()
        var engine = world.hosts[0].engine
        let effects = engine.handle(.noted(.pins(ManagerPins())), at: world.now + .seconds(10))
        #expect(effects.allSatisfy { if case .wake = $0 { true } else { false } } && !effects.isEmpty)
        let renewal = engine.handle(.wake, at: world.now + .seconds(10))
        #expect(renewal.contains { if case .perform(.io(let request)) = $0 { request.lane == .renewal(lockspace: World.lockspace) } else { false } })
    }

    @Test func S9_aRunPlannedForAnotherGenerationIsRefused() throws {
        let world = calmWorld()
        #expect(start(world, world.hosts[0], 1, generation: 2)?.refusal == "lockspace.generation-mismatch")
        #expect(start(world, world.hosts[0], 2, generation: 1)?.isRunning == true)
    }

    /// Ids of a later generation, or given up, void the leases that an earlier one left.
    @Test func aHostThatJoinedAgainHoldsNothing() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        _ = start(world, one, 1)
        one.powerOff()
        one.powerOn()
        world.run(for: .seconds(6))
        #expect(one.generation == 2, "the same machine, a new boot: no wait")
        #expect(start(world, two, 2)?.isRunning == true)
    }

    @Test func allLeasesOrNone() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        _ = start(world, two, 1, ["image-2"])
        #expect(start(world, one, 2, ["image-1", "image-2"])?.refusal == "lease.held")
        world.run(for: .seconds(1))
        #expect(try leader(world, 0).isFree)
        #expect(start(world, one, 3, ["image-1", "image-3"])?.isRunning == true)
        #expect(try leader(world, 0).lver == 2)
    }

    /// Whenever lease-service dies during a ballot: what it may have left on disk is taken back, although its guard died, too.
    @Test(arguments: (0..<13).map { Int64($0) * 10 }) func anInterruptedBallotIsTakenBack(_ milliseconds: Int64) throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        let guest = start(world, one, 1, wait: .milliseconds(milliseconds))
        one.killService()
        guest?.vanish()
        one.startService()
        // Whether storage answered when its guard died, it cannot know: that has to settle (S4).
        world.run(for: .seconds(8))
        #expect(start(world, two, 2)?.isRunning == true)
    }

    @Test func S12_onlyTheSPMCreatesLeases() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        let caller = Caller(role: .operator_)
        let name = LeaseName(lockspace: World.lockspace, resource: "image-9")
        func create(_ id: String, lver: UInt64?) -> Reply? {
            one.submit(.create(id, caller, LeaseRequest(lease: name, lver: lver)))
            world.run(for: .seconds(1))
            return one.replies[id]
        }
        func code(_ reply: Reply?) -> String? { if case .refused(let error) = reply { error.code } else { nil } }
        #expect(code(create("a", lver: 1)) == "spm.not-here")
        let spm = Holder(role: .spm, name: "pool", attempt: 1)
        one.submit(.acquire(connection: 99, GuardRequest(
            holder: spm, lock: "spm", diskLocks: [], leases: [GuardLease(name: LeaseName(lockspace: World.lockspace, resource: DomainLayout.sdm))])))
        world.run(for: .seconds(1))
        #expect(one.engine.grants[spm]?.state == .granted)
        #expect(code(create("b", lver: 2)) == "spm.not-here")
        guard case .success(let made) = create("c", lver: 1), let view = made as? LeaseView else { return #expect(Bool(false)) }
        #expect(view.offset == UInt64(6 * World.geometry.alignment))
        guard case .success = create("d", lver: 1) else { return #expect(Bool(false), "made already: fine") }
        one.submit(.release(connection: 99, spm))
        world.run(for: .seconds(1))
        #expect(one.engine.grants[spm] == nil)
        #expect(code(create("e", lver: 1)) == "spm.not-here")
    }

    @Test func S16_aForeignManagerIsRefused() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        func leave(_ id: String, _ lineage: String, _ term: UInt64) -> Bool {
            one.submit(.leave(id, Caller(role: .service, from: "domain-monitor", lineage: lineage, term: term), LockspaceRequest(lockspace: "unknown")))
            world.run(for: .seconds(1))
            if case .success = one.replies[id] { return true } else { return false }
        }
        #expect(leave("a", "ours", 3))
        #expect(!leave("b", "theirs", 9))
        #expect(!leave("c", "ours", 2))
        one.killService()
        one.startService()
        world.run(for: .seconds(2))
        #expect(!leave("d", "theirs", 9), "pins are durable")
        #expect(leave("e", "ours", 4))

        one.submit(.pin("f", ManagerPin(service: "domain-monitor", lineage: "theirs", term: 9)))
        world.run(for: .seconds(1))
        one.killService()
        one.startService()
        world.run(for: .seconds(2))
        #expect(leave("g", "theirs", 9), "an operator said so")
        #expect(!leave("h", "ours", 5))
    }

    @Test func aLockspaceIsInitialisedOnce() throws {
        let world = calmWorld()
        let one = world.hosts[0]
        func initialize(_ id: String, _ path: String) -> Reply? {
            one.submit(.initialize(id, Caller(role: .operator_), LockspaceInitialize(lockspace: "dom2", path: path, ioTimeout: 2), time: 1))
            world.run(for: .seconds(2))
            return one.replies[id]
        }
        guard case .success = initialize("a", "/shared/dom2") else { return #expect(Bool(false)) }
        let ids = try #require(world.disk.read("/shared/dom2/dom_md/ids", 0, 1 << 20))
        let isSanlocks = ids == Images.lockspace("dom2", ioTimeout: 2)
        #expect(isSanlocks)
        guard case .refused(let error) = initialize("b", "/shared/dom2") else { return #expect(Bool(false)) }
        #expect(error.code == "object.exists")
        guard case .refused = initialize("c", World.root) else { return #expect(Bool(false), "nor over another one") }
        let large = Geometry(sectorSize: 4096, alignment: 8 << 20) ?? .standard
        world.disk.write("/shared/sdm/dom_md/leases", 8 << 20, Images.resource(DomainLayout.sdm, lockspace: "dom3", geometry: large))
        world.disk.write("/shared/index/dom_md/xleases", 1 << 20, LeaseIndex(lockspace: "dom3", time: 1).image)
        for path in ["/shared/sdm", "/shared/index"] {
            guard case .refused(let error) = initialize(path, path) else { return #expect(Bool(false), "nor over what lacks its host ids only") }
            #expect(error.code == "object.exists" && error.message.contains("dom3"))
        }
    }

    @Test func leavingFreesTheHostID() throws {
        let world = calmWorld()
        let (one, two) = (world.hosts[0], world.hosts[1])
        let guest = start(world, one, 1)
        one.submit(.leave("a", Caller(role: .operator_), LockspaceRequest(lockspace: World.lockspace)))
        world.run(for: .seconds(1))
        guard case .refused = one.replies["a"] else { return #expect(Bool(false), "not under a running guest") }
        guest?.end("stopped")
        world.run(for: .seconds(1))
        one.submit(.leave("b", Caller(role: .operator_), LockspaceRequest(lockspace: World.lockspace)))
        world.run(for: .seconds(5))
        guard case .success = one.replies["b"] else { return #expect(Bool(false)) }
        let sector = try LeaderRecord(try #require(world.disk.read(DomainLayout(root: World.root).ids, 0, 4096))[...])
        #expect(sector.isFree && sector.ownerGeneration == 1 && sector.name == "host1")
        world.run(for: .seconds(30))
        #expect(one.generation == nil)
        two.submit(.inspect("c", LockspaceRequest(lockspace: nil)))
        world.run(for: .seconds(1))
        guard case .success(let body) = two.replies["c"], let list = body as? LockspaceList else { return #expect(Bool(false)) }
        #expect(list.lockspaces.first?.hosts.map(\.state) == [.free, .live])
    }
}
