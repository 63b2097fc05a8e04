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
    /// As large as a lease's area: that is mostly read whole, and then nothing is copied.
    private static let page = 1 << 20
    private unowned(unsafe) let world: World
    /// By file and number of the page; a page that is missing is zero.
    private var files: [String: File] = [:]
    private final class File {
        var pages: [UInt64: [UInt8]] = [:]
        /// The last read of several sectors, until something is written to its page: an index is read again and again.
        var kept: (page: UInt64, range: Range<Int>, bytes: [UInt8])?
    }
    /// By host and domain; no entry: works.
    private var paths: [String: [String: Path]] = [:]
    /// What waits for a path to heal: by host and domain.
    private var stalled: [String: [String: [Stalled]]] = [:]
    private struct Stalled {
        var resume: () -> Void
        var onPowerLoss: () -> Void
    }
    init(world: World) { self.world = world }

    func dismantle() {
        files = [:]
        stalled = [:]
    }

    // MARK: Paths

    func path(of host: String, to domain: String) -> Path { paths[host]?[domain] ?? .works }

    func setPath(of host: String, to domain: String, _ path: Path) {
        let before = self.path(of: host, to: domain)
        paths[host, default: [:]][domain] = path == .works ? nil : path
        guard before == .hangs, path != .hangs else { return }
        let waiting = stalled[host]?.removeValue(forKey: domain) ?? []
        // What is sent anew may overtake what was sent before, within the time that `settle` stands for.
        for item in waiting { world.after(nanoseconds: world.random.between(0, min(500_000_000, world.longestInFlight)), item.resume) }
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
    func put(_ path: String, _ offset: UInt64, _ bytes: [UInt8]) { write(path, offset, bytes, nil) }

    /// - Parameter lands: of each sector; `nil`: all do.
    private func write(_ path: String, _ offset: UInt64, _ bytes: [UInt8], _ lands: ((Int) -> Bool)?) {
        let file = files[path] ?? File()
        files[path] = file
        let step = lands == nil ? Self.page : Self.sector
        var start = 0
        while start < bytes.count {
            let at = Int(offset) + start
            let inPage = at % Self.page
            let end = min(start + min(step, Self.page - inPage), bytes.count)
            if file.kept?.page == UInt64(at / Self.page) { file.kept = nil }
            if bytes.count == Self.page, end - start == Self.page {
                file.pages[UInt64(at / Self.page)] = bytes
            } else if lands?(start / Self.sector) ?? true {
                file.pages[UInt64(at / Self.page), default: Self.zeroPage].replaceSubrange(inPage..<(inPage + end - start), with: bytes[start..<end])
            }
            start = end
        }
    }

    private static let zeroPage = [UInt8](repeating: 0, count: page)

    func read(_ path: String, _ offset: UInt64, _ length: Int) -> [UInt8]? {
        guard let known = files[path] else { return nil }
        let file = known.pages
        let first = UInt64(Int(offset) / Self.page)
        let within = Int(offset) % Self.page
        if within + length <= Self.page {
            let page = file[first] ?? Self.zeroPage
            guard length < Self.page else { return page }
            let range = within..<(within + length)
            if let kept = known.kept, kept.page == first, kept.range == range { return kept.bytes }
            let bytes = Array(page[range])
            if length > Self.sector { known.kept = (first, range, bytes) }
            return bytes
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(length)
        var at = Int(offset)
        while bytes.count < length {
            let inPage = at % Self.page
            let count = min(Self.page - inPage, length - bytes.count)
            if let page = file[UInt64(at / Self.page)] {
                bytes.append(contentsOf: page[inPage..<(inPage + count)])
            } else {
                bytes.append(contentsOf: repeatElement(0, count: count))
            }
            at += count
        }
        return bytes
    }

    func leaseVolumes(of domain: String) -> [String] {
        let layout = DomainLayout(root: "\(World.root)/\(domain)")
        return [layout.leases, layout.xleases]
    }

    /// How many areas of a megabyte were ever written to.
    func slots(of path: String) -> Int { (files[path]?.pages.keys.max()).map { Int($0) + 1 } ?? 0 }

    // MARK: Operations of a host

    /// Performs a read. `done` runs on the host, if that still lives.
    func read(of machine: Machine, domain: String, _ path: String, _ offset: UInt64, _ length: Int, _ done: @escaping (Result) -> Void) {
        let submitted = world.now
        submit(of: machine, domain: domain, done) { [self] _ in
            guard let bytes = read(path, offset, length) else { return .missing }
            world.sectorsRead(path, offset, bytes, by: machine, submitted: submitted)
            return .data(bytes)
        }
    }

    /// Performs a write that was submitted just now.
    func write(of machine: Machine, domain: String, _ path: String, _ offset: UInt64, _ bytes: [UInt8], create: Bool, _ done: @escaping (Result) -> Void) {
        submit(of: machine, domain: domain, done) { [self] lands in
            guard create || files[path] != nil else { return .missing }
            write(path, offset, bytes, lands)
            world.sectorsChanged(path, offset, bytes.count, by: machine)
            return .written
        }
    }

    /// - Parameter act: what happens at the device; its argument says which of the operation's sectors take part.
    private func submit(of machine: Machine, domain: String, _ done: @escaping (Result) -> Void, _ act: @escaping (((Int) -> Bool)?) -> Result) {
        world.countStorageOperation()
        let chaos = world.chaos
        let boot = machine.boots
        switch path(of: machine.name, to: domain) {
        case .fails:
            return machine.after(.milliseconds(1)) { done(.failed) }
        case .hangs:
            return whenPathAnswers(
                machine.name, domain,
                { [self] in
                    let result = act(nil)
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
                        let result = act(nil)
                        world.onMachine(machine, boot) { done(result) }
                    },
                    onPowerLoss: { [self] in landLater(act) })
            }
            // An error may come of the operation or of its answer.
            let result = fails && world.random.chance(0.5) ? Result.failed : act(nil)
            world.onMachine(machine, boot) { done(fails ? .failed : result) }
        }
    }

    /// An operation of a host that has died lands within the longest time that an array or a network keeps it, or never.
    private func landLater(_ act: @escaping (((Int) -> Bool)?) -> Result) {
        guard world.random.chance(0.5) else { return }
        let longest = world.longestInFlight
        let isTorn = world.random.chance(world.chaos.torn)
        let part = world.random.next()
        world.after(nanoseconds: longest > 0 ? world.random.between(0, longest) : 0) {
            _ = act(isTorn ? { sector in (part >> UInt64(sector % 64)) & 1 == 1 } : nil)
        }
    }
}
