import LeaseFormat
import Messages

@testable import LeaseEngine

/// Three hosts with real engines, one shared disk of sectors, virtual time and faults: what a lease is worth, checked against a model that sees everything.
///
/// Whatever may differ between two runs comes from the seed.
final class World {
    static let lockspace = "dom1"
    static let geometry = Geometry(sectorSize: 4096, alignment: 1 << 20) ?? .standard
    static let images = ["image-1", "image-2", "image-3"]
    static let root = "/shared/dom1"

    private(set) var now = Instant(nanoseconds: 1_000_000_000_000)
    var random: SplitMix64
    let disk = Disk()
    private(set) var hosts: [SimulatedHost] = []
    var proofs: [AcceptedProof] = []
    /// What went wrong; stays empty.
    var violations: [String] = []
    var story: [String] = []
    /// Faults in the disk's path: on while the walk lasts.
    var isStormy = true

    private var queue: [(at: Instant, number: Int, work: () -> Void)] = []
    private var scheduled = 0

    init(seed: UInt64, hosts count: Int = 3, geometry: Geometry = World.geometry) {
        random = SplitMix64(state: seed)
        disk.write(DomainLayout(root: Self.root).ids, 0, Images.lockspace(Self.lockspace, ioTimeout: 2, geometry: geometry))
        let slot = UInt64(geometry.alignment)
        disk.write(DomainLayout(root: Self.root).leases, slot, Images.resource(DomainLayout.sdm, lockspace: Self.lockspace, geometry: geometry))
        var index = LeaseIndex(lockspace: Self.lockspace, time: 1, geometry: geometry)
        for (number, image) in Self.images.enumerated() {
            _ = index.enter(image, at: number)
            disk.write(DomainLayout(root: Self.root).xleases, index.leaseOffset(number), Images.resource(image, lockspace: Self.lockspace, geometry: geometry))
        }
        disk.write(DomainLayout(root: Self.root).xleases, slot, index.image)
        hosts = (1...count).map { SimulatedHost(id: $0, world: self) }
    }

    // MARK: Time

    func after(_ delay: Duration, _ work: @escaping () -> Void) { at(now + delay, work) }

    func at(_ time: Instant, _ work: @escaping () -> Void) {
        scheduled += 1
        let entry = (at: max(time, now), number: scheduled, work: work)
        let index = queue.partitioningIndex { ($0.at, $0.number) > (entry.at, entry.number) }
        queue.insert(entry, at: index)
    }

    /// Lets time pass.
    func run(for duration: Duration) {
        let end = now + duration
        while let first = queue.first, first.at <= end {
            queue.removeFirst()
            now = first.at
            first.work()
        }
        now = end
    }

    func chance(_ percent: UInt64) -> Bool { random.next() % 100 < percent }
    func between(_ low: Duration, _ high: Duration) -> Duration {
        Duration(nanoseconds: low.nanoseconds + Int64(random.next() % UInt64(max(1, high.nanoseconds - low.nanoseconds))))
    }
    func pick<T>(_ items: [T]) -> T { items[Int(random.next() % UInt64(items.count))] }

    func tell(_ line: @autoclosure () -> String) { story.append("\(Double((now - Instant(nanoseconds: 1_000_000_000_000)).milliseconds) / 1000): \(line())") }

    // MARK: The model

    /// I1: two guards must never run with the same lease, unless both share it.
    func checkHolders() {
        var holders: [LeaseName: SimulatedGuard] = [:]
        for guest in hosts.flatMap(\.guards) where guest.isRunning {
            for lease in guest.leases {
                if let other = holders[lease], other.modes[lease] != .shared || guest.modes[lease] != .shared { violations.append("\(now.nanoseconds): \(lease.resource) is used by \(other.holder) on host \(other.host.id) and by \(guest.holder) on host \(guest.host.id)") }
                holders[lease] = guest
            }
        }
    }

    /// Power is off for certain; reads the generation afterwards, as fencing does (S9).
    func proveOff(_ host: SimulatedHost, by kind: ProofKind = .powerOff) {
        guard let sector = disk.read(DomainLayout(root: Self.root).ids, Self.geometry.deltaOffset(host: host.id), 4096), let record = try? LeaderRecord(sector[...]) else { return }
        let proof = Proof(
            id: "off-\(host.id)-\(host.boots)", kind: kind, host: host.name, hostID: host.id, incarnations: Incarnation(UInt64(host.boots)),
            generations: [Self.lockspace: record.ownerGeneration], statement: "off")
        proofs.append(AcceptedProof(proof: proof, age: .zero, receivedAt: now))
        tell("proof: host \(host.id) off, generations up to \(record.ownerGeneration)")
    }
}

/// Sectors by file; each is written whole or not at all.
final class Disk {
    private var files: [String: [UInt64: [UInt8]]] = [:]
    private static let sector = 512

    /// Asked at each write: tells which bytes of it land, by their distance from its start; without an answer all do.
    var onWrite: ((_ path: String, _ length: Int) -> ((Int) -> Bool)?)?
    /// Where files end that have an end.
    var ends: [String: UInt64] = [:]

    func write(_ path: String, _ offset: UInt64, _ bytes: [UInt8]) {
        let lands = onWrite?(path, bytes.count)
        for start in stride(from: 0, to: bytes.count, by: Self.sector) where lands?(start) ?? true {
            let content = bytes[start..<min(start + Self.sector, bytes.count)]
            files[path, default: [:]][(offset + UInt64(start)) / UInt64(Self.sector)] = content.allSatisfy { $0 == 0 } ? nil : Array(content)
        }
    }

    func read(_ path: String, _ offset: UInt64, _ length: Int) -> [UInt8]? {
        guard let file = files[path], ends[path].map({ offset + UInt64(length) <= $0 }) ?? true else { return nil }
        var bytes = [UInt8](repeating: 0, count: length)
        let first = Int(offset) / Self.sector
        func copy(_ content: [UInt8], to sector: Int) {
            let start = (sector - first) * Self.sector
            bytes.replaceSubrange(start..<min(start + content.count, length), with: content.prefix(length - start))
        }
        let sectors = first..<(first + (length + Self.sector - 1) / Self.sector)
        if file.count < sectors.count {
            for (sector, content) in file where sectors.contains(Int(sector)) { copy(content, to: Int(sector)) }
        } else {
            for sector in sectors { if let content = file[UInt64(sector)] { copy(content, to: sector) } }
        }
        return bytes
    }
}

struct SplitMix64 {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

extension Array {
    /// The first index whose element satisfies a predicate that holds for all elements after it, too.
    func partitioningIndex(where belongs: (Element) -> Bool) -> Int {
        var low = 0, high = count
        while low < high {
            let middle = (low + high) / 2
            if belongs(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
