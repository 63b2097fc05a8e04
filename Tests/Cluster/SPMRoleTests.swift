import CLinux
import Foundation
import Messages
import Testing

/// What a host that was SPM can still do: nothing that another would notice.
@Suite(.serialized) struct SPMRoleTests {
    private func workerProcess(_ cluster: TestCluster, _ host: String) -> pid_t? {
        processes { $0.contains("host-agent spm-worker") && !$0.contains("vm-guard") && $0.contains("/\(cluster.name)/\(host) ") }.first
    }

    private func guardProcess(_ cluster: TestCluster, _ host: String) -> pid_t? {
        processes { $0.contains("vm-guard run") && $0.contains("--holder spm:") && $0.contains("/\(cluster.name)/\(host)/") }.first
    }

    private func storageDomain(_ cluster: TestCluster) throws -> String {
        struct Domain: Codable { var path: String }
        return try #require(try JSONDecoder().decode([Domain].self, from: Data(try cluster.bulwark("--json", "domain", "list").text.utf8)).first).path
    }

    private func confirmOff(_ cluster: TestCluster, _ host: String) throws {
        struct Case: Codable {
            var id: String
            var incarnation: UInt64
        }
        struct Shown: Codable { var fenceCase: Case? }
        let shown = try JSONDecoder().decode(Shown.self, from: Data(try cluster.bulwark("--json", "host", "show", host).text.utf8))
        let fenceCase = try #require(shown.fenceCase)
        try cluster.wait("the operator's word is accepted once no sign of life is left", within: 40) {
            try cluster.bulwark(
                "host", "confirm-off", host, "--case", fenceCase.id, "--incarnation", String(fenceCase.incarnation), "--why", "pulled the plug", "--yes-i-checked", "--yes",
                expecting: nil
            ).status == 0
        }
    }

    /// Frozen with a task in its hands, replaced on an operator's (wrong) word, thawed: even while its guard stands still the old worker finds that the lease
    /// is not its own any more, and publishes nothing; and once its guard moves it is gone.
    @Test func aThawedExSPMPublishesNothing() throws {
        try withCluster { cluster in
            let old = try #require(try cluster.spm())
            let worker = try #require(workerProcess(cluster, old))
            let guardian = try #require(guardProcess(cluster, old))
            try cluster.lab("bmc-stuck", old)
            for pid in [worker, guardian] { kill(pid, SIGSTOP) }
            let image = UUID().uuidString.lowercased()
            let volume = "\(try storageDomain(cluster))/images/\(image)/\(image)"
            let definition = cluster.directory + "/extra.yaml"
            try "name: extra\nmemory: 8M\ndisks:\n  - {image: \(image), domain: data, size: 1M}\n".write(toFile: definition, atomically: true, encoding: .utf8)
            try cluster.bulwark("vm", "define", definition)
            try cluster.wait("the task is sent", within: 10) { try cluster.bulwark("--json", "task", "list").text.contains("\"running\"") }
            try cluster.lab("hang", old)
            let hung = cl_boottime()
            #expect(!FileManager.default.fileExists(atPath: volume), "the task waits in the old worker's hands")
            try cluster.waitForHost(old, "NonResponsive", within: 20)
            try confirmOff(cluster, old)
            try cluster.wait("another SPM finishes the task", within: 30) {
                let isDone = try cluster.vms().first { $0.name == "extra" }?.status == "down"
                return try isDone && cluster.spm().map { $0 != old } ?? false
            }
            // So that anything the old one publishes would be seen.
            try FileManager.default.removeItem(atPath: volume)
            // A wrong word is harmless once every deadline has passed; that guards then end guests before anything else is another test's.
            while cl_boottime() < hung + 18_000_000_000 { usleep(100_000) }
            for guest in processes({ $0.contains("qemu-system") && $0.contains("/\(cluster.name)/\(old)/") }) { kill(guest, SIGKILL) }
            kill(worker, SIGCONT)
            try cluster.lab("thaw", old)
            usleep(4_000_000)
            #expect(isAlive(worker) && isAlive(guardian), "the worker had its chance")
            #expect(!FileManager.default.fileExists(atPath: volume), "a deposed SPM published a volume")
            kill(guardian, SIGCONT)
            try cluster.wait("the old worker is gone", within: 5) { !isAlive(worker) }
            #expect(!FileManager.default.fileExists(atPath: volume), "a deposed SPM published a volume")
            #expect(try cluster.spm() != old)
            #expect(try cluster.bulwark("lab", "ticks").text.contains("web1"), "no disk had two writers")
            try cluster.lab("heal", old)
        }
    }

    /// A role that ends again and again is given again later each time, and nobody's guest notices.
    @Test func aRoleThatFlapsIsGivenLaterEachTime() throws {
        let cluster = try TestCluster("--config-override", "spm-coordinator.spm.check=500ms")
        defer { cluster.down() }
        let before = try cluster.quietState()
        var pauses: [Double] = []
        for _ in 0..<3 {
            let serving = try #require(try cluster.spm())
            kill(try #require(guardProcess(cluster, serving)), SIGKILL)
            let killed = cl_boottime()
            try cluster.wait("the role is over", within: 10) { try cluster.spm() == nil }
            try cluster.wait("an SPM serves", within: 20) { try cluster.spm() != nil }
            pauses.append(Double(cl_boottime() - killed) / 1e9)
        }
        #expect(pauses[0] > 1 && pauses[1] > 2 && pauses[2] > 4, "1, 2, 4 s of back-off: \(pauses)")
        #expect(try cluster.explain("spm", "main").contains("proof"), "each term was proven over")
        #expect(try cluster.quietState() == before)
        try cluster.expectTicking()
        try cluster.expectOneWriter()
    }
}
