import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

/// What one host writes in one ballot, sector by sector: sanlock's own sequence.
@Suite("Disk Paxos, step by step")
struct BallotTests {
    private let name = LeaseName(lockspace: "dom1", resource: "image-1")
    private let now = Instant(nanoseconds: 500_000_000_000)

    private func acquisition(host: Int, generation: UInt64 = 1, slots: Int? = nil, slotsUntil: Instant = Instant(nanoseconds: .max)) -> Acquisition {
        Acquisition(
            name: name, geometry: .standard, hostID: host, generation: generation, proofs: [], settle: .zero, giveUpAt: now + .seconds(60), slots: slots, slotsUntil: slotsUntil)
    }

    /// Runs it alone against an area; returns the offsets it wrote.
    private func run(_ acquisition: inout Acquisition, on area: inout [UInt8], owner: LeaderRecord? = nil) -> (writes: [Int], last: Acquisition.Step) {
        var writes: [Int] = []
        var step = acquisition.begin()
        while true {
            switch step {
            case .read(let offset, let length): step = acquisition.onRead(Array(area[offset..<(offset + length)]), at: now)
            case .readOwner: step = acquisition.onRead(owner?.sector ?? [], at: now)
            case .write(let offset, let bytes):
                writes.append(offset)
                area.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
                step = acquisition.onWritten(at: now)
            case .pause, .won, .refused: return (writes, step)
            }
        }
    }

    private func release(host: Int, generation: UInt64 = 1, lver: UInt64?, on area: inout [UInt8]) -> [Int] {
        var retraction = Retraction(name: name, geometry: .standard, hostID: host, generation: generation, lver: lver)
        var writes: [Int] = []
        var step = retraction.begin()
        while true {
            switch step {
            case .read(let offset, let length): step = retraction.onRead(Array(area[offset..<(offset + length)]), at: now)
            case .write(let offset, let bytes):
                writes.append(offset)
                area.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
                step = retraction.onWritten()
            case .done: return writes
            }
        }
    }

    private func block(_ host: Int, _ area: [UInt8]) throws -> BallotBlock { try BallotBlock(area[Geometry.standard.blockOffset(host: host)...].prefix(512)) }

