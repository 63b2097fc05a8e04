import Foundation
import LeaseFormat
import Testing

@Suite("On-disk format, byte for byte with sanlock and oVirt")
struct FormatTests {
    static let geometries: [(suffix: String, sector: Int, alignment: Int)] = [("free", 512, 1), ("4k-1M", 4096, 1), ("4k-8M", 4096, 8)]

    static let allGeometries = [(512, 1), (4096, 1), (4096, 2), (4096, 4), (4096, 8)].compactMap { Geometry(sectorSize: $0.0, alignment: $0.1 << 20) }

    @Test(arguments: geometries)
    func aNewLockspaceIsSanlocks(_ suffix: String, sector: Int, alignment: Int) throws {
        let geometry = try #require(Geometry(sectorSize: sector, alignment: alignment << 20))
        let theirs = try Fixtures.load("ids-\(suffix)")
        let ours = Images.lockspace("LS1", ioTimeout: 10, geometry: geometry)
        #expect(ours.count == geometry.alignment)
        #expect(theirs.prefix(ours.count).elementsEqual(ours))
    }

    @Test(arguments: geometries)
    func aNewResourceIsSanlocks(_ suffix: String, sector: Int, alignment: Int) throws {
        let geometry = try #require(Geometry(sectorSize: sector, alignment: alignment << 20))
        let theirs = try Fixtures.load("leases-\(suffix)")
        #expect(theirs.prefix(geometry.alignment).elementsEqual(Images.resource("res0", lockspace: "LS1", geometry: geometry)))
    }

    @Test func aHeldHostIDReadsAndWritesBack() throws {
        let ids = try Fixtures.load("ids-held")
        for (host, name) in [(1, "node-a"), (2, "node-b")] {
            let sector = ids[((host - 1) * 512)..<(host * 512)]
            let record = try LeaderRecord(sector)
            #expect(record.kind == .delta && record.name == name && record.ownerID == UInt64(host) && record.ownerGeneration == 1)
            #expect(!record.isFree && record.ioTimeout == 1 && record.lockspace == "LS1")
            #expect(record.sector.elementsEqual(sector))
        }
    }

    @Test func aHeldResourceReadsAndWritesBack() throws {
        let leases = try Fixtures.load("leases-held")
        for (offset, owner, name) in [(0, 1, "res0"), (2 << 20, 2, "SDM")] {
            let leader = try LeaderRecord(leases[offset..<(offset + 512)])
            #expect(leader.kind == .paxos && leader.name == name && leader.ownerID == UInt64(owner) && leader.lver == 1 && leader.writeID == UInt64(owner))
            #expect(leader.sector.elementsEqual(leases[offset..<(offset + 512)]))
            let start = offset + Geometry.standard.blockOffset(host: owner)
            let block = try BallotBlock(leases[start..<(start + 512)])
            #expect(block.mbal == UInt64(owner) && block.bal == UInt64(owner) && block.owner == UInt64(owner) && block.lver == 1 && block.ownerTimestamp == leader.timestamp)
            #expect(block.sector(.standard).elementsEqual(leases[start..<(start + 512)]))
            // sanlock's own `direct acquire` leaves RELEASED unset.
            #expect(!block.isReleased)
        }
    }

    @Test(arguments: [("ids-free", 1), ("ids-held", 1), ("ids-4k-1M", 1), ("ids-4k-8M", 8)])
    func everyHostOfALockspaceReadsAndWritesBack(_ fixture: String, alignment: Int) throws {
        let ids = try Fixtures.load(fixture)
        let geometry = try LeaderRecord(ids[...]).geometry
        #expect(geometry.alignment == alignment << 20)
        var used: [Int] = []
        for host in 1...geometry.maximumHosts {
            let sector = Array(ids[Int(geometry.deltaOffset(host: host))...].prefix(geometry.sectorSize))
            let record = try LeaderRecord(sector[...])
            try record.verify(.delta, lockspace: "LS1", geometry: geometry)
            #expect(Fixtures.difference(record.sector(bitmap: HostBitmap(sector: sector[...])), sector) == nil)
            if record.ownerID != 0 { used.append(host) }
        }
        let news = AreaNews(of: Array(ids), since: [], geometry: geometry)
        #expect(news.hosts == used && news.highest == used.last ?? 0)
    }

