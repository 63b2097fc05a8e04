import LeaseFormat
import Messages

/// The storage that all hosts share: files of sectors, and the path of each host to each domain.
///
/// A write belongs to the device from its submission on: it lands later, even if its host has died by then, whole or in part. While a path hangs nothing comes back; what was
/// submitted lands when it heals, or soon after its host has lost its power, or never.
final class SharedStorage {
    enum Path { case works, slow, hangs, fails }

    enum Result {
        case data([UInt8])
        case written
        case missing
        case failed
    }

    private static let sector = 512
    private unowned let world: World
    private var files: [String: [UInt64: [UInt8]]] = [:]
    /// By host and domain; no entry: works.
    private var paths: [String: [String: Path]] = [:]
    /// What waits for a path to heal: by host and domain.
    private var stalled: [String: [String: [Stalled]]] = [:]
    private struct Stalled {
        var resume: () -> Void
        var onPowerLoss: () -> Void
    }
    /// Reads of the whole lockspace area are the same until a sector of it changes.
    private var areas: [String: (offset: UInt64, bytes: [UInt8])] = [:]

    init(world: World) { self.world = world }

    // MARK: Paths

    func path(of host: String, to domain: String) -> Path { paths[host]?[domain] ?? .works }

    func setPath(of host: String, to domain: String, _ path: Path) {
        let before = self.path(of: host, to: domain)
        paths[host, default: [:]][domain] = path
        guard before == .hangs, path != .hangs else { return }
        let waiting = stalled[host]?.removeValue(forKey: domain) ?? []
        for item in waiting { world.after(nanoseconds: world.random.between(1_000_000, 500_000_000), item.resume) }
    }

    /// The host is off: what its kernel still had is gone; what the network or the array had may land.
    func powerLost(_ host: String) {
        guard let domains = stalled.removeValue(forKey: host) else { return }
        for domain in domains.keys.sorted() { for item in domains[domain] ?? [] { item.onPowerLoss() } }
    }

    /// Waits for a hanging path of this host; `onPowerLoss` is called instead if the host dies before.
    func whenPathAnswers(_ host: String, _ domain: String, _ resume: @escaping () -> Void, onPowerLoss: @escaping () -> Void = {}) {
        guard path(of: host, to: domain) == .hangs else { return resume() }
        stalled[host, default: [:]][domain, default: []].append(Stalled(resume: resume, onPowerLoss: onPowerLoss))
    }

    // MARK: Sectors

    func exists(_ path: String) -> Bool { files[path] != nil }

    /// Whole or not at all, at once: how a volume is made.
    func put(_ path: String, _ offset: UInt64, _ bytes: [UInt8]) { write(path, offset, bytes) { _ in true } }

    private func write(_ path: String, _ offset: UInt64, _ bytes: [UInt8], _ lands: (Int) -> Bool) {
        var file = files.removeValue(forKey: path) ?? [:]
        for start in stride(from: 0, to: bytes.count, by: Self.sector) where lands(start / Self.sector) {
            let content = bytes[start..<min(start + Self.sector, bytes.count)]
            file[(offset + UInt64(start)) / UInt64(Self.sector)] = content.contains { $0 != 0 } ? Array(content) : nil
        }
        files[path] = file
        areas[path] = nil
    }

    func read(_ path: String, _ offset: UInt64, _ length: Int) -> [UInt8]? {
        guard let file = files[path] else { return nil }
        let isArea = length >= 1 << 18
        if isArea, let kept = areas[path], kept.offset == offset, kept.bytes.count == length { return kept.bytes }
        var bytes = [UInt8](repeating: 0, count: length)
        let first = offset / UInt64(Self.sector)
        let count = (length + Self.sector - 1) / Self.sector
        func copy(_ content: [UInt8], to sector: UInt64) {
            let start = Int(sector - first) * Self.sector
            for index in 0..<min(content.count, length - start) { bytes[start + index] = content[index] }
        }
        if file.count < count {
            for (sector, content) in file where sector >= first && sector < first + UInt64(count) { copy(content, to: sector) }
        } else {
            for sector in first..<first + UInt64(count) { if let content = file[sector] { copy(content, to: sector) } }
        }
        if isArea { areas[path] = (offset, bytes) }
        return bytes
    }

    // MARK: Operations of a host

    /// Performs a read. `done` runs on the host, if that still lives.
    func read(of machine: Machine, domain: String, _ path: String, _ offset: UInt64, _ length: Int, _ done: @escaping (Result) -> Void) {
        submit(of: machine, domain: domain, done) { [self] _ in read(path, offset, length).map { .data($0) } ?? .missing }
    }

    /// Performs a write that was submitted just now.
    func write(of machine: Machine, domain: String, _ path: String, _ offset: UInt64, _ bytes: [UInt8], create: Bool, _ done: @escaping (Result) -> Void) {
        submit(of: machine, domain: domain, done) { [self] lands in
            guard create || files[path] != nil else { return .missing }
            write(path, offset, bytes, lands)
            world.sectorsChanged(path, offset, bytes.count)
            return .written
        }
    }

    /// - Parameter act: what happens at the device; its argument says which of the operation's sectors take part.
    private func submit(of machine: Machine, domain: String, _ done: @escaping (Result) -> Void, _ act: @escaping ((Int) -> Bool) -> Result) {
        let chaos = world.chaos
        let boot = machine.boots
        let all: (Int) -> Bool = { _ in true }
        switch path(of: machine.name, to: domain) {
        case .fails:
            return machine.after(.milliseconds(1)) { done(.failed) }
        case .hangs:
            return whenPathAnswers(
                machine.name, domain,
                { [self] in
                    let result = act(all)
                    world.onMachine(machine, boot) { done(result) }
                },
                onPowerLoss: { [self] in landLater(act) })
        case .works, .slow:
            break
        }
        var takes = world.random.between(200_000, max(400_000, world.scenario.pace.storage.nanoseconds))
        let isSlow = path(of: machine.name, to: domain) == .slow
        if isSlow { takes += world.scenario.policy.ioTimeout.nanoseconds / 2 }
        if world.random.chance(chaos.ioSlow) { takes += world.random.between(0, world.scenario.policy.ioTimeout.nanoseconds * 3 / 2) }
        let fails = world.random.chance(chaos.ioFail)
        world.after(nanoseconds: takes) { [self] in
            // Its host has died meanwhile: all of it may have arrived, some of it, or nothing; and it may arrive a while later.
            guard machine.isOn, machine.boots == boot else { return landLater(act) }
            guard path(of: machine.name, to: domain) != .hangs else {
                return whenPathAnswers(
                    machine.name, domain,
                    { [self] in
                        let result = act(all)
                        world.onMachine(machine, boot) { done(result) }
                    },
                    onPowerLoss: { [self] in landLater(act) })
            }
            // An error may come of the operation or of its answer.
            let result = fails && world.random.chance(0.5) ? Result.failed : act(all)
            world.onMachine(machine, boot) { done(fails ? .failed : result) }
        }
    }

    /// An operation of a host that has died lands within the longest time that an array or a network keeps it, or never.
    private func landLater(_ act: @escaping ((Int) -> Bool) -> Result) {
        guard world.random.chance(0.5) else { return }
        let longest = world.longestInFlight
        let isTorn = world.random.chance(world.chaos.torn)
        let part = world.random.next()
        world.after(nanoseconds: longest > 0 ? world.random.between(0, longest) : 0) {
            _ = act(isTorn ? { sector in (part >> UInt64(sector % 64)) & 1 == 1 } : { _ in true })
        }
    }
}
