import Foundation
import Testing

/// `bulwark lease rindex` and sanlock on the same index of resources.
@Suite(.timeLimit(.minutes(5)))
struct SanlockRindexTests {
    private func bench() throws -> DirectBench {
        let bench = try DirectBench()
        try bench.bulwark("lockspace", "init", "--path", "ids", "--name", "LS1", "--io-timeout", "1")
        return bench
    }

    private func index(_ bench: DirectBench, _ place: String = "rx:1M") throws -> [String] {
        try bench.json([DirectBench.Record].self, "lease", "rindex", "list", "--path", place).map { "\($0.record ?? -1) \($0.name) \($0.status) \(($0.leaseOffset ?? 0) >> 20)" }
    }

    @Test("an index is formatted byte for byte as sanlock does it", arguments: SanlockDirectTests.geometries)
    func formats(_ sizes: Sizes) throws {
        let bench = try bench()
        for name in ["rx", "theirs"] { try Data().write(to: URL(fileURLWithPath: "\(bench.directory)/\(name)")) }
        try bench.bulwark("lease", "rindex", "format", "--path", "rx:\(sizes.area)", "--lockspace", "LS1", "--sector", "\(sizes.sector)", "--align", sizes.text)
        try bench.sanlock(["format", "-x", "LS1:theirs:\(sizes.area)", "-Z", "\(sizes.sector)", "-A", sizes.text])
        // Behind the request record of its internal lease sanlock writes whatever its memory held.
        let padding = 2 * sizes.area + sizes.sector + 20
        try bench.overwrite("theirs", at: padding, with: [0, 0, 0, 0])
        let isSame = try bench.bytes("rx") == bench.bytes("theirs")
        #expect(isSame)
        #expect(try index(bench, "theirs:\(sizes.area)").isEmpty)
    }

    @Test("leases that we make are found by sanlock where we put them, and removed ones are not")
    func createsAndRemoves() throws {
        let bench = try bench()
        try bench.bulwark("lease", "rindex", "format", "--path", "rx:1M", "--lockspace", "LS1")
        for lease in ["vm-a", "vm-b"] { try bench.bulwark("lease", "rindex", "create", lease, "--path", "rx:1M") }
        #expect(try index(bench) == ["0 vm-a ok 3", "1 vm-b ok 4"])
        #expect(try bench.sanlock(["lookup", "-x", "LS1:rx:1M", "-e", "vm-b"]).contains("offset \(4 << 20)"))
        #expect(try bench.leader(["-r", "LS1:vm-b:rx:4M"])["resource_name"] == "vm-b")
        #expect(try bench.refusal("lease", "rindex", "create", "vm-a", "--path", "rx:1M").code == "lease.exists")
        try bench.bulwark("lease", "rindex", "remove", "vm-a", "--path", "rx:1M", "--yes")
        #expect(try index(bench) == ["1 vm-b ok 4"])
        #expect(try bench.refusal("lease", "rindex", "lookup", "vm-a", "--path", "rx:1M").code == "lease.not-found")
        #expect(try bench.refusal("lease", "rindex", "remove", "vm-a", "--path", "rx:1M", "--yes").code == "lease.not-found")
        #expect(try bench.dump("rx:3M:1M").map(\.status) == ["removed"])
        #expect(try bench.dump("rx:1M:1M", "--all").map { $0.kind ?? "" } == ["index", "entry"])
    }

    @Test("what sanlock enters is listed; a rebuild enters what the leases say")
    func rebuilds() throws {
        let bench = try bench()
        try bench.bulwark("lease", "rindex", "format", "--path", "rx:1M", "--lockspace", "LS1")
        for lease in ["vm-a", "vm-b"] { try bench.bulwark("lease", "rindex", "create", lease, "--path", "rx:1M") }
        try bench.sanlock(["update", "-x", "LS1:rx:1M", "-e", "vm-c:\(5 << 20)"])
        #expect(try index(bench) == ["0 vm-a ok 3", "1 vm-b ok 4", "2 vm-c ok 5"])
        try bench.overwrite("rx", at: (1 << 20) + 512, with: [UInt8](repeating: 0, count: 64))
        #expect(try bench.refusal("lease", "rindex", "rebuild", "--path", "rx:1M").code == "command.not-confirmed")
        try bench.bulwark("lease", "rindex", "rebuild", "--path", "rx:1M", "--yes")
        #expect(try index(bench) == ["0 vm-a ok 3", "1 vm-b ok 4"])
    }

    @Test("a place without an index, and a missing file, are refused")
    func refuses() throws {
        let bench = try bench()
        #expect(try bench.refusal("lease", "rindex", "lookup", "vm-a", "--path", "ids").code == "lease.corrupt")
        #expect(try bench.refusal("lease", "rindex", "list", "--path", "nowhere:1M").code == "volume.unreadable")
        #expect(try bench.refusal("lease", "rindex", "create", "vm-a", "--path", "ids").code == "lease.corrupt")
    }

    @Test("nothing is changed while a host is in the lockspace, or a lease is held")
    func refusesWhileInUse() throws {
        let bench = try bench()
        try bench.bulwark("lease", "rindex", "format", "--path", "rx:1M", "--lockspace", "LS1")
        try bench.bulwark("lease", "rindex", "create", "vm-a", "--path", "rx:1M")
        try bench.sanlock("acquire", "-r", "LS1:vm-a:rx:3M", "-i", "2", "-g", "1")
        #expect(try bench.refusal("lease", "rindex", "remove", "vm-a", "--path", "rx:1M", "--yes").code == "lockspace.in-use")
        try bench.sanlock("acquire_id", "-s", "LS1:2:ids:0", "-e", "node-b", "-o", "1")
        for arguments in [["create", "vm-b"], ["format", "--lockspace", "LS1"]] {
            #expect(try bench.refusal(["lease", "rindex"] + arguments + ["--path", "rx:1M", "--yes"]).code == "lockspace.in-use", "\(arguments)")
        }
        #expect(try index(bench) == ["0 vm-a ok 3"])
    }
}
