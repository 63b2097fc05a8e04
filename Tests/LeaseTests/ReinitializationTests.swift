import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// One lockspace on a disk of sectors, and one transaction on it that may stop after any write.
private final class Bench {
    static let lockspace = "dom1"
    static let root = "/shared/dom1"
    static let layout = DomainLayout(root: root)

    struct Stopped: Error {}

    let disk = Disk()
    var geometry: Geometry
    var now = Instant(nanoseconds: 1_000_000_000_000)
    var noted: ReinitializationOrder?
    var writes = 0
    /// Ends the process after so many writes; the last one is `torn`, if it is long enough.
    var stopAfter: Int?
    var torn = false
    /// Done once while the transaction waits.
    var duringPause: (() -> Void)?
    private(set) var pauses: Duration = .zero

    init(geometry: Geometry = .standard, ioTimeout: UInt16 = 2, leases: [String] = ["image-1", "image-2"]) {
        self.geometry = geometry
        disk.write(Self.layout.ids, 0, Images.lockspace(Self.lockspace, ioTimeout: ioTimeout, geometry: geometry))
        let slot = UInt64(geometry.alignment)
        disk.write(Self.layout.leases, slot, Images.resource(DomainLayout.sdm, lockspace: Self.lockspace, geometry: geometry))
        var index = LeaseIndex(lockspace: Self.lockspace, time: 1, geometry: geometry)
        for (number, name) in leases.enumerated() {
            _ = index.enter(name, at: number)
            disk.write(Self.layout.xleases, index.leaseOffset(number), Images.resource(name, lockspace: Self.lockspace, geometry: geometry))
        }
        disk.write(Self.layout.xleases, slot, index.image)
    }

    func host(_ id: Int, generation: UInt64, timestamp: UInt64, name: String? = nil) {
        var record = LeaderRecord(lockspace: Self.lockspace, ioTimeout: 2, geometry: geometry)
        record.ownerID = UInt64(id)
        record.ownerGeneration = generation
        record.name = name ?? "host\(id)"
        record.timestamp = timestamp
        disk.write(Self.layout.ids, geometry.deltaOffset(host: id), record.sector)
    }

    func lease(_ number: Int, owner: UInt64, generation: UInt64, lver: UInt64, timestamp: UInt64) {
        var leader = LeaderRecord(lockspace: Self.lockspace, resource: "image-\(number)", geometry: geometry)
        leader.ownerID = owner
        leader.ownerGeneration = generation
        leader.lver = lver
        leader.timestamp = timestamp
        disk.write(Self.layout.xleases, UInt64((2 + number) * geometry.alignment), leader.sector)
    }

    func order(_ change: (inout LockspaceRepair) -> Void = { _ in }, source: String? = nil, request: String = "request-1") -> ReinitializationOrder {
        var repair = LockspaceRepair(lockspace: Self.lockspace, path: Self.root, who: "op", why: "test")
        change(&repair)
        return ReinitializationOrder(request: request, repair: repair, source: source ?? "/state/\(request)", before: "/state/\(request)", time: 7)
    }

    func run(_ order: ReinitializationOrder, proofs: [AcceptedProof] = []) throws -> LockspaceAssessment {
        var work = Reinitialization(order, host: "host1", proofs: proofs)
        return try carryOut(work.begin(), &work)
    }

    func resume(_ order: ReinitializationOrder) throws -> LockspaceAssessment {
        var work = Reinitialization(order, host: "host1", proofs: [])
        return try carryOut(work.resume(), &work)
    }

    private func carryOut(_ first: Reinitialization.Step, _ work: inout Reinitialization) throws -> LockspaceAssessment {
        var step = first
        while true {
            switch step {
            case .read(let path, let offset, let length): step = work.onRead(disk.read(path, offset, length), at: now)
            case .write(let path, let offset, let bytes, _):
                writes += 1
                let isLast = stopAfter.map { writes >= $0 } ?? false
                if isLast, torn, bytes.count > 512 {
                    disk.write(path, offset, Array(bytes[..<(bytes.count / 1024 * 512)]))
                } else {
                    disk.write(path, offset, bytes)
                }
                if isLast { throw Stopped() }
                step = work.onWritten(at: now)
            case .pause(let until):
                pauses = pauses + (until - now)
                now = until
                duringPause?()
                duringPause = nil
                guard let next = work.onWake(at: now) else { throw Stopped() }
                step = next
            case .note(let order):
                noted = order
                guard let next = work.onNoted(at: now) else { throw Stopped() }
                step = next
            case .forget:
                noted = nil
                guard let next = work.onNoted(at: now) else { throw Stopped() }
                step = next
            case .done(let report): return report
            case .refused(let error): throw error
            }
        }
    }

