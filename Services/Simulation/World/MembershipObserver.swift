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
    /// Of each membership, when its host last renewed it, and since when it has missed no renewal; in true time.
    private var renewals: [String: [Int: (last: Int64, since: Int64)]] = [:]

    /// A guard's kill takes a moment, and a sector's time is whole seconds.
    private static let tolerance = Duration.seconds(2)

    init(world: World) { self.world = world }

    func changed(_ path: String, _ offset: UInt64, _ length: Int, by writer: Machine) {
        let domain = world.domain(ofPath: path)
        let geometry = world.leases.geometry(of: domain)
        let range = Int(offset)..<(Int(offset) + length)
        for id in 1...world.hosts.count where range.contains(Int(geometry.deltaOffset(host: id))) {
            guard let bytes = world.storage.read(path, geometry.deltaOffset(host: id), geometry.sectorSize) else { continue }
            guard let sector = try? LeaderRecord(bytes[...]), sector.kind == .delta, sector.ownerID == UInt64(id) else {
                // A repair has begun, or is over: nobody is a member any more.
                if newest[domain]?.removeValue(forKey: id) != nil { judgeAll(id, domain, "has no host id any more", by: writer) { _ in true } }
                continue
            }
            changed(sector, id, domain, by: writer)
        }
    }

    private func changed(_ sector: LeaderRecord, _ id: Int, _ domain: String, by writer: Machine) {
        // A write that was abandoned may land after the next one.
        if let known = newest[domain]?[id], known.ownerGeneration == sector.ownerGeneration, known.timestamp > sector.timestamp, !sector.isFree { return }
        newest[domain, default: [:]][id] = sector
        if sector.isFree { judgeAll(id, domain, "has given its host id back", by: writer) { _ in true } }
        judgeAll(id, domain, "is a member with generation \(sector.ownerGeneration)", by: writer) { $0 < sector.ownerGeneration }
        guard !sector.isFree, let host = world.everyHost.first(where: { $0.machine === writer }), host.id == id else { return }
        noteRenewal(sector, id, domain)
        if host.definition.watchdog { judgeReset(host, sector, id, domain) }
        let end = Self.end(of: sector)
        let boot = host.machine.bootID
        host.machine.after(max(.zero, end - host.machine.clock)) { [self] in
            // A machine that was frozen has some time for its guards.
            host.machine.after(Self.tolerance) { [self] in
                guard newest[domain]?[id] == sector, host.machine.bootID == boot else { return }
                let last = (host.machine.clock - end).milliseconds / 1000 + 8 * Int64(sector.ioTimeout)
                judge(host, domain, "renewed its membership last \(last) s ago", host.holdings(isSettled: false)) { _ in true }
            }
        }
    }

    private func noteRenewal(_ sector: LeaderRecord, _ id: Int, _ domain: String) {
        let known = renewals[domain]?[id]
        let isInTime = known.map { world.now - $0.last < Self.missed(sector) } ?? false
        renewals[domain, default: [:]][id] = (world.now, isInTime ? known?.since ?? world.now : world.now)
    }

    /// Two renewal intervals: one was due and did not come.
    private static func missed(_ sector: LeaderRecord) -> Int64 { 4 * Int64(sector.ioTimeout) * 1_000_000_000 }

    /// Whether a host is a member somewhere and has missed no renewal anywhere for so long, so that nobody can have seen that they stopped.
    func renews(_ host: HostMachine, for time: Duration) -> Bool {
        let memberships = newest.compactMap { domain, sectors in sectors[host.id].map { (sector: $0, renewal: renewals[domain]?[host.id]) } }.filter { !$0.sector.isFree }
        return !memberships.isEmpty && memberships.allSatisfy { sector, renewal in
            guard let renewal else { return false }
            return world.now - renewal.last < Self.missed(sector) && world.now - renewal.since >= time.nanoseconds
        }
    }

    /// By its watchdog, whatever it does.
    private func judgeReset(_ host: HostMachine, _ sector: LeaderRecord, _ id: Int, _ domain: String) {
        let boot = host.machine.bootID
        let takeover = Duration.seconds(8 * Int64(sector.ioTimeout)) + world.scenario.policy.watchdogFire
        world.after(nanoseconds: takeover.nanoseconds) { [self] in
            guard newest[domain]?[id] == sector, host.machine.bootID == boot, !host.watchdogIsReleased else { return }
            judge(host, domain, "has a watchdog and renewed its membership last \(takeover.seconds) s ago", host.holdings(isSettled: true)) { _ in true }
        }
    }

    /// Anybody may take these leases now: not even what waits to be reaped may be left.
    private func judgeAll(_ id: Int, _ domain: String, _ what: String, by writer: Machine, _ isVoid: (UInt64) -> Bool) {
        for one in world.everyHost where one.id == id {
            // Another machine may join once this one's guards have had their time, even if they could not use it: what they guard must not go on.
            let isItself = one.machine === writer
            if isItself || one.machine.isRunning { judge(one, domain, what, one.holdings(isSettled: isItself), isVoid) }
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

    private func judge(_ host: HostMachine, _ lockspace: String, _ what: String, _ holdings: [Holding], _ isVoid: (UInt64) -> Bool) {
        for holding in holdings {
            guard holding.leases.contains(where: { $0.name.lockspace == lockspace && isVoid($0.generation) }) else { continue }
            world.violate(holding.holder.role == .vm ? .I1 : .I2, "\(holding.holder) runs on \(host.name), which \(what) in \(lockspace)")
        }
    }
}

extension HostMachine {
    /// What runs here under leases.
    ///
    /// - Parameter isSettled: also what is being ended, or cannot be ended because its guard stands still.
    func holdings(isSettled: Bool) -> [Holding] {
        let guests = isSettled ? self.guests.filter { $0.state == .running || $0.state == .dying } : self.guests.filter { $0.state == .running && $0.parent?.isFrozen != true }
        let programs = isSettled ? users + dying : users.filter { $0.isUsing && !$0.isFrozen }
        return guests.map { Holding(holder: $0.spec.holder, leases: $0.leases) } + programs.compactMap(\.holding)
    }
}
