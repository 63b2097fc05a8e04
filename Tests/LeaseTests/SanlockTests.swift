import Foundation
import LeaseFormat
import Testing

/// Debian's sanlock reads what we write.
@Suite("sanlock direct", .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/sbin/sanlock") || ProcessInfo.processInfo.environment["CI"] != nil))
struct SanlockTests {
    @Test func readsALockspaceAndALease() throws {
        let directory = "/var/tmp/bulwark-sanlock-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }

        var ids = Images.lockspace("dom1", ioTimeout: 2)
        var own = LeaderRecord(lockspace: "dom1", ioTimeout: 2)
        own.ownerID = 2
        own.ownerGeneration = 5
        own.name = "host2"
        own.timestamp = 4711
        ids.replaceSubrange(512..<1024, with: own.sector)
        try Data(ids).write(to: URL(fileURLWithPath: "\(directory)/ids"))

        var lease = Images.resource("image-1", lockspace: "dom1")
        var leader = LeaderRecord(lockspace: "dom1", resource: "image-1")
        leader.ownerID = 2
        leader.ownerGeneration = 5
        leader.lver = 9
        leader.timestamp = 4711
        lease.replaceSubrange(0..<512, with: leader.sector)
        try Data(lease).write(to: URL(fileURLWithPath: "\(directory)/leases"))

        func sanlock(_ arguments: String...) throws -> [String] {
            String(decoding: try Fixtures.run("/usr/sbin/sanlock", ["direct"] + arguments), as: UTF8.self)
                .split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        }
        #expect(try sanlock("dump", "\(directory)/ids:0:1M").contains("00000512 dom1 host2 0000004711 0002 0005"))
        #expect(try sanlock("dump", "\(directory)/leases:0:1M").contains("00000000 dom1 image-1 0000004711 0002 0005 9"))
        let read = try sanlock("read_leader", "-r", "dom1:image-1:\(directory)/leases:0")
        #expect(read.contains("owner_id 2") && read.contains("owner_generation 5") && read.contains("lver 9"))
        #expect(try sanlock("read_leader", "-s", "dom1:2:\(directory)/ids:0").contains("resource_name host2"))
    }
}
