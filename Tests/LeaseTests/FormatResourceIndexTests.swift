import Foundation
import LeaseFormat
import Testing

@Suite("sanlock's own index of resources, byte for byte")
struct FormatResourceIndexTests {
    static let start = UInt64(1 << 20)

    private static func apply(_ writes: [VolumeWrite], to volume: inout [UInt8]) {
        for write in writes { volume.replaceSubrange(Int(write.offset)..<(Int(write.offset) + write.bytes.count), with: write.bytes) }
    }

    /// Request records have padding that sanlock does not clear.
    private static func cleared(_ volume: [UInt8]) -> [UInt8] {
        var volume = volume
        for area in stride(from: 2 << 20, to: volume.count, by: 1 << 20) { for byte in 532..<536 { volume[area + byte] = 0 } }
        return volume
    }

    @Test func aNewOneIsSanlocks() throws {
        let theirs = Self.cleared(try Fixtures.load("rx"))
        var ours = [UInt8](repeating: 0, count: theirs.count)
        let index = try #require(ResourceIndex(lockspace: "LS1", offset: Self.start))
        Self.apply(index.formatWrites, to: &ours)
        #expect(Fixtures.difference(ours, theirs) == nil)
        let read = try ResourceIndex(theirs[(1 << 20)...], offset: Self.start, lockspace: "LS1")
        #expect(Fixtures.difference(read.image, index.image) == nil)
    }

    @Test func createAndDeleteAreSanlocks() throws {
        let theirs = Self.cleared(try Fixtures.load("rx-used"))
        var ours = [UInt8](repeating: 0, count: theirs.count)
        var index = try #require(ResourceIndex(lockspace: "LS1", offset: Self.start))
        Self.apply(index.formatWrites, to: &ours)
        var places: [Int] = []
        for name in ["vm-a", "vm-b", "vm-c", "-vm-b", "full-1", "full-2", "full-3", "-full-2"] {
            let done = name.hasPrefix("-") ? try index.delete(String(name.dropFirst()), time: 0x3518) : try index.create(name, volumeSize: 8 << 20)
            places.append(done.entry)
            #expect(done.writes.count == 2)
            Self.apply(done.writes, to: &ours)
        }
        #expect(places == [0, 1, 2, 1, 1, 3, 4, 3])
        // The internal lease has been held meanwhile.
        ours.replaceSubrange((2 << 20)..<(3 << 20), with: theirs[(2 << 20)..<(3 << 20)])
        #expect(Fixtures.difference(ours, theirs) == nil)
        let read = try ResourceIndex(theirs[(1 << 20)...], offset: Self.start)
        #expect(Fixtures.difference(read.image, index.image) == nil && read.lockspace == "LS1" && read.capacity == 4096)
        #expect(read.leases.map(\.name) == ["vm-a", "full-1", "vm-c", "full-3"] && read.lookup("vm-c") == 2 && read.lookup("vm-b") == nil)
        let guardian = try LeaderRecord(theirs[Int(read.internalLeaseOffset)...].prefix(512))
        try guardian.verify(.paxos, lockspace: "LS1", name: ResourceIndex.internalLease, geometry: read.geometry)
        #expect(throws: ResourceIndex.Failure.noSpace) { for number in 0... { _ = try index.create("more-\(number)", volumeSize: 8 << 20) } }
        #expect(throws: ResourceIndex.Failure.exists(entry: 0)) { try index.create("vm-a") }
        #expect(throws: ResourceIndex.Failure.notFound) { try index.delete("vm-b", time: 1) }
    }

