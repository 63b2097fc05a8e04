import CLinux
import Foundation
import Testing

/// A cluster whose leases are written by sanlock daemons, one on each host.
@Suite(.serialized) struct SanlockTests {
    private func runDirectory(of host: String, _ cluster: TestCluster) -> String { "/run/bulwark/\(cluster.name)/\(host)/sanlock" }

    /// The leases that its daemon says it holds.
    private func leases(of host: String, _ cluster: TestCluster) throws -> [String] {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["--signal=KILL", "10", "/usr/sbin/sanlock", "client", "status"]
        process.environment = ["SANLOCK_RUN_DIR": runDirectory(of: host, cluster)]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw TestCluster.Failure("sanlock client status on \(host): exit \(process.terminationStatus): what it holds is not known") }
        return text.split(separator: "\n").map(String.init).filter { $0.hasPrefix("r ") }
    }

    @Test func hostsWhoseLeasesAreSanlocksFailAndComeBack() throws {
        let cluster = try TestCluster("--config-override", "lease-service.engine=sanlock")
        defer { cluster.down() }
        try cluster.waitForAllUp()
        // Each guest's, and the storage pool manager's.
        for host in TestCluster.hostNames {
            let wanted = try cluster.vms(on: host).count + (cluster.spm() == host ? 1 : 0)
            #expect(wanted > 0, "at least one VM on each host")
            try cluster.wait("\(host)'s daemon holds \(wanted) leases", within: 20) { try leases(of: host, cluster).count == wanted }
        }

        // The daemons wait for its dead time, whatever is proven, or until it is a member again.
        try cluster.lab("crash", "host2")
        try cluster.waitForHost("host2", "NonResponsive", within: 30)
        try cluster.waitForVMsElsewhere(than: "host2", within: 150)
        try cluster.waitForAllUp()

        // The daemon is gone: so are the guests of its host, which is not fenced for it. Another one takes its place.
        let quiet = try cluster.quietState()
        let victims = try cluster.vms(on: "host3")
        #expect(!victims.isEmpty)
        let daemon = try cluster.process("/usr/sbin/sanlock", with: "SANLOCK_RUN_DIR=\(runDirectory(of: "host3", cluster))")
        #expect(kill(daemon, SIGKILL) == 0)
        try cluster.wait("its guests have ended", within: 60) { try cluster.vms().allSatisfy { vm in !victims.contains(vm.name) || !quiet.contains(cluster.quietLine(vm)) } }
        try cluster.waitForAllUp(within: 90)
        func others(_ lines: [String]) -> [String] { lines.filter { line in !victims.contains { line.hasPrefix("\($0) ") } } }
        #expect(try others(cluster.quietState()) == others(quiet), "nobody else was touched, and nothing switched off")

        let moving = try #require(try cluster.vms().first)
        try cluster.bulwark("vm", "stop", moving.name)
        try cluster.wait("its lease is given back", within: 30) { try TestCluster.hostNames.map { try leases(of: $0, cluster).count }.reduce(0, +) == 4 }
        try cluster.bulwark("vm", "start", moving.name)
        try cluster.waitForAllUp()
        try cluster.expectTicking()
        try cluster.expectOneWriter()
        try cluster.expectSameDecisionsAgain()
    }
}
