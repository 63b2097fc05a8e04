@testable import FencingEngine
import Messages
import Testing

/// Every transition of a host's status, by what triggers it. Statuses are derived, so each row is also a way back.
///
/// | from                                                               | to               | trigger | test |
/// |--------------------------------------------------------------------|------------------|---------|------|
/// | Unassigned                                                         | Initializing     | its agent answers, and still looks around | ``unassignedToInitializing()`` |
/// | Initializing                                                       | NonOperational   | its time to join is over | ``initializingToNonOperational()`` |
/// | Unassigned, Initializing, Connecting, NonOperational, NonResponsive | Up               | it answers, has joined, nothing is said against it | ``toUp(from:)`` |
/// | Up                                                                 | Connecting       | heartbeats are missing, within the grace | ``upToConnecting()`` |
/// | Connecting                                                         | Up               | any heartbeat | ``connectingToUp()`` |
/// | any but Down and Maintenance                                       | NonResponsive    | the grace is over: a case is opened, nothing is said of what runs there | ``toNonResponsive(from:)`` |
/// | Up                                                                 | NonOperational   | a service says so; no case | ``upToNonOperational()`` |
/// | NonOperational                                                     | Up               | the service takes it back, or `host activate` | ``nonOperationalToUp(byOperator:)`` |
/// | Up                                                                 | Maintenance      | an operator | ``upToMaintenance()`` |
/// | Maintenance                                                        | (stays)          | silence | ``maintenanceStays()`` |
/// | NonResponsive                                                      | Reboot           | it is proven off and switched on | ``nonResponsiveToReboot()`` |
/// | Reboot                                                             | (stays)          | silence while it boots: no second case, no second off | ``rebootStaysWhileItBoots()`` |
/// | Reboot                                                             | NonResponsive    | the new life falls silent | ``aNewLifeThatFallsSilentIsFencedAnew()`` |
/// | any                                                                | Error            | `host.set-error`, or its identity is contradicted | ``toErrorAndBack(from:)`` |
/// | NonResponsive                                                      | Down             | an operator switches it off | ``anOperatorsOffLeadsToDown()`` |
///
/// Elsewhere: NonResponsive to Kdumping and back (CrashDumpTests); Initializing to NonOperational because its agent stays so, and NonOperational to Reboot (NonOperationalTests).
@Suite struct StatusTransitions {
    /// A world in which host2 has this status.
    private func world(in status: HostStatus) -> World {
        let world = World()
        switch status {
        case .unassigned:
            world.machines["host4"] = World.Machine(guid: String(repeating: "0", count: 31) + "4", hardwareID: String(repeating: "0", count: 31) + "4")
            world.machines["host4"]?.powered = false
            world.submit(.hostAdd(world.request(), world.definition(4)))
        case .initializing: world.machines["host2"]?.initializing = true
        case .connecting, .nonResponsive: world.machines["host2"]?.cut = true
        case .nonOperational: world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host2", reason: "its domain is bad")))
        case .error: world.submit(.hostSetError(world.request(), HostSetStatus(host: "host2", reason: "it fails every VM")))
        default: break
        }
        if status == .nonResponsive { world.machines["host2"]?.bmc = .dead }
        world.run(status == .nonResponsive ? 8 : 3)
        #expect(world.status(status == .unassigned ? "host4" : "host2") == status, "\(world.story)")
        return world
    }

    @Test func unassignedToInitializing() {
        let world = world(in: .unassigned)
        world.machines["host4"]?.initializing = true
        world.operatorActs = ["host4"]
        world.powerOn("host4")
        world.run(until: 10, "Initializing") { world.status("host4") == .initializing }
        world.run(30)
        #expect(world.status("host4") == .initializing)
        clean(world)
    }

    @Test func initializingToNonOperational() {
        let world = world(in: .initializing)
        world.reboot("host2")
        world.machines["host2"]?.initializing = false
        world.machines["host2"]?.joinedAt = world.now + .seconds(300)
        world.run(until: 20, "answers") { world.status("host2") == .initializing }
        world.run(until: 70, "NonOperational") { world.status("host2") == .nonOperational }
        #expect(world.view("host2").reason.contains("has not joined d1") && world.offs.isEmpty)
        clean(world)
    }

    @Test(arguments: [HostStatus.unassigned, .initializing, .connecting, .nonOperational, .nonResponsive]) func toUp(from status: HostStatus) {
        let world = world(in: status)
        switch status {
        case .unassigned: world.powerOn("host4")
        case .initializing: world.machines["host2"]?.initializing = false
        case .nonOperational: world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host2", reason: nil)))
        default: world.machines["host2"]?.cut = false
        }
        world.run(until: 30, "Up") { world.allUp }
        #expect(world.offs.isEmpty && world.ons.isEmpty && world.proofs.isEmpty)
        clean(world)
    }

