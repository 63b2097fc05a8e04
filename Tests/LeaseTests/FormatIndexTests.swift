import Foundation
import LeaseFormat
import Testing

@Suite("Index of leases, byte for byte with oVirt")
struct FormatIndexTests {
    static let lockspace = "8a7b3d2e-1c4f-4e55-9d0a-6f2b1c3d4e5f"

    /// One record is confirmed by a few pages, near the header or far from it.
    @Test(arguments: [0, 55, 56, 200, 3959]) func aFewPagesConfirmARecord(number: Int) throws {
        var index = LeaseIndex(lockspace: "LS1", time: 1)
        _ = index.enter("disk", at: number)
        func confirms(_ name: String = "disk", at record: Int? = nil, of lockspace: String = "LS1", damage: Int? = nil) -> Bool {
            var image = index.image
            if let damage { image[damage] ^= 0x20 }
            let reads = LeaseIndex.confirmation(of: number, geometry: .standard).map { place in
                let first = Int(place.offset - LeaseIndex.offset(.standard))
                return Array(image[first..<(first + place.length)])
            }
            #expect(reads.map(\.count).reduce(0, +) <= 16384)
            return LeaseIndex.confirms(reads, lease: name, at: record ?? number, of: lockspace, geometry: .standard)
        }
        #expect(confirms())
        #expect(!confirms("disc") && !confirms(of: "LS2"))
        for damage in [0, 5, 10, 70, 512 + 64 * number, 512 + 64 * number + 61] { #expect(!confirms(damage: damage), "byte \(damage)") }
        _ = index.remove(at: number)
        #expect(!confirms())
    }

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
        #expect(throws: IndexError.unreadable(FormatError(.length, at: 0, expected: "253952 bytes", found: "4096 bytes"))) { try LeaseIndex(index.image[..<4096]) }
        #expect(throws: IndexError.unreadable(FormatError(.magic, at: 0, expected: "0x12152016", found: "0x0"))) {
            try LeaseIndex([UInt8](repeating: 0, count: LeaseIndex.length)[...])
        }
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

    static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String { bytes.map { String(format: "%02x", $0) }.joined() }