    @Test(arguments: FormatTests.allGeometries)
    func isTheSameForEveryGeometry(_ geometry: Geometry) throws {
        let start = UInt64(2 * geometry.alignment)
        var index = try #require(ResourceIndex(lockspace: "LS1", offset: start, capacity: 100, geometry: geometry))
        let (entry, writes) = try index.create("a")
        #expect(writes.map(\.offset) == [index.leaseOffset(0), start + UInt64(geometry.sectorSize)] && writes.map(\.bytes.count) == [geometry.alignment, geometry.sectorSize])
        #expect(index.leaseOffset(entry) == UInt64(4 * geometry.alignment) && index.entry(leaseAt: index.leaseOffset(99)) == 99)
        #expect(index.entry(leaseAt: index.leaseOffset(99) + 1) == nil && index.entry(leaseAt: index.leaseOffset(100)) == nil && index.entry(leaseAt: 0) == nil)
        #expect(index.image.count == geometry.alignment)
        let length = try ResourceIndex.length(header: index.image[..<512], offset: start)
        #expect(length < index.image.count)
        #expect(try Fixtures.difference(ResourceIndex(index.image[..<length], offset: start).image, index.image) == nil)
        #expect(throws: FormatError.self) { try ResourceIndex(index.image[..<(length - 1)], offset: start) }
        #expect(ResourceIndex(lockspace: "LS1", offset: start, capacity: ResourceIndex.maximumCapacity(geometry), geometry: geometry).map { $0.image.count } == geometry.alignment)
        #expect(ResourceIndex(lockspace: "LS1", offset: start, capacity: ResourceIndex.maximumCapacity(geometry) + 1, geometry: geometry) == nil)
        #expect(ResourceIndex(lockspace: "LS1", offset: start + 1, geometry: geometry) == nil && ResourceIndex(lockspace: "", offset: start, geometry: geometry) == nil)
        #expect(ResourceIndex(lockspace: "LS1", offset: start, capacity: 0, geometry: geometry) == nil)
        #expect(ResourceIndex(lockspace: "LS1", offset: .max / UInt64(geometry.alignment) * UInt64(geometry.alignment), geometry: geometry) == nil)
    }

    @Test func whatCannotBeBelievedIsRefused() throws {
        let index = try #require(ResourceIndex(lockspace: "LS1", offset: Self.start))
        func error(_ lockspace: String? = nil, at offset: UInt64 = Self.start, _ change: (inout [UInt8]) -> Void = { _ in }) -> FormatError? {
            var bytes = index.image
            change(&bytes)
            do {
                _ = try ResourceIndex(bytes[...], offset: offset, lockspace: lockspace)
                return nil
            } catch { return error }
        }
        #expect(error() == nil && error("LS1") == nil)
        #expect(error("LS2") == FormatError(.lockspace, at: 32, expected: "\"LS2\"", found: "\"LS1\""))
        #expect(error(at: 2 << 20) == FormatError(.offset, at: 24, expected: "2097152", found: "1048576"), "a copy somewhere else")
        #expect(error { $0[0] = 0 }?.field == .magic && error { $0[6] = 2 }?.field == .version && error { $0[4] = 3 } == nil)
        #expect(error { $0[8] = 2 }?.field == .geometry && error { $0[8] = 3 }?.field == .geometry && error { $0[12] = 1 }?.field == .geometry)
        #expect(error { $0[19] = 1 }?.field == .capacity && error { $0[17] = 0 }?.field == .capacity && error { $0[32] = 0xFF }?.field == .lockspace)
        #expect(error { $0.removeLast(1_000_000) }?.field == .length && error { $0 = [] }?.field == .length)
    }

    @Test func aDamagedEntryIsNoLeaseAndNoRoom() throws {
        var index = try #require(ResourceIndex(lockspace: "LS1", offset: Self.start))
        for name in ["a", "b", "c"] { _ = try index.create(name) }
        var bytes = index.image
        bytes[512 + 2] = 0x31  // a's lease would be elsewhere
        bytes[512 + 64 + 16 + 47] = 1  // b's name goes on after its end
        var read = try ResourceIndex(bytes[...], offset: Self.start)
        let error = FormatError(.offset, at: 512, expected: "3145728", found: "3211264")
        #expect(read.entry(0) == .unreadable(error) && read.damage.map(\.entry) == [0, 1])
        #expect(read.lookup("a") == nil && read.leases.map(\.name) == ["c"])
        #expect(throws: ResourceIndex.Failure.unreadable(error)) { try read.create("a") }
        #expect(throws: ResourceIndex.Failure.unreadable(error)) { try read.delete("a", time: 1) }
        #expect(try read.create("d").entry == 3)
        _ = read.update(0, name: "a")
        _ = read.update(1, name: "")
        #expect(read.leases.map(\.name) == ["a", "c", "d"] && read.damage.isEmpty && read.entry(1) == .free)
    }