    @Test func upToConnecting() {
        let world = World()
        world.machines["host2"]?.cut = true
        world.run(until: 4, "Connecting") { world.status("host2") == .connecting }
        #expect(world.engine.hosts["host2"]?.fenceCase == nil && world.engine.hosts["host2"]?.run == nil, "within the grace nothing is asked of its device")
        clean(world)
    }

    @Test func connectingToUp() {
        let world = world(in: .connecting)
        world.machines["host2"]?.cut = false
        world.run(1.1)
        #expect(world.status("host2") == .up)
        world.machines["host2"]?.cut = true
        world.run(4)
        #expect(world.status("host2") == .connecting, "the grace began anew")
        clean(world)
    }

    @Test(arguments: [HostStatus.up, .initializing, .nonOperational, .connecting]) func toNonResponsive(from status: HostStatus) {
        let world = world(in: status)
        world.machines["host2"]?.bmc = .dead
        world.machines["host2"]?.cut = true
        world.run(until: 10, "NonResponsive") { world.status("host2") == .nonResponsive }
        #expect(world.view("host2").fenceCase != nil && world.view("host2").proof == nil)
        clean(world)
    }

    @Test func upToNonOperational() {
        let world = world(in: .nonOperational)
        world.run(60)
        #expect(world.view("host2").reason == "its domain is bad" && world.engine.hosts["host2"]?.fenceCase == nil && world.offs.isEmpty)
        clean(world)
    }

    @Test(arguments: [true, false]) func nonOperationalToUp(byOperator: Bool) {
        let world = world(in: .nonOperational)
        if byOperator {
            world.submit(.hostActivate(world.request(), HostRequest(host: "host2")))
        } else {
            world.submit(.hostSetNonOperational(world.request(), HostSetStatus(host: "host2", reason: nil)))
        }
        #expect(world.status("host2") == .up)
        clean(world)
    }

    @Test func upToMaintenance() {
        let world = World()
        world.submit(.hostMaintenance(world.request(), HostRequest(host: "host2")))
        #expect(world.status("host2") == .maintenance)
        clean(world)
    }

    @Test func maintenanceStays() {
        let world = World()
        world.submit(.hostMaintenance(world.request(), HostRequest(host: "host2")))
        world.machines["host2"]?.frozen = true
        world.run(120)
        #expect(world.status("host2") == .maintenance && world.engine.hosts["host2"]?.fenceCase == nil && world.offs.isEmpty && world.ons.isEmpty)
        clean(world)
    }

    @Test func nonResponsiveToReboot() {
        let world = World()
        world.machines["host2"]?.frozen = true
        world.run(until: 30, "Reboot") { world.status("host2") == .reboot }
        #expect(world.view("host2").proof?.proof.kind == .powerOff)
        world.run(until: 60, "Up") { world.allUp }
        #expect(world.view("host2").incarnation == Incarnation(2))
        clean(world)
    }

    @Test func rebootStaysWhileItBoots() {
        let world = World()
        world.crash("host2")
        world.run(until: 30, "switched on") { world.ons["host2"] == 1 }
        world.run(1)
        world.machines["host2"]?.readyAt = world.now + .seconds(200)
        world.run(190)
        #expect(world.status("host2") == .reboot && world.offs["host2"] == nil && world.ons["host2"] == 1 && world.engine.history(of: "host2").cases.count == 1)
        world.run(until: 60, "Up") { world.allUp }
        clean(world)
    }

    @Test func aNewLifeThatFallsSilentIsFencedAnew() {
        let world = World()
        world.crash("host2")
        world.run(until: 60, "it is heard anew") { world.view("host2").incarnation == Incarnation(2) }
        world.machines["host2"]?.frozen = true
        world.run(until: 60, "switched off") { world.offs["host2"] == 1 }
        world.run(until: 90, "Up in its third life") { world.allUp && world.view("host2").incarnation == Incarnation(3) }
        #expect(world.statuses(of: "host2").contains(.nonResponsive))
        clean(world)
    }

    @Test(arguments: [HostStatus.up, .initializing, .connecting, .nonOperational]) func toErrorAndBack(from status: HostStatus) {
        let world = world(in: status)
        world.submit(.hostSetError(world.request(), HostSetStatus(host: "host2", reason: "it fails every VM")))
        #expect(world.status("host2") == .error)
        world.submit(.hostSetError(world.request(), HostSetStatus(host: "host2", reason: nil)))
        #expect(world.status("host2") == status)
        clean(world)
    }

    @Test func anOperatorsOffLeadsToDown() {
        let world = World()
        world.operatorActs = ["host2"]
        world.submit(.power(world.request(), .off, HostRequest(host: "host2")))
        world.run(until: 60, "Down") { world.status("host2") == .down }
        world.run(60)
        #expect(world.status("host2") == .down && world.ons.isEmpty)
        world.submit(.power(world.request(), .on, HostRequest(host: "host2", now: true)))
        world.run(until: 60, "Up") { world.allUp }
        clean(world)
    }
}
