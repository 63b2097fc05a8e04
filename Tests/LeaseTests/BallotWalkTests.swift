import Foundation
import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// The step machines alone, sector by sector in any order: exclusive, shared, converted, given back, abandoned, late, dead and taken over by proof.
@Suite("One lease, four hosts, any order")
struct BallotWalkTests {
    static var seeds: [UInt64] {
        let count = ProcessInfo.processInfo.environment["LEASE_SEEDS"].flatMap(UInt64.init) ?? 60
        let first = ProcessInfo.processInfo.environment["LEASE_FIRST_SEED"].flatMap(UInt64.init) ?? 1
        return Array(first..<(first + count))
    }

    @Test(arguments: seeds) func exclusiveMeansAlone(seed: UInt64) throws {
        let walk = BallotWalk(seed: seed)
        for _ in 0..<6000 {
            walk.step()
            if !walk.violations.isEmpty { break }
        }
        walk.calmDown()
        if ProcessInfo.processInfo.environment["LEASE_TELL"] != nil { print("WINS", seed, walk.wins) }
        #expect(walk.violations == [], "seed \(seed)\n\(walk.story.suffix(60).joined(separator: "\n"))")
    }
}

final class BallotWalk {
    static let geometry = Geometry(sectorSize: 4096, alignment: 1 << 20) ?? .standard
    static let settle = Duration.seconds(5)
    static let slots = 6
    let name = LeaseName(lockspace: "dom1", resource: "image-1")

    enum Work {
        case acquire(Acquisition, Acquisition.Step)
        case retract(Retraction, Retraction.Step)
    }

    struct Late {
        var host: Int
        var boot: Int
        var offset: Int
        var bytes: [UInt8]
        var lands: Instant
    }

    struct Host {
        let id: Int
        var generation: UInt64 = 1
        var boot = 1
        var isOn = true
        var diedAt = Instant(nanoseconds: 0)
        /// What it may use now.
        var hold: (mode: LeaseMode, lver: UInt64)?
        var work: Work?
        var busyUntil = Instant(nanoseconds: 0)
        /// Something of ours may be on disk that must be taken back.
        var mustRetract = false
        var isSharingAnyway: Bool { hold?.mode == .shared }
    }

    var random: SplitMix64
    var now = Instant(nanoseconds: 1_000_000_000_000)
    var area: [UInt8]
    var hosts = (1...4).map { Host(id: $0) }
    var late: [Late] = []
    var proofs: [AcceptedProof] = []
    var leaders: [[UInt8]] = []
    var violations: [String] = []
    var story: [String] = []
    var isStormy = true
    var wins = 0

    init(seed: UInt64) {
        random = SplitMix64(state: seed)
        area = Array(Images.resource("image-1", lockspace: "dom1", geometry: Self.geometry).prefix((Self.slots + 2) * 4096))
    }

    func chance(_ perThousand: UInt64) -> Bool { random.next() % 1000 < perThousand }
    func tell(_ text: String) { story.append("\((now.nanoseconds - 1_000_000_000_000) / 1_000_000): \(text)") }

    // MARK: Disk

    func write(_ host: Int, _ offset: Int, _ bytes: [UInt8]) {
        area.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
        if offset == 0 {
            leaders.append(bytes)
            if let leader = try? LeaderRecord(bytes[...]) { tell("leader by \(host): version \(leader.lver) owner \(leader.ownerID).\(leader.ownerGeneration) \(leader.isFree ? "free" : leader.isShortHold ? "short" : "held")") }
        } else if let block = try? BallotBlock(bytes[...]) {
            tell("block \(offset / 4096 - 1) by \(host): version \(block.lver) mbal \(block.mbal) bal \(block.bal) for \(block.owner)\(block.isReleased ? " released" : "")\(block.sharedGeneration.map { " shared \($0)" } ?? "")")
        }
    }

    func delta(_ id: Int) -> [UInt8] {
        let host = hosts[id - 1]
        var record = LeaderRecord(lockspace: "dom1", ioTimeout: 2, geometry: Self.geometry)
        record.ownerID = UInt64(id)
        record.ownerGeneration = host.generation
        record.name = "host\(id)"
        record.timestamp = 7
        return record.sector
    }

    // MARK: One step of one host