    /// A write that was given up long ago lands over the leader of the next version: neither its holder nor anybody else is kept out of that lease for ever.
    @Test func aLeaderThatComesLateBuriesNoRelease() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var first = acquisition(host: 1)
        _ = run(&first, on: &area)
        let late = Array(area[0..<512])
        _ = release(host: 1, lver: 1, on: &area)
        var second = acquisition(host: 2)
        _ = run(&second, on: &area)
        area.replaceSubrange(0..<512, with: late)
        #expect(!release(host: 2, lver: 2, on: &area).isEmpty)
        #expect(try block(2, area).isReleased)
    }

    /// Checksums don't keep numbers small: such a lease is refused, and lease-service lives on.
    @Test func numbersWithoutASuccessorAreRefused() throws {
        func code(_ area: [UInt8]) -> String? {
            var area = area
            var acquisition = acquisition(host: 1)
            guard case .refused(let error) = run(&acquisition, on: &area).last else { return nil }
            return error.code
        }
        let fresh = Images.resource("image-1", lockspace: "dom1")
        var leader = try LeaderRecord(fresh[...])
        leader.lver = .max
        #expect(code(leader.sector + fresh.dropFirst(512)) == "lease.corrupt")
        var bid = fresh
        let start = Geometry.standard.blockOffset(host: 2)
        bid.replaceSubrange(start..<(start + 512), with: BallotBlock(mbal: .max, lver: 1).sector(.standard))
        #expect(code(bid) == "lease.corrupt")
    }

    @Test func aGenerationWithoutASuccessorIsNotJoined() throws {
        let world = World(seed: 7, hosts: 1)
        world.isStormy = false
        var last = LeaderRecord(lockspace: World.lockspace, ioTimeout: 2, geometry: World.geometry)
        last.ownerID = 1
        last.ownerGeneration = .max
        last.name = world.hosts[0].name
        world.disk.write(DomainLayout(root: World.root).ids, 0, last.sector)
        world.hosts[0].powerOn()
        world.run(for: .seconds(6))
        #expect(world.hosts[0].generation == nil)
    }

    @Test func sectorsAndBallotNumbersAreSanlocks() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        // Measured with real daemons: 1, 2002, 4001, 6002.
        for (lver, (host, mbal)) in zip(UInt64(1)..., [(1, 1), (2, 2002), (1, 4001), (2, 6002)]) {
            var acquisition = acquisition(host: host)
            let (writes, last) = run(&acquisition, on: &area)
            let own = Geometry.standard.blockOffset(host: host)
            #expect(writes == [own, own, 0])
            guard case .won(lver) = last else { return #expect(Bool(false), "\(last)") }
            #expect(try block(host, area).mbal == UInt64(mbal))
            let leader = try LeaderRecord(area[..<512])
            #expect(leader.ownerID == UInt64(host) && leader.lver == lver && leader.timestamp == 500 && leader.writeID == UInt64(host) && leader.writeGeneration == 1)
            #expect(release(host: host, lver: lver, on: &area) == [own, 0], "its own mark first, then the leader")
            #expect(try block(host, area).isReleased && LeaderRecord(area[..<512]).isFree)
        }
    }

    @Test func theVeryBytesOfSanlocksAcquire() throws {
        // What `sanlock direct acquire -r LS1:res0 -i 1 -g 1` left, at the time it did.
        let theirs = Array(try Fixtures.load("leases-held").prefix(1 << 20))
        var area = Images.resource("res0", lockspace: "LS1")
        let time = try LeaderRecord(theirs[..<512]).timestamp
        var acquisition = Acquisition(
            name: LeaseName(lockspace: "LS1", resource: "res0"), geometry: .standard, hostID: 1, generation: 1, proofs: [], settle: .zero, giveUpAt: now)
        var step = acquisition.begin()
        let clock = Instant(nanoseconds: Int64(time) * 1_000_000_000)
        while true {
            switch step {
            case .read(let offset, let length): step = acquisition.onRead(Array(area[offset..<(offset + length)]), at: clock)
            case .write(let offset, let bytes):
                area.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
                step = acquisition.onWritten(at: clock)
                continue
            default: break
            }
            if case .won = step { break }
            if case .refused(let error) = step { return #expect(Bool(false), "\(error)") }
        }
        // sanlock's direct acquire marks the committed block released (flags at 52); the daemon does not.
        var expected = theirs
        expected[1024 + 52] = area[1024 + 52]
        let isSame = area == expected
        #expect(isSame)
    }

    /// Lengths of the reads of areas that an acquire of host 3 alone takes, from an area that another host wrote.
    private func reads(of area: [UInt8], slots: Int?, slotsUntil: Instant) -> [Int] {
        var area = area
        var acquisition = acquisition(host: 3, slots: slots, slotsUntil: slotsUntil)
        var reads: [Int] = []
        var step = acquisition.begin()
        while true {
            switch step {
            case .read(let offset, let length):
                reads.append(length)
                step = acquisition.onRead(Array(area[offset..<(offset + length)]), at: now)
            case .write(let offset, let bytes):
                area.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
                step = acquisition.onWritten(at: now)
            case .readOwner, .pause, .won, .refused: return reads
            }
        }
    }

    @Test func onlyBlocksOfHostsThatMayTakePartAreRead() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        let later = now + .seconds(1)
        let whole = 1_028_096
        #expect(reads(of: area, slots: nil, slotsUntil: later) == [whole, whole, whole])
        #expect(reads(of: area, slots: 6, slotsUntil: later) == [4096, 4096, 4096])
        #expect(reads(of: area, slots: 7, slotsUntil: later) == [8192, 8192, 8192])
        #expect(reads(of: area, slots: 1, slotsUntil: later) == [4096, 4096, 4096], "its own at least")
        #expect(reads(of: area, slots: 6, slotsUntil: now) == [4096, whole, whole, whole], "a host may have joined since")
        // The leader names a host that is not among them.
        var other = acquisition(host: 900)
        guard case .won = run(&other, on: &area).last else { return #expect(Bool(false)) }
        _ = release(host: 900, lver: 1, on: &area)
        #expect(reads(of: area, slots: 6, slotsUntil: later) == [4096, whole, whole, whole])
    }

    /// A ballot that took longer than a join sees the block of who joined meanwhile.
    @Test func whoJoinedDuringTheBallotIsSeen() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var acquisition = acquisition(host: 1, slots: 2, slotsUntil: now + .seconds(1))
        guard case .read(0, 4096) = acquisition.begin(), case .write = acquisition.onRead(Array(area[..<4096]), at: now), case .read(0, 4096) = acquisition.onWritten(at: now)
        else { return #expect(Bool(false)) }
        let late = Geometry.standard.blockOffset(host: 77)
        area.replaceSubrange(late..<(late + 512), with: BallotBlock(mbal: 2077, lver: 1).sector(.standard))
        let own = Geometry.standard.blockOffset(host: 1)
        area.replaceSubrange(own..<(own + 512), with: BallotBlock(mbal: 1, lver: 1).sector(.standard))
        guard case .read(0, let length) = acquisition.onRead(Array(area[..<4096]), at: now + .seconds(1)), case .pause = acquisition.onRead(Array(area[..<length]), at: now + .seconds(1))
        else { return #expect(Bool(false)) }
    }

    @Test func aHigherBallotMakesItPauseAndGoAbove() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var acquisition = acquisition(host: 1)
        guard case .read = acquisition.begin(), case .write(let offset, let bytes) = acquisition.onRead(area, at: now) else { return #expect(Bool(false)) }
        area.replaceSubrange(offset..<(offset + 512), with: bytes)
        let other = Geometry.standard.blockOffset(host: 2)
        area.replaceSubrange(other..<(other + 512), with: BallotBlock(mbal: 2002, lver: 1).sector(.standard))
        guard case .read = acquisition.onWritten(at: now), case .pause(let until) = acquisition.onRead(area, at: now) else { return #expect(Bool(false)) }
        #expect(until - now < .seconds(1))
        guard case .read(0, 512)? = acquisition.onWake(at: until), case .write(_, let again) = acquisition.onRead(Array(area[..<512]), at: until) else { return #expect(Bool(false)) }
        #expect(try BallotBlock(again[...]).mbal == 4001)
    }

    /// sanlock's own order: owned with a short hold, own block marked, leader freed.
    @Test func aShareIsInItsBlockBeforeTheLeaderIsFree() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var sharer = Acquisition(name: name, mode: .shared, geometry: .standard, hostID: 1, generation: 4, proofs: [], settle: .zero, giveUpAt: now + .seconds(60))
        let own = Geometry.standard.blockOffset(host: 1)
        let (writes, last) = run(&sharer, on: &area)
        #expect(writes == [own, own, 0, own, 0])
        guard case .won(1) = last else { return #expect(Bool(false), "\(last)") }
        let mine = try block(1, area)
        #expect(mine.isReleased && mine.sharedGeneration == 4 && mine.owner == 1 && mine.lver == 1)
        let leader = try LeaderRecord(area[..<512])
        #expect(leader.isFree && !leader.isShortHold && leader.lver == 1 && leader.ownerID == 1)
        // Another shares it, too; a third may not own it, and writes nothing.
        var second = Acquisition(name: name, mode: .shared, geometry: .standard, hostID: 2, generation: 1, proofs: [], settle: .zero, giveUpAt: now + .seconds(60))
        guard case .won(2) = run(&second, on: &area).last else { return #expect(Bool(false)) }
        var alive = LeaderRecord(lockspace: "dom1", ioTimeout: 2)
        alive.ownerID = 1
        alive.ownerGeneration = 4
        alive.timestamp = 10
        var third = acquisition(host: 3)
        let refused = run(&third, on: &area, owner: alive)
        guard case .refused(let error) = refused.last else { return #expect(Bool(false)) }
        #expect(refused.writes.isEmpty && error.code == "lease.held" && error.message.contains("it is shared by host 1"))
        // Given back: the mark goes, the block stays.
        #expect(release(host: 1, generation: 4, lver: nil, on: &area) == [own])
        #expect(try block(1, area).sharedGeneration == nil && block(1, area).mbal == mine.mbal)
    }

    /// The leader that a short hold shows is about to be free: a sharer waits for that, an owner does not.
    @Test func aShortHoldIsWaitedFor() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var leader = LeaderRecord(lockspace: "dom1", resource: "image-1")
        leader.ownerID = 2
        leader.ownerGeneration = 1
        leader.lver = 1
        leader.timestamp = 9
        leader.writeID = 2
        leader.isShortHold = true
        area.replaceSubrange(0..<512, with: leader.sector)
        var alive = LeaderRecord(lockspace: "dom1", ioTimeout: 2)
        alive.ownerID = 2
        alive.ownerGeneration = 1
        alive.timestamp = 10
        var sharer = Acquisition(name: name, mode: .shared, geometry: .standard, hostID: 1, generation: 1, proofs: [], settle: .zero, giveUpAt: now + .seconds(60))
        guard case .pause(let until) = run(&sharer, on: &area, owner: alive).last else { return #expect(Bool(false)) }
        #expect(until > now && until < now + .seconds(1))
        var owner = acquisition(host: 3)
        guard case .refused = run(&owner, on: &area, owner: alive).last else { return #expect(Bool(false)) }
    }

    /// Leaders of long ago, put back by writes that come late: the blocks know better.
    @Test func anOldLeaderIsRepairedThroughTheBlocks() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var old: [[UInt8]] = [Array(area[..<512])]
        for lver in UInt64(1)...3 {
            var winner = acquisition(host: Int(lver))
            _ = run(&winner, on: &area)
            old.append(Array(area[..<512]))
            if lver < 3 { _ = release(host: Int(lver), lver: lver, on: &area) }
        }
        var alive = LeaderRecord(lockspace: "dom1", ioTimeout: 2)
        alive.ownerID = 3
        alive.ownerGeneration = 1
        alive.timestamp = 10
        // Host 3 holds version 3: nobody else gets it, whichever leader is there.
        for late in old.dropLast() {
            area.replaceSubrange(0..<512, with: late)
            var other = acquisition(host: 4)
            guard case .refused(let error) = run(&other, on: &area, owner: alive).last else { return #expect(Bool(false)) }
            #expect(error.details?["ownerID"] == "3")
            #expect(try LeaderRecord(area[..<512]).lver == 3)
        }
        // Once it has given it back they do.
        for late in old.dropLast() {
            area.replaceSubrange(0..<512, with: late)
            _ = release(host: 3, lver: 3, on: &area)
            area.replaceSubrange(0..<512, with: late)
            var other = acquisition(host: 5)
            guard case .won(let lver) = run(&other, on: &area, owner: alive).last else { return #expect(Bool(false)) }
            _ = release(host: 5, lver: lver, on: &area)
        }
    }

    /// Another host decided version 1 for host 1, and says so when that has long held and given back version 2.
    @Test func anOwnerThatEnteredALaterVersionIsGone() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var first = acquisition(host: 1)
        _ = run(&first, on: &area)
        var late = try LeaderRecord(area[..<512])
        late.writeID = 3
        _ = release(host: 1, lver: 1, on: &area)
        var again = acquisition(host: 1)
        _ = run(&again, on: &area)
        _ = release(host: 1, lver: 2, on: &area)
        area.replaceSubrange(0..<512, with: late.sector)
        var alive = LeaderRecord(lockspace: "dom1", ioTimeout: 2)
        alive.ownerID = 1
        alive.ownerGeneration = 1
        alive.timestamp = 10
        var other = acquisition(host: 4)
        guard case .won(3) = run(&other, on: &area, owner: alive).last else { return #expect(Bool(false)) }
    }

    /// Version 1 was decided for host 1, which gave it back; an old leader hides that. It is not taken again: others may have gone on to the next version.
    @Test func whatWasGivenBackIsNotTakenAgain() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        let free = Array(area[..<512])
        var first = acquisition(host: 1)
        _ = run(&first, on: &area)
        _ = release(host: 1, lver: 1, on: &area)
        area.replaceSubrange(0..<512, with: free)
        var again = acquisition(host: 1)
        guard case .won(2) = run(&again, on: &area).last else { return #expect(Bool(false)) }
    }

    /// Whose id follows that of the last owner goes first, the next one when that one can be done.
    @Test func contendersTakeTurns() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var first = acquisition(host: 2)
        _ = run(&first, on: &area)
        _ = release(host: 2, lver: 1, on: &area)
        for host in [1, 3, 9] {
            let start = Geometry.standard.blockOffset(host: host)
            area.replaceSubrange(start..<(start + 512), with: BallotBlock(mbal: 10_000 + UInt64(host), lver: 2).sector(.standard))
        }
        var pauses: [Int: Duration] = [:]
        for host in [1, 3, 9] {
            var contender = acquisition(host: host)
            var mine = area
            guard case .read = contender.begin(), case .write(let offset, let bytes) = contender.onRead(mine, at: now) else { return #expect(Bool(false)) }
            mine.replaceSubrange(offset..<(offset + 512), with: bytes)
            let other = Geometry.standard.blockOffset(host: host == 9 ? 3 : 9)
            mine.replaceSubrange(other..<(other + 512), with: BallotBlock(mbal: 90_000, lver: 2).sector(.standard))
            guard case .read = contender.onWritten(at: now), case .pause(let until) = contender.onRead(mine, at: now + .milliseconds(10)) else { return #expect(Bool(false)) }
            pauses[host] = until - now
        }
        #expect(try #require(pauses[3]) < #require(pauses[9]) && #require(pauses[9]) < #require(pauses[1]), "\(pauses)")
    }

    @Test func anOwnerThatMarkedItsBlockReleasedIsGone() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var leader = LeaderRecord(lockspace: "dom1", resource: "image-1")
        leader.ownerID = 1
        leader.ownerGeneration = 1
        leader.lver = 4
        leader.timestamp = 9
        leader.writeID = 2
        area.replaceSubrange(0..<512, with: leader.sector)
        var given = BallotBlock(mbal: 1, lver: 4)
        given.isReleased = true
        let own = Geometry.standard.blockOffset(host: 1)
        area.replaceSubrange(own..<(own + 512), with: given.sector(.standard))
        var third = acquisition(host: 3)
        guard case .won(5) = run(&third, on: &area).last else { return #expect(Bool(false)) }
        // Written by the owner itself, the leader says more than the block: it is freed by the owner alone.
        leader.writeID = 1
        area.replaceSubrange(0..<512, with: leader.sector)
        var alive = LeaderRecord(lockspace: "dom1", ioTimeout: 2)
        alive.ownerID = 1
        alive.ownerGeneration = 1
        alive.timestamp = 10
        var fourth = acquisition(host: 4)
        guard case .refused(let error) = run(&fourth, on: &area, owner: alive).last else { return #expect(Bool(false)) }
        #expect(error.code == "lease.held")
    }

    @Test func aBlockThatCannotBeReadStopsItBeforeAnyWrite() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        area[Geometry.standard.blockOffset(host: 77)] = 1
        var acquisition = acquisition(host: 1)
        let (writes, last) = run(&acquisition, on: &area)
        guard case .refused(let error) = last else { return #expect(Bool(false)) }
        #expect(writes.isEmpty && error.code == "lease.corrupt")
    }

    @Test func aLeaseOfAnotherNameIsNotTouched() throws {
        var area = Images.resource("image-2", lockspace: "dom1")
        var acquisition = acquisition(host: 1)
        guard case .refused(let error) = run(&acquisition, on: &area).last else { return #expect(Bool(false)) }
        #expect(error.code == "lease.corrupt")
        #expect(release(host: 1, lver: 1, on: &area).isEmpty)
    }

    @Test func anInterruptedProposalIsMarkedAndTheNextBallotIsFree() throws {
        var area = Images.resource("image-1", lockspace: "dom1")
        var first = acquisition(host: 1)
        var step = first.begin()
        var writes = 0
        while writes < 2 {
            switch step {
            case .read(let offset, let length): step = first.onRead(Array(area[offset..<(offset + length)]), at: now)
            case .write(let offset, let bytes):
                area.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
                writes += 1
                step = first.onWritten(at: now)
            default: return #expect(Bool(false))
            }
        }
        let own = Geometry.standard.blockOffset(host: 1)
        #expect(release(host: 1, lver: nil, on: &area) == [own], "nothing was committed")
        var alive = LeaderRecord(lockspace: "dom1", ioTimeout: 2)
        alive.ownerID = 1
        alive.ownerGeneration = 1
        alive.timestamp = 10
        var second = acquisition(host: 2)
        guard case .won(let lver) = run(&second, on: &area, owner: alive).last else { return #expect(Bool(false)) }
        #expect(lver == 2, "version 1 was decided for the first, who had given it back")
    }
}
