import LeaseFormat
import Testing

/// Every byte of every record, changed to every other value: the reader refuses it, or what it then says can do no harm, for the reason told here.
@Suite("Damaged bytes of records")
struct FormatDamageTests {
    /// What a reader does with a range of bytes that is damaged.
    struct Range<Record: Equatable> {
        let bytes: Swift.Range<Int>
        let name: String
        /// Whether what was read of damaged bytes is as it must be; `nil`: the reader must refuse.
        let isHarmless: ((_ read: Record, _ good: Record, _ offset: Int) -> Bool)?

        static func detected(_ bytes: Swift.Range<Int>, _ name: String) -> Range { Range(bytes: bytes, name: name, isHarmless: nil) }
        /// Nobody reads it: the record is the same.
        static func ignored(_ bytes: Swift.Range<Int>, _ name: String) -> Range { Range(bytes: bytes, name: name) { read, good, _ in read == good } }
        static func harmless(_ bytes: Swift.Range<Int>, _ name: String, _ check: @escaping (Record, Record, Int) -> Bool) -> Range {
            Range(bytes: bytes, name: name, isHarmless: check)
        }
    }

    /// Changes each byte of `good` in every way, and checks that the ranges are all of it.
    static func damage<Record: Equatable>(_ good: [UInt8], _ ranges: [Range<Record>], changes: (Int) -> [UInt8] = { _ in Array(1...255) }, read: ([UInt8]) throws -> Record) throws {
        let original = try read(good)
        #expect(ranges.flatMap { Array($0.bytes) } == Array(0..<good.count), "every byte is in one range")
        var bytes = good
        var harm: [String] = []
        for range in ranges {
            for offset in range.bytes {
                for change in changes(offset) {
                    bytes[offset] = good[offset] ^ change
                    let found = try? read(bytes)
                    let isWell = if let found { range.isHarmless?(found, original, offset) ?? false } else { true }
                    if !isWell { harm.append("byte \(offset) ^ \(change), \(range.name): \(String(describing: found))") }
                }
                bytes[offset] = good[offset]
            }
        }
        let isHarmless = harm.isEmpty
        #expect(isHarmless, "\(harm.count) in all: \(harm.prefix(3))")
    }

    static func changed<Record>(_ record: Record, _ change: (inout Record) -> Void) -> Record {
        var record = record
        change(&record)
        return record
    }

    @Test func theLeaderOfALease() throws {
        let sector = Array(try Fixtures.load("leases-held").prefix(512))
        let ranges: [Range<LeaderRecord>] = [
            .detected(0..<172, "what the checksum covers, and itself"),
            .ignored(172..<174, "unused"),
            // Of a host's record only.
            .harmless(174..<176, "io_timeout") { read, good, _ in read == Self.changed(good) { $0.ioTimeout = read.ioTimeout } },
            // Who wrote it decides nothing alone: with another writer than the owner, the owner's own block is looked at, and only its word that it gave this version back counts.
            .harmless(176..<200, "writer") { read, good, _ in
                read == Self.changed(good) { ($0.writeID, $0.writeGeneration, $0.writeTimestamp) = (read.writeID, read.writeGeneration, read.writeTimestamp) }
            },
            .ignored(200..<512, "unused"),
        ]
        try Self.damage(sector, ranges) { try LeaderRecord($0[...]) }
    }

    struct DeltaSector: Equatable {
        var record: LeaderRecord
        var bitmap: HostBitmap
    }

    @Test func theSectorOfAHost() throws {
        var record = try LeaderRecord(try Fixtures.load("ids-held").prefix(512))
        record.hostEvent = HostEvent(generation: 1, event: 7, data: 42)
        var bitmap = HostBitmap()
        bitmap[2] = true
        let ranges: [Range<DeltaSector>] = [
            .detected(0..<172, "what the checksum covers, and itself"),
            .ignored(172..<174, "unused"),
            // Its own host finds it changed at its next renewal, within 2 x io_timeout, and gives its leases up. Until others take it for dead more than that passes:
            // at least 8 seconds and the watchdog's 60, and they begin to count only when they see the change.
            .harmless(174..<176, "io_timeout") { read, good, _ in read == Self.changed(good) { $0.record.ioTimeout = read.record.ioTimeout } },
            // As before; and an event only makes a host look.
            .harmless(176..<200, "event") { read, good, _ in
                read.record.hostEvent != good.record.hostEvent && read == Self.changed(good) { $0.record.hostEvent = read.record.hostEvent }
            },
            .ignored(200..<256, "unused"),
            // A host that is addressed without cause looks, and finds nothing of its life, or no request above the versions it holds. One that is not addressed any more misses
            // an event, as it would if it were a second late: who sent it asks again.
            .harmless(256..<512, "bitmap") { read, good, _ in read.record == good.record && read.bitmap != good.bitmap },
        ]
        try Self.damage(record.sector(bitmap: bitmap), ranges) { DeltaSector(record: try LeaderRecord($0[...]), bitmap: HostBitmap(sector: $0[...])) }
    }