    func contents(_ geometry: Geometry? = nil) throws -> LockspaceContents {
        var reader = LockspaceReader(lockspace: Self.lockspace)
        var step = reader.begin()
        while true {
            switch step {
            case .read(let volume, let offset, let length): step = reader.onRead(disk.read(volume.path(in: Self.layout), offset, length))
            case .refused(let error): throw error
            case .done: return LockspaceContents(reader.image, geometry: try #require(reader.geometry))
            }
        }
    }

    var first: [UInt8] { disk.read(Self.layout.ids, 0, 512) ?? [] }

    static func left(_ ids: Int...) -> LockspaceFacts {
        LockspaceFacts(
            departures: ids.map { LockspaceFacts.Departure(host: "host\($0)", hostID: $0, bootID: "b", age: .seconds(1)) },
            registered: Dictionary(uniqueKeysWithValues: ids.map { ($0, "host\($0)") }))
    }
}

private func refusal(_ work: () throws -> Void) -> RequestError? {
    do { try work() } catch let error as RequestError { return error } catch {}
    return nil
}

@Suite("Reinitialisation of a lockspace")
struct ReinitializationTests {
    private let large = Geometry(sectorSize: 4096, alignment: 1 << 20) ?? .standard

    @Test func everythingIsFreeAfterwardsAndNothingGoesBack() throws {
        let bench = Bench()
        bench.host(1, generation: 4, timestamp: 0)
        bench.host(2, generation: 7, timestamp: 99)
        bench.lease(1, owner: 2, generation: 7, lver: 12, timestamp: 5)
        // Never decided, but named: this version must not come again.
        var block = BallotBlock(mbal: 3, lver: 15)
        block.bal = 3
        block.owner = 2
        block.ownerGeneration = 9
        bench.disk.write(Bench.layout.xleases, UInt64(4 << 20) + UInt64(Geometry.standard.blockOffset(host: 3)), block.sector(.standard))
        let report = try bench.run(bench.order { $0.facts = Bench.left(1, 2) })
        #expect(report.isDone && bench.noted == nil)
        let after = try bench.contents()
        #expect(after.slots.values.allSatisfy { if case .record(let record) = $0 { record.isFree } else { false } })
        #expect(after.generation(of: 1) == 4 && after.generation(of: 2) == 9 && after.generation(of: 3) == 0)
        #expect(after.leases.map(\.resource) == ["SDM", "image-1", "image-2"])
        #expect(after.leases.allSatisfy { $0.leader?.isFree == true && $0.shared.isEmpty })
        #expect(after.leases.map(\.lver) == [0, 12, 15])
        #expect(after.ioTimeout == 2)
    }

    // MARK: Refusals

    @Test func whatChangesLivesAndIsNeverForced() throws {
        let bench = Bench()
        bench.host(2, generation: 7, timestamp: 99)
        bench.duringPause = { bench.host(2, generation: 7, timestamp: 101) }
        let before = bench.first
        let error = refusal { _ = try bench.run(bench.order { $0.force = true }) }
        #expect(error?.code == "lockspace.in-use" && error?.message.contains("host2") == true)
        #expect(bench.first == before && bench.writes == 0 && bench.noted == nil)
    }

    @Test func evenWhoSaysItHasLeftLivesIfItsSectorChanges() throws {
        let bench = Bench()
        bench.host(2, generation: 7, timestamp: 99)
        bench.duringPause = { bench.host(2, generation: 7, timestamp: 101) }
        #expect(refusal { _ = try bench.run(bench.order { $0.facts = Bench.left(2); $0.force = true }) }?.code == "lockspace.in-use")
        #expect(bench.writes == 0 && bench.noted == nil, "seen at the second look, before anything is written")
    }

    @Test func silenceNeedsForceAndTwiceTheTimeout() throws {
        let bench = Bench()
        bench.host(2, generation: 7, timestamp: 99)
        let error = refusal { _ = try bench.run(bench.order()) }
        #expect(error?.code == "lockspace.in-use" && error?.message.contains("nothing proves") == true)
        #expect(bench.pauses == .seconds(4) && bench.writes == 0)
        #expect(try bench.run(bench.order { $0.force = true }).isDone)
    }