    func step() {
        now = now + .milliseconds(Int64(random.next() % 12))
        for write in late where write.lands <= now { self.write(write.host, write.offset, write.bytes) }
        late.removeAll { $0.lands <= now }
        if isStormy, chance(2), let old = leaders.randomElement(using: &random) {
            tell("an old leader comes back")
            area.replaceSubrange(0..<4096, with: old)
            if let leader = try? LeaderRecord(old[...]) { tell("leader again: version \(leader.lver) owner \(leader.ownerID)") }
        }
        let index = Int(random.next() % 4)
        if hosts[index].isOn { act(index) } else { rest(index) }
        check()
    }

    private func rest(_ index: Int) {
        guard now > hosts[index].diedAt + Self.settle + .seconds(1), chance(100) else { return }
        hosts[index].isOn = true
        hosts[index].generation += 1
        hosts[index].boot += 1
        tell("host \(index + 1) back with generation \(hosts[index].generation)")
    }

    private func act(_ index: Int) {
        if isStormy, chance(4) { return die(index) }
        guard now >= hosts[index].busyUntil else { return }
        if late.contains(where: { $0.host == index + 1 && $0.boot == hosts[index].boot }) { return }
        if hosts[index].work == nil { choose(index) } else { advance(index) }
    }

    private func die(_ index: Int) {
        tell("host \(index + 1) dies")
        let host = hosts[index]
        hosts[index] = Host(id: host.id, generation: host.generation, boot: host.boot, isOn: false, diedAt: now)
        // What it had sent lands before everything has settled.
        for entry in late.indices where late[entry].host == host.id { late[entry].lands = min(late[entry].lands, now + .milliseconds(Int64(random.next() % 4900))) }
        let proof = Proof(
            id: "off", kind: .powerOff, host: "host\(host.id)", hostID: host.id, incarnations: Incarnation(1), generations: ["dom1": host.generation], statement: "off")
        if chance(700) { proofs.append(AcceptedProof(proof: proof, age: .zero, receivedAt: now)) }
    }

    private func choose(_ index: Int) {
        let host = hosts[index]
        if host.mustRetract {
            hosts[index].mustRetract = false
            return retract(index, lver: nil, keepsShare: host.isSharingAnyway)
        }
        guard let hold = host.hold else {
            if isStormy || chance(500) { return acquire(index, chance(500) ? .exclusive : .shared, isConversion: false) }
            return
        }
        switch random.next() % 10 {
        case 0..<4: return
        case 4..<7:
            hosts[index].hold = nil
            tell("host \(host.id) gives back")
            retract(index, lver: hold.mode == .exclusive ? hold.lver : nil, keepsShare: false)
        default:
            if hold.mode == .shared { return acquire(index, .exclusive, isConversion: true) }
            hosts[index].hold = (.shared, hold.lver)
            tell("host \(host.id) goes on sharing")
            retract(index, lver: hold.lver, keepsShare: true)
        }
    }

    func acquire(_ index: Int, _ mode: LeaseMode, isConversion: Bool) {
        tell("host \(index + 1) \(isConversion ? "converts to" : "wants") \(mode)")
        var acquisition = Acquisition(
            name: name, mode: mode, isConversion: isConversion, geometry: Self.geometry, hostID: index + 1, generation: hosts[index].generation, proofs: proofs, settle: Self.settle,
            giveUpAt: now + .seconds(20), waitUntil: chance(300) ? now + .seconds(3) : nil, slots: Self.slots)
        hosts[index].work = .acquire(acquisition, acquisition.begin())
    }

    private func retract(_ index: Int, lver: UInt64?, keepsShare: Bool) {
        var retraction = Retraction(name: name, geometry: Self.geometry, hostID: index + 1, generation: hosts[index].generation, lver: lver, keepsShare: keepsShare)
        hosts[index].work = .retract(retraction, retraction.begin())
    }

