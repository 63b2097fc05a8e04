import LeaseFormat
import Testing

@Suite("Rebuild of the index of leases")
struct FormatRebuildTests {
    typealias Found = IndexRebuild.Found
    static let nothing = Found.nothing
    static let damaged = Found.unreadable(FormatError(.checksum, at: 168, expected: "0x1", found: "0x2"))

    static func lease(_ name: String, lockspace: String = "dom1", held: Bool = false, geometry: Geometry = .standard) -> Found {
        var leader = LeaderRecord(lockspace: lockspace, resource: name, geometry: geometry)
        leader.ownerID = 1
        leader.timestamp = held ? 5 : 0
        return .lease(leader)
    }

    /// An index whose records are names, "" for a free one, with "!" at the end damaged, with "?" unfinished.
    static func index(_ records: [String]) throws -> LeaseIndex {
        var index = LeaseIndex(lockspace: "dom1", time: 1)
        for (number, record) in records.enumerated() where !record.isEmpty { _ = index.enter(String(record.prefix { !"!?".contains($0) }), at: number) }
        var bytes = index.image
        for (number, record) in records.enumerated() {
            if record.hasSuffix("!") { bytes[512 + 64 * number + 50] = 0 }
            if record.hasSuffix("?") { bytes[512 + 64 * number + 61] = UInt8(ascii: "u") }
        }
        return try LeaseIndex(bytes[...])
    }

    static func rebuild(_ records: [String], _ slots: [Found], capacity: Int = 3960, accept: Bool = false) throws -> IndexRebuild {
        IndexRebuild(of: try index(records), capacity: capacity, found: { $0 < slots.count ? slots[$0] : .nothing }, accept: { _ in accept })
    }

    struct Case: Sendable, CustomTestStringConvertible {
        let records: [String]
        let slots: [Found]
        let actions: [IndexRebuild.Action]
        /// Names in the rebuilt index, by record.
        let names: [String]
        init(_ records: [String], _ slots: [Found], _ actions: [IndexRebuild.Action], _ names: [String]) {
            self.records = records
            self.slots = slots
            self.actions = actions
            self.names = names
        }
        var testDescription: String { "\(records) → \(actions)" }
    }

    static let cases = [
        Case(["a"], [lease("a")], [], ["a"]),
        Case(["a"], [lease("a", held: true)], [], ["a"]),
        Case(["a"], [nothing], [.createLease("a")], ["a"]),
        Case([""], [lease("a")], [.clearLease], [""]),
        Case([""], [nothing], [], [""]),
        Case(["!"], [lease("a")], [.enterRecord("a")], ["a"]),
        Case(["!"], [lease("a", held: true)], [.enterRecord("a")], ["a"]),
        Case(["b!"], [lease("a")], [.enterRecord("a")], ["a"]),
        Case(["a!"], [nothing], [.clearRecord], [""]),
        Case(["a!", "a"], [lease("a"), lease("a")], [.clearBoth], ["", "a"]),
        Case(["!", "!"], [lease("a"), lease("a")], [.enterRecord("a"), .clearBoth], ["a", ""]),
        Case(["!"], [lease("a", lockspace: "dom2")], [.clearBoth], [""]),
        Case(["a"], [lease("b")], [.replaceLease("a")], ["a"]),
        Case(["a"], [lease("a", lockspace: "dom2")], [.replaceLease("a")], ["a"]),
        Case(["a"], [lease("a", geometry: Geometry(sectorSize: 4096, alignment: 1 << 20) ?? .standard)], [.replaceLease("a")], ["a"]),
        Case(["a?"], [lease("a")], [.enterRecord("a")], ["a"]),
        Case(["a?"], [nothing], [.clearRecord], [""]),
        Case(["a?", "b"], [lease("b"), lease("b")], [.clearBoth], ["", "b"]),
        Case(["a", "a"], [lease("a"), lease("a")], [.clearBoth], ["a", ""]),
        Case(["a", "a"], [lease("a"), nothing], [.clearRecord], ["a", ""]),
    ]