    @Test func aProofCoversItsGenerationOnly() throws {
        let bench = Bench()
        bench.host(2, generation: 7, timestamp: 99)
        func proof(_ generation: UInt64) -> AcceptedProof {
            AcceptedProof(
                proof: Proof(id: "p", kind: .powerOff, host: "host2", hostID: 2, generations: [Bench.lockspace: generation], statement: "off"), age: .seconds(3), receivedAt: bench.now)
        }
        #expect(refusal { _ = try bench.run(bench.order(), proofs: [proof(6)]) }?.code == "lockspace.in-use")
        #expect(try bench.run(bench.order(), proofs: [proof(7)]).isDone)
    }

    @Test func aHeldLeaseNeedsItsHolderGone() throws {
        let bench = Bench()
        bench.host(2, generation: 7, timestamp: 99)
        bench.lease(2, owner: 2, generation: 7, lver: 1, timestamp: 5)
        let report = try bench.run(bench.order { $0.dryRun = true })
        #expect(report.obstacles.map(\.subject) == ["host/2", "lease/image-2"] && !report.isDone && bench.writes == 0)
        #expect(report.obstacles.allSatisfy { $0.canBeForced && $0.age == .seconds(4) })
        bench.host(2, generation: 8, timestamp: 0)
        let later = try bench.run(bench.order { $0.dryRun = true })
        #expect(later.obstacles.isEmpty && later.leases.last?.state == "void")
    }

    @Test func unreadableSectorsOfHostsThatLeftAreNoObstacle() throws {
        let bench = Bench()
        for id in [2, 3] { bench.disk.write(Bench.layout.ids, Geometry.standard.deltaOffset(host: id), [UInt8](repeating: 0xAB, count: 512)) }
        let report = try bench.run(bench.order { $0.facts = Bench.left(2); $0.dryRun = true })
        #expect(report.obstacles.map(\.subject) == ["hosts/3-3"])
        var facts = Bench.left(2)
        facts.registered[3] = "host3"
        #expect(try bench.run(bench.order { $0.facts = facts; $0.dryRun = true }).obstacles.map(\.subject) == ["host/3"])
        #expect(try bench.run(bench.order { $0.facts = Bench.left(2, 3) }).isDone)
    }

    @Test func whatIsUnderWayOrNotKnownKeepsItFromBeingWritten() throws {
        let bench = Bench()
        var facts = Bench.left(1)
        facts.underWay = ["task 7 runs"]
        facts.silent = ["spm-coordinator"]
        let report = try bench.run(bench.order { $0.facts = facts; $0.dryRun = true })
        #expect(report.obstacles.map(\.subject) == ["task", "service/spm-coordinator"])
        #expect(refusal { _ = try bench.run(bench.order { $0.facts = facts }) }?.code == "lockspace.in-use")
    }

    @Test func anotherLockspaceIsNeverWritten() throws {
        let bench = Bench()
        bench.disk.write(Bench.layout.ids, 0, Images.lockspace("dom2", ioTimeout: 2))
        #expect(refusal { _ = try bench.run(bench.order { $0.force = true }) }?.code == "lockspace.not-this-one")
        bench.disk.write(Bench.layout.ids, 0, [UInt8](repeating: 7, count: 1 << 20))
        bench.disk.write(Bench.layout.leases, 1 << 20, [UInt8](repeating: 7, count: 1 << 20))
        #expect(refusal { _ = try bench.run(bench.order { $0.force = true }) }?.code == "lockspace.not-this-one")
        #expect(bench.writes == 0)
    }

    @Test func volumesWithoutHostIDsAreNotOverwrittenIfTheyAreAnotherLockspaces() throws {
        let other = Geometry(sectorSize: 4096, alignment: 4 << 20) ?? .standard
        for volume in [LockspaceImage.Volume.leases, .xleases] {
            let bench = Bench()
            _ = try bench.run(bench.order())
            let writes = bench.writes
            bench.disk.ends[Bench.layout.ids] = 0
            for path in [Bench.layout.leases, Bench.layout.xleases] { bench.disk.write(path, 0, [UInt8](repeating: 0, count: 8 << 20)) }
            if volume == .leases {
                bench.disk.write(Bench.layout.leases, 4 << 20, Images.resource(DomainLayout.sdm, lockspace: "dom2", geometry: other))
            } else {
                bench.disk.write(Bench.layout.xleases, 4 << 20, LeaseIndex(lockspace: "dom2", time: 1, updating: true, geometry: other).image)
            }
            let error = refusal { _ = try bench.run(bench.order({ $0.force = true }, source: "/state/request-1", request: "request-2")) }
            #expect(error?.code == "lockspace.not-this-one" && error?.message.contains("dom2") == true && bench.writes == writes, "\(volume)")
        }
    }

