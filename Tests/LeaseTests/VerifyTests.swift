import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

@Suite("Leases that are read again before a paused guest goes on")
struct VerifyTests {
    private let world = World(seed: 9, hosts: 2)
    private var xleases: String { DomainLayout(root: World.root).xleases }
    private var area: UInt64 { LeaseIndex(lockspace: World.lockspace, time: 1, geometry: World.geometry).leaseOffset(0) }

    private func holder(_ mode: LeaseMode = .exclusive) throws -> SimulatedGuard {
        world.isStormy = false
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        world.hosts[0].startGuard("web1", attempt: 1, images: ["image-1"], mode: mode, generation: nil)
        world.run(for: .seconds(4))
        let guest = try #require(world.hosts[0].guards.last)
        #expect(guest.isRunning && guest.granted.count == 1)
        return guest
    }

    /// What it is told within the time of one I/O.
    private func answer(_ guest: SimulatedGuard, after: Duration = .seconds(3)) throws -> GuardMessage? {
        let before = guest.told.count
        world.hosts[0].send(.verify(connection: try #require(guest.connection), guest.holder, number: "5"))
        world.run(for: after)
        return guest.told[before...].first { $0.verb != "deadline" }
    }

    @Test(arguments: [LeaseMode.exclusive, .shared]) func aHolderIsToldThatItsLeasesAreItsOwn(mode: LeaseMode) throws {
        let guest = try holder(mode)
        let told = try answer(guest)
        #expect(told?.verb == "verified" && told?["number"] == "5" && told?.all("lease").compactMap(GuardLease.init) == guest.granted)
        let deadline = told?["deadline"].flatMap(Int64.init).map { Instant(nanoseconds: $0) }
        #expect(deadline.map { $0 > world.now } == true && told?["iotimeout"] != nil)
    }

    @Test(arguments: 0..<4) func anotherOwnerOnTheDiskIsALoss(change: Int) throws {
        let guest = try holder()
        let sector = try #require(world.disk.read(xleases, area, World.geometry.sectorSize))
        var leader = try LeaderRecord(sector[...])
        switch change {
        case 0: leader.ownerID = 2
        case 1: leader.ownerGeneration += 1
        case 2: leader.lver += 1
        default: leader.timestamp = 0
        }
        world.disk.write(xleases, area, leader.sector)
        #expect(try answer(guest)?.verb == "lost" && !guest.isRunning)
    }

    @Test func whatCannotBeReadIsUnknown() throws {
        let guest = try holder()
        let sector = try #require(world.disk.read(xleases, area, World.geometry.sectorSize))
        world.disk.write(xleases, area, [UInt8](repeating: 7, count: World.geometry.sectorSize))
        #expect(try answer(guest)?.verb == "unverified")
        // An older leader that landed late: nobody took it.
        var older = try LeaderRecord(sector[...])
        older.lver -= 1
        older.ownerID = 2
        world.disk.write(xleases, area, older.sector)
        #expect(try answer(guest)?.verb == "unverified")
        world.disk.write(xleases, area, sector)
        #expect(try answer(guest)?.verb == "verified")
        #expect(world.violations == [])
    }
}