    /// A host that took part in a ballot with its own name, in exclusive mode.
    @Test func theBlockOfAHost() throws {
        let area = try Fixtures.load("leases-held")
        let start = Geometry.standard.blockOffset(host: 1)
        let ranges: [Range<BallotBlock>] = [
            .detected(0..<52, "what the checksum covers, and itself"),
            // Not told from a release by the format. It counts only for the version that the leader states and only if another host wrote the leader:
            // so an owner whose leader was written by another host writes it once more itself, or is open to this one bit.
            .harmless(52..<53, "released") { read, good, _ in read == Self.changed(good) { $0.isReleased = read.isReleased } },
            .ignored(53..<56, "unused flags"),
            .ignored(56..<128, "unused"),
            .detected(128..<132, "shared flag without a generation"),
            .ignored(132..<136, "unused"),
            .detected(136..<144, "generation without the shared flag"),
            .ignored(144..<512, "unused"),
        ]
        try Self.damage(Array(area[start..<(start + 512)]), ranges) { bytes in
            let block = try BallotBlock(bytes[...])
            try block.verify(host: 1)
            return block
        }
    }

    @Test func theBlockOfAHostThatHoldsInSharedMode() throws {
        var block = BallotBlock(mbal: 1, lver: 4)
        (block.bal, block.owner, block.ownerGeneration, block.ownerTimestamp, block.isReleased, block.sharedGeneration) = (1, 1, 0x0102_0304_0506_0708, 99, true, 0x0102_0304_0506_0708)
        let ranges: [Range<BallotBlock>] = [
            .detected(0..<52, "what the checksum covers, and itself"),
            // The leader is free, so that it decides nothing.
            .harmless(52..<53, "released") { read, good, _ in read == Self.changed(good) { $0.isReleased = read.isReleased } },
            .ignored(53..<56, "unused flags"),
            .ignored(56..<128, "unused"),
            .detected(128..<132, "generation without the shared flag"),
            .ignored(132..<136, "unused"),
            .detected(136..<144, "another generation than that of its ballot"),
            .ignored(144..<512, "unused"),
        ]
        try Self.damage(block.sector(.standard), ranges) { bytes in
            let block = try BallotBlock(bytes[...])
            try block.verify(host: 1)
            return block
        }
    }

    /// Zero is valid without a checksum: nothing but zero is.
    @Test func theBlockOfAHostThatNeverTookPart() throws {
        let ranges: [Range<BallotBlock>] = [
            .detected(0..<24, "numbers and owner without a checksum"),
            // Without an owner they are of nobody.
            .harmless(24..<40, "owner's generation and time") { read, good, _ in
                read == Self.changed(good) { ($0.ownerGeneration, $0.ownerTimestamp) = (read.ownerGeneration, read.ownerTimestamp) }
            },
            .detected(40..<52, "version without a checksum, and checksum"),
            // Of version 0, which nobody ever owned.
            .harmless(52..<53, "released") { read, good, _ in read == Self.changed(good) { $0.isReleased = read.isReleased } },
            .ignored(53..<128, "unused"),
            .detected(128..<132, "shared flag without a generation"),
            .ignored(132..<136, "unused"),
            .detected(136..<144, "generation without the shared flag"),
            .ignored(144..<512, "unused"),
        ]
        try Self.damage([UInt8](repeating: 0, count: 512), ranges) { try BallotBlock($0[...]) }
    }