    @Test func whoJoinsWhileItIsClaimedKeepsIt() throws {
        let bench = Bench()
        bench.host(1, generation: 4, timestamp: 0)
        bench.duringPause = { bench.host(20, generation: 1, timestamp: 5) }
        #expect(refusal { _ = try bench.run(bench.order()) }?.code == "lockspace.in-use")
        let after = try bench.contents()
        #expect(after.generation(of: 1) == 4 && after.generation(of: 20) == 1 && bench.noted == nil)
        #expect(after.slots.count == 2)
    }

    // MARK: Changes

    @Test func sectorAlignmentAndTimeoutChangeThisWay() throws {
        let bench = Bench()
        bench.host(2, generation: 7, timestamp: 0)
        bench.lease(1, owner: 2, generation: 7, lver: 12, timestamp: 0)
        let report = try bench.run(bench.order { $0.sectorSize = 4096; $0.alignment = 2 << 20; $0.ioTimeout = 5 })
        #expect(report.isDone)
        let after = try bench.contents()
        #expect(after.geometry == Geometry(sectorSize: 4096, alignment: 2 << 20) && after.ioTimeout == 5 && after.indexProblem == nil)
        #expect(after.leases.map(\.lver) == [0, 12, 0] && after.generation(of: 2) == 7)
        // Nothing of the old lies where it can be taken for a lease.
        #expect((try? LeaderRecord((bench.disk.read(Bench.layout.leases, 1 << 20, 512) ?? [])[...])) == nil)
        bench.geometry = after.geometry
        #expect(try bench.run(bench.order({ $0.sectorSize = 512; $0.alignment = 1 << 20 }, request: "request-2")).isDone)
        #expect(try bench.contents().leases.map(\.lver) == [0, 12, 0])
    }

    @Test func anIndexThatCannotBeReadIsMadeOfItsLeases() throws {
        let bench = Bench()
        bench.disk.write(Bench.layout.xleases, 1 << 20, [UInt8](repeating: 9, count: 512))
        bench.lease(2, owner: 2, generation: 1, lver: 3, timestamp: 0)
        #expect(try bench.run(bench.order()).isDone)
        let after = try bench.contents()
        #expect(after.indexProblem == nil && after.leases.map(\.resource) == ["SDM", "image-1", "image-2"] && after.leases.last?.lver == 3)
    }

    // MARK: Crashes

    /// After any write, whole or torn, it is either as it was or says what is to be done, and both documented ways end well.
    @Test(arguments: zip([false, true], [false, true])) func itSurvivesACrashAfterAnyWrite(_ torn: Bool, _ changes: Bool) throws {
        func fresh() -> Bench {
            let bench = Bench(geometry: large)
            bench.host(1, generation: 4, timestamp: 0)
            bench.host(2, generation: 7, timestamp: 99)
            bench.lease(1, owner: 2, generation: 7, lver: 12, timestamp: 5)
            return bench
        }
        func order(_ bench: Bench) -> ReinitializationOrder {
            bench.order {
                $0.facts = Bench.left(1, 2)
                if changes { $0.alignment = 2 << 20 }
            }
        }
        let whole = fresh()
        _ = try whole.run(order(whole))
        let wanted = try whole.contents()
        let total = whole.writes
        #expect(total > 8)
        for stop in 1...total {
            let bench = fresh()
            bench.torn = torn
            bench.stopAfter = stop
            #expect(throws: Bench.Stopped.self) { try bench.run(order(bench)) }
            bench.stopAfter = nil
            let isMarked = ReinitializationMarker(bench.first[...]) != nil
            if !isMarked, stop < total {
                #expect(try bench.contents().generation(of: 2) == 7, "as it was")
                #expect(try LeaderRecord(bench.first[...]).lockspace == Bench.lockspace)
            }
            let isRestored = stop % 2 == 0 && isMarked
            if isRestored {
                let again = bench.order({ $0.facts = Bench.left(1, 2); if changes { $0.alignment = 2 << 20 } }, source: "/state/request-1", request: "request-2")
                #expect(try bench.run(again).isDone, "restore after write \(stop)")
            } else if isMarked {
                #expect(refusal { _ = try bench.run(bench.order(request: "other")) }?.code == "lockspace.unfinished")
                let noted = try #require(bench.noted)
                #expect(try bench.resume(noted).isDone, "resume after write \(stop)")
            } else if bench.noted != nil {
                #expect(refusal { _ = try bench.resume(order(bench)) }?.code == "lockspace.unfinished", "nothing is written when it is over")
                if stop < total { _ = try bench.run(order(bench)) }
            } else {
                _ = try bench.run(order(bench))
            }
            let after = try bench.contents()
            #expect(after.geometry == wanted.geometry && after.slots == wanted.slots, "after write \(stop)")
            #expect(after.leases.map(\.lver) == wanted.leases.map(\.lver) && after.leases.allSatisfy { $0.leader?.isFree == true })
        }
    }

