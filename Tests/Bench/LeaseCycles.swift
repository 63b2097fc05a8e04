import CLinux
import Foundation
import Messages
import Synchronization
import TestLab

/// Acquire and release over and over, each client with a lease of its own: sanlock, lease-service and the bare sectors in turn, round by round.
struct LeaseCycles {
    let place: LeasePlace
    let rounds: Int

    private static let clients = [1, 8, 32]
    private static let seconds = 1.0
    /// Turns of one client are short, and many: the disk is not the same from second to second.
    private static let turns = 4
    /// The lockspaces belong to clusters of so many hosts.
    private static let hosts = 32
    private static let ioTimeout = 2

    func run() throws -> [Figure] {
        let most = Self.clients.max() ?? 1
        let resources = try place.makeSanlockVolumes("cycles", resources: most, ioTimeout: Self.ioTimeout)
        try LeasePlace.enter(2...Self.hosts, in: place.ids(ofSanlock: "cycles"), lockspace: "cycles", ioTimeout: UInt16(Self.ioTimeout))
        let daemon = try SanlockDaemon(name: "s1", in: place.memory, logs: false)
        defer { daemon.kill() }
        try daemon.join("cycles", hostID: 1, at: place.ids(ofSanlock: "cycles"), ioTimeout: Self.ioTimeout)

        let node = try LeaseNode(name: "n1", hostID: 1, in: place.directory, memory: place.memory)
        defer { node.kill() }
        let domain = try place.path("cycles")
        try node.initialize("cycles", at: domain, ioTimeout: Self.ioTimeout)
        try LeasePlace.enter(2...Self.hosts, in: DomainLayout(root: domain).ids, lockspace: "cycles", ioTimeout: UInt16(Self.ioTimeout))
        try node.join("cycles", at: domain)
        try node.create((0..<most).map { "disk\($0)" }, in: "cycles")

        let sanlock = Subject(pid: daemon.pid) { [run = daemon.run] index in try SanlockCycle(SanlockClient(run: run), resources[index]) }
        let ours = Subject(pid: node.pid) { [run = node.run] index in
            let holder = Holder(role: .vm, name: "bench\(index)", attempt: 1)
            return try LeaseCycle(LeaseClient(run: run, holder: holder), LeaseName(lockspace: "cycles", resource: "disk\(index)"))
        }
        let bare = Subject(pid: getpid()) { [path = "\(domain)/bare"] index in try BareCycle(path: path, area: index, hosts: Self.hosts) }

        var samples: [String: [Sample]] = [:]
        for _ in 0..<rounds {
            for count in Self.clients {
                let turns = count == 1 ? Self.turns : 1
                for _ in 0..<turns {
                    let seconds = Self.seconds / Double(turns)
                    samples["sanlock\(count)", default: []].append(try sanlock.cycle(clients: count, seconds: seconds))
                    samples["ours\(count)", default: []].append(try ours.cycle(clients: count, seconds: seconds))
                    samples["bare\(count)", default: []].append(try bare.cycle(clients: count, seconds: seconds))
                }
            }
        }
        return figures(samples)
    }

    private func figures(_ samples: [String: [Sample]]) -> [Figure] {
        func values(_ name: String, _ value: (Sample) -> Double) -> [Double] { (samples[name] ?? []).map(value) }
        /// Ratios are taken within each turn: what disturbs a turn disturbs all.
        func ratio(_ over: String, _ under: String, _ value: (Sample) -> Double) -> Double { zip(values(over, value), values(under, value)).map(/).percentile(0.5) }
        func times(_ name: String, _ value: KeyPath<Sample, [Double]>) -> [Double] { (samples[name] ?? []).flatMap { $0[keyPath: value] } }
        var figures: [Figure] = []
        for count in Self.clients {
            let clients = count == 1 ? "one client" : "\(count) clients"
            for (name, who) in [("sanlock", "sanlock"), ("ours", "lease-service")] {
                let label = "\(name == "ours" ? "lease" : name).\(count)"
                figures += [
                    Figure("\(label).rate", "\(who), \(clients): acquire and release", .rate, values("\(name)\(count)", \.rate)),
                    Figure("\(label).acquire", "acquire", .microseconds, times("\(name)\(count)", \.acquire)),
                    Figure("\(label).release", "release", .microseconds, times("\(name)\(count)", \.release)),
                    Figure("\(label).processor", "processor time of the service for one acquire and release", .microseconds, values("\(name)\(count)", \.processor)),
                    Figure("\(label).read", "read for one acquire and release", .kilobytes, values("\(name)\(count)", \.read)),
                    Figure("\(label).written", "written for one acquire and release", .kilobytes, values("\(name)\(count)", \.written)),
                ]
            }
            figures += [
                Figure("bare.lease.\(count).rate", "those reads and synced writes alone, as many at once", .rate, values("bare\(count)", \.rate)),
                Figure("lease.rate.\(count)", "cycles for each of those, \(clients)", .ratio, ratio("ours\(count)", "bare\(count)", \.rate)),
                Figure("lease.cycles.\(count)", "cycles for each of sanlock's, \(clients)", .ratio, ratio("ours\(count)", "sanlock\(count)", \.rate)),
                Figure("lease.processor.\(count)", "sanlock's processor time for a cycle against ours, \(clients)", .ratio, ratio("sanlock\(count)", "ours\(count)", \.processor)),
            ]
        }
        return figures + [
            Figure("bare.lease.cycle", "the reads and synced writes of one acquire and release alone, files open", .microseconds, times("bare1", \.cycle)),
            Figure("bare.lease.processor", "processor time of them", .microseconds, values("bare1", \.processor)),
            Figure("lease.bare", "p50 of one client's acquire and release against those sectors alone", .ratio, ratio("ours1", "bare1") { $0.cycle.percentile(0.5) }),
        ]
    }
}

