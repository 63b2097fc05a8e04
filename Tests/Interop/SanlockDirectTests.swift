import Foundation
import Testing

/// What sanlock's own tests of `sanlock direct` demand, asked of `bulwark lockspace` and `bulwark lease` on files, without any daemon:
/// Debian's sanlock reads what we write, we read what it writes, and both write the same bytes.
@Suite(.timeLimit(.minutes(5)))
struct SanlockDirectTests {
    /// Sector and area sizes: every pair that there is.
    static let geometries = [Sizes(sector: 512, areas: 1), Sizes(sector: 4096, areas: 1), Sizes(sector: 4096, areas: 2), Sizes(sector: 4096, areas: 4), Sizes(sector: 4096, areas: 8)]

    @Test("a lockspace is initialised byte for byte as sanlock does it, and nothing around it is touched", arguments: geometries)
    func initialisesLockspace(_ sizes: Sizes) throws {
        let bench = try DirectBench()
        for name in ["ours", "theirs"] { try bench.guarded(name, areas: sizes.area) }
        try bench.bulwark("lockspace", "init", "--path", "ours:\(sizes.area)", "--name", "LS1", "--io-timeout", "7", "--sector", "\(sizes.sector)", "--align", sizes.text, "--yes")
        try bench.sanlock("init", "-s", "LS1:0:theirs:\(sizes.area)", "-o", "7", "-Z", "\(sizes.sector)", "-A", sizes.text)
        let ours = try bench.bytes("ours")
        let isSame = try ours == bench.bytes("theirs")
        #expect(isSame)
        #expect(ours[sizes.area..<(sizes.area + 4)] == Data([0x10, 0x20, 0x21, 0x12]))
        #expect(DirectBench.isGuard(ours[..<sizes.area]) && DirectBench.isGuard(ours[(2 * sizes.area)...]))
    }

    @Test("a lease is initialised byte for byte as sanlock does it, and nothing around it is touched", arguments: geometries)
    func initialisesLease(_ sizes: Sizes) throws {
        let bench = try DirectBench()
        for name in ["ours", "theirs"] { try bench.guarded(name, areas: sizes.area) }
        try bench.bulwark(
            "lease", "init", "--path", "ours:\(sizes.area)", "--lockspace", "LS1", "--resource", "res1", "--hosts", "64", "--sector", "\(sizes.sector)", "--align", sizes.text, "--yes")
        try bench.sanlock("init", "-r", "LS1:res1:theirs:\(sizes.area)", "-n", "64", "-Z", "\(sizes.sector)", "-A", sizes.text)
        let ours = try bench.bytes("ours")
        let isSame = try ours == bench.bytes("theirs")
        #expect(isSame)
        #expect(ours[sizes.area..<(sizes.area + 4)] == Data([0x10, 0x20, 0x15, 0x06]))
        #expect(DirectBench.isGuard(ours[..<sizes.area]) && DirectBench.isGuard(ours[(2 * sizes.area)...]))
    }

    @Test("the dump of an empty lockspace has no rows")
    func dumpsEmptyLockspace() throws {
        let bench = try DirectBench()
        try bench.bulwark("lockspace", "init", "--path", "ids", "--name", "LS1")
        #expect(try bench.dump("ids").isEmpty)
        #expect(try bench.sanlockDump("ids").isEmpty)
        #expect(try bench.dump("ids", "--all").count == 2000)
        #expect(try bench.json([DirectBench.Record].self, "lockspace", "inspect", "--path", "ids").isEmpty)
    }

    @Test("host ids that sanlock took are dumped as sanlock dumps them")
    func dumpsHostIDs() throws {
        let bench = try DirectBench()
        try bench.bulwark("lockspace", "init", "--path", "ids", "--name", "LS1", "--io-timeout", "1")
        for (id, host) in [(1, "node-a"), (17, "node-b")] { try bench.sanlock("acquire_id", "-s", "LS1:\(id):ids:0", "-e", host, "-o", "1") }
        let rows = try bench.dump("ids")
        #expect(rows.map(\.row) == (try bench.sanlockDump("ids")))
        #expect(rows.map(\.name) == ["node-a", "node-b"] && rows.map(\.hostID) == [1, 17] && rows.map(\.offset) == [0, 16 * 512])
        #expect(rows.allSatisfy { $0.status == "in use" && $0.ownerGeneration == 1 && $0.ioTimeout == 1 })
        try bench.sanlock("release_id", "-s", "LS1:17:ids:0", "-o", "1")
        #expect(try bench.dump("ids").map(\.status) == ["in use", "free"])
    }