    @Test func whatIsNotThereIsNotOver() throws {
        let bench = Bench()
        bench.stopAfter = 2
        #expect(throws: Bench.Stopped.self) { try bench.run(bench.order()) }
        bench.stopAfter = nil
        bench.disk.ends[Bench.layout.ids] = 0
        let order = try #require(bench.noted)
        #expect(refusal { _ = try bench.resume(order) }?.code == "lockspace.unfinished" && bench.noted != nil)
        bench.disk.ends = [:]
        #expect(try bench.resume(order).isDone)
    }

    @Test func whatIsOverIsNotResumed() throws {
        let bench = Bench()
        let order = bench.order()
        _ = try bench.run(order)
        bench.host(1, generation: 5, timestamp: 9)
        let before = bench.disk.read(Bench.layout.ids, 0, 1 << 20)
        #expect(refusal { _ = try bench.resume(order) }?.code == "lockspace.unfinished")
        #expect(bench.disk.read(Bench.layout.ids, 0, 1 << 20) == before)
    }

    // MARK: Backups

    @Test func aBackupRestoresALockspaceThatWasWiped() throws {
        let bench = Bench()
        bench.host(2, generation: 7, timestamp: 0)
        bench.lease(1, owner: 2, generation: 7, lver: 12, timestamp: 0)
        _ = try bench.run(bench.order())
        for path in [Bench.layout.ids, Bench.layout.leases, Bench.layout.xleases] { bench.disk.write(path, 0, [UInt8](repeating: 0, count: 8 << 20)) }
        #expect(refusal { _ = try bench.run(bench.order(request: "request-2")) }?.code == "lockspace.not-this-one")
        #expect(refusal { _ = try bench.run(bench.order(source: "/state/request-1", request: "request-3")) }?.code == "lockspace.in-use", "zero proves nothing")
        #expect(try bench.run(bench.order({ $0.force = true }, source: "/state/request-1", request: "request-3")).isDone)
        let after = try bench.contents()
        #expect(after.leases.map(\.lver) == [0, 12, 0] && after.generation(of: 2) == 7)
    }

    @Test func everyDamageOfABackupIsSeen() throws {
        var image = LockspaceImage(lockspace: "dom1")
        image.add(.ids, 512, [UInt8](repeating: 3, count: 512))
        image.add(.xleases, 1 << 20, [UInt8](repeating: 4, count: 1024))
        image.host = "host1"
        let file = image.backup
        #expect(try LockspaceImage(backup: file) == image)
        for position in 0..<(4096 + 2 * 32 + 512 + 1024) {
            var damaged = file
            damaged[position] ^= 1
            #expect(throws: RequestError.self, "byte \(position)") { try LockspaceImage(backup: damaged) }
        }
        for length in [0, 100, 4096, 5000] { #expect(throws: RequestError.self) { try LockspaceImage(backup: Array(file[..<length])) } }
    }

    @Test func aBackupOfAnotherLockspaceIsRefused() throws {
        let bench = Bench()
        bench.disk.write("/state/other", 0, LockspaceImage(lockspace: "dom2").backup)
        #expect(refusal { _ = try bench.run(bench.order({ $0.force = true }, source: "/state/other")) }?.code == "lockspace.bad-backup")
        #expect(refusal { _ = try bench.run(bench.order({ $0.force = true }, source: "/state/none")) }?.code == "lockspace.bad-backup")
        #expect(bench.writes == 0)
    }
}
