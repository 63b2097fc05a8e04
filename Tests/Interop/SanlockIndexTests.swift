import Foundation
import Testing

/// `bulwark lease` on an xleases volume without any service: format, create, lookup, list, remove, rebuild; the leases themselves are what Debian's sanlock reads.
@Suite(.timeLimit(.minutes(5)))
struct SanlockIndexTests {
    /// A lockspace that nobody has joined, and an index with these leases.
    private func bench(_ leases: String...) throws -> DirectBench {
        let bench = try DirectBench()
        try bench.bulwark("lockspace", "init", "--path", "ids", "--name", "LS1", "--io-timeout", "1")
        try bench.bulwark("lease", "index", "format", "--path", "xleases", "--lockspace", "LS1")
        for lease in leases { try bench.bulwark("lease", "create", lease, "--path", "xleases") }
        return bench
    }

    private func index(_ bench: DirectBench) throws -> [String] {
        try bench.json([DirectBench.Record].self, "lease", "index", "list", "--path", "xleases").map { "\($0.record ?? -1) \($0.name) \($0.status)" }
    }

    @Test("a new index is empty, and looked up in vain")
    func formats() throws {
        let bench = try bench()
        #expect(try index(bench).isEmpty)
        #expect(try bench.refusal("lease", "index", "lookup", "img-1", "--path", "xleases").code == "lease.not-found")
        let head = try bench.bytes("xleases")[(1 << 20)..<((1 << 20) + 512)]
        #expect(head.prefix(4) == Data([0x12, 0x15, 0x20, 0x16]) && head.last == 0x0A && head.dropFirst(70).first == 0x2D)
    }

    @Test("created leases are where the index says, and sanlock reads them there")
    func creates() throws {
        let bench = try bench("img-1", "img-2")
        #expect(try index(bench) == ["0 img-1 ok", "1 img-2 ok"])
        let found = try bench.json(DirectBench.Record.self, "lease", "index", "lookup", "img-2", "--path", "xleases")
        #expect(found.leaseOffset == 4 << 20)
        #expect(try bench.leader(["-r", "LS1:img-2:xleases:4M"])["resource_name"] == "img-2")
        #expect(try bench.sanlockDump("xleases:3M").count == 2)
        let before = try bench.bytes("xleases")
        try bench.bulwark("lease", "create", "img-2", "--path", "xleases")
        let isSame = try before == bench.bytes("xleases")
        #expect(isSame, "exists already: nothing is written")
        #expect(try bench.json([DirectBench.Record].self, "lease", "list", "--path", "xleases").map(\.status) == ["free", "free"])
    }

    @Test("a removed lease is gone from index and slot, and its record is used again")
    func removes() throws {
        let bench = try bench("img-1", "img-2")
        try bench.bulwark("lease", "remove", "img-1", "--path", "xleases", "--yes")
        #expect(try index(bench) == ["1 img-2 ok"])
        #expect(try bench.dump("xleases:3M").map(\.status) == ["removed", "free"])
        try bench.bulwark("lease", "remove", "img-1", "--path", "xleases", "--yes")
        try bench.bulwark("lease", "create", "img-3", "--path", "xleases")
        #expect(try index(bench) == ["0 img-3 ok", "1 img-2 ok"])
    }

    @Test("an owner that sanlock recorded is shown")
    func showsOwner() throws {
        let bench = try bench("img-1")
        try bench.sanlock("acquire_id", "-s", "LS1:2:ids:0", "-e", "node-b", "-o", "1")
        try bench.sanlock("acquire", "-r", "LS1:img-1:xleases:3M", "-i", "2", "-g", "1")
        let shown = try bench.json(DirectBench.Record.self, "lease", "show", "img-1", "--path", "xleases")
        #expect(shown.status == "exclusive" && shown.ownerID == 2 && shown.ownerGeneration == 1 && shown.lver == 1)
    }

    @Test("nothing is changed while a host is in the lockspace")
    func refusesWhileInUse() throws {
        let bench = try bench("img-1")
        try bench.sanlock("acquire_id", "-s", "LS1:2:ids:0", "-e", "node-b", "-o", "1")
        let before = try bench.bytes("xleases")
        for arguments in [["create", "img-2"], ["remove", "img-1"], ["rebuild"], ["index", "rebuild"], ["index", "format", "--lockspace", "LS1"]] {
            #expect(try bench.refusal(["lease"] + arguments + ["--path", "xleases", "--yes"]).code == "lockspace.in-use", "\(arguments)")
        }
        let isUntouched = try before == bench.bytes("xleases")
        #expect(isUntouched)
    }