    private func advance(_ index: Int) {
        let id = index + 1
        switch hosts[index].work {
        case .acquire(var acquisition, let step):
            let next: Acquisition.Step
            switch step {
            case .read(let offset, let length): next = acquisition.onRead(Array(area[offset..<(offset + length)]), at: now)
            case .readOwner(let owner): next = acquisition.onRead(delta(owner), at: now)
            case .write(let offset, let bytes):
                guard put(index, offset, bytes) else { return abandon(index) }
                next = acquisition.onWritten(at: now)
            case .pause(let until):
                guard now >= until, let woken = acquisition.onWake(at: now) else { return }
                next = woken
            case .won(let lver):
                wins += 1
                hosts[index].hold = (acquisition.mode, lver)
                tell("host \(id) has it \(acquisition.mode), version \(lver)")
                hosts[index].work = nil
                return
            case .refused(let error):
                tell("host \(id) refused: \(error.code) \(error.message)")
                if error.code == LeaseErrorCode.corrupt.rawValue { violations.append("host \(id): \(error.message)") }
                return abandon(index)
            }
            hosts[index].work = .acquire(acquisition, next)
        case .retract(var retraction, let step):
            let next: Retraction.Step
            switch step {
            case .read(let offset, let length): next = retraction.onRead(Array(area[offset..<(offset + length)]), at: now)
            case .write(let offset, let bytes):
                guard put(index, offset, bytes) else {
                    var again = Retraction(
                        name: name, geometry: Self.geometry, hostID: id, generation: hosts[index].generation, lver: retraction.lver, keepsShare: retraction.keepsShare)
                    hosts[index].work = .retract(again, again.begin())
                    return
                }
                next = retraction.onWritten()
            case .done(let text):
                tell("host \(id): \(text)")
                hosts[index].work = nil
                return
            }
            hosts[index].work = .retract(retraction, next)
        case nil: break
        }
    }

    /// `false`: the host knows nothing of what became of it.
    private func put(_ index: Int, _ offset: Int, _ bytes: [UInt8]) -> Bool {
        guard isStormy, chance(30) else {
            write(index + 1, offset, bytes)
            return true
        }
        switch random.next() % 3 {
        case 0: write(index + 1, offset, bytes)
        case 1: late.append(Late(host: index + 1, boot: hosts[index].boot, offset: offset, bytes: bytes, lands: now + .milliseconds(Int64(random.next() % 20000))))
        default: break
        }
        return false
    }

    private func abandon(_ index: Int) {
        hosts[index].work = nil
        hosts[index].mustRetract = true
        // An interrupted conversion goes on sharing.
    }

    // MARK: The model

    func check() {
        let holders = hosts.filter { $0.hold != nil }
        guard holders.count > 1, holders.contains(where: { $0.hold?.mode == .exclusive }) else { return }
        violations.append("held by " + holders.map { "host \($0.id) \($0.hold?.mode.rawValue ?? "")" }.joined(separator: " and "))
    }

    /// Whatever happened, everybody can have it in the end, in either way.
    func calmDown() {
        guard violations.isEmpty else { return }
        isStormy = false
        proofs = hosts.flatMap { host in
            (1...host.generation).filter { !host.isOn || $0 < host.generation }.map { generation in
                AcceptedProof(
                    proof: Proof(
                        id: "late", kind: .powerOff, host: "host\(host.id)", hostID: host.id, incarnations: Incarnation(1), generations: ["dom1": generation], statement: "off"),
                    age: .zero, receivedAt: now)
            }
        }
        func run(until done: () -> Bool) {
            var steps = 0
            while !done(), steps < 200_000, violations.isEmpty {
                steps += 1
                now = now + .milliseconds(Int64(random.next() % 12))
                for write in late where write.lands <= now { self.write(write.host, write.offset, write.bytes) }
                late.removeAll { $0.lands <= now }
                let index = Int(random.next() % 4)
                if !hosts[index].isOn { rest(index) } else if now >= hosts[index].busyUntil, !late.contains(where: { $0.host == index + 1 }) {
                    if hosts[index].work != nil {
                        advance(index)
                    } else if hosts[index].mustRetract {
                        hosts[index].mustRetract = false
                        retract(index, lver: nil, keepsShare: hosts[index].isSharingAnyway)
                    } else if let hold = hosts[index].hold {
                        hosts[index].hold = nil
                        retract(index, lver: hold.mode == .exclusive ? hold.lver : nil, keepsShare: false)
                    }
                }
                check()
            }
        }
        run { late.isEmpty && hosts.allSatisfy { $0.isOn && $0.hold == nil && $0.work == nil && !$0.mustRetract } }
        for mode in [LeaseMode.exclusive, .shared] {
            for index in hosts.indices {
                tell("calm: host \(index + 1), \(mode)")
                let before = wins
                acquire(index, mode, isConversion: false)
                run { hosts[index].work == nil }
                if wins == before { violations.append("host \(index + 1) does not get it \(mode)") }
                run { hosts.allSatisfy { $0.hold == nil && $0.work == nil && !$0.mustRetract } }
            }
        }
    }
}

extension SplitMix64: RandomNumberGenerator {}
