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

    init(seed: UInt64, hosts count: Int = 3) {
        random = SplitMix64(state: seed)
        disk.write(DomainLayout(root: Self.root).ids, 0, Images.lockspace(Self.lockspace, ioTimeout: 2, geometry: Self.geometry))
        let slot = UInt64(Self.geometry.alignment)
        disk.write(DomainLayout(root: Self.root).leases, slot, Images.resource(DomainLayout.sdm, lockspace: Self.lockspace, geometry: Self.geometry))
        var index = LeaseIndex(lockspace: Self.lockspace, time: 1, geometry: Self.geometry)
        for (number, image) in Self.images.enumerated() {
            _ = index.enter(image, at: number)
            disk.write(DomainLayout(root: Self.root).xleases, index.leaseOffset(number), Images.resource(image, lockspace: Self.lockspace, geometry: Self.geometry))
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

    /// I1: two guards must never run with the same lease.
    func checkHolders() {
        var holders: [LeaseName: SimulatedGuard] = [:]
        for guest in hosts.flatMap(\.guards) where guest.isRunning {
            for lease in guest.leases {
                if let other = holders[lease] { violations.append("\(now.nanoseconds): \(lease.resource) is used by \(other.holder) on host \(other.host.id) and by \(guest.holder) on host \(guest.host.id)") }
                holders[lease] = guest
            }
        }
    }

    /// Power is off for certain; reads the generation afterwards, as fencing does (S9).
    func proveOff(_ host: SimulatedHost) {
        guard let sector = disk.read(DomainLayout(root: Self.root).ids, Self.geometry.deltaOffset(host: host.id), 4096), let record = try? LeaderRecord(sector[...]) else { return }
        let proof = Proof(
            id: "off-\(host.id)-\(host.boots)", kind: .powerOff, host: host.name, hostID: host.id, incarnations: Incarnation(UInt64(host.boots)),
            generations: [Self.lockspace: record.ownerGeneration], statement: "off")
        proofs.append(AcceptedProof(proof: proof, age: .zero, receivedAt: now))
        tell("proof: host \(host.id) off, generations up to \(record.ownerGeneration)")
    }
}

/// Sectors by file; each is written whole or not at all.
final class Disk {
    private var files: [String: [UInt64: [UInt8]]] = [:]
    private static let sector = 512

    func write(_ path: String, _ offset: UInt64, _ bytes: [UInt8]) {
        for start in stride(from: 0, to: bytes.count, by: Self.sector) {
            let content = bytes[start..<min(start + Self.sector, bytes.count)]
            files[path, default: [:]][(offset + UInt64(start)) / UInt64(Self.sector)] = content.allSatisfy { $0 == 0 } ? nil : Array(content)
        }
    }

    func read(_ path: String, _ offset: UInt64, _ length: Int) -> [UInt8]? {
        guard let file = files[path] else { return nil }
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

/// One host: its lease-service (the real engine, its journal, its I/O), its guards and its power.
final class SimulatedHost {
    let id: Int
    var name: String { "host\(id)" }
    unowned let world: World
    var engine = LeaseEngine()
    /// Journaled inputs: what survives.
    var journal: [(LeaseInput, Instant)] = []
    var isOn = false
    var isServing = false
    var isFrozen = false
    var boots = 0
    /// Counts lives of the lease-service: messages to an earlier one are lost.
    var life = 0
    var guards: [SimulatedGuard] = []
    var stalledUntil = Instant(nanoseconds: 0)
    var replies: [RequestID: Reply] = [:]
    private var thawed: [() -> Void] = []
    private var nextWake: Instant?
    private var connections: [UInt64: SimulatedGuard] = [:]
    private var lastConnection: UInt64 = 0

    init(id: Int, world: World) {
        self.id = id
        self.world = world
    }

    var identity: HostIdentity {
        HostIdentity(name: name, hostID: id, bootID: "boot-\(id)-\(boots)", hardwareID: "hardware-\(id)", firing: .seconds(60), settle: .seconds(5))
    }

    /// Runs on this host's processors: later, if it is frozen; never, if it is off by then.
    func onHost(after delay: Duration, _ work: @escaping () -> Void) {
        let boot = boots
        world.after(delay) { [self] in
            guard isOn, boots == boot else { return }
            if isFrozen { thawed.append(work) } else { work() }
        }
    }

    // MARK: Power and faults

    func powerOn() {
        guard !isOn else { return }
        world.tell("host \(id) on")
        isOn = true
        isFrozen = false
        boots += 1
        startService()
    }

    func powerOff() {
        guard isOn else { return }
        world.tell("host \(id) off")
        isOn = false
        isServing = false
        isFrozen = false
        thawed = []
        life += 1
        for guest in guards { guest.vanish() }
        guards = []
        connections = [:]
    }

    func freeze() {
        guard isOn, !isFrozen else { return }
        world.tell("host \(id) frozen")
        isFrozen = true
    }

    func thaw() {
        guard isFrozen else { return }
        world.tell("host \(id) thawed")
        isFrozen = false
        // What happens first after a thaw is chance; but every process reads its clock before anything else.
        var work = thawed
        thawed = []
        while !work.isEmpty { work.remove(at: Int(world.random.next() % UInt64(work.count)))() }
    }

    func killService() {
        guard isServing else { return }
        world.tell("lease-service of host \(id) killed")
        isServing = false
        life += 1
        connections = [:]
        for guest in guards { guest.connection = nil }
    }

    func startService() {
        guard isOn, !isServing else { return }
        world.tell("lease-service of host \(id) starts")
        isServing = true
        life += 1
        nextWake = nil
        // Replay: the journal alone makes the state.
        engine = LeaseEngine()
        for (input, time) in journal { _ = engine.handle(input, at: time) }
        submit(.started(identity))
        submit(.join("join-\(id)-\(life)", Caller(role: .operator_), LockspaceJoin(lockspace: World.lockspace, path: World.root)))
        for guest in guards { guest.connect() }
    }

    // MARK: The shell

    func submit(_ input: LeaseInput) {
        let effects = engine.handle(input, at: world.now)
        guard !input.isEphemeral else { return carryOut(effects) }
        let life = life
        for case .wake(let at) in effects { wake(at: at) }
        onHost(after: world.between(.milliseconds(0), .milliseconds(3))) { [self] in
            guard self.life == life else { return }
            journal.append((input, world.now))
            carryOut(effects)
        }
    }

    private func carryOut(_ effects: [Effect<LeaseAction>]) {
        let life = life
        for effect in effects {
            switch effect {
            case .wake(let at): wake(at: at)
            case .reply(let request, let reply): replies[request] = reply
            case .publish: break
            case .decide(let decision): world.tell("host \(id): \(decision.subject) \(decision.what): \(decision.why)")
            case .perform(.io(let request)): perform(request)
            case .perform(.note(let fact)):
                onHost(after: .zero) { [self] in if self.life == life { submit(.noted(fact)) } }
            case .perform(.tell(let connection, let message)):
                guard let guest = connections[connection] else { break }
                onHost(after: .milliseconds(1)) { if guest.connection == connection { guest.receive(message) } }
            case .perform(.testLocks(let holder, let paths)):
                let free = !guards.contains { guest in !guest.isGone && guest.locks.contains { paths.contains($0) } }
                onHost(after: .milliseconds(1)) { [self] in if self.life == life { submit(.locksTested(holder, free: free)) } }
            }
        }
    }

    private func wake(at time: Instant) {
        guard time < nextWake ?? Instant(nanoseconds: .max) else { return }
        nextWake = time
        let life = life
        onHost(after: max(.zero, time - world.now)) { [self] in
            guard self.life == life, nextWake == time else { return }
            nextWake = nil
            submit(.wake)
        }
    }

    private func perform(_ request: VolumeRequest) {
        let life = life
        let started: Duration = max(.zero, stalledUntil - world.now) + .milliseconds(Int64(world.random.next() % 3))
        onHost(after: started) { [self] in
            // The thread outlives a killed service only inside the kernel; what it has not submitted by then it never will.
            guard self.life == life else { return }
            if case .write(_, _, _, let notAfter, _) = request.operation, world.now >= notAfter { return finish(request, .expired, life) }
            let device: Duration = world.isStormy && world.chance(3) ? world.between(.milliseconds(100), .seconds(9)) : world.between(.milliseconds(1), .milliseconds(15))
            let late = device > request.timeout
            if late { onHost(after: request.timeout) { [self] in finish(request, .timedOut, life) } }
            // From here on it is the device's: it lands even if the host is off.
            world.after(device) { [self] in
                let result: IOResult
                switch request.operation {
                case .read(let path, let offset, let length): result = world.disk.read(path, offset, length).map { .data($0) } ?? .missing("no file")
                case .write(let path, let offset, let bytes, _, _):
                    world.disk.write(path, offset, bytes)
                    result = world.isStormy && world.chance(1) ? .failed("the answer was lost") : .written
                }
                onHost(after: .zero) { [self] in
                    if late {
                        if self.life == life { submit(.landed(request.token)) }
                    } else {
                        finish(request, result, life)
                    }
                }
            }
        }
    }

    private func finish(_ request: VolumeRequest, _ result: IOResult, _ life: Int) {
        if self.life == life { submit(.completed(request.token, result)) }
    }

    // MARK: Guards

    func connect(_ guest: SimulatedGuard) -> UInt64? {
        guard isServing else { return nil }
        lastConnection += 1
        connections[lastConnection] = guest
        return lastConnection
    }

    func disconnect(_ connection: UInt64) {
        connections[connection] = nil
        let life = life
        onHost(after: .milliseconds(1)) { [self] in if self.life == life { submit(.disconnected(connection: connection)) } }
    }

    func send(_ input: LeaseInput) {
        let life = life
        onHost(after: .milliseconds(1)) { [self] in if self.life == life, isServing { submit(input) } }
    }

    /// Starts a guard if its locks are free.
    func startGuard(_ name: String, attempt: UInt64, images: [String], generation: UInt64?) {
        guard isOn, !isFrozen else { return }
        let guest = SimulatedGuard(Holder(role: .vm, name: name, attempt: attempt), images: images, generation: generation, on: self)
        guard !guards.contains(where: { other in !other.isGone && other.locks.contains { guest.locks.contains($0) } }) else { return }
        guards.append(guest)
        world.tell("host \(id): guard \(guest.holder) for \(images)")
        guest.connect()
    }

    var generation: UInt64? {
        guard let membership = engine.memberships[World.lockspace], membership.isJoined else { return nil }
        return membership.record.generation
    }
}

/// What vm-guard does, in short.
final class SimulatedGuard {
    enum State { case acquiring, running, ending, gone }
    let holder: Holder
    let leases: [LeaseName]
    let locks: [String]
    let generation: UInt64?
    unowned let host: SimulatedHost
    var state = State.acquiring
    var connection: UInt64?
    var deadline = Instant(nanoseconds: 0)
    var granted: [GuardLease] = []
    /// For tests: what it was refused with.
    var refusal: String?

    init(_ holder: Holder, images: [String], generation: UInt64?, on host: SimulatedHost) {
        self.holder = holder
        self.generation = generation
        self.host = host
        leases = images.map { LeaseName(lockspace: World.lockspace, resource: $0) }
        locks = ["vm-\(holder.name)"] + images.map { "disk-\($0)" }
    }

    /// The group has been told to end, but a process of it hangs in the kernel.
    var isStuck = false
    var isRunning: Bool { state == .running || isStuck }
    var isGone: Bool { state == .gone }

    private var request: GuardRequest {
        GuardRequest(
            holder: holder, lock: locks[0], diskLocks: Array(locks.dropFirst()), leases: granted.isEmpty ? leases.map { GuardLease(name: $0) } : granted,
            generations: generation.map { [World.lockspace: $0] } ?? [:],
            proofs: host.world.proofs.map { AcceptedProof(proof: $0.proof, age: .zero, receivedAt: host.world.now) })
    }

    func connect() {
        guard state != .gone, connection == nil else { return }
        guard let connection = host.connect(self) else { return }
        self.connection = connection
        switch state {
        case .acquiring: host.send(.acquire(connection: connection, request))
        case .running, .ending: host.send(.adopt(connection: connection, request))
        case .gone: break
        }
    }

    func receive(_ message: GuardMessage) {
        checkClock()
        guard state != .gone else { return }
        switch message.verb {
        case "granted":
            deadline = Instant(nanoseconds: message["deadline"].flatMap(Int64.init) ?? 0)
            granted = message.all("lease").compactMap(GuardLease.init)
            guard state == .acquiring else { return }
            guard host.world.now < deadline else { return end("late grant") }
            state = .running
            host.world.tell("host \(host.id): \(holder) runs")
            host.world.checkHolders()
            watchDeadline()
        case "deadline":
            if state == .running { deadline = max(deadline, Instant(nanoseconds: message["deadline"].flatMap(Int64.init) ?? 0)) }
        case "refused":
            refusal = message["code"]
            host.world.tell("host \(host.id): \(holder) refused: \(message["message"] ?? "")")
            if state == .acquiring { vanish() } else { end("refused") }
        case "lost": end("lost")
        case "released": if !isStuck { vanish() }
        default: break
        }
    }

    private func checkClock() {
        if state == .running, host.world.now >= deadline { end("deadline") }
    }

    private func watchDeadline() {
        host.onHost(after: max(.milliseconds(1), deadline - host.world.now)) { [self] in
            checkClock()
            if state == .running { watchDeadline() }
        }
    }

    /// Kills the group, then gives back.
    func end(_ why: String) {
        guard state == .running || state == .acquiring else { return }
        host.world.tell("host \(host.id): \(holder) ends: \(why)")
        isStuck = state == .running && host.world.isStormy && host.world.chance(10)
        state = .ending
        host.onHost(after: isStuck ? host.world.between(.milliseconds(100), .seconds(60)) : .milliseconds(20)) { [self] in
            guard state == .ending else { return }
            isStuck = false
            if let connection { host.send(.release(connection: connection, holder)) }
            host.onHost(after: .seconds(3)) { [self] in vanish() }
        }
    }

    /// The process is gone, and its locks and its group with it.
    func vanish() {
        guard state != .gone else { return }
        state = .gone
        isStuck = false
        if let connection, host.isOn { host.disconnect(connection) }
        connection = nil
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
