import Foundation
import Testing

extension InteropTests {
    @Test("leases are created, removed and their index rebuilt while guests run, and what a guest holds stays")
    func leasesAreChanged() throws {
        struct Lease: Decodable {
            var name: String
            var status: String
        }
        struct Domain: Decodable {
            var name: String
            var path: String
        }
        struct Report: Decodable {
            var leases: Int
            var steps: [String]
            var refused: [String]
        }
        let domain = try #require(try cluster.json([Domain].self, "domain", "list").first)
        let image = "made-by-hand"
        let before = try cluster.json([Lease].self, "lease", "list").map(\.name).sorted()
        try cluster.run(["lease", "create", image, "--domain", domain.name])
        try cluster.run(["lease", "create", image, "--domain", domain.name])
        #expect(try cluster.json([Lease].self, "lease", "list").map(\.name).sorted() == (before + [image]).sorted())
        let held = try #require(try cluster.json([Lease].self, "lease", "list").first { $0.status == "exclusive" && $0.name != "SDM" })
        #expect(throws: InteropCluster.Failure.self, "a guest holds it") { try cluster.run(["lease", "remove", held.name, "--domain", domain.name, "--yes"]) }
        #expect(throws: InteropCluster.Failure.self, "not confirmed") { try cluster.run(["lease", "remove", image, "--domain", domain.name]) }
        #expect(throws: InteropCluster.Failure.self, "hosts are in the lockspace") {
            try cluster.run(["lease", "remove", image, "--path", "\(domain.path)/dom_md/xleases", "--yes"])
        }
        try cluster.run(["lease", "remove", image, "--domain", domain.name, "--yes"])
        #expect(try cluster.json([Lease].self, "lease", "list").map(\.name).sorted() == before)
        let report = try cluster.json(Report.self, "lease", "rebuild", "--domain", domain.name, "--yes")
        #expect(report.steps.isEmpty && report.refused.isEmpty && report.leases == before.filter { $0 != "SDM" }.count)
        #expect(try cluster.json([InteropCluster.Listed].self, "vm", "list").allSatisfy { $0.status == "up" })
        // Read by hand, it is the same.
        let read = try cluster.json([Lease].self, "lease", "list", "--path", "\(domain.path)/dom_md/xleases")
        #expect(read.map(\.name).sorted() == before.filter { $0 != "SDM" })
    }

    @Test("who holds a lease is asked for it: kindly it is told, by force its guest ends and is started anew")
    func leasesAreAskedFor() throws {
        struct Lease: Decodable {
            var name: String
            var status: String
            var ownerID: Int?
            var holder: String?
            var lver: UInt64
        }
        let domain = try #require(try cluster.json([InteropCluster.Listed].self, "domain", "list").first)
        func leases() throws -> [Lease] { try cluster.json([Lease].self, "lease", "list") }
        let held = try #require(try leases().first { $0.holder?.hasPrefix("vm:") == true })
        let owner = try #require(held.ownerID)
        let other = "host\(owner % 3 + 1)"
        try cluster.run(["lease", "request", held.name, "--domain", domain.name, "--host", other])
        #expect(throws: InteropCluster.Failure.self, "not confirmed") { try cluster.run(["lease", "request", held.name, "--domain", domain.name, "--host", other, "--force"]) }
        #expect(throws: InteropCluster.Failure.self, "no such lease") { try cluster.run(["lease", "request", "nobodys", "--domain", domain.name]) }
        try cluster.run(["lease", "request", held.name, "--domain", domain.name, "--host", other, "--force", "--yes"])
        try cluster.wait("another run holds it", deadline: 90) { try leases().contains { $0.name == held.name && $0.lver > held.lver && $0.holder != held.holder && $0.holder != nil } }
        try cluster.wait("every VM runs", deadline: 60) { try cluster.json([InteropCluster.Listed].self, "vm", "list").allSatisfy { $0.status == "up" } }

        let events = try cluster.start(InteropCluster.executables + "/bulwark", ["--cluster", cluster.name, "--json", "events", "--follow", "--host", "host\(owner)", "lockspace.event"])
        defer { _ = events.wait(deadline: 0) }
        try cluster.wait("host \(owner) hears of it", deadline: 60) {
            // Refused while the event before is under way; who has just begun to listen has missed it.
            _ = try? cluster.run(["lockspace", "notify", domain.name, "\(owner)", "--event", "7", "--data", "11", "--host", other])
            return events.text.contains("\"event\":7")
        }
        #expect(throws: InteropCluster.Failure.self, "no such host id") { try cluster.run(["lockspace", "notify", domain.name, "0", "--event", "7"]) }
    }
}