    @Test func theRequestForALease() throws {
        let ranges: [Range<RequestRecord>] = [
            .detected(0..<4, "magic"),
            .ignored(4..<6, "minor version"),
            .detected(6..<8, "major version"),
            // A holder heeds only a version above its own: it may give up what nobody wants, or keep what somebody asks for again. It never holds what it does not.
            .harmless(8..<16, "version") { read, good, _ in read == RequestRecord(lver: read.lver, mode: good.mode) },
            // Another known mode, or refused.
            .harmless(16..<20, "mode") { read, good, _ in read == RequestRecord(lver: good.lver, mode: read.mode) },
            .ignored(20..<512, "unused"),
        ]
        try Self.damage(RequestRecord(lver: 9, mode: .graceful).sector(.standard), ranges) { try RequestRecord($0[...]) }
    }

    // MARK: The index of leases

    @Test func theHeaderOfTheIndex() throws {
        var index = LeaseIndex(lockspace: "dom1", time: 1_700_000_000)
        _ = index.enter("a", at: 0)
        let tail = index.image[512...]
        /// What a user and what a rebuild see.
        struct Seen: Equatable {
            var leases: [String]
            var header: [UInt8]
            init(_ index: LeaseIndex) {
                leases = [index.record(0)].compactMap(\.name)
                header = Array(index.image[..<512])
            }
        }
        let good = Array(index.image[..<512])
        func sameLeases(_ read: Seen, _ good: Seen, _: Int) -> Bool { read.leases == good.leases }
        let ranges: [Range<Seen>] = [
            .detected(0..<4, "magic"),
            .harmless(4..<5, "separator", sameLeases),
            .detected(5..<9, "version"),
            .harmless(9..<10, "separator", sameLeases),
            .detected(10..<58, "lockspace"),
            .harmless(58..<59, "separator", sameLeases),
            // Another number is another time of the last rebuild, which only people read.
            .harmless(59..<69, "time", sameLeases),
            .harmless(69..<70, "separator", sameLeases),
            .detected(70..<71, "updating"),
            .harmless(71..<512, "padding", sameLeases),
        ]
        // Every bit of the padding, and every change of what means something.
        try Self.damage(good, ranges, changes: { $0 < 71 ? Array(1...255) : (0..<8).map { 1 << $0 } + [0xFF] }) { Seen(try LeaseIndex(($0 + tail)[...], lockspace: "dom1")) }
        // What only marks it as unfinished, or tells its time, does not stand in the way of a rebuild.
        for offset in 59..<71 {
            for change in 1...255 as ClosedRange<UInt8> {
                var bytes = index.image
                bytes[offset] ^= change
                let read = try LeaseIndex(rebuilding: bytes[...], lockspace: "dom1")
                #expect(read.record(0) == .lease("a"))
                #expect(read.isUpdating == (offset == 70))
            }
        }
    }

    @Test func aRecordOfTheIndex() throws {
        var index = LeaseIndex(lockspace: "dom1", time: 1)
        let name = "c1d2e3f4-0000-4000-8000-000000000001"
        _ = index.enter(name, at: 5)
        let leader = LeaderRecord(lockspace: "dom1", resource: name)
        let start = 512 + 64 * 5
        let image = index.image
        struct Unreadable: Error {}
        /// Of a name: one that is another still leads to this lease, whose leader has its own name, and refuses.
        func isRefusedByItsLeader(_ read: IndexRecord, _: IndexRecord, _: Int) -> Bool {
            guard case .lease(let other) = read, other != name else { return false }
            return (try? leader.verify(.paxos, lockspace: "dom1", name: other, geometry: .standard)) == nil
        }
        let ranges: [Range<IndexRecord>] = [
            .harmless(0..<1, "name") { read, good, offset in read == .free || isRefusedByItsLeader(read, good, offset) },
            .harmless(1..<48, "name", isRefusedByItsLeader),
            .detected(48..<49, "separator"),
            // For people: where the lease is follows from the number of the record.
            .ignored(49..<60, "offset"),
            .detected(60..<61, "separator"),
            // Then it counts as no lease until a rebuild finds it in its slot.
            .harmless(61..<62, "updating") { read, _, _ in read == .unfinished(name) },
            .ignored(62..<63, "unused"),
            .detected(63..<64, "end"),
        ]
        try Self.damage(Array(image[start..<(start + 64)]), ranges) { bytes in
            let read = IndexRecord(bytes[...])
            if case .unreadable = read { throw Unreadable() }
            return read
        }
    }
}