/// One of the things that are compared.
private struct Subject: Sendable {
    /// Whose processor time and bytes count.
    let pid: pid_t
    /// A client of its own for each thread.
    let connect: @Sendable (Int) throws -> any CycleClient

    /// Clients that are connected before the clock starts.
    func cycle(clients: Int, seconds: Double) throws -> Sample {
        let ready = DispatchSemaphore(value: 0), begin = DispatchSemaphore(value: 0), done = DispatchSemaphore(value: 0)
        let result = Mutex((sample: Sample(), failure: String?.none))
        for index in 0..<clients {
            Thread.detachNewThread {
                var part = Sample()
                var failure: String?
                do {
                    let client = try connect(index)
                    ready.signal()
                    begin.wait()
                    let end = cl_boottime() + Int64(seconds * 1e9)
                    var now = cl_boottime()
                    while now < end {
                        let began = now
                        try client.acquire()
                        let acquired = cl_boottime()
                        try client.release()
                        now = cl_boottime()
                        part.acquire.append(Double(acquired - began) / 1000)
                        part.release.append(Double(now - acquired) / 1000)
                    }
                } catch {
                    failure = "\(error)"
                    ready.signal()
                }
                result.withLock {
                    $0.sample.acquire += part.acquire
                    $0.sample.release += part.release
                    $0.failure = $0.failure ?? failure
                }
                done.signal()
            }
        }
        for _ in 0..<clients { ready.wait() }
        let before = ProcessUse.of(pid)
        let began = cl_boottime()
        for _ in 0..<clients { begin.signal() }
        for _ in 0..<clients { done.wait() }
        let (measured, failure) = result.withLock { $0 }
        if let failure { throw LabFailure(failure) }
        var sample = measured
        sample.seconds = Double(cl_boottime() - began) / 1e9
        sample.use = ProcessUse.of(pid) - before
        return sample
    }
}

private struct Sample: Sendable {
    /// Microseconds.
    var acquire: [Double] = []
    var release: [Double] = []
    var seconds = 0.0
    var use = ProcessUse(processor: 0, read: 0, written: 0)

    var cycle: [Double] { zip(acquire, release).map(+) }
    var rate: Double { Double(acquire.count) / seconds }
    /// Microseconds and KiB of a cycle.
    var processor: Double { use.processor / Double(acquire.count) * 1e6 }
    var read: Double { use.read / Double(acquire.count) / 1024 }
    var written: Double { use.written / Double(acquire.count) / 1024 }
}

private protocol CycleClient {
    func acquire() throws
    func release() throws
}

private struct SanlockCycle: CycleClient {
    private let client: SanlockClient
    private let take: [UInt8]

    init(_ client: SanlockClient, _ resource: SanlockClient.Resource) {
        self.client = client
        take = SanlockClient.acquisition(of: resource)
    }

    func acquire() throws { try expectZero(client.exchange(take)) }
    func release() throws { try expectZero(client.exchange(SanlockClient.giveBack)) }

    private func expectZero(_ result: Int32) throws {
        guard result == 0 else { throw LabFailure("sanlock answers \(result)") }
    }
}

private struct LeaseCycle: CycleClient {
    private let client: LeaseClient
    private let take: [UInt8]
    private let giveBack: [UInt8]

    init(_ client: LeaseClient, _ lease: LeaseName) throws {
        self.client = client
        take = try client.acquisition(of: [lease])
        giveBack = client.giveBack
    }

    func acquire() throws { try expect("granted", client.exchange(take)) }
    func release() throws { try expect("released", client.exchange(giveBack)) }

    private func expect(_ verb: StaticString, _ answer: [UInt8]) throws {
        guard LeaseClient.isVerb(verb, answer) else { throw LabFailure(String(decoding: answer, as: UTF8.self)) }
    }
}

/// What the algorithm must read and write, from one thread for each client, on an open file: the blocks of all hosts thrice, our block twice, the leader; then our block, a look at the leader, the leader.
private final class BareCycle: CycleClient {
    private let file: Int32
    private let base: off_t
    private let blocks: Int
    private let buffer: UnsafeMutableRawPointer

    init(path: String, area: Int, hosts: Int) throws {
        base = off_t(area) << 20
        blocks = ((2 + hosts) * 512 + 4095) / 4096 * 4096
        buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        buffer.initializeMemory(as: UInt8.self, repeating: 0, count: 1 << 20)
        file = cl_open(path, O_RDWR | O_CREAT | O_DIRECT | O_DSYNC | O_CLOEXEC, 0o600)
        guard file >= 0, pwrite(file, buffer, 1 << 20, base) == 1 << 20 else { throw LabFailure("\(path): \(String(cString: strerror(errno)))") }
    }

    deinit {
        close(file)
        buffer.deallocate()
    }

    func acquire() throws {
        try read(blocks)
        try write(at: 1024)
        try read(blocks)
        try write(at: 1024)
        try read(blocks)
        try write(at: 0)
    }

    func release() throws {
        try write(at: 1024)
        try read(512)
        try write(at: 0)
    }

    private func read(_ count: Int) throws {
        guard pread(file, buffer, count, base) == count else { throw LabFailure("a bare read failed: \(String(cString: strerror(errno)))") }
    }

    private func write(at offset: off_t) throws {
        guard pwrite(file, buffer, 512, base + offset) == 512 else { throw LabFailure("a bare write failed: \(String(cString: strerror(errno)))") }
    }
}
