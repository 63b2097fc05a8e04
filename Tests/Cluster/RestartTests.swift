import CLinux
import Foundation
import Messages
import Testing

/// Restarting any service, or all of them, causes nothing (I7); killing holders ends exactly what they held.
@Suite(.serialized) struct RestartTests {
    private static let manager = ["fencing-service", "spm-coordinator", "placement-service", "domain-monitor"]
    private static let onHosts = TestCluster.hostNames.flatMap { ["\($0)/lease-service", "\($0)/host-agent"] }

    private func waitUntilWell(_ cluster: TestCluster, _ what: String) throws {
        try cluster.wait("everything is well again within 5 s after \(what)", within: 5) {
            struct Status: Codable {
                struct Process: Codable {
                    var name: String
                    var health: String
                }
                var processes: [Process]
            }
            let status = try JSONDecoder().decode(Status.self, from: Data(try cluster.bulwark("--json", "status").text.utf8))
            guard status.processes.count >= 10, status.processes.allSatisfy({ $0.health == "ok" }) else { return false }
            let hosts = try cluster.hosts().values
            let vms = try cluster.vms()
            let spm = try cluster.spm()
            return hosts.allSatisfy { $0.status == "Up" } && vms.allSatisfy { $0.status == "up" } && spm != nil
        }
    }

    @Test func killingAnyServiceOrAllOfThemChangesNothing() throws {
        try withCluster { cluster in
            let before = try cluster.quietState()
            let spm = try cluster.spm()
            for process in Self.manager + Self.onHosts {
                try cluster.lab("kill", process)
                try waitUntilWell(cluster, process)
                #expect(try cluster.quietState() == before, "after kill -9 of \(process)")
            }
            for process in Self.manager + Self.onHosts { try cluster.lab("kill", process) }
            try waitUntilWell(cluster, "all at once")
            #expect(try cluster.quietState() == before)
            #expect(try cluster.spm() == spm)
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }

    /// The guards hold on by themselves, until their deadline and no longer.
    @Test func guestsOfAHostWithoutServicesEndAtTheirDeadline() throws {
        try withCluster { cluster in
            try cluster.bulwark("hold", "--why", "test")
            let pids = try #require(guestProcesses(cluster, "host2"))
            #expect(!pids.isEmpty)
            try cluster.lab("kill", "--hold", "host2/lease-service")
            try cluster.lab("kill", "--hold", "host2/host-agent")
            let killed = cl_boottime()
            try cluster.wait("the guests are gone", within: 30) { guestProcesses(cluster, "host2")?.isEmpty == true }
            let lasted = Double(cl_boottime() - killed) / 1e9
            // 8 x io_timeout of 2 s after a renewal that is at most one interval of 4 s (and one I/O) old.
            #expect(lasted > 10 && lasted < 17.5, "ended after \(lasted) s")
            for vm in try cluster.vms() where vm.host == "host2" || vm.status != "up" { #expect(vm.status != "up", "\(vm)") }
            try cluster.expectOneWriter()
            try cluster.lab("release", "host2/lease-service")
            try cluster.lab("release", "host2/host-agent")
            try cluster.bulwark("hold", "--release")
            try cluster.waitForAllUp()
            try cluster.expectOneWriter()
        }
    }

    /// A journal of placement-service that an operator restored is older than what the hosts have obeyed: each obeys it only after a re-pin (S16).
    private func aRestoredJournalIsObeyedAfterARepin(_ cluster: TestCluster) throws {
        let journal = "\(cluster.directory)/placement-service"
        let backup = "\(cluster.directory)/placement-service.backup"
        try cluster.lab("kill", "--hold", "placement-service")
        try FileManager.default.copyItem(atPath: journal, toPath: backup)
        try cluster.lab("release", "placement-service")
        // The restored one counts a start more than the backup; it has to be fewer than what was obeyed.
        for _ in 0..<2 {
            try cluster.waitForAllUp(within: 20)
            try cluster.lab("kill", "placement-service")
        }
        try cluster.waitForAllUp(within: 20)
        try cluster.lab("kill", "--hold", "placement-service")
        try FileManager.default.removeItem(atPath: journal)
        try FileManager.default.moveItem(atPath: backup, toPath: journal)
        try cluster.lab("release", "placement-service")
        try cluster.wait("the hosts do not obey", within: 20) {
            let health = try cluster.bulwark("health", "placement-service", expecting: nil).text
            return TestCluster.hostNames.allSatisfy { health.contains("\($0) does not obey") }
        }
        let vms = try cluster.vms()
        let (repinned, other) = try (#require(vms.first { $0.host == "host2" }).name, #require(vms.first { $0.host == "host3" }).name)
        for vm in [repinned, other] { try cluster.bulwark("vm", "stop", vm) }
        let report = try cluster.bulwark("host", "repin", "host2", "--yes").text
        #expect(report.contains("host2 obeys"), "\(report)")
        try cluster.wait("\(repinned) is down", within: 15) { try cluster.vms().first { $0.name == repinned }?.status == "down" }
        #expect(try cluster.vms().first { $0.name == other }?.status == "stopping", "host3 obeys nobody older than whom it knows")
        for host in ["host1", "host3"] { try cluster.bulwark("host", "repin", host, "--yes") }
        try cluster.wait("\(other) is down", within: 15) { try cluster.vms().first { $0.name == other }?.status == "down" }
        for vm in [repinned, other] { try cluster.bulwark("vm", "start", vm) }
        try cluster.waitForAllUp(within: 20)
    }

    @Test func aKilledGuardTakesItsGuestAlong() throws {
        try withCluster { cluster in
            try aRestoredJournalIsObeyedAfterARepin(cluster)
            let vm = try #require(try cluster.vms().first { $0.host == "host2" })
            let guest = try #require(processes { $0.contains("qemu-system") && $0.contains(cluster.name) && $0.contains("vm:\(vm.name):") }.first)
            let parent = try #require(processes { $0.contains("vm-guard") && $0.contains(cluster.name) && $0.contains("vm:\(vm.name):") }.first)
            kill(parent, SIGKILL)
            try cluster.wait("the guest is gone", within: 5) { !isAlive(guest) }
            try cluster.waitForAllUp()
            try cluster.expectOneWriter()
        }
    }

    /// kill -9 of fencing-service between off and on: the host is powered on again.
    @Test func fencingServiceKilledBetweenOffAndOn() throws {
        try withCluster { cluster in
            try cluster.lab("crash", "host2")
            try cluster.wait("off is confirmed", within: 30) { try cluster.explain("host", "host2").lowercased().contains("proof") }
            try cluster.lab("kill", "fencing-service")
            try cluster.waitForAllUp(within: 90)
            try cluster.expectOneWriter()
        }
    }

    private func guestProcesses(_ cluster: TestCluster, _ host: String) -> [pid_t]? {
        processes { $0.contains("qemu-system") && $0.contains("/\(cluster.name)/\(host)/") }
    }
}

/// Pids whose command line (arguments joined by spaces) fits and that are not zombies.
func processes(_ fits: (String) -> Bool) -> [pid_t] {
    ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
        guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
        return fits(String(decoding: line.map { $0 == 0 ? 32 : $0 }, as: UTF8.self)) && isAlive(pid)
    }.sorted()
}


func isAlive(_ pid: pid_t) -> Bool {
    guard let stat = FileManager.default.contents(atPath: "/proc/\(pid)/stat") else { return false }
    let state = String(decoding: stat, as: UTF8.self).split(separator: ")").last?.split(separator: " ").first
    return state.map { !"ZX".contains($0) } ?? false
}
