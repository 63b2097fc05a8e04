import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// What lease-service decides about leases that guards take from a sanlock daemon.
@Suite("Leases that guards take from sanlock")
struct SanlockTakingTests {
    /// Host 1 with a daemon that renews, and the SDM lease of host 2, which was last seen when this began.
    private struct Desk {
        var engine = LeaseEngine()
        var now = Instant(nanoseconds: 1_000_000_000_000)
        var disk: [String: [UInt8]] = [:]
        var told: [GuardMessage] = []
        let layout = DomainLayout(root: "/domain")
        let lease = LeaseName(lockspace: "domain", resource: DomainLayout.sdm)
        let geometry = Geometry.standard
        let holder = Holder(role: .spm, name: "pool", attempt: 1)

        init(settle: Duration = .zero) {
            disk[layout.ids] = Images.lockspace("domain", ioTimeout: 10)
            disk[layout.leases] = [UInt8](repeating: 0, count: geometry.alignment) + Images.resource(DomainLayout.sdm, lockspace: "domain")
            put(host: 2, generation: 7, at: 500)
            put(owner: 2, generation: 7, lver: 3, at: 500)
            submit(.started(HostIdentity(name: "host1", hostID: 1, bootID: "b", hardwareID: "h", settle: settle, sanlock: SanlockSettings(run: "/run/sanlock", library: "library"))))
            submit(.join("join", Caller(role: .operator_), LockspaceJoin(lockspace: "domain", path: "/domain")))
            #expect(engine.snapshot.lockspaces.first?.state == .joined)
        }

        mutating func put(host: Int, generation: UInt64, at timestamp: UInt64) {
            var record = LeaderRecord(lockspace: "domain", ioTimeout: 10)
            record.ownerID = UInt64(host)
            record.ownerGeneration = generation
            record.name = "host\(host)"
            record.timestamp = timestamp
            let start = Int(geometry.deltaOffset(host: host))
            disk[layout.ids]?.replaceSubrange(start..<(start + record.sector.count), with: record.sector)
        }

        mutating func put(owner: Int, generation: UInt64, lver: UInt64, at timestamp: UInt64) {
            var record = LeaderRecord(lockspace: "domain", resource: DomainLayout.sdm)
            record.ownerID = UInt64(owner)
            record.ownerGeneration = generation
            record.lver = lver
            record.timestamp = timestamp
            disk[layout.leases]?.replaceSubrange(geometry.alignment..<(geometry.alignment + record.sector.count), with: record.sector)
        }

        mutating func submit(_ input: LeaseInput) {
            var inputs = [input]
            while !inputs.isEmpty {
                for case .perform(let action) in engine.handle(inputs.removeFirst(), at: now) {
                    switch action {
                    case .io(let request):
                        guard case .one(.read(let path, let offset, let length)) = request.work, let file = disk[path], Int(offset) + length <= file.count else {
                            Issue.record("it writes: \(request)")
                            continue
                        }
                        inputs.append(.completed(request.token, .data(Array(file[Int(offset)..<(Int(offset) + length)]))))
                    case .daemon(let request):
                        put(host: 1, generation: 1, at: 900)
                        inputs.append(.daemonAnswered(request.token, 0))
                    case .note(let fact): inputs.append(.noted(fact))
                    case .tell(_, let message): told.append(message)
                    case .testLocks(let holder, _): inputs.append(.locksTested(holder, free: false))
                    case .closeFiles: break
                    }
                }
            }
        }

        /// The daemon renews meanwhile.
        mutating func pass(_ seconds: Int64) {
            for second in 0..<seconds {
                now = now + .seconds(1)
                if second % 20 == 0 { put(host: 1, generation: 1, at: UInt64(now.nanoseconds / 1_000_000_000)) }
                submit(.wake)
            }
        }

        mutating func acquire(proofs: [Proof] = [], on connection: UInt64 = 1) {
            let accepted = proofs.map { AcceptedProof(proof: $0, age: .zero, receivedAt: now) }
            submit(.acquire(connection: connection, GuardRequest(holder: holder, lock: "lock", diskLocks: [], leases: [GuardLease(name: lease)], proofs: accepted)))
        }

        /// What was told since the last look, but for deadlines.
        mutating func heard() -> [String] {
            defer { told = [] }
            return told.filter { $0.verb != "deadline" }.map { [$0.verb, $0["code"], $0["lease"]].compactMap(\.self).joined(separator: " ") }
        }
    }

    private let off = Proof(id: "p", kind: .powerOff, host: "host2", hostID: 2, generations: ["domain": 7], statement: "off")

    @Test("the daemon, which would take a silent host's lease by time alone, is not asked without a proof; with one it is, and may say that it is too early")
    func silence() {
        var desk = Desk()
        desk.pass(300)
        desk.acquire()
        #expect(desk.heard() == ["refused lease.held"])
        desk.acquire(proofs: [off])
        #expect(desk.heard() == ["take domain|SDM"])
        desk.submit(.notTaken(connection: 1, desk.holder, result: SanlockCode.ownerExpires, why: ""))
        #expect(desk.heard().first == "refused lease.held")
    }