    @Test("two leases are dumped alike by both, whoever wrote them")
    func dumpsTwoLeases() throws {
        let bench = try DirectBench()
        try bench.bulwark("lease", "init", "--path", "leases:0", "--lockspace", "LS1", "--resource", "res0")
        try bench.sanlock("init", "-r", "LS1:res1:leases:1M", "-n", "8")
        let rows = try bench.dump("leases")
        #expect(rows.map(\.name) == ["res0", "res1"] && rows.map(\.hosts) == [2000, 8])
        #expect(rows.allSatisfy { $0.status == "free" && $0.lockspace == "LS1" && $0.lver == 0 })
        #expect(rows.map(\.row) == (try bench.sanlockDump("leases")))
    }

    @Test("a dump begins and ends where it is told to")
    func dumpsFromAnOffset() throws {
        let bench = try DirectBench()
        for number in 0..<4 { try bench.bulwark("lease", "init", "--path", "leases:\(number)M", "--lockspace", "LS1", "--resource", "res\(number)") }
        #expect(try bench.dump("leases:1M").map(\.name) == ["res1", "res2", "res3"])
        #expect(try bench.dump("leases:1M:2M").map(\.name) == ["res1", "res2"])
        #expect(try bench.dump("leases:1048576:1024K").map(\.name) == ["res1"])
        #expect(try bench.sanlockDump("leases:1M:2M") == bench.dump("leases:1M:2M").map(\.row))
    }

    @Test("a colon in a path is escaped by a backslash")
    func escapedColon() throws {
        let bench = try DirectBench()
        try bench.bulwark("lockspace", "init", "--path", "with\\:colon", "--name", "LS1")
        try bench.bulwark("lease", "init", "--path", "with\\:colon:1M", "--lockspace", "LS1", "--resource", "res0")
        #expect(try bench.bytes("with:colon").count == 2 << 20)
        #expect(try bench.dump("with\\:colon:1M").map(\.name) == ["res0"])
        #expect(try bench.sanlockDump("with\\:colon:1M").map { $0.last } == ["0"])
    }

    @Test("every field of a leader is read alike by both", arguments: geometries)
    func readsEveryField(_ sizes: Sizes) throws {
        let bench = try DirectBench()
        let options = ["--sector", "\(sizes.sector)", "--align", sizes.text]
        try bench.bulwark(["lockspace", "init", "--path", "ids", "--name", "LS1", "--io-timeout", "1"] + options)
        try bench.bulwark(["lease", "init", "--path", "leases:\(sizes.area)", "--lockspace", "LS1", "--resource", "res1"] + options)
        let sanlocks = ["-Z", "\(sizes.sector)", "-A", sizes.text]
        try bench.sanlock(["acquire_id", "-s", "LS1:3:ids:0", "-e", "node-c", "-o", "1"] + sanlocks)
        try bench.sanlock(["acquire", "-r", "LS1:res1:leases:\(sizes.area)", "-i", "3", "-g", "1"] + sanlocks)
        for (read, place) in [(["-s", "LS1:3:ids:0"], "ids"), (["-r", "LS1:res1:leases:\(sizes.area)"], "leases:\(sizes.area)")] {
            let leader = try bench.leader(read + sanlocks)
            let record = try #require(try bench.dump(place).first)
            #expect(leader["magic"] == record.magic && leader["checksum"] == record.checksum)
            #expect(leader["sector_size"] == "\(record.sectorSize ?? 0)" && leader["num_hosts"] == "\(record.hosts ?? 9)" && leader["max_hosts"] == "\(record.maximumHosts ?? 9)")
            #expect(leader["owner_id"] == "\(record.ownerID ?? 0)" && leader["owner_generation"] == "\(record.ownerGeneration ?? 0)" && leader["lver"] == "\(record.lver ?? 9)")
            #expect(leader["space_name"] == record.lockspace && leader["resource_name"] == record.name && leader["timestamp"] == "\(record.timestamp ?? 0)")
            #expect(leader["io_timeout"] == "\(record.ioTimeout ?? 9)")
            // Of a host's sector it does not print these.
            guard place != "ids" else { continue }
            #expect(leader["write_id"] == "\(record.writeID ?? 9)" && leader["write_generation"] == "\(record.writeGeneration ?? 9)")
            #expect(leader["write_timestamp"] == "\(record.writeTimestamp ?? 9)")
        }
        // Its ballot, too.
        let ballot = try #require(try bench.dump("leases:\(sizes.area)", "--all").first { $0.kind == "ballot" })
        #expect(ballot.hostID == 3 && ballot.mbal == 3 && ballot.bal == 3 && ballot.ownerID == 3 && ballot.lver == 1)
        #expect(ballot.offset == UInt64(sizes.area + 4 * sizes.sector))
    }

