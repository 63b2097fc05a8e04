import Invariants
import LeaseFormat
import Messages

/// Sees what lease volumes say after each write, whatever the services believe.
final class LeaseObserver {
    private unowned(unsafe) let world: World
    /// The newest version of each lease that its leader sector ever said.
    private var versions: [LeaseName: UInt64] = [:]
    /// Of each domain; only a repair changes it.
    private var geometries: [String: Geometry] = [:]
    private var lastValue: UInt64 = 0

    init(world: World) { self.world = world }

    func newValue() -> UInt64 {
        lastValue += 1
        return lastValue
    }

    func geometry(of domain: String) -> Geometry { geometries[domain] ?? .standard }

    /// Host ids were written: the first one's sector says how large everything is.
    func hostIDsChanged(_ path: String, _ offset: UInt64) {
        guard offset == 0, let bytes = world.storage.read(path, 0, Geometry.probeLength), let first = try? LeaderRecord(bytes[...]) else { return }
        geometries[world.domain(ofPath: path)] = first.geometry
    }

    /// A sector of a lease may have another owner now.
    ///
    /// Not if it says an older version than before: that is a write of another host that comes very late. Others cannot take the lease by it, for the ballot
    /// blocks say the newer version; only the host whose own block was the newest counts on from it (``began(_:)``).
    func changed(_ path: String, _ offset: UInt64, _ length: Int, by writer: Machine) {
        let geometry = geometry(of: world.domain(ofPath: path))
        let start = offset / UInt64(geometry.alignment) * UInt64(geometry.alignment)
        guard offset == start else { return judgeSector(path, offset, length, Int(offset - start), geometry, by: writer) }
        guard let sector = world.storage.read(path, start, Geometry.probeLength), let leader = try? LeaderRecord(sector[...]), leader.kind == .paxos, !leader.name.isEmpty else { return }
        let lease = LeaseName(lockspace: leader.lockspace, resource: leader.name)
        if length == leader.geometry.alignment {
            world.note(.leaseMade(lease))
            // After its removal it begins anew.
            if leader.lver == 0 { versions[lease] = 0 }
        }
        guard leader.lver >= versions[lease] ?? 0 else { return world.tell("storage", "an old version \(leader.lver) of lease \(lease.resource) lands late") }
        versions[lease] = leader.lver
        note(lease, leader)
    }

    private func note(_ lease: LeaseName, _ leader: LeaderRecord) {
        let owner = leader.isFree ? nil : world.hosts.first { $0.id == Int(leader.ownerID) }?.name
        world.note(.leaseChanged(lease, owner.map { LeaseOwner(host: $0, generation: leader.ownerGeneration, lver: leader.lver, isSharing: leader.isShortHold || leader.writeID != leader.ownerID) }))
    }

    /// What was written over must be what belongs there: a host's block, a request, or a value where there is room for one.
    private func judgeSector(_ path: String, _ offset: UInt64, _ length: Int, _ within: Int, _ geometry: Geometry, by writer: Machine) {
        guard length == geometry.sectorSize, path.hasSuffix("/leases") || offset >= UInt64(3 * geometry.alignment), within >= 2 * geometry.sectorSize, within != geometry.valueOffset,
            let sector = world.storage.read(path, offset, length)
        else { return }
        let id = within / geometry.sectorSize - 1
        guard id <= geometry.maximumHosts, (try? BallotBlock(sector[...])).map({ (try? $0.verify(host: id)) != nil }) != true, sector.contains(where: { $0 != 0 }) else { return }
        world.violate(.I1, "\(writer.name) wrote something over the block of host id \(id) in the lease at byte \(offset - UInt64(within)) of \(path)")
    }

    /// Somebody begins with a lease, perhaps with an older version than there was: after a late leader its own host may count on from that, since its own ballot block was the only newer one.
    func began(_ lease: GuardLease) {
        guard lease.lver < versions[lease.name] ?? 0 else { return }
        versions[lease.name] = lease.lver
        world.tell("storage", "version \(lease.lver) of lease \(lease.name.resource) follows a leader that went back")
        let step = Geometry.standard.alignment
        for path in world.storage.leaseVolumes(of: lease.name.lockspace) {
            for slot in 0..<world.storage.slots(of: path) {
                guard let sector = world.storage.read(path, UInt64(slot * step), Geometry.probeLength), let leader = try? LeaderRecord(sector[...]),
                    leader.lockspace == lease.name.lockspace, leader.name == lease.name.resource, !leader.isFree
                else { continue }
                note(lease.name, leader)
            }
        }
    }
}
