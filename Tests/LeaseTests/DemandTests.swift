import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

@Suite("What hosts tell each other through their sectors")
struct DemandTests {
    private static let image = LeaseName(lockspace: World.lockspace, resource: "image-1")

    private func joined() -> World {
        let world = World(seed: 5)
        world.isStormy = false
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        return world
    }

    private func ask(_ host: SimulatedHost, _ id: RequestID, _ mode: LeaseDemand.Mode, lver: UInt64? = nil) {
        host.submit(.demand(id, Caller(role: .operator_), LeaseDemand(lease: Self.image, mode: mode, lver: lver)))
    }

    private func bit(_ world: World, of host: Int, in sector: Int) -> Bool {
        world.disk.read(DomainLayout(root: World.root).ids, World.geometry.deltaOffset(host: sector), 4096).map { HostBitmap(sector: $0[...])[host] } ?? false
    }

    @Test func aHolderIsAskedAndTold() throws {
        let world = joined()
        let (one, two) = (world.hosts[0], world.hosts[1])
        one.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        world.run(for: .seconds(3))
        let guest = try #require(one.guards.last)
        ask(two, "early", .graceful, lver: 1)
        world.run(for: .seconds(2))
        #expect(two.code("early") == "lease.stale-request")
        ask(two, "asked", .graceful)
        world.run(for: .seconds(1))
        #expect(bit(world, of: 1, in: 2), "its renewal comes at once")
        world.run(for: .seconds(6))
        #expect(guest.told.filter { $0.verb == "requested" }.map { $0["mode"] } == ["graceful"], "once, although the bit stays")
        #expect(guest.told.last { $0.verb == "requested" }?["by"] == "host2" && guest.isRunning)
        ask(two, "forced", .force)
        world.run(for: .seconds(6))
        #expect(guest.told.filter { $0.verb == "requested" }.map { $0["mode"] } == ["graceful", "force"])
        // 6 x io_timeout later nobody is asked any more.
        world.run(for: .seconds(20))
        #expect(!bit(world, of: 1, in: 2))
        guest.end("done")
        world.run(for: .seconds(3))
        ask(two, "free", .force)
        world.run(for: .seconds(2))
        #expect(two.code("free") == "lease.not-held")
    }

    @Test func everyoneWhoSharesIsAsked() throws {
        let world = joined()
        for host in world.hosts { host.startGuard("reader", attempt: 1, images: ["image-1"], mode: .shared, generation: nil) }
        world.run(for: .seconds(5))
        ask(world.hosts[0], "asked", .graceful)
        world.run(for: .seconds(8))
        #expect(world.hosts.map { $0.guards[0].told.contains { $0.verb == "requested" } } == [true, true, true])
    }

    @Test func anEventReachesOneLifeOfOneHostOnce() throws {
        let world = joined()
        func notify(_ id: RequestID, generation: UInt64, data: UInt64) {
            world.hosts[0].submit(.notify(id, Caller(role: .operator_), LockspaceNotice(lockspace: World.lockspace, hostID: 2, generation: generation, event: 7, data: data)))
        }
        func events(_ host: Int) -> [LockspaceHostEvent] { world.hosts[host].published.compactMap { $0.body as? LockspaceHostEvent } }
        notify("one", generation: 1, data: 42)
        notify("two", generation: 1, data: 43)
        #expect(world.hosts[0].code("two") == RequestErrorCode.conflict.rawValue, "one is still on its way")
        world.run(for: .seconds(20))
        #expect(events(1).map(\.data) == [42] && events(1).first?.from == 1 && events(1).first?.name == "host1")
        #expect(events(2).isEmpty)
        notify("old", generation: 9, data: 44)
        world.run(for: .seconds(20))
        #expect(events(1).count == 1, "it was meant for another life")
        notify("any", generation: 0, data: 45)
        world.run(for: .seconds(20))
        #expect(events(1).map(\.data) == [42, 45])
    }

    @Test func renewalsAreRemembered() throws {
        let world = joined()
        world.run(for: .seconds(20))
        let host = world.hosts[0]
        host.stalledUntil = world.now + .seconds(9)
        world.run(for: .seconds(20))
        host.submit(.inspect("look", LockspaceRequest(lockspace: World.lockspace)))
        world.run(for: .seconds(2))
        let membership = try #require(host.engine.memberships[World.lockspace])
        let view = host.engine.view(of: membership, withRenewals: true)
        let renewals = try #require(view.renewals)
        #expect(renewals.count > 5 && renewals.filter(\.isLate).contains { $0.ok && $0.latency >= .seconds(4) })
        #expect(world.story.contains { $0.contains("renewed late") })
        #expect(host.engine.view(of: membership).renewals == nil)
    }

    /// S4: lease-service saw nothing of how the storage was while it was dead, and frees nothing before everything has settled.
    @Test func aRestartedServiceLetsThingsSettle() throws {
        let world = joined()
        let host = world.hosts[0]
        host.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        world.run(for: .seconds(10))
        let guest = try #require(host.guards.last)
        host.killService()
        host.startService()
        world.run(for: .milliseconds(200))
        guest.end("done")
        world.run(for: .seconds(3))
        #expect(!host.engine.grants.isEmpty)
        world.run(for: .seconds(4))
        #expect(host.engine.grants.isEmpty)
    }
}

extension SimulatedHost {
    /// The error that a request was refused with.
    fileprivate func code(_ id: RequestID) -> String? {
        if case .refused(let error)? = replies[id] { error.code } else { nil }
    }
}
