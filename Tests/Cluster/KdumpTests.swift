import CLinux
import Foundation
import Testing

/// A host whose crash kernel says that it writes a dump, with the program that real crash kernels run.
@Suite(.serialized) struct KdumpTests {
    /// The crash kernel's words, from the host's own network, until the process ends.
    private func dump(_ host: String, _ cluster: TestCluster) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/nsenter")
        process.arguments = ["--net=/run/netns/bw-\(cluster.name)-\(host)", "/usr/libexec/fence-agents/fence_kdump_send", "-f", "ipv4", "-i", "1", "10.77.0.254"]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    @Test func aHostThatWritesADumpIsSwitchedOffWhenThatIsOver() throws {
        let cluster = try TestCluster(
            "--config-override", "fencing-service.fence.kdumpListen=0.0.0.0:7410", "--config-override", "fencing-service.fence.kdumpWait=20s",
            "--config-override", "fencing-service.fence.kdumpQuiet=5s")
        defer { cluster.down() }
        try cluster.give("host2", cluster.ownDevice("host2"), also: "kdump: [10.77.0.2]")
        let powered = cluster.powerActions()
        let victims = try cluster.vms(on: "host2").sorted()
        #expect(!victims.isEmpty, "at least one VM on each host")

        try cluster.lab("hang", "host2")
        try cluster.waitForCase("host2", "awaiting-dump", saying: "dump")
        let crashKernel = try dump("host2", cluster)
        defer { if crashKernel.isRunning { kill(crashKernel.processIdentifier, SIGKILL) } }
        try cluster.waitForHost("host2", "Kdumping", within: 20)
        let until = cl_boottime() + 8_000_000_000
        try cluster.wait("longer than it may be quiet", within: 20) { cl_boottime() > until }
        #expect(try cluster.hosts()["host2"]?.status == "Kdumping" && cluster.openCase("host2")?.step == "dumping")
        #expect(cluster.powerActions() == powered, "nothing cuts a dump short")
        // What a crash kernel says proves nothing over.
        #expect(try cluster.vms().filter { victims.contains($0.name) }.allSatisfy { $0.status == "unknown" && $0.attempt == 1 })

        kill(crashKernel.processIdentifier, SIGKILL)
        crashKernel.waitUntilExit()
        try cluster.waitForVMsElsewhere(than: "host2", within: 60)
        #expect(cluster.powerActions().count > powered.count)
        try cluster.waitForAllUp(within: 90)
        try cluster.expectTicking()
        try cluster.expectOneWriter()
        try cluster.expectSameDecisionsAgain()
    }
}