    @Test("nothing that somebody uses is overwritten, and nothing else without a confirmation")
    func overwritesNothingInUse() throws {
        let bench = try DirectBench()
        try bench.bulwark("lockspace", "init", "--path", "ids", "--name", "LS1", "--io-timeout", "1")
        try bench.bulwark("lease", "init", "--path", "leases", "--lockspace", "LS1", "--resource", "res1")
        try bench.guarded("other", areas: 1 << 20)
        try bench.sanlock("acquire_id", "-s", "LS1:1:ids:0", "-e", "node-a", "-o", "1")
        try bench.sanlock("acquire", "-r", "LS1:res1:leases:0", "-i", "1", "-g", "1")
        let before = try ["ids", "leases", "other"].map(bench.bytes)
        #expect(try bench.refusal("lockspace", "init", "--path", "ids", "--name", "LS2", "--yes").code == "lockspace.in-use")
        #expect(try bench.refusal("lease", "init", "--path", "leases", "--lockspace", "LS1", "--resource", "res2", "--yes").code == "lockspace.in-use")
        for place in ["other", "other:2M"] {
            #expect(try bench.refusal("lockspace", "init", "--path", place, "--name", "LS2").code == "command.not-confirmed")
            #expect(try bench.refusal("lease", "init", "--path", place, "--lockspace", "LS1", "--resource", "res2").code == "command.not-confirmed")
        }
        let isUntouched = try before == ["ids", "leases", "other"].map(bench.bytes)
        #expect(isUntouched)
        // Given back, it may go.
        try bench.sanlock("release_id", "-s", "LS1:1:ids:0", "-o", "1")
        #expect(try bench.refusal("lockspace", "init", "--path", "ids", "--name", "LS2").code == "command.not-confirmed")
        try bench.bulwark("lockspace", "init", "--path", "ids", "--name", "LS2", "--yes")
        #expect(try bench.leader(["-s", "LS2:1:ids:0"])["owner_generation"] == "0")
    }

    @Test("a host is seen whatever size of sectors and areas is asked for, and behind a damaged beginning", arguments: geometries)
    func seesHostsOfOtherSizes(_ sizes: Sizes) throws {
        let bench = try DirectBench()
        let options = ["--sector", "\(sizes.sector)", "--align", sizes.text]
        try bench.bulwark(["lockspace", "init", "--path", "ids", "--name", "LS1", "--io-timeout", "1"] + options)
        let last = sizes.sector == 512 ? 2000 : sizes.areas * 250
        try bench.sanlock(["acquire_id", "-s", "LS1:\(last):ids:0", "-e", "node-z", "-o", "1", "-Z", "\(sizes.sector)", "-A", sizes.text])
        let others = [["lockspace", "init", "--path", "ids", "--name", "LS2", "--yes"], ["lease", "init", "--path", "ids", "--lockspace", "LS2", "--resource", "res1", "--yes"]]
        for damage in [0, 64, 2 * sizes.sector] {
            try bench.overwrite("ids", at: 0, with: [UInt8](repeating: damage == 64 ? 0x5A : 0, count: damage))
            for other in others { #expect(try bench.refusal(other).code == "lockspace.in-use", "\(damage) bytes damaged") }
        }
    }

    @Test("a resumed reinitialisation has nothing to assess")
    func resumesWithoutAssessing() throws {
        #expect(try DirectBench().status(["lockspace", "reinitialize", "LS1", "--resume", "--dry-run", "--yes"]) == 2)
    }

    @Test("sizes, names and offsets that cannot be are wrong usage; a volume that is not there is said to be missing")
    func wrongUsage() throws {
        let bench = try DirectBench()
        let long = String(repeating: "x", count: 49)
        for arguments in [
            ["lockspace", "init", "--path", "ids", "--name", "LS1", "--sector", "512", "--align", "2M"], ["lockspace", "init", "--path", "ids:1000", "--name", "LS1"],
            ["lockspace", "init", "--path", "ids", "--name", long], ["lease", "init", "--path", "leases", "--lockspace", "LS1", "--resource", long],
            ["lease", "init", "--path", "leases", "--lockspace", "LS1", "--resource", "r", "--hosts", "2001"], ["lease", "dump", "--path", ":1M"], ["lease", "create", "x"],
        ] { #expect(try bench.status(arguments) == 2, "\(arguments)") }
        #expect(try bench.refusal("lockspace", "dump", "--path", "nowhere").code == "volume.unreadable")
        #expect(try bench.refusal("lease", "index", "lookup", "img", "--path", "nowhere").code == "volume.unreadable")
        #expect(try FileManager.default.contentsOfDirectory(atPath: bench.directory).isEmpty)
    }

    @Test("a name of 48 bytes is stored whole")
    func longestNames() throws {
        let bench = try DirectBench()
        let name = String(repeating: "n", count: 48)
        try bench.bulwark("lease", "init", "--path", "leases", "--lockspace", name, "--resource", name)
        let record = try #require(try bench.dump("leases").first)
        #expect(record.lockspace == name && record.name == name)
        #expect(try bench.leader(["-r", "\(name):\(name):leases:0"])["resource_name"]?.hasPrefix(name) == true)
    }
}
