import Messages

@testable import LeaseEngine

/// What vm-guard does, in short.
final class SimulatedGuard {
    enum State { case acquiring, running, ending, gone }
    let holder: Holder
    let leases: [LeaseName]
    private(set) var modes: [LeaseName: LeaseMode]
    let locks: [String]
    private let wait: Duration?
    let generation: UInt64?
    unowned let host: SimulatedHost
    var state = State.acquiring
    var connection: UInt64?
    var deadline = Instant(nanoseconds: 0)
    var granted: [GuardLease] = []
    /// For tests: what it was refused with.
    var refusal: String?
    /// Everything that it was told.
    var told: [GuardMessage] = []

    init(_ holder: Holder, images: [String], mode: LeaseMode = .exclusive, wait: Duration? = nil, generation: UInt64?, on host: SimulatedHost) {
        self.holder = holder
        self.generation = generation
        self.host = host
        leases = images.map { LeaseName(lockspace: World.lockspace, resource: $0) }
        modes = Dictionary(uniqueKeysWithValues: leases.map { ($0, mode) })
        self.wait = wait
        locks = ["vm-\(holder.name)"] + (mode == .shared ? [] : images.map { "disk-\($0)" })
    }

    /// The group has been told to end, but a process of it hangs in the kernel.
    var isStuck = false
    var isRunning: Bool { state == .running || isStuck }
    var isGone: Bool { state == .gone }

    private var request: GuardRequest {
        GuardRequest(
            holder: holder, lock: locks[0], diskLocks: Array(locks.dropFirst()), leases: granted.isEmpty ? leases.map { GuardLease(name: $0, mode: modes[$0] ?? .exclusive) } : granted,
            generations: generation.map { [World.lockspace: $0] } ?? [:],
            proofs: host.world.proofs.map { AcceptedProof(proof: $0.proof, age: .zero, receivedAt: host.world.now) }, wait: wait)
    }

    /// Asks for its lease of this name in the other way; about to share, it stops writing first.
    func convert(_ name: LeaseName) {
        guard state == .running, let connection, let mode = modes[name] else { return }
        host.world.tell("host \(host.id): \(holder) wants \(name.resource) \(mode == .shared ? "exclusive" : "shared")")
        modes[name] = .shared
        host.send(.convert(connection: connection, holder, GuardLease(name: name, mode: mode == .shared ? .exclusive : .shared)))
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
        told.append(message)
        switch message.verb {
        case "granted", "converted":
            deadline = Instant(nanoseconds: message["deadline"].flatMap(Int64.init) ?? 0)
            granted = message.all("lease").compactMap(GuardLease.init)
            for lease in granted { modes[lease.name] = lease.mode }
            if message.verb == "converted" {
                host.world.tell("host \(host.id): \(holder) has converted: \(message.all("lease"))")
                host.world.checkHolders()
            }
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
