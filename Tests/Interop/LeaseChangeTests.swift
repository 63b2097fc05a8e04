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
}
