import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// With a watchdog configured nothing is granted before host-agent has armed it, and it may be disarmed only when nothing is held (S6).
@Suite("Leases and the hardware watchdog")
struct WatchdogTests {
    private func host(limit: Duration, expiredOwners: [String: ExpiredOwners]? = nil) -> (World, SimulatedHost) {
        let world = World(seed: 11, hosts: 1)
        world.isStormy = false
        let host = world.hosts[0]
        host.watchdog = limit
        host.expiredOwners = expiredOwners
        host.powerOn()
        world.run(for: .seconds(6))
        return (world, host)
    }

    private func report(_ world: World, _ host: SimulatedHost, armed: Bool, timeout: Duration = .seconds(30), at: Instant? = nil, released: Bool? = nil) -> String? {
        let id = "report-\(world.now.nanoseconds)"
        host.submit(.watchdog(id, WatchdogReport(armed: armed, timeout: timeout, at: at ?? world.now, released: released)))
        world.run(for: .milliseconds(50))
        if case .refused(let error)? = host.replies[id] { return error.code }
        return host.replies[id] == nil ? "no reply" : nil
    }

    @Test("a grant waits for the watchdog, and is refused when that is not armed in time")
    func firstGrant() throws {
        let (world, host) = host(limit: .seconds(30))
        #expect(host.engine.watchdogView == LeaseWatchdogView(armed: false, needed: false, limit: .seconds(30), holders: []))
        host.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        world.run(for: .seconds(10))
        let first = try #require(host.guards.last)
        #expect(first.state == .acquiring)
        #expect(host.engine.watchdogView.needed)
        #expect(host.engine.watchdogView.holders?.map(\.description) == ["vm:web:1"])
        #expect(report(world, host, armed: false) == "lease.held-here", "somebody waits for it")
        #expect(report(world, host, armed: true) == nil)
        world.run(for: .seconds(2))
        #expect(first.isRunning)

        let (other, late) = self.host(limit: .seconds(30))
        late.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        other.run(for: .seconds(20))
        #expect(late.guards.last?.refusal == "lease.no-watchdog")
        #expect(late.engine.grants.isEmpty)
    }

    @Test("where fencing-service does without it leases are granted without it, but never where others take them by time alone", arguments: [false, true])
    func released(isPromised: Bool) throws {
        let (world, host) = host(limit: .seconds(30), expiredOwners: isPromised ? ["d1": .watchdogPromised] : nil)
        #expect(report(world, host, armed: false, released: true) == (isPromised ? "lease.no-watchdog" : nil))
        host.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        world.run(for: .seconds(3))
        let first = try #require(host.guards.last)
        #expect(first.isRunning == !isPromised)
        #expect(report(world, host, armed: false, released: true) == (isPromised ? "lease.no-watchdog" : nil), "held or not")
    }

    @Test("it may be disarmed when nothing is held, and then the next grant waits again; old reports change nothing")
    func disarming() throws {
        let (world, host) = host(limit: .seconds(30))
        let early = world.now
        #expect(report(world, host, armed: true) == nil)
        host.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        world.run(for: .seconds(2))
        #expect(host.guards.last?.isRunning == true)
        #expect(report(world, host, armed: false) == "lease.held-here")
        host.guards.last?.end("stopped")
        world.run(for: .seconds(5))
        #expect(report(world, host, armed: false) == nil)
        #expect(report(world, host, armed: true, at: early) == "object.conflict", "an old report")
        host.startGuard("web", attempt: 2, images: ["image-1"], generation: nil)
        world.run(for: .seconds(3))
        #expect(host.guards.last?.state == .acquiring)
        // Started again it has heard nothing.
        #expect(report(world, host, armed: true) == nil)
        host.killService()
        host.startService()
        world.run(for: .seconds(1))
        #expect(!host.engine.watchdogView.armed)
    }

    @Test("one that fires later than configured, or after others take the lockspace's leases, helps nobody")
    func tooLate() throws {
        let (world, host) = host(limit: .seconds(20))
        #expect(report(world, host, armed: true, timeout: .seconds(30)) == "lease.no-watchdog")
        // 8 x 2 s + 55 s + 1 % + 5 s is not below 8 x 2 s + 60 s.
        let (other, clashing) = self.host(limit: .seconds(55))
        #expect(report(other, clashing, armed: true, timeout: .seconds(55)) == nil)
        clashing.startGuard("web", attempt: 1, images: ["image-1"], generation: nil)
        other.run(for: .seconds(1))
        #expect(clashing.engine.grants.isEmpty)
        #expect(clashing.guards.last?.refusal == "lease.no-watchdog")
    }
}
