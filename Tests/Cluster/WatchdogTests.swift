import CLinux
import Foundation
import Messages
import Testing

/// Hosts with a hardware watchdog, which their chassis has: reset when nobody feeds it, left alone when somebody does, disarmed when no lease is held (S6). No fence case is opened meanwhile.
@Suite(.serialized) struct WatchdogTests {
    private struct HostRow: Codable {
        var name: String
        var status: String
        var incarnation: UInt64?
        var bootID: String?
        var watchdogArmed: Bool
    }

    private static let timeout = 6.0

    private func hosts(_ cluster: TestCluster) throws -> [String: HostRow] {
        let rows = try JSONDecoder().decode([HostRow].self, from: Data(try cluster.bulwark("--json", "host", "list").text.utf8))
        return Dictionary(rows.map { ($0.name, $0) }, uniquingKeysWith: { a, _ in a })
    }

    private func waitUntilArmed(_ cluster: TestCluster, _ names: [String]) throws {
        try cluster.wait("\(names) say that their watchdogs are armed", within: 30) {
            let hosts = try hosts(cluster)
            return names.allSatisfy { hosts[$0]?.watchdogArmed == true && hosts[$0]?.status == "Up" }
        }
    }

    /// The agent's process, as this machine sees it.
    private func agent(of host: String, _ cluster: TestCluster) throws -> pid_t {
        try cluster.process("/host-agent", with: "\(cluster.directory)/\(host)/config/host-agent.yaml")
    }

    private func resets(of host: String, _ cluster: TestCluster) -> Int {
        let log = FileManager.default.contents(atPath: "\(cluster.directory)/logs/\(host)/console.log") ?? Data()
        return String(decoding: log, as: UTF8.self).components(separatedBy: "was not fed").count - 1
    }

    @Test func aHostThatStandsStillIsResetAndOneWithoutLeasesIsNot() throws {
        let cluster = try TestCluster(
            grace: "120s", "--config-override", "host-agent.watchdog.device=fake:", "--config-override", "host-agent.watchdog.timeout=\(Int(Self.timeout))s",
            "--config-override", "lease-service.lease.watchdog=\(Int(Self.timeout))s")
        defer { cluster.down() }
        try waitUntilArmed(cluster, TestCluster.hostNames)

        // An agent that dies comes back within the time.
        let before = try hosts(cluster)
        let quiet = try cluster.quietState()
        let powered = cluster.powerActions()
        try cluster.lab("kill", "host1/host-agent")
        let until = cl_boottime() + Int64((Self.timeout + 3) * 1e9)
        try waitUntilArmed(cluster, ["host1"])

        // One that stands still does not: the chassis resets its host, guests and all.
        let victims = try cluster.vms(on: "host2")
        #expect(!victims.isEmpty)
        let frozen = try agent(of: "host2", cluster)
        #expect(kill(frozen, SIGSTOP) == 0)
        try cluster.wait("host2 has booted anew", within: 60) { try hosts(cluster)["host2"]?.incarnation ?? 0 > before["host2"]?.incarnation ?? 0 }
        #expect(resets(of: "host2", cluster) == 1)
        try cluster.waitForAllUp(within: 90)

        try cluster.wait("the time in which host1 would have been reset is over", within: 60) { cl_boottime() > until }
        #expect(try hosts(cluster)["host1"]?.bootID == before["host1"]?.bootID)
        #expect(resets(of: "host1", cluster) == 0)
        #expect(try cluster.quietState().filter { $0.contains(" host1 ") } == quiet.filter { $0.contains(" host1 ") })

        // A host that hangs is reset, too, and does not thaw.
        try cluster.lab("hang", "host3")
        try cluster.wait("host3 has booted anew", within: 60) { try hosts(cluster)["host3"]?.incarnation ?? 0 > before["host3"]?.incarnation ?? 0 }
        try cluster.waitForAllUp(within: 90)
        #expect(cluster.powerActions() == powered, "nobody was fenced")
        try cluster.expectOneWriter()

        try holdDisarms(cluster)

        // Without leases nothing is armed, and nothing is reset.
        for vm in try cluster.vms() { try cluster.bulwark("vm", "stop", vm.name) }
        let spm = try cluster.spm()
        let idle = TestCluster.hostNames.filter { $0 != spm }
        try cluster.wait("\(idle) are disarmed", within: 60) { try hosts(cluster).values.filter { idle.contains($0.name) }.allSatisfy { !$0.watchdogArmed } }
        let victim = try #require(idle.first)
        let counted = resets(of: victim, cluster)
        let sleeper = try agent(of: victim, cluster)
        #expect(kill(sleeper, SIGSTOP) == 0)
        let silence = cl_boottime() + Int64((Self.timeout + 2) * 1e9)
        try cluster.wait("longer than the watchdog's time", within: 60) { cl_boottime() > silence }
        #expect(resets(of: victim, cluster) == counted)
        #expect(kill(sleeper, SIGCONT) == 0)
        try cluster.waitForHost(victim, "Up", within: 30)
    }