    /// Every changed byte of a used record is news; what is as it was, or says nothing, is none.
    @Test func whatChangedInALockspaceIsSeen() throws {
        var record = LeaderRecord(lockspace: "LS1", ioTimeout: 10)
        record.ownerGeneration = 1
        record.timestamp = 1000
        var area = [UInt8](repeating: 0, count: 40 * 512)
        for host in [2, 30] {
            record.ownerID = UInt64(host)
            record.ioTimeout = UInt16(host)
            area.replaceSubrange((host - 1) * 512..<host * 512, with: record.sector)
        }
        let first = AreaNews(of: area, since: [], geometry: .standard)
        #expect(first.hosts == [2, 30] && first.highest == 30 && first.shortestTimeout == 2)
        let same = AreaNews(of: area, since: area, geometry: .standard)
        #expect(same.hosts == [] && same.highest == 30 && same.shortestTimeout == 2)
        #expect(AreaNews(of: area, since: area, geometry: .standard, again: [2, 3]).hosts == [2])
        #expect(AreaNews(of: area, since: Array(area.prefix(1024)), geometry: .standard).hosts == [30])
        #expect(AreaNews(of: Array(area.prefix(1024)), since: area, geometry: .standard).highest == 2)
        for byte in 0..<LeaderRecord.size {
            var changed = area
            changed[29 * 512 + byte] ^= 0x40
            #expect(AreaNews(of: changed, since: area, geometry: .standard).hosts == [30], "byte \(byte)")
        }
    }

    /// What is not taken apart again is what taking it apart would give, or nothing, for every changed byte.
    @Test func aRenewedRecordIsWhatIsRead() throws {
        var record = LeaderRecord(lockspace: "LS1", ioTimeout: 10)
        record.name = "host1"
        record.ownerID = 1
        record.ownerGeneration = 3
        record.timestamp = 0x0123_4567
        let before = [UInt8](repeating: 0, count: 512) + record.sector
        var later = record
        later.timestamp += 1 << 33
        let renewed = [UInt8](repeating: 7, count: 512) + later.sector
        #expect(record.renewed(in: renewed, since: before, at: 512) == later)
        #expect(record.renewed(in: renewed, since: before, at: 513) == nil && record.renewed(in: renewed, since: [], at: 512) == nil)
        for place in 512..<(512 + LeaderRecord.size) {
            var damaged = renewed
            damaged[place] ^= 0x10
            let found = record.renewed(in: damaged, since: before, at: 512)
            #expect(found == nil || found == (try? LeaderRecord(damaged[512...])), "byte \(place - 512)")
        }
        var other = later
        other.ownerGeneration = 4
        #expect(record.renewed(in: [UInt8](repeating: 0, count: 512) + other.sector, since: before, at: 512) == nil)
    }

