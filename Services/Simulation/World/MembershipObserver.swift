import HostAgentEngine
import Invariants
import LeaseFormat
import Messages

/// Looks whether what runs with leases still may, by what its host's sector says on the storage, whatever the services believe (I1, I2).
///
/// | sector of a host | nothing may run there |
/// |---|---|
/// | written with a later generation | with leases of an earlier one |
/// | given back | with leases of that lockspace |
/// | not written anew for 8 x io_timeout | with leases of that lockspace |
/// | not written anew for 8 x io_timeout + F | the same, if the host has a watchdog, however it stands still (S6) |
final class MembershipObserver {
    private unowned let world: World
    private var newest: [String: [Int: LeaderRecord]] = [:]

    /// A guard's kill takes a moment, and a sector's time is whole seconds.
    private static let tolerance = Duration.seconds(2)

    init(world: World) { self.world = world }

    func changed(_ path: String, _ offset: UInt64, by writer: Machine) {
        let geometry = Geometry.standard
        let id = Int(offset) / geometry.sectorSize + 1
        guard let host = world.everyHost.first(where: { $0.machine === writer }), let bytes = world.storage.read(path, offset, geometry.sectorSize),
            let sector = try? LeaderRecord(bytes[...]), sector.kind == .delta, sector.ownerID == UInt64(id)
        else { return }
        // A write that was abandoned may land after the next one.
        if let known = newest[sector.lockspace]?[id], known.ownerGeneration == sector.ownerGeneration, known.timestamp > sector.timestamp, !sector.isFree { return }
        newest[sector.lockspace, default: [:]][id] = sector
        // Anybody may take these leases now: not even what waits to be reaped may be left.
        for one in world.everyHost where one.id == id {
            // Another machine may join once this one's guards have had their time, even if they could not use it: what they guard must not go on.
            let guests = one.machine === writer ? one.guests : one.machine.isRunning ? one.guests.filter { $0.state == .running && $0.parent?.isFrozen != true } : []
            if sector.isFree { judge(one, sector.lockspace, "has given its host id back", guests) { _ in true } }
            judge(one, sector.lockspace, "is a member with generation \(sector.ownerGeneration)", guests) { $0 < sector.ownerGeneration }
        }
        if host.definition.watchdog, !sector.isFree { judgeReset(host, sector, id) }
        let end = Self.end(of: sector)
        let boot = host.machine.bootID
        host.machine.after(max(.zero, end - host.machine.clock)) { [self] in
            // A machine that was frozen has some time for its guards.
            host.machine.after(Self.tolerance) { [self] in
                guard newest[sector.lockspace]?[id] == sector, host.machine.bootID == boot else { return }
                judge(host, sector.lockspace, "renewed its membership last \((host.machine.clock - end).milliseconds / 1000 + 8 * Int64(sector.ioTimeout)) s ago", host.guests.filter { $0.state == .running && $0.parent?.isFrozen != true }) { _ in true }
            }
        }
    }

    /// By its watchdog, whatever it does.
    private func judgeReset(_ host: HostMachine, _ sector: LeaderRecord, _ id: Int) {
        let boot = host.machine.bootID
        let takeover = Duration.seconds(8 * Int64(sector.ioTimeout)) + world.scenario.policy.watchdogFire
        world.after(nanoseconds: takeover.nanoseconds) { [self] in
            guard newest[sector.lockspace]?[id] == sector, host.machine.bootID == boot else { return }
            judge(host, sector.lockspace, "has a watchdog and renewed its membership last \(takeover.seconds) s ago", host.guests) { _ in true }
        }
    }

    /// For how long the membership of a host has been over; `nil`: it goes on.
    func overdue(_ host: HostMachine, _ lockspace: String) -> Duration? {
        guard let sector = newest[lockspace]?[host.id], !sector.isFree else { return .zero }
        let over = host.machine.clock - Self.end(of: sector)
        return over > .zero ? over : nil
    }

    /// Nobody may rely on it after this, by its host's clock.
    private static func end(of sector: LeaderRecord) -> Instant {
        Instant(nanoseconds: Int64(clamping: sector.timestamp) * 1_000_000_000) + .seconds(8 * Int64(sector.ioTimeout)) + tolerance
    }

    private func judge(_ host: HostMachine, _ lockspace: String, _ what: String, _ payloads: [Payload], _ isVoid: (UInt64) -> Bool) {
        for payload in payloads where payload.state == .running || payload.state == .dying {
            guard payload.leases.contains(where: { $0.name.lockspace == lockspace && isVoid($0.generation) }) else { continue }
            world.violate(payload.spec.isGuest ? .I1 : .I2, "\(payload.spec.holder) runs on \(host.name), which \(what) in \(lockspace)")
        }
    }
}
