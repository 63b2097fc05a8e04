import Foundation
import Messages
import Testing

/// Serialized: each scenario has a cluster of its own, and two cores.
@Suite(.serialized) struct HostFailureTests {
    @Test func crashOfAHost() throws {
        try withCluster { cluster in
            let spm = try cluster.spm()
            let victim = TestCluster.hostNames.first { $0 != spm } ?? "host2"
            let moved = try cluster.vms(on: victim)
            #expect(!moved.isEmpty, "at least one VM on each host")
            let before = try cluster.hosts()[victim]?.incarnation ?? 0
            try cluster.lab("crash", victim)
            try cluster.waitForHost(victim, "NonResponsive", within: 20)
            try cluster.waitForVMsElsewhere(than: victim, within: 30)
            try cluster.waitForAllUp()
            #expect(try cluster.hosts()[victim]?.incarnation ?? 0 > before)
            try cluster.expectTicking()
            try cluster.expectOneWriter()

            let story = try cluster.explain("vm", try #require(moved.first))
            for word in [victim, "off", "proof"] { #expect(story.lowercased().contains(word), "explain tells of \(word):\n\(story)") }
            let events = cluster.events()
            for status in ["Connecting", "NonResponsive", "Up"] {
                #expect(events.contains { $0.contains("\"host.status\"") && $0.contains("\"\(victim)\"") && $0.contains("\"\(status)\"") }, "no event of \(victim) \(status)")
            }
        }
    }

    /// Two VMs on two hosts share a disk, by its lease. When one of the hosts crashes its share is opened by the proof, and that of the other is not touched.
    @Test func crashOfTheSPMHostWhereAVMSharesADisk() throws {
        try withCluster { cluster in
            let spm = try #require(try cluster.spm())
            let others = TestCluster.hostNames.filter { $0 != spm }
            let disk = UUID().uuidString.lowercased()
            try define(cluster, "alone", "ha: true", shared: disk, shareable: false, expecting: 0)
            try define(cluster, "first", "ha: true", shared: disk, shareable: true, expecting: 1)
            try cluster.bulwark("vm", "remove", "alone", "--yes")
            try define(cluster, "first", "ha: true", shared: disk, shareable: true, expecting: 0)
            try define(cluster, "second", "ha: false", shared: disk, shareable: true, expecting: 0)
            try define(cluster, "alone", "ha: true", shared: disk, shareable: false, expecting: 1)
            try cluster.bulwark("vm", "start", "second", "--host", others[0])
            let refusal = try cluster.bulwark("vm", "start", "first", "--host", others[0], expecting: 1).errorText
            #expect(refusal.contains("second, with which it shares disk \(disk)"), "\(refusal)")
            try cluster.bulwark("vm", "start", "first", "--host", spm)
            try cluster.waitForAllUp(within: 20, count: 6)
            #expect(try sharers(of: disk, cluster) == [others[0], spm].sorted())
            let before = try cluster.vms().first { $0.name == "second" }

            try cluster.lab("crash", spm)
            try cluster.waitForVMsElsewhere(than: spm, within: 40, count: 6)
            try cluster.wait("another SPM", within: 40) { try cluster.spm().map { $0 != spm } ?? false }
            #expect(try cluster.vms().first { $0.name == "first" }?.host == others[1], "the only other host without one that shares the disk")
            #expect(try cluster.vms().first { $0.name == "second" } == before)
            try cluster.waitForAllUp(count: 6)
            // What the crashed host left in the lease is of its earlier generation.
            try cluster.wait("\(others) share the lease, and nobody else", within: 20) { try sharers(of: disk, cluster) == others.sorted() }
            // Their disks stay among those that are looked at, but have names only in this test.
            for vm in ["first", "second"] {
                try cluster.bulwark("vm", "stop", vm)
                try cluster.wait("\(vm) is down", within: 20) { try cluster.vms().first { $0.name == vm }?.status == "down" }
                try cluster.bulwark("vm", "remove", vm, "--yes")
            }
            try cluster.expectOneWriter()
        }
    }

    /// A VM with a disk of its own and a shared one.
    private func define(_ cluster: TestCluster, _ vm: String, _ more: String, shared: String, shareable: Bool, expecting: Int32) throws {
        let definition = "\(cluster.directory)/\(vm).yaml"
        try """
            name: \(vm)
            memory: 8M
            \(more)
            disks:
              - {image: \(UUID().uuidString.lowercased()), domain: data, size: 1M, source: guest.img}
              - {image: \(shared), domain: data, size: 1M, shareable: \(shareable)}
            """.write(toFile: definition, atomically: true, encoding: .utf8)
        let answer = try cluster.bulwark("vm", "define", definition, expecting: expecting)
        if expecting == 1 { return #expect(answer.errorText.contains("vm.disk-in-use"), "\(answer)") }
        try cluster.wait("the disks of \(vm) are there", within: 20) { try cluster.vms().first { $0.name == vm }?.status == "down" }
    }

    private func sharers(of disk: String, _ cluster: TestCluster) throws -> [String] {
        let lease = try JSONDecoder().decode(LeaseView.self, from: Data(try cluster.bulwark("--json", "lease", "show", disk).text.utf8))
        return lease.status == .shared ? (lease.sharers ?? []).map(\.name).sorted() : ["\(lease.status)"]
    }

    /// A frozen host is fenced while frozen; what is thawed later is gone already.
    @Test func hangOfAHostAndThaw() throws {
        try withCluster { cluster in
            try cluster.lab("hang", "host2")
            try cluster.waitForVMsElsewhere(than: "host2", within: 40)
            try cluster.lab("thaw", "host2")
            try cluster.waitForAllUp()
            try cluster.expectOneWriter()
        }
    }

    @Test func networkCutWhileItsVMsRun() throws {
        try withCluster { cluster in
            try cluster.lab("cut-network", "host2")
            try cluster.waitForVMsElsewhere(than: "host2", within: 40)
            try cluster.lab("heal", "host2")
            try cluster.waitForAllUp()
            try cluster.expectOneWriter()
        }
    }

    /// A quick reboot yields `rebooted`: no fence action, the VMs come back.
    @Test func rebootWithinTheGrace() throws {
        try withCluster(grace: "30s") { cluster in
            let moved = try cluster.vms(on: "host2")
            let before = try cluster.hosts()["host2"]?.incarnation ?? 0
            let actions = cluster.powerActions().count
            try cluster.lab("crash", "host2")
            try cluster.lab("power-on", "host2")
            try cluster.wait("a new incarnation", within: 30) { try cluster.hosts()["host2"]?.incarnation ?? 0 > before }
            try cluster.waitForAllUp()
            #expect(cluster.powerActions().dropFirst(actions).allSatisfy { $0.hasSuffix("power 1") }, "nothing was fenced: the only press was ours")
            let story = try cluster.explain("vm", try #require(moved.first))
            #expect(story.contains("rebooted"), "\(story)")
            try cluster.expectOneWriter()
        }
    }

    @Test func everythingLosesPowerTogether() throws {
        try withCluster { cluster in
            try cluster.lab("power-loss")
            for host in TestCluster.hostNames.shuffled() { try cluster.lab("power-on", host) }
            try cluster.lab("heal", "manager")
            try cluster.waitForAllUp(within: 120)
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }

    @Test func managerIsDownWhileAHostDies() throws {
        try withCluster { cluster in
            for service in ["fencing-service", "spm-coordinator", "placement-service", "domain-monitor"] { try cluster.lab("kill", "--hold", service) }
            try cluster.lab("crash", "host2")
            for service in ["fencing-service", "spm-coordinator", "placement-service", "domain-monitor"] { try cluster.lab("release", service) }
            try cluster.waitForVMsElsewhere(than: "host2", within: 60)
            try cluster.waitForAllUp()
            try cluster.expectOneWriter()
        }
    }

    /// All hosts are silent, but it is the manager that is cut off: nothing is fenced, nothing is moved.
    @Test func managersOwnNetworkIsCut() throws {
        try withCluster { cluster in
            let before = try cluster.quietState()
            try cluster.lab("cut-network", "manager")
            try cluster.wait("silence is noticed", within: 30) { try cluster.hosts().values.contains { $0.status == "NonResponsive" || $0.status == "Connecting" } }
            try cluster.wait("every case is held", within: 30) { try cluster.explain("host", "host2").contains("held") }
            try cluster.lab("heal", "manager")
            try cluster.waitForAllUp()
            let after = try cluster.quietState()
            #expect(after == before, "\(after.difference(from: before))")
            try cluster.expectOneWriter()
        }
    }
}
