import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// Two hosts in calm weather, the first of them SPM, and power that fails at one of its writes.
final class CrashBench {
    /// What of the last write reaches the disk; one sector does so whole or not at all.
    enum Torn: CaseIterable { case nothing, firstSector, allButFirst, firstHalf, everything }

    /// The write at which power fails, counted from 0.
    struct Crash: CustomStringConvertible {
        var write: Int
        var torn: Torn
        var description: String { "write \(write), \(torn)" }
    }

    static let xleases = DomainLayout(root: World.root).xleases
    let world = World(seed: 7, hosts: 2)
    let caller = Caller(role: .operator_)
    private(set) var lengths: [Int] = []
    private var requests = 0

    init() {
        world.isStormy = false
        world.disk.ends[Self.xleases] = 9 << 20
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        #expect(world.hosts.allSatisfy { $0.generation == 1 })
    }

    /// Makes a host SPM.
    /// - Returns: the version of its lease; `nil` if it is not granted.
    func elect(_ host: SimulatedHost) -> UInt64? {
        requests += 1
        let spm = Holder(role: .spm, name: "pool", attempt: UInt64(requests))
        let sdm = LeaseName(lockspace: World.lockspace, resource: DomainLayout.sdm)
        host.submit(.acquire(connection: UInt64(9000 + requests), GuardRequest(holder: spm, lock: "spm", diskLocks: [], leases: [GuardLease(name: sdm)])))
        for _ in 0..<20 where host.engine.grants[spm]?.state != .granted { world.run(for: .seconds(1)) }
        return host.engine.grants[spm].flatMap { $0.state == .granted ? $0.leases.first?.lver : nil }
    }

    /// Asks a host and waits for its answer.
    func ask(_ host: SimulatedHost, _ input: (RequestID) -> LeaseInput) -> Reply? {
        requests += 1
        let id = "crash-\(requests)"
        host.submit(input(id))
        for _ in 0..<400 where host.replies[id] == nil && host.isOn { world.run(for: .milliseconds(50)) }
        return host.replies[id]
    }

    func create(_ resource: String, _ host: SimulatedHost, _ lver: UInt64) -> Reply? {
        ask(host) { .create($0, caller, LeaseRequest(lease: LeaseName(lockspace: World.lockspace, resource: resource), lver: lver)) }
    }

    func remove(_ resource: String, _ host: SimulatedHost, _ lver: UInt64) -> Reply? {
        ask(host) { .remove($0, caller, LeaseRequest(lease: LeaseName(lockspace: World.lockspace, resource: resource), lver: lver)) }
    }

    func rebuild(_ host: SimulatedHost, _ lver: UInt64) -> Reply? {
        ask(host) { .rebuild($0, caller, IndexRebuildRequest(lockspace: World.lockspace, lver: lver), time: 2) }
    }

    func list(_ host: SimulatedHost) -> LeaseList? {
        guard case .success(let list)? = ask(host, { .list($0, LockspaceRequest(lockspace: World.lockspace)) }) else { return nil }
        return list as? LeaseList
    }

    /// Whether a guest gets this lease; it gives it back.
    func canHave(_ resource: String, _ host: SimulatedHost) -> Bool {
        requests += 1
        host.startGuard("guest-\(requests)", attempt: 1, images: [resource], generation: nil)
        world.run(for: .seconds(8))
        let guest = host.guards.last
        defer {
            guest?.end("done")
            world.run(for: .seconds(4))
        }
        return guest?.isRunning == true
    }

    // MARK: Power

    /// Counts the writes to leases from now on; with a crash, the host's power fails at that one.
    func watch(_ host: SimulatedHost, _ crash: Crash? = nil) {
        lengths = []
        world.disk.onWrite = { [self] path, length in
            // Renewals go on beside; a new lockspace's ids are part of its making.
            guard path.hasPrefix(World.root) == false || !path.hasSuffix("/ids") else { return nil }
            lengths.append(length)
            guard let crash, lengths.count > crash.write else { return nil }
            guard lengths.count == crash.write + 1 else { return { _ in false } }
            world.after(.zero) { host.powerOff() }
            let sector = path.hasPrefix(World.root) ? World.geometry.sectorSize : Geometry.standard.sectorSize
            return { place in
                switch crash.torn {
                case .nothing: false
                case .firstSector: place < sector
                case .allButFirst: place >= sector
                case .firstHalf: place < length / 2
                case .everything: true
                }
            }
        }
    }

    func stopWatching() { world.disk.onWrite = nil }

    /// Every place where power can fail, by the lengths of the writes of a run in which it did not.
    static func crashes(_ lengths: [Int], sector: Int = World.geometry.sectorSize) -> [Crash] {
        lengths.enumerated().flatMap { number, length in
            (length > sector ? Torn.allCases : [.nothing, .everything]).map { Crash(write: number, torn: $0) }
        }
    }

    // MARK: What is left

    /// What the volume holds can be read: an index that is whole or says that it is not, and behind every record its lease, readable with all its blocks, or none.
    func checkReadable(_ crash: Crash) throws {
        let bytes = try #require(world.disk.read(Self.xleases, LeaseIndex.offset(World.geometry), LeaseIndex.length))
        let index = try LeaseIndex(rebuilding: bytes[...], lockspace: World.lockspace, geometry: World.geometry)
        #expect(index.damage.isEmpty, "\(crash)")
        for (name, record) in index.leases {
            let area = try #require(world.disk.read(Self.xleases, index.leaseOffset(record), World.geometry.alignment))
            switch IndexRebuild.Found(sector: area[..<World.geometry.sectorSize]) {
            case .nothing: continue
            case .unreadable(let error): Issue.record("\(crash): \(name): \(error.sentence)")
            case .lease(let leader): #expect(leader.name == name || index.isUpdating, "\(crash)")
            }
            for host in 1...World.geometry.maximumHosts {
                let start = World.geometry.blockOffset(host: host)
                #expect(throws: Never.self, "\(crash): \(name), host id \(host)") { try BallotBlock(area[start..<(start + World.geometry.sectorSize)]) }
            }
        }
    }

    /// The other host becomes SPM once the first one's return has voided its leases, and rebuilds: then nothing is wrong with any lease.
    /// - Returns: the version of the SPM's lease.
    func repair(_ crash: Crash) throws -> UInt64 {
        let (one, two) = (world.hosts[0], world.hosts[1])
        one.powerOn()
        world.run(for: .seconds(12))
        let lver = try #require(self.elect(two), "\(crash): no SPM")
        guard case .success(let reply)? = rebuild(two, lver), let report = reply as? IndexRebuildReport else {
            Issue.record("\(crash): not rebuilt")
            return lver
        }
        #expect(report.refused.isEmpty, "\(crash): \(report.refused)")
        let list = try #require(self.list(two))
        #expect(list.problems == [], "\(crash)")
        return lver
    }
}
