import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

@Suite("Leases that are shared, converted and waited for")
struct SharingTests {
    private static let image = LeaseName(lockspace: World.lockspace, resource: "image-1")

    private func joined(hosts: Int = 3) -> World {
        let world = World(seed: 5, hosts: hosts)
        world.isStormy = false
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        return world
    }

    @discardableResult
    private func guest(_ host: SimulatedHost, _ name: String, _ mode: LeaseMode = .exclusive, wait: Duration? = nil) -> SimulatedGuard? {
        host.startGuard(name, attempt: 1, images: ["image-1"], mode: mode, wait: wait, generation: nil)
        return host.guards.last
    }

    private func blocks(_ world: World) -> [BallotBlock] {
        let area = LeaseIndex(lockspace: World.lockspace, time: 1, geometry: World.geometry).leaseOffset(0)
        return (1...3).compactMap { host in
            world.disk.read(DomainLayout(root: World.root).xleases, area + UInt64(World.geometry.blockOffset(host: host)), 4096).flatMap { try? BallotBlock($0[...]) }
        }
    }

    @Test func manyShareAndNobodyOwnsMeanwhile() throws {
        let world = joined()
        let readers = [0, 1, 1].enumerated().compactMap { guest(world.hosts[$0.element], "reader-\($0.offset)", .shared) }
        world.run(for: .seconds(10))
        #expect(readers.map(\.isRunning) == [true, true, true])
        #expect(blocks(world).map { $0.sharedGeneration != nil } == [true, true, false])
        #expect(world.hosts[1].engine.snapshot.leases.map(\.status) == [.shared, .shared])
        let writer = guest(world.hosts[2], "writer")
        world.run(for: .seconds(5))
        #expect(writer?.refusal == "lease.held")
        world.hosts[2].submit(.lookup("look", LeaseRequest(lease: Self.image)))
        world.run(for: .seconds(1))
        guard case .success(let body)? = world.hosts[2].replies["look"], let view = body as? LeaseView else { return #expect(Bool(false)) }
        #expect(view.status == .shared && view.sharers?.map(\.name) == ["host1", "host2"] && view.sharers?.map(\.state) == [.live, .live])
        // One of two on a host: the host goes on sharing.
        readers[1].end("done")
        world.run(for: .seconds(5))
        #expect(blocks(world)[1].sharedGeneration != nil)
        readers[2].end("done")
        readers[0].end("done")
        world.run(for: .seconds(5))
        #expect(blocks(world).allSatisfy { $0.sharedGeneration == nil })
        let again = guest(world.hosts[2], "writer-2")
        world.run(for: .seconds(5))
        #expect(again?.isRunning == true)
        let late = guest(world.hosts[0], "reader-9", .shared)
        world.run(for: .seconds(5))
        #expect(late?.refusal == "lease.held" && world.violations == [])
    }

    @Test func everyoneSharesAtOnce() throws {
        let world = joined()
        let readers = world.hosts.compactMap { guest($0, "reader", .shared) }
        world.run(for: .seconds(4))
        #expect(readers.map(\.isRunning) == [true, true, true], "\(readers.map(\.refusal))")
    }

    @Test func aDeadSharerIsClearedByWhoeverHasTheProof() throws {
        let world = joined()
        guest(world.hosts[0], "reader", .shared)
        world.run(for: .seconds(4))
        world.hosts[0].powerOff()
        let early = guest(world.hosts[1], "writer")
        world.run(for: .seconds(4))
        #expect(early?.refusal == "lease.held")
        world.proveOff(world.hosts[0])
        let proven = guest(world.hosts[1], "writer")
        world.run(for: .seconds(10))
        #expect(proven?.isRunning == true && blocks(world)[0].sharedGeneration == nil)
        proven?.end("done")
        world.run(for: .seconds(5))
        // Cleared: others need no proof.
        world.proofs = []
        let other = guest(world.hosts[2], "writer")
        world.run(for: .seconds(5))
        #expect(other?.isRunning == true)
    }

    @Test func oneConvertsAndOthersAreInTheWay() throws {
        let world = joined()
        let one = guest(world.hosts[0], "one", .shared)
        let two = guest(world.hosts[1], "two", .shared)
        world.run(for: .seconds(5))
        one?.convert(Self.image)
        world.run(for: .seconds(5))
        #expect(one?.modes[Self.image] == .shared && one?.isRunning == true && blocks(world)[0].sharedGeneration != nil)
        two?.end("done")
        world.run(for: .seconds(5))
        one?.convert(Self.image)
        world.run(for: .seconds(5))
        #expect(one?.modes[Self.image] == .exclusive && blocks(world)[0].sharedGeneration == nil)
        let refused = guest(world.hosts[1], "three", .shared)
        world.run(for: .seconds(5))
        #expect(refused?.refusal == "lease.held")
        one?.convert(Self.image)
        world.run(for: .seconds(5))
        let three = guest(world.hosts[1], "four", .shared)
        world.run(for: .seconds(5))
        #expect(one?.modes[Self.image] == .shared && three?.isRunning == true && world.violations == [])
        // What it holds now survives lease-service.
        world.hosts[0].killService()
        world.hosts[0].startService()
        world.run(for: .seconds(5))
        #expect(one?.isRunning == true && one?.modes[Self.image] == .shared)
    }

    /// While a guard becomes the owner, no other of its host gets a share from it.
    @Test func nobodySharesWithWhoConverts() throws {
        for delay in stride(from: 0 as Int64, to: 200, by: 10) {
            let world = joined(hosts: 2)
            let one = guest(world.hosts[0], "one", .shared)
            world.run(for: .seconds(5))
            one?.convert(Self.image)
            world.run(for: .milliseconds(delay))
            let two = guest(world.hosts[0], "two", .shared)
            world.run(for: .seconds(5))
            #expect(!(one?.modes[Self.image] == .exclusive && two?.isRunning == true), "\(delay) ms after it was asked for")
            #expect(one?.isRunning == true)
        }
    }

    /// What was won before a kill is given back, or won again; it is never held for nobody.
    @Test func whatAKilledServiceHadWonIsNotHeldForNobody() throws {
        for delay in stride(from: 0 as Int64, to: 300, by: 10) {
            let world = joined(hosts: 2)
            world.hosts[1].startGuard("holder", attempt: 1, images: ["image-2"], mode: .exclusive, wait: nil, generation: nil)
            let holder = world.hosts[1].guards.last
            world.run(for: .seconds(5))
            // Of two leases the second is not to be had.
            world.hosts[0].startGuard("both", attempt: 1, images: ["image-1", "image-2"], mode: .exclusive, wait: nil, generation: nil)
            world.run(for: .milliseconds(delay))
            world.hosts[0].killService()
            world.hosts[0].startService()
            world.run(for: .seconds(20))
            world.hosts[0].guards.last?.end("test")
            world.run(for: .seconds(20))
            world.hosts[1].startGuard("other", attempt: 1, images: ["image-1"], mode: .exclusive, wait: nil, generation: nil)
            world.run(for: .seconds(5))
            #expect(world.hosts[1].guards.last?.isRunning == true, "killed after \(delay) ms: \(world.hosts[1].guards.last?.refusal ?? "no answer")")
            #expect(holder?.isRunning == true && world.violations == [])
        }
    }

    @Test func whoWaitsIsServedInOrder() throws {
        let world = joined()
        let first = guest(world.hosts[0], "first")
        world.run(for: .seconds(2))
        // The locks of its disk are taken by the guard before it asks: here nobody holds them.
        let second = SimulatedGuard(Holder(role: .vm, name: "second", attempt: 1), images: ["image-1"], wait: .seconds(60), generation: nil, on: world.hosts[0])
        let third = SimulatedGuard(Holder(role: .vm, name: "third", attempt: 1), images: ["image-1"], wait: .seconds(60), generation: nil, on: world.hosts[0])
        for waiting in [second, third] {
            world.hosts[0].guards.append(waiting)
            waiting.connect()
            world.run(for: .seconds(5))
        }
        let elsewhere = guest(world.hosts[1], "elsewhere", wait: .seconds(8))
        let hasty = guest(world.hosts[2], "hasty")
        world.run(for: .seconds(4))
        #expect(second.state == .acquiring && third.state == .acquiring && elsewhere?.state == .acquiring && hasty?.refusal == "lease.held")
        world.run(for: .seconds(8))
        #expect(elsewhere?.refusal == "lease.held", "its time is over")
        first?.end("done")
        world.run(for: .seconds(3))
        #expect(second.isRunning && third.state == .acquiring)
        second.end("done")
        world.run(for: .seconds(5))
        #expect(third.isRunning && world.violations == [])
    }

    /// In 4 KiB sectors and 1 MiB areas sanlock writes it into another lease.
    @Test func aValueWithoutRoomIsRefused() throws {
        let world = joined()
        let host = world.hosts[0]
        let writer = try #require(guest(host, "writer"))
        world.run(for: .seconds(3))
        host.send(.value(connection: try #require(writer.connection), writer.holder, Self.image, [1, 2]))
        world.run(for: .seconds(1))
        #expect(writer.told.last { $0.verb == "novalue" }?["code"] == "lease.no-value")
    }

    @Test func aValueIsKeptBesideItsLease() throws {
        let world = World(seed: 5, geometry: .standard)
        world.isStormy = false
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        let writer = try #require(guest(world.hosts[0], "writer"))
        world.run(for: .seconds(3))
        world.hosts[0].send(.value(connection: try #require(writer.connection), writer.holder, Self.image, [1, 2, 255]))
        world.run(for: .seconds(1))
        let written = try #require(writer.told.last { $0.verb == "value" }?["data"])
        #expect(written.hasPrefix("0102ff00") && written.count == 1024)
        let area = Int(LeaseIndex(lockspace: World.lockspace, time: 1, geometry: .standard).leaseOffset(0))
        #expect(world.disk.read(DomainLayout(root: World.root).xleases, UInt64(area + 1_025_024), 512)?.prefix(4) == [1, 2, 255, 0])
        writer.end("done")
        world.run(for: .seconds(8))
        let reader = try #require(guest(world.hosts[1], "reader", .shared))
        world.run(for: .seconds(4))
        let connection = try #require(reader.connection)
        world.hosts[1].send(.value(connection: connection, reader.holder, Self.image, nil))
        world.hosts[1].send(.value(connection: connection, reader.holder, Self.image, [9]))
        world.run(for: .seconds(1))
        #expect(reader.told.last { $0.verb == "value" }?["data"] == written)
        #expect(reader.told.last { $0.verb == "novalue" }?["code"] == RequestErrorCode.conflict.rawValue)
    }

    /// An answer that did not come in time is no answer: what was asked for may still land, and must not take the place of what is acknowledged later. (Who asked to share meanwhile writes no value any more.)
    @Test func aValueWaitsForTheOneBefore() throws {
        let world = World(seed: 5, geometry: .standard)
        world.isStormy = false
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        let host = world.hosts[0]
        let writer = try #require(guest(host, "writer"))
        world.run(for: .seconds(3))
        let connection = try #require(writer.connection)
        host.engine.unlanded[1_000_000] = Self.image
        host.send(.value(connection: connection, writer.holder, Self.image, [1]))
        host.send(.convert(connection: connection, writer.holder, GuardLease(name: Self.image, mode: .shared)))
        world.run(for: .seconds(3))
        #expect(!writer.told.contains { ["value", "converted"].contains($0.verb) }, "\(writer.told)")
        host.send(.landed(1_000_000))
        world.run(for: .seconds(4))
        #expect(writer.told.contains { $0.verb == "converted" } && world.violations == [])
    }

    @Test func aRefusalTellsWhoHoldsIt() throws {
        let world = joined()
        guest(world.hosts[0], "writer")
        world.run(for: .seconds(10))
        let membership = try #require(world.hosts[1].engine.memberships[World.lockspace])
        var acquisition = world.hosts[1].engine.acquisition(Self.image, .exclusive, membership)
        _ = acquisition.begin()
        let area = try #require(world.disk.read(DomainLayout(root: World.root).xleases, LeaseIndex(lockspace: World.lockspace, time: 1, geometry: World.geometry).leaseOffset(0), 1 << 20))
        guard case .readOwner(1) = acquisition.onRead(area, at: world.now) else { return #expect(Bool(false)) }
        let sector = try #require(world.disk.read(DomainLayout(root: World.root).ids, 0, 4096))
        guard case .refused(let error) = acquisition.onRead(sector, at: world.now) else { return #expect(Bool(false)) }
        #expect(error.message.contains("it is held by host 1, host1, generation 1, last seen "))
        #expect(error.details?["owner"] == "host1" && error.details?["ownerID"] == "1" && error.details?["state"] == "live" && error.details?["lver"] == "1")
    }
}