    @Test func theHeaderAndAFreeRecordAreOVirts() {
        let index = LeaseIndex(lockspace: Self.lockspace, time: 1_700_000_000)
        #expect(Self.hexadecimal(index.image[..<71])
            == "12152016" + "00" + "30303031" + "00" + "38613762336432652d316334662d346535352d396430612d366632623163336434653566"
            + "000000000000000000000000" + "00" + "31373030303030303030" + "00" + "2d")
        #expect(index.image[71..<511].allSatisfy { $0 == 0 } && index.image[511] == 10)
        for record in [0, 1, 3959] {
            #expect(Self.hexadecimal(index.image[(512 + 64 * record)...].prefix(64)) == String(repeating: "00", count: 49) + "3030303030303030303030" + "002d2d0a")
        }
    }

    @Test(arguments: FormatTests.allGeometries)
    func whatIsRemovedIsAsIfItHadNeverBeen(_ geometry: Geometry) throws {
        let new = LeaseIndex(lockspace: "dom1", time: 1, geometry: geometry)
        for number in [0, 55, 56, 3959] {
            var index = new
            let (offset, block) = index.enter("a", at: number)
            #expect(block.count == geometry.sectorSize && offset == UInt64(geometry.alignment + (512 + 64 * number) / geometry.sectorSize * geometry.sectorSize))
            #expect(index.leaseOffset(number) == UInt64((3 + number) * geometry.alignment))
            #expect(String(decoding: index.image[(512 + 64 * number + 49)...].prefix(11), as: UTF8.self) == String(format: "%011lld", (3 + number) * geometry.alignment))
            let freed = index.remove(at: number)
            #expect(freed.offset == offset && freed.block.count == block.count && Fixtures.difference(index.image, new.image) == nil)
        }
    }

    @Test(arguments: FormatTests.allGeometries)
    func aVolumeHasRoomForWhatFitsBehindThreeSlots(_ geometry: Geometry) throws {
        let slot = UInt64(geometry.alignment)
        func room(_ size: UInt64) -> Int { LeaseIndex.capacity(volumeSize: size, geometry: geometry) }
        #expect(room(1024 * slot) == 1021 && room(4 * slot) == 1 && room(4 * slot - 1) == 0 && room(0) == 0 && room(.max) == 3960)
        var index = LeaseIndex(lockspace: "dom1", time: 1, geometry: geometry)
        _ = index.enter("a", at: 0)
        #expect(try index.slot(for: "b", volumeSize: 5 * slot) == 1)
        #expect(throws: IndexError.noSpace) { try index.slot(for: "b", volumeSize: 4 * slot) }
    }

    @Test func aDamagedRecordIsNoLeaseAndNoRoom() throws {
        var index = LeaseIndex(lockspace: "dom1", time: 1)
        _ = index.enter("a", at: 0)
        _ = index.enter("b", at: 1)
        var bytes = index.image
        bytes[512 + 52] = UInt8(ascii: "x")
        let read = try LeaseIndex(bytes[...])
        let error = FormatError(.offset, at: 564, expected: "a decimal digit", found: "0x78")
        #expect(read.record(0) == .unreadable(error) && read.record(1) == .lease("b") && read.record(2) == .free)
        #expect(read.lookup("a") == nil && read.leases.map(\.name) == ["b"] && read.damage.map(\.index) == [0])
        #expect(throws: IndexError.unreadable(error)) { try read.slot(for: "a") }
        #expect(try read.slot(for: "c") == 2)
        // A free record that is damaged is no room, either.
        bytes[512 + 128 + 63] = 0
        #expect(try LeaseIndex(bytes[...]).slot(for: "c") == 3)
    }

    @Test func anErrorTellsTheFileAndThePlace() {
        let geometry = FormatTests.allGeometries[2]
        #expect(IndexError.updating.sentence(file: "/d/xleases", geometry: geometry).hasPrefix("/d/xleases at offset 2097152: an update of the whole index did not finish"))
        let error = IndexError.unreadable(FormatError(.magic, at: 512, expected: "0x1", found: "0x2"))
        #expect(error.sentence(file: "/d/xleases", geometry: geometry) == "/d/xleases at offset 2097664: the magic at byte 512 of the record is 0x2, expected 0x1")
    }

    @Test func anIndexOfAnotherLockspaceIsRefused() {
        let index = LeaseIndex(lockspace: "dom1", time: 1)
        let error = IndexError.unreadable(FormatError(.lockspace, at: 10, expected: "\"dom2\"", found: "\"dom1\""))
        #expect(throws: error) { try LeaseIndex(index.image[...], lockspace: "dom2") }
        #expect(throws: error) { try LeaseIndex(rebuilding: index.image[...], lockspace: "dom2") }
    }

    @Test(arguments: FormatTests.allGeometries)
    func aNewIndexIsInUseOnlyWhenItIsWhole(_ geometry: Geometry) throws {
        var index = LeaseIndex(lockspace: "dom1", time: 1, geometry: geometry)
        _ = index.enter("a", at: 3)
        let writes = index.writes(time: 1_700_000_000)
        let start = UInt64(geometry.alignment)
        #expect(writes.map(\.offset) == [start, start] && writes.map(\.bytes.count) == [LeaseIndex.length, geometry.sectorSize])
        #expect(throws: IndexError.updating) { try LeaseIndex(writes[0].bytes[...], geometry: geometry) }
        #expect(try LeaseIndex(rebuilding: writes[0].bytes[...], geometry: geometry).isUpdating)
        let volume = writes[1].bytes + writes[0].bytes.dropFirst(geometry.sectorSize)
        let read = try LeaseIndex(volume[...], geometry: geometry)
        #expect(read.lookup("a") == 3 && read.time == 1_700_000_000)
    }
}