    @Test(arguments: cases)
    func decides(_ item: Case) throws {
        let done = try Self.rebuild(item.records, item.slots)
        #expect(done.steps.map(\.action) == item.actions)
        #expect(done.refused.isEmpty)
        for (number, name) in item.names.enumerated() { #expect(done.index.record(number) == (name.isEmpty ? .free : .lease(name))) }
        // What is written is one area per slot that changes.
        for step in done.steps {
            let writes = done.writes(of: step)
            #expect(writes.map(\.offset) == (step.overwritesLease ? [done.index.leaseOffset(step.record)] : []))
            guard let area = writes.first?.bytes else { continue }
            switch step.action {
            case .createLease(let name), .replaceLease(let name): #expect(Fixtures.difference(area, Images.resource(name, lockspace: "dom1")) == nil)
            default: #expect(Found(sector: area[...]) == .nothing)
            }
        }
    }

    static let dangers = [
        Case([""], [lease("a", held: true)], [.clearLease], [""]),
        Case([""], [damaged], [.clearLease], [""]),
        Case(["a"], [damaged], [.createLease("a")], ["a"]),
        Case(["a"], [lease("b", held: true)], [.replaceLease("a")], ["a"]),
        Case(["a!"], [damaged], [.clearBoth], [""]),
        Case(["a", "a"], [lease("a"), lease("a", held: true)], [.clearBoth], ["a", ""]),
    ]

    @Test(arguments: dangers)
    func leavesAloneWhatSomebodyMayHold(_ item: Case) throws {
        let careful = try Self.rebuild(item.records, item.slots)
        #expect(careful.steps.isEmpty && careful.refused.map(\.action) == item.actions && careful.refused.allSatisfy { $0.endangers != nil })
        #expect(Fixtures.difference(careful.index.image, try Self.index(item.records).image) == nil)
        let accepted = try Self.rebuild(item.records, item.slots, accept: true)
        #expect(accepted.refused.isEmpty && accepted.steps == careful.refused)
        for (number, name) in item.names.enumerated() { #expect(accepted.index.record(number) == (name.isEmpty ? .free : .lease(name))) }
    }

    @Test func recordsBeyondTheVolumeAreFreed() throws {
        let done = IndexRebuild(of: try Self.index(["a", "b", "!"]), capacity: 1) { number in
            #expect(number == 0, "nothing is beyond")
            return Self.lease("a")
        }
        #expect(done.steps.map(\.action) == [.clearRecord, .clearRecord] && done.index.leases.map(\.name) == ["a"])
    }

    /// Cut off after any write, it can be done again, and comes to the same end.
    @Test func aRebuildThatWasCutOffIsDoneAgain() throws {
        let records = ["a", "b", "", "!", "c!", "d", "e", "f?"]
        let slots = [Self.lease("a"), Self.nothing, Self.lease("x"), Self.lease("y"), Self.nothing, Self.lease("e2"), Self.lease("e"), Self.lease("f")]
        struct Volume: Equatable {
            var index: [UInt8]
            var slots: [Int: [UInt8]]
        }
        func apply(_ writes: some Sequence<VolumeWrite>, to volume: inout Volume) {
            for write in writes {
                let slot = Int(write.offset) >> 20
                if slot == 1 { volume.index.replaceSubrange(..<write.bytes.count, with: write.bytes) } else { volume.slots[slot - 3] = Array(write.bytes.prefix(512)) }
            }
        }
        func plan(_ volume: Volume) throws -> [VolumeWrite] {
            let index = try LeaseIndex(rebuilding: volume.index[...], lockspace: "dom1")
            let done = IndexRebuild(of: index, capacity: 3960, found: { number in volume.slots[number].map { Found(sector: $0[...]) } ?? .nothing })
            #expect(done.refused.isEmpty)
            return done.steps.flatMap(done.writes(of:)) + done.finalWrites(time: 7)
        }
        var volume = Volume(index: try Self.index(records).image, slots: [:])
        for (number, slot) in slots.enumerated() { if case .lease(let leader) = slot { volume.slots[number] = leader.sector } }
        let writes = try plan(volume)
        var end = volume
        apply(writes, to: &end)
        #expect(try LeaseIndex(end.index[...]).leases.map(\.name) == ["a", "b", "y", "d", "e", "f"])
        #expect(try plan(end).count == 2, "nothing is left to do but to write it")
        for cut in 0..<writes.count {
            var cutOff = volume
            apply(writes.prefix(cut), to: &cutOff)
            apply(try plan(cutOff), to: &cutOff)
            let isSame = cutOff == end
            #expect(isSame, "cut off after \(cut) writes")
        }
    }
}
