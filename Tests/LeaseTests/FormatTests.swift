import Foundation
import LeaseFormat
import Testing

@Suite("On-disk format, byte for byte with sanlock and oVirt")
struct FormatTests {
    static let geometries: [(suffix: String, sector: Int, alignment: Int)] = [("free", 512, 1), ("4k-1M", 4096, 1), ("4k-8M", 4096, 8)]

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
        #expect(broken { $0[0] = 0 } == .badMagic(0x0615_2000))
        #expect(resealed { $0[6] = 7 } == .badVersion(0x0007_0004))
        #expect(resealed { $0[4] = 9 } == nil, "a newer minor version is readable")
        #expect(resealed { $0[9] = 1 } == .unknownFlags(0x110))
        #expect(resealed { $0[13] = 16 } == .badGeometry || resealed { $0[13] = 16 } == nil)
        #expect(resealed { $0[12] = 1 } == .badGeometry)
        #expect(broken { $0[40] ^= 1 } != nil, "one flipped bit")
        #expect(broken { $0[170] ^= 1 } != nil)
        #expect(broken { $0.removeLast(400) } == .truncated)
        var block = BallotBlock(mbal: 4001, lver: 2).sector(.standard)
        block[2] ^= 1
        #expect(throws: FormatError.self) { try BallotBlock(block[...]) }
        #expect(try BallotBlock([UInt8](repeating: 0, count: 512)[...]) == BallotBlock())
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
        bitmap[1] = false
        #expect(!bitmap[1] && bitmap[2000])
    }

    // MARK: The index of leases

    static let lockspace = "8a7b3d2e-1c4f-4e55-9d0a-6f2b1c3d4e5f"

    @Test func aNewIndexIsOVirts() throws {
        let index = LeaseIndex(lockspace: Self.lockspace, time: 1_700_000_000)
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("index-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: path) }
        try Data(index.image).write(to: path)
        let sum = String(decoding: try Fixtures.run("/usr/bin/sha256sum", [path.path]), as: UTF8.self)
        #expect(sum.hasPrefix("5b6bbbf2479440713f082362cbdc15cf19d931cc836cfc1c3002d8be8f9efff8"))
        #expect(index.image.count == 253_952)
    }

    @Test func anEnteredLeaseIsOVirts() throws {
        var index = LeaseIndex(lockspace: Self.lockspace, time: 1_700_000_000)
        let (offset, block) = index.enter("c1d2e3f4-0000-4000-8000-000000000001", at: 0)
        #expect(offset == 1 << 20 + 512)
        let hex = block.prefix(64).map { String(format: "%02x", $0) }.joined()
        #expect(hex == "63316432653366342d303030302d343030302d383030302d303030303030303030303031"
            + "000000000000000000000000" + "00" + "3030303033313435373238" + "00" + "2d2d0a")
        let read = try LeaseIndex(index.image[...])
        #expect(read.lookup("c1d2e3f4-0000-4000-8000-000000000001") == 0)
        #expect(read.lookup("c1d2e3f4-0000-4000-8000-00000000000") == nil, "a prefix is another name")
        #expect(read.leases.map(\.name) == ["c1d2e3f4-0000-4000-8000-000000000001"])
        #expect(try read.slot(for: "other") == 1)
    }

    @Test func anIndexInTheMakingIsRefused() {
        let index = LeaseIndex(lockspace: Self.lockspace, time: 1, updating: true)
        #expect(throws: IndexError.updating) { try LeaseIndex(index.image[...]) }
        #expect(throws: IndexError.truncated) { try LeaseIndex(index.image[..<4096]) }
        #expect(throws: IndexError.self) { try LeaseIndex([UInt8](repeating: 0, count: LeaseIndex.length)[...]) }
    }

    @Test func aHalfEnteredLeaseIsNone() throws {
        var index = LeaseIndex(lockspace: Self.lockspace, time: 1)
        _ = index.enter("a", at: 0)
        _ = index.enter("b", at: 1)
        var bytes = index.image
        bytes[512 + 61] = UInt8(ascii: "u")
        let read = try LeaseIndex(bytes[...])
        #expect(read.lookup("a") == nil && read.lookup("b") == 1)
        #expect(read.leases.map(\.name) == ["b"])
        #expect(try read.slot(for: "a") == 0, "its slot is used again")
    }

    @Test func aFullIndexSaysSo() {
        var index = LeaseIndex(lockspace: Self.lockspace, time: 1)
        for number in 0..<LeaseIndex.capacity { _ = index.enter("lease-\(number)", at: number) }
        #expect(throws: IndexError.noSpace) { try index.slot(for: "one more") }
    }
}