    @Test(arguments: ["leases-free", "leases-held", "leases-4k-1M", "leases-4k-8M", "rx", "rx-used"])
    func everySectorOfALeaseReadsAndWritesBack(_ fixture: String) throws {
        let volume = try Fixtures.load(fixture)
        let first = fixture.hasPrefix("rx") ? 2 << 20 : 0
        let geometry = try LeaderRecord(volume[first...]).geometry
        var leases = 0
        for area in stride(from: first, to: volume.count, by: geometry.alignment) {
            func sector(_ number: Int) -> [UInt8] { Array(volume[(area + number * geometry.sectorSize)...].prefix(geometry.sectorSize)) }
            guard sector(0).contains(where: { $0 != 0 }) else { continue }
            leases += 1
            #expect(try Fixtures.difference(LeaderRecord(sector(0)[...]).sector, sector(0)) == nil)
            var request = sector(1)
            let written = try RequestRecord(request[...]).sector(geometry)
            // sanlock does not clear its padding.
            request.replaceSubrange(20..<24, with: [0, 0, 0, 0])
            #expect(Fixtures.difference(written, request) == nil)
            for host in 1...geometry.maximumHosts {
                let block = try BallotBlock(sector(host + 1)[...])
                if block != BallotBlock() { #expect(Fixtures.difference(block.sector(geometry), sector(host + 1)) == nil) }
            }
        }
        #expect(leases > 0)
    }

    @Test func whatCannotBeBelievedIsRefused() throws {
        let good = Array(try Fixtures.load("leases-held").prefix(512))
        func broken(_ change: (inout [UInt8]) -> Void) -> FormatError? {
            var bytes = good
            change(&bytes)
            do {
                _ = try LeaderRecord(bytes[...])
                return nil
            } catch { return error }
        }
        func resealed(_ change: (inout [UInt8]) -> Void) -> FormatError? {
            broken { bytes in
                change(&bytes)
                withUnsafeBytes(of: Checksum.of(bytes[..<168]).littleEndian) { bytes.replaceSubrange(168..<172, with: $0) }
            }
        }
        #expect(broken { $0[0] = 0 } == FormatError(.magic, at: 0, expected: "that of a leader record", found: "0x6152000"))
        #expect(resealed { $0[6] = 7 } == FormatError(.version, at: 4, expected: "major version 6", found: "0x70004"))
        #expect(resealed { $0[4] = 9 } == nil, "a newer minor version is readable")
        #expect(resealed { $0[9] = 1 } == FormatError(.flags, at: 8, expected: "none but 0xf1", found: "0x110"))
        #expect(resealed { $0[13] = 4 }?.field == .geometry)
        #expect(resealed { $0[12] = 1 } == FormatError(.geometry, at: 12, expected: "512 with 1 MiB, or 4096 with 1, 2, 4 or 8 MiB", found: "513 with flags 0x10"))
        #expect(resealed { $0[56] = 0xFF }?.field == .lockspace && resealed { $0[104] = 0xFF }?.field == .resource)
        #expect(broken { $0[40] ^= 1 }?.field == .checksum, "one flipped bit")
        #expect(broken { $0[170] ^= 1 }?.offset == 168)
        #expect(broken { $0.removeLast(400) } == FormatError(.length, at: 0, expected: "200 bytes", found: "112 bytes"))
        var block = BallotBlock(mbal: 4001, lver: 2).sector(.standard)
        block[2] ^= 1
        #expect(throws: FormatError.self) { try BallotBlock(block[...]) }
        #expect(try BallotBlock([UInt8](repeating: 0, count: 512)[...]) == BallotBlock())
    }

    @Test func anErrorTellsTheFileAndThePlace() {
        let error = FormatError(.checksum, at: 168, expected: "0x1", found: "0x2")
        #expect(error.sentence(file: "/d/leases", start: 1 << 20) == "/d/leases at offset 1048744: the checksum at byte 168 of the record is 0x2, expected 0x1")
        #expect(error.sentence(file: "/d/leases", start: .max).hasPrefix("/d/leases at offset 18446744073709551615: "), "a hostile offset does not end the program")
    }

    @Test func theRecordOfAnotherThingIsRefused() throws {
        let leader = LeaderRecord(lockspace: "LS1", resource: "res0")
        try leader.verify(.paxos, lockspace: "LS1", name: "res0", geometry: .standard)
        func refusal(_ leader: LeaderRecord, _ kind: LeaderRecord.Kind = .paxos, _ lockspace: String = "LS1", _ name: String? = "res0", _ geometry: Geometry? = .standard) -> FormatError? {
            do {
                try leader.verify(kind, lockspace: lockspace, name: name, geometry: geometry)
                return nil
            } catch { return error }
        }
        #expect(refusal(leader, .delta) == FormatError(.magic, at: 0, expected: "0x12212010", found: "0x6152010"))
        #expect(refusal(leader, .paxos, "LS2") == FormatError(.lockspace, at: 56, expected: "\"LS2\"", found: "\"LS1\""))
        #expect(refusal(leader, .paxos, "LS1", "res1") == FormatError(.resource, at: 104, expected: "\"res1\"", found: "\"res0\""))
        #expect(refusal(leader, .paxos, "LS1", "res0", Geometry(sectorSize: 4096, alignment: 1 << 20)) == FormatError(.geometry, at: 12, expected: "4096 with 1 MiB", found: "512 with 1 MiB"))
        var odd = leader
        odd.maximumHosts = 250
        #expect(refusal(odd)?.field == .maximumHosts, "ballot numbers would not be unique")
        for hosts in [0, 2001] as [UInt64] {
            odd = leader
            odd.hosts = hosts
            #expect(refusal(odd)?.field == .hosts)
        }
        var removed = leader
        removed.kind = .cleared
        #expect(refusal(removed)?.found == "0x11282016")
        try LeaderRecord(lockspace: "LS1", ioTimeout: 10).verify(.delta, lockspace: "LS1")
    }

    @Test func whatANewerMinorVersionWroteIsKept() throws {
        var bytes = LeaderRecord(lockspace: "LS1", resource: "res0").sector
        bytes[4] = 9
        bytes[160] = 77
        withUnsafeBytes(of: Checksum.of(bytes[..<168]).littleEndian) { bytes.replaceSubrange(168..<172, with: $0) }
        #expect(try LeaderRecord(bytes[...]).sector == bytes)
    }

    @Test func everyPairOfSizesThatSanlockHasAndNoOther() {
        #expect(Geometry(sectorSize: 512, alignment: 2 << 20) == nil)
        #expect(Geometry(sectorSize: 1024, alignment: 1 << 20) == nil)
        #expect([1, 2, 4, 8].map { Geometry(sectorSize: 4096, alignment: $0 << 20)?.maximumHosts } == [250, 500, 1000, 2000])
        #expect(Geometry(sectorSize: 512, alignment: 1 << 20)?.maximumHosts == 2000)
    }

    @Test func hostBitmap() {
        var bitmap = HostBitmap()
        bitmap[1] = true
        bitmap[2000] = true
        #expect(bitmap.bytes[0] == 1 && bitmap.bytes[249] == 0x80)
        var sector = [UInt8](repeating: 0, count: 512)
        bitmap.write(into: &sector)
        #expect(HostBitmap(sector: sector[...]) == bitmap)
        #expect(bitmap.hosts == [1, 2000] && !bitmap.isEmpty)
        bitmap[1] = false
        #expect(!bitmap[1] && bitmap[2000])
        bitmap[2000] = false
        #expect(bitmap.isEmpty && bitmap.hosts.isEmpty)
        for host in [0, -1, 2049, .max] {
            bitmap[host] = true
            #expect(!bitmap[host], "no such host")
        }
        #expect(bitmap.isEmpty)
        #expect(HostBitmap(sector: sector[..<511]).isEmpty, "half a sector tells nothing")
    }

    @Test func aHostEventIsInTheFieldsThatTheChecksumLeavesOut() throws {
        var record = LeaderRecord(lockspace: "LS1", ioTimeout: 10)
        #expect(record.hostEvent == nil)
        let quiet = record.sector
        record.hostEvent = HostEvent(generation: 1, event: 7, data: 42)
        var bitmap = HostBitmap()
        bitmap[3] = true
        let sector = record.sector(bitmap: bitmap)
        #expect(try LeaderRecord(sector[...]).hostEvent == HostEvent(generation: 1, event: 7, data: 42) && HostBitmap(sector: sector[...]).hosts == [3])
        #expect(sector[..<176] == quiet[..<176] && sector[176] == 1 && sector[184] == 7 && sector[192] == 42 && sector[256] == 4)
        record.hostEvent = nil
        #expect(record.sector == quiet)
        var lease = LeaderRecord(lockspace: "LS1", resource: "res0")
        lease.hostEvent = HostEvent(generation: 1, event: 7, data: 42)
        #expect(lease == LeaderRecord(lockspace: "LS1", resource: "res0"), "a lease has none")
        lease.writeID = 3
        #expect(lease.hostEvent == nil)
    }

    /// sanlock 3.8 writes it into the next lease but one where it does not fit.
    @Test func theHoldersValueIsWithinItsAreaOrNowhere() {
        #expect(Self.allGeometries.map(\.valueOffset) == [1_025_024, nil, nil, nil, 8_200_192])
        for geometry in Self.allGeometries {
            guard let offset = geometry.valueOffset else { continue }
            #expect(offset >= geometry.blockOffset(host: geometry.maximumHosts) + geometry.sectorSize && offset + geometry.sectorSize <= geometry.alignment)
        }
    }

    @Test func aRequestForALeaseReadsAndWritesBack() throws {
        let leases = try Fixtures.load("leases-held")
        #expect(try RequestRecord(leases[512..<1024]) == RequestRecord())
        for mode in [RequestRecord.Mode.none, .force, .graceful] {
            let request = RequestRecord(lver: 0x0102_0304_0506_0708, mode: mode)
            for geometry in Self.allGeometries {
                let sector = request.sector(geometry)
                #expect(try sector.count == geometry.sectorSize && RequestRecord(sector[...]) == request)
            }
        }
        func error(_ change: (inout [UInt8]) -> Void) -> FormatError? {
            var bytes = RequestRecord(lver: 3, mode: .force).sector(.standard)
            change(&bytes)
            do {
                _ = try RequestRecord(bytes[...])
                return nil
            } catch { return error }
        }
        #expect(error { $0[0] = 0 }?.field == .magic && error { $0[6] = 2 }?.field == .version && error { $0[4] = 2 } == nil)
        #expect(error { $0[16] = 3 } == FormatError(.mode, at: 16, expected: "0, 1 (force) or 2 (graceful)", found: "3"))
        #expect(error { $0.removeLast(489) }?.field == .length)
        #expect(error { $0[20] = 99 } == nil, "sanlock does not clear its padding")
    }

    @Test func aRemovedResourceIsSanlocks() throws {
        let theirs = try Fixtures.load("rx-used")[(6 << 20)..<(7 << 20)]
        let leader = try LeaderRecord(theirs)
        #expect(leader.kind == .cleared && leader.name == "full-2" && leader.sector.elementsEqual(theirs.prefix(512)))
        #expect(Fixtures.difference(Images.cleared("full-2", lockspace: "LS1", time: leader.writeTimestamp), Array(theirs)) == nil)
        #expect(throws: FormatError.self) { try leader.verify(.paxos, lockspace: "LS1", name: "full-2") }
    }

    @Test func sharedHoldersAreInTheBlocks() throws {
        for geometry in Self.allGeometries {
            var area = Images.resource("res0", lockspace: "LS1", geometry: geometry)
            #expect(BallotBlock.sharedHolders(in: area[...], geometry: geometry).isEmpty)
            for (host, shared) in [(1, nil), (7, 5), (geometry.maximumHosts, 9)] as [(Int, UInt64?)] {
                var block = BallotBlock(mbal: UInt64(host), lver: 1)
                block.isReleased = true
                block.sharedGeneration = shared
                let start = geometry.blockOffset(host: host)
                area.replaceSubrange(start..<(start + geometry.sectorSize), with: block.sector(geometry))
                #expect(try BallotBlock(area[start...].prefix(geometry.sectorSize)) == block)
            }
            let holders = BallotBlock.sharedHolders(in: area[...], geometry: geometry)
            #expect(holders.map(\.host) == [7, geometry.maximumHosts] && holders.map(\.generation) == [5, 9])
            #expect(BallotBlock.sharedHolders(in: area[..<(10 * geometry.sectorSize)], geometry: geometry).map(\.host) == [7], "of what there is")
        }
    }
}