    @Test("who names the wrong lockspace does not get past the hosts in the right one, nor past its index")
    func refusesTheWrongLockspace() throws {
        let bench = try bench("img-1")
        let format = ["lease", "index", "format", "--path", "xleases", "--lockspace", "LS2", "--yes"]
        #expect(try bench.refusal(format).code == "volume.unreadable")
        try bench.sanlock("acquire_id", "-s", "LS1:2:ids:0", "-e", "node-b", "-o", "1")
        #expect(try bench.refusal(format).code == "lockspace.in-use")
        #expect(try index(bench) == ["0 img-1 ok"])
    }

    @Test("without its lockspace in sight a change needs a confirmation, and a lease that is held stays")
    func confirmsWithoutLockspace() throws {
        let bench = try bench("img-1")
        try FileManager.default.removeItem(atPath: "\(bench.directory)/ids")
        #expect(try bench.refusal("lease", "create", "img-2", "--path", "xleases").code == "command.not-confirmed")
        try bench.bulwark("lease", "create", "img-2", "--path", "xleases", "--yes")
        try bench.sanlock("acquire", "-r", "LS1:img-1:xleases:3M", "-i", "2", "-g", "1")
        #expect(try bench.refusal("lease", "remove", "img-1", "--path", "xleases", "--yes").code == "lockspace.in-use")
        #expect(try index(bench) == ["0 img-1 ok", "1 img-2 ok"])
    }

    @Test("a volume without an index, or with one that did not finish, is refused; a rebuild repairs the latter")
    func unusableIndex() throws {
        let bench = try bench("img-1")
        try bench.bulwark("lease", "init", "--path", "plain", "--lockspace", "LS1", "--resource", "res0")
        for file in ["plain", "ids"] { #expect(try bench.refusal("lease", "index", "lookup", "img-1", "--path", file).code == "volume.unreadable") }
        try bench.overwrite("xleases", at: (1 << 20) + 70, with: [UInt8(ascii: "u")])
        for verb in [["index", "lookup", "img-1"], ["create", "img-2"], ["remove", "img-1"], ["show", "img-1"]] {
            #expect(try bench.refusal(["lease"] + verb + ["--path", "xleases"]).code == "lease.index-updating", "\(verb)")
        }
        #expect(try index(bench) == ["0 img-1 ok"], "but it can be looked at")
        try bench.bulwark("lease", "rebuild", "--path", "xleases", "--yes")
        #expect(try bench.json(DirectBench.Record.self, "lease", "show", "img-1", "--path", "xleases").status == "free")
    }

    @Test("a rebuild makes records and leases agree")
    func rebuilds() throws {
        let bench = try bench("img-1", "img-2", "img-3", "img-4")
        let records = (1 << 20) + 512
        // A record torn, a lease zeroed, a record lost, one as an old writer leaves it.
        try bench.overwrite("xleases", at: records + 50, with: Array("x".utf8))
        try bench.overwrite("xleases", at: 4 << 20, with: [UInt8](repeating: 0, count: 512))
        try bench.overwrite("xleases", at: records + 2 * 64, with: [UInt8](repeating: 0, count: 48))
        try bench.overwrite("xleases", at: records + 3 * 64 + 61, with: Array("u".utf8))
        #expect(try index(bench) == ["0  corrupt", "1 img-2 ok", "3 img-4 updating"])
        #expect(try bench.json([DirectBench.Record].self, "lease", "list", "--path", "xleases").map(\.status) == ["corrupt", "corrupt", "updating"])
        #expect(try bench.refusal("lease", "rebuild", "--path", "xleases").code == "command.not-confirmed")
        try bench.bulwark("lease", "rebuild", "--path", "xleases", "--yes")
        #expect(try index(bench) == ["0 img-1 ok", "1 img-2 ok", "3 img-4 ok"])
        #expect(try bench.json([DirectBench.Record].self, "lease", "list", "--path", "xleases").map(\.status) == ["free", "free", "free"])
        #expect(try bench.dump("xleases:5M:1M").map(\.status) == ["removed"], "a lease that no record names")
        #expect(try bench.leader(["-r", "LS1:img-2:xleases:4M"])["lver"] == "0")
        let whole = try bench.bytes("xleases")
        try bench.bulwark("lease", "rebuild", "--path", "xleases")
        let isSame = try whole == bench.bytes("xleases")
        #expect(isSame, "whatever agrees is not written")
    }
}
