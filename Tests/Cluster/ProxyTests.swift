import Foundation
import Testing

/// What is tried before an off, and who carries it out.
@Suite(.serialized) struct ProxyTests {
    /// An agent that is dead beside guests that run is started again; a host whose device only other hosts reach is fenced through one of them.
    @Test func anAgentIsStartedAgainAndAHostIsFencedThroughAnother() throws {
        let program = NSTemporaryDirectory() + "restart-agent-\(getpid())"
        func write(_ line: String) throws {
            try "#!/bin/sh\n\(line)\n".write(toFile: program, atomically: true, encoding: .utf8)
            chmod(program, 0o755)
        }
        try write("exit 1")
        defer { unlink(program) }
        let cluster = try TestCluster(
            "--config-override", "fencing-service.fence.softCommand=\(program)", "--config-override", "fencing-service.fence.softTimeout=8s",
            "--config-override", "fencing-service.fence.retry=1s")
        defer { cluster.down() }
        try write("exec \(cluster.binaries)/bulwark --cluster \(cluster.name) lab heal \"$1\"")
        try cluster.waitForAllUp()

        let before = try cluster.quietState()
        try cluster.lab("toolstack-kill", "host3")
        try cluster.wait("its case is closed, since its agent was restarted", within: 60) {
            let history = try cluster.bulwark("fence", "history", "host3", "--steps").text
            return history.contains("fence.softCommand") && history.contains("closed")
        }
        try cluster.waitForAllUp()
        #expect(try cluster.quietState() == before)

        for host in TestCluster.hostNames {
            let route = try Process.run(URL(fileURLWithPath: "/usr/bin/env"), arguments: ["ip", "-n", "bw-\(cluster.name)-\(host)", "route", "add", "10.77.1.0/24", "via", "10.77.0.254"])
            route.waitUntilExit()
            #expect(route.terminationStatus == 0)
        }
        let device = cluster.ownDevice("host2").replacingOccurrences(of: "options:", with: "via: hosts, options:")
        try cluster.give("host2", device)
        let victims = try cluster.vms(on: "host2")
        #expect(!victims.isEmpty, "at least one VM on each host")
        try cluster.wait("its device is its own, as other hosts read it", within: 60) { try cluster.explain("host", "host2").components(separatedBy: "fence device verified").count == 3 }
        let rehearsal = try cluster.rehearsal(of: "host2", works: true)
        #expect(rehearsal.contains("host2 can be fenced in 1 way; level 1 through host"), "\(rehearsal)")
        // It stands still, and no restart of its agent helps.
        try write("exit 1")
        try cluster.lab("hang", "host2")
        try cluster.waitForVMsElsewhere(than: "host2", within: 60)
        try cluster.waitForAllUp(within: 90)
        let history = try cluster.bulwark("fence", "history", "host2", "--steps").text
        #expect(history.contains("off at 10.77.1.2 through host"), "\(history)")
        try cluster.expectTicking()
        try cluster.expectOneWriter()
        try cluster.expectSameDecisionsAgain()
    }
}