    @Test("granted is what the disk says was taken; released is what the disk says is free, after the guard was told to let go")
    func disk() {
        var desk = Desk()
        desk.put(host: 2, generation: 7, at: 0)
        desk.acquire()
        #expect(desk.heard() == ["take domain|SDM"])
        desk.put(owner: 1, generation: 1, lver: 4, at: 950)
        desk.submit(.taken(connection: 1, desk.holder))
        #expect(desk.heard() == ["granted domain|SDM|4|1"])
        desk.submit(.release(connection: 1, desk.holder))
        desk.pass(1)
        #expect(desk.heard().first == "drop")
        desk.pass(3)
        #expect(!desk.heard().contains("released"))
        desk.put(owner: 1, generation: 1, lver: 4, at: 0)
        desk.pass(1)
        #expect(desk.heard().last == "released")
    }

    @Test("a guard is not told to let go before what its storage had in hand has settled, when nobody here watched that storage")
    func settles() {
        var desk = Desk(settle: .seconds(5))
        desk.put(host: 2, generation: 7, at: 0)
        desk.pass(10)
        desk.acquire()
        desk.pass(6)
        desk.put(owner: 1, generation: 1, lver: 4, at: 950)
        desk.submit(.taken(connection: 1, desk.holder))
        #expect(desk.heard().last == "granted domain|SDM|4|1")
        // A new life of lease-service has seen nothing of the storage until now.
        desk.engine.began = desk.now
        desk.submit(.release(connection: 1, desk.holder))
        desk.submit(.wake)
        desk.pass(4)
        #expect(desk.heard().isEmpty)
        desk.pass(2)
        #expect(desk.heard().first == "drop")
    }

    @Test("what keeps a guard from letting go also keeps one that comes back after its connection broke, however often")
    func settlesForWhoComesBack() {
        var desk = Desk(settle: .seconds(5))
        desk.put(host: 2, generation: 7, at: 0)
        desk.pass(10)
        desk.acquire()
        desk.pass(6)
        desk.put(owner: 1, generation: 1, lver: 4, at: 950)
        desk.submit(.taken(connection: 1, desk.holder))
        #expect(desk.heard().last == "granted domain|SDM|4|1")
        desk.engine.began = desk.now
        desk.submit(.release(connection: 1, desk.holder))
        for connection in 2...4 as ClosedRange<UInt64> {
            desk.submit(.disconnected(connection: connection - 1))
            // Nobody is connected: the disk is watched, and still names this host.
            desk.pass(1)
            desk.submit(.release(connection: connection, desk.holder))
            desk.submit(.wake)
            #expect(desk.heard().isEmpty, "\(connection)")
        }
        desk.pass(1)
        #expect(desk.heard().isEmpty)
        desk.pass(3)
        #expect(desk.heard().first == "drop")
        desk.submit(.disconnected(connection: 4))
        desk.pass(2)
        #expect(desk.engine.grants[desk.holder]?.state == .releasing, "it is on the disk")
        desk.put(owner: 1, generation: 1, lver: 4, at: 0)
        desk.pass(2)
        #expect(desk.engine.grants.isEmpty)
    }

    @Test("a guard that could not take its leases holds nothing: another process that has them through the same daemon keeps its grant from ending no longer")
    func holdsNothing() {
        var desk = Desk()
        desk.put(host: 2, generation: 7, at: 0)
        desk.acquire()
        desk.put(owner: 1, generation: 1, lver: 4, at: 950)
        desk.submit(.notTaken(connection: 1, desk.holder, result: SanlockCode.exists, why: ""))
        #expect(desk.heard().last?.hasPrefix("refused") == true && desk.engine.grants.isEmpty)
    }

    @Test("a guard that comes back while it takes its leases is told once more: its answer may have been lost")
    func comesBack() {
        var desk = Desk()
        desk.put(host: 2, generation: 7, at: 0)
        desk.acquire()
        desk.submit(.disconnected(connection: 1))
        desk.acquire(on: 2)
        #expect(desk.heard() == ["take domain|SDM", "take domain|SDM"])
        desk.put(owner: 1, generation: 1, lver: 4, at: 950)
        desk.submit(.taken(connection: 1, desk.holder))
        #expect(desk.heard().isEmpty)
        desk.submit(.taken(connection: 2, desk.holder))
        #expect(desk.heard() == ["granted domain|SDM|4|1"])
    }

    @Test("a guard that is refused after it was told to take leaves nothing behind that another could be granted")
    func vanishes() {
        var desk = Desk()
        desk.put(host: 2, generation: 7, at: 0)
        desk.acquire()
        desk.put(owner: 1, generation: 1, lver: 4, at: 950)
        desk.submit(.disconnected(connection: 1))
        desk.submit(.locksTested(desk.holder, free: true))
        #expect(desk.heard() == ["take domain|SDM"])
        desk.pass(2)
        #expect(desk.engine.grants[desk.holder]?.state == .releasing)
        desk.put(owner: 1, generation: 1, lver: 4, at: 0)
        desk.pass(2)
        #expect(desk.engine.grants.isEmpty)
    }
}