    @Test func aRebuildEntersWhatTheAreasHold() throws {
        var index = try #require(ResourceIndex(lockspace: "LS1", offset: Self.start))
        for name in ["a", "b", "c", "d", "e"] { _ = try index.create(name) }
        let before = index
        let sectors = [
            LeaderRecord(lockspace: "LS1", resource: "a").sector, Images.cleared("b", lockspace: "LS1", time: 1), LeaderRecord(lockspace: "LS1", resource: "x").sector,
            LeaderRecord(lockspace: "LS2", resource: "y").sector, LeaderRecord(lockspace: "LS1", resource: "e").sector.map { $0 == 0x65 ? 0x66 : $0 },
            LeaderRecord(lockspace: "LS1", resource: "new").sector, [UInt8](repeating: 0, count: 512),
        ]
        let (writes, doubtful) = index.rebuild { $0 < sectors.count ? IndexRebuild.Found(sector: sectors[$0][...]) : nil }
        #expect(doubtful == [3, 4])
        #expect((0..<8).map { index.entry($0) } == [.lease("a"), .free, .lease("x"), before.entry(3), before.entry(4), .lease("new"), .free, .free])
        #expect(writes.map(\.offset) == [Self.start] && Fixtures.difference(writes[0].bytes, index.image) == nil)
    }
}

/// Debian's sanlock reads what we write, and we what it writes.
@Suite("sanlock direct, index of resources", .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/sbin/sanlock") || ProcessInfo.processInfo.environment["CI"] != nil))
struct SanlockResourceIndexTests {
    @Test(arguments: FormatTests.allGeometries)
    func readsAndChangesOurs(_ geometry: Geometry) throws {
        let path = "/var/tmp/bulwark-rindex-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let start = UInt64(geometry.alignment)
        let place = "LS1:\(path):\(geometry.alignment >> 20)M"
        #expect(FileManager.default.createFile(atPath: path, contents: nil))
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        defer { try? file.close() }
        try file.truncate(atOffset: 6 * start)
        func write(_ writes: [VolumeWrite]) throws {
            for write in writes {
                try file.seek(toOffset: write.offset)
                try file.write(contentsOf: Data(write.bytes))
            }
        }
        func read() throws -> ResourceIndex {
            try file.seek(toOffset: start)
            return try ResourceIndex([UInt8](file.read(upToCount: geometry.alignment) ?? Data())[...], offset: start, lockspace: "LS1")
        }
        func sanlock(_ action: String, _ entry: String? = nil) throws -> String {
            String(decoding: try Fixtures.run("/usr/sbin/sanlock", ["direct", action, "-x", place] + (entry.map { ["-e", $0] } ?? [])), as: UTF8.self)
        }
        var index = try #require(ResourceIndex(lockspace: "LS1", offset: start, geometry: geometry))
        try write(index.formatWrites)
        try write(index.create("vm-a").writes)
        try write(index.create("vm-b").writes)
        #expect(try sanlock("lookup", "vm-b").contains("offset \(index.leaseOffset(1))"))
        #expect(try sanlock("update", "vm-c:\(index.leaseOffset(2))").contains("update done 0"))
        #expect(try read().leases.map(\.name) == ["vm-a", "vm-b", "vm-c"])
        try write(index.delete("vm-a", time: 5).writes)
        // What the areas hold counts: vm-c never had one.
        #expect(try sanlock("rebuild").contains("rebuild done 0"))
        #expect(try Fixtures.difference(read().image, index.image) == nil && index.leases.map(\.name) == ["vm-b"])
    }
}