    /// While recovery is held no host is reset, although it holds leases; afterwards the watchdogs vouch for them again.
    private func holdDisarms(_ cluster: TestCluster) throws {
        let guests = try cluster.vms()
        #expect(TestCluster.hostNames.allSatisfy { isArmed($0, cluster) })
        try cluster.bulwark("hold", "--why", "work on the rack")
        try cluster.wait("all are disarmed", within: 30) { TestCluster.hostNames.allSatisfy { !isArmed($0, cluster) } }
        #expect(try hosts(cluster).values.allSatisfy { !$0.watchdogArmed })
        let counted = resets(of: "host1", cluster)
        let sleeper = try agent(of: "host1", cluster)
        #expect(kill(sleeper, SIGSTOP) == 0)
        let silence = cl_boottime() + Int64((Self.timeout + 2) * 1e9)
        try cluster.wait("longer than the watchdog's time", within: 60) { cl_boottime() > silence }
        #expect(kill(sleeper, SIGCONT) == 0)
        #expect(resets(of: "host1", cluster) == counted)
        #expect(try cluster.vms() == guests, "the same guests run")
        try cluster.bulwark("hold", "--release")
        try waitUntilArmed(cluster, TestCluster.hostNames)
        try cluster.wait("they count again", within: 30) { TestCluster.hostNames.allSatisfy { isArmed($0, cluster) } }
    }

    /// Its agent has left a mark that its watchdog counts, which it removes after disarming.
    private func isArmed(_ host: String, _ cluster: TestCluster) -> Bool { FileManager.default.fileExists(atPath: "/run/bulwark/\(cluster.name)/\(host)/watchdog.counts") }

    /// Nobody can prove its power off; its watchdog vouches for its leases once they have run out, and for nothing else.
    @Test func leasesOfAHostWhoseBMCIsDeadExpire() throws {
        let cluster = try TestCluster(
            "--config-override", "host-agent.watchdog.device=fake:", "--config-override", "host-agent.watchdog.timeout=\(Int(Self.timeout))s",
            "--config-override", "lease-service.lease.watchdog=\(Int(Self.timeout))s",
            "--config-override", "lease-service.lease.watchdogFire=10s")
        defer { cluster.down() }
        try waitUntilArmed(cluster, TestCluster.hostNames)
        let victims = try cluster.vms(on: "host2")
        #expect(!victims.isEmpty)
        let before = try hosts(cluster)["host2"]?.incarnation ?? 0
        try cluster.lab("bmc-dead", "host2")
        try cluster.lab("crash", "host2")
        try cluster.waitForHost("host2", "NonResponsive", within: 30)
        for vm in try cluster.vms() where victims.contains(vm.name) { #expect(vm.status == "unknown" && vm.attempt == 1, "\(vm)") }
        // The dead time is 8 x 2 s + lease.watchdogFire, counted from the first look at its sector; then lease.settle and a start.
        try cluster.waitForVMsElsewhere(than: "host2", within: 60)
        try cluster.waitForCase("host2", "failed", saying: "cannot be read")
        #expect(try cluster.hosts()["host2"]?.status == "NonResponsive")
        let story = try cluster.explain("host", "host2")
        #expect(story.contains("leases expired"), "\(story)")

        // As soon as its BMC answers, the case goes on.
        try cluster.lab("heal", "host2")
        try cluster.wait("host2 is back", within: 60) { try hosts(cluster)["host2"].map { $0.status == "Up" && $0.incarnation ?? 0 > before } ?? false }
        try cluster.waitForAllUp()
        try cluster.expectTicking()
        try cluster.expectOneWriter()
        try cluster.expectSameDecisionsAgain()
    }
}
