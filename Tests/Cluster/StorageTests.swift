import CLinux
import Foundation
import Messages
import Testing

/// Storage that fails for one host or for all, and hosts without services. Every host has its storage through a process that the test can stop.
@Suite(.serialized) struct StorageTests {
    private func withStorageFaults(
        grace: String = "5s", nonOperational: String = "0s", function: String = #function, _ scenario: (TestCluster) throws -> Void
    ) throws {
        let cluster = try TestCluster(
            grace: grace, "--bindfs", "--config-override", "domain-monitor.domain.failure=4s", "--config-override", "placement-service.recovery.retryFirst=1s",
            "--config-override", "fencing-service.fence.nonOperational=\(nonOperational)", function: function)
        defer { cluster.down() }
        try scenario(cluster)
    }

    private func domainStatus(_ cluster: TestCluster) throws -> String? {
        struct Domain: Codable { var status: String }
        return try JSONDecoder().decode([Domain].self, from: Data(try cluster.bulwark("--json", "domain", "list").text.utf8)).first?.status
    }

    private func guests(_ cluster: TestCluster, _ host: String) -> [pid_t] { processes { $0.contains("qemu-system") && $0.contains("/\(cluster.name)/\(host)/") } }

    /// How long the guests of a host last from now on, in seconds.
    private func waitUntilGuestsEnd(_ cluster: TestCluster, _ hosts: [String]) throws -> Double {
        let begun = cl_boottime()
        try cluster.wait("the guests end at their deadline", within: 25) { hosts.allSatisfy { guests(cluster, $0).isEmpty } }
        return Double(cl_boottime() - begun) / 1e9
    }

    /// The host is set aside, its guests end at their deadline, and once it is proven off its VMs, and the SPM role, are elsewhere. It returns when its storage does.
    private func storageOfOneHostFails(_ how: String, spm: Bool = false, function: String = #function) throws {
        try withStorageFaults(function: function) { cluster in
            let serving = try #require(try cluster.spm())
            let victim = try #require(spm ? serving : TestCluster.hostNames.last { $0 != serving })
            let moved = try cluster.vms(on: victim)
            let others = try cluster.vms().filter { $0.host != victim }
            #expect(!moved.isEmpty && !guests(cluster, victim).isEmpty)
            try cluster.lab("cut-storage", victim, how)
            let cut = cl_boottime()
            try cluster.waitForHost(victim, "NonOperational", within: 20)
            try cluster.wait("the guests end at their deadline", within: 25) { guests(cluster, victim).isEmpty }
            let lasted = Double(cl_boottime() - cut) / 1e9
            #expect(lasted < 17.5, "8 x io_timeout of 2 s after the last renewal; ended after \(lasted) s")
            for vm in try cluster.vms() where moved.contains(vm.name) { #expect(vm.status != "up", "nothing is started before the host is proven off: \(vm)") }
            try cluster.waitForVMsElsewhere(than: victim, within: 30)
            try cluster.wait("an SPM serves elsewhere", within: 30) { try cluster.spm().map { $0 != victim } ?? false }
            #expect(try cluster.vms().filter { !moved.contains($0.name) } == others, "what ran elsewhere was not touched")
            let story = try cluster.explain("vm", try #require(moved.first))
            #expect(story.contains("powerOff") && story.contains("cannot be proven over"), "\(story)")
            let offs = cluster.powerActions().filter { $0.hasSuffix("power 0") }
            #expect(offs.count == 1 && offs.allSatisfy { $0.hasPrefix("\(victim):") }, "only \(victim) was switched off, once: \(offs)")
            #expect(try domainStatus(cluster) == "Active")
            try cluster.lab("heal", victim)
            try cluster.waitForAllUp(within: 40)
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }

    /// With `fence.nonOperational`: nothing runs there, and its storage is back after a boot.
    @Test func anEmptyHostWithoutStorageIsBootedAnew() throws {
        try withStorageFaults(nonOperational: "6s") { cluster in
            let serving = try #require(try cluster.spm())
            let victim = try #require(TestCluster.hostNames.last { $0 != serving })
            let other = try #require(TestCluster.hostNames.first { $0 != victim })
            for guest in try cluster.vms(on: victim) {
                try cluster.bulwark("vm", "stop", guest)
                try cluster.wait("\(guest) is down", within: 20) { try cluster.vms().first { $0.name == guest }?.status == "down" }
                try cluster.bulwark("vm", "start", guest, "--host", other)
            }
            try cluster.waitForAllUp()
            let quiet = try cluster.quietState()
            let incarnation = try #require(try cluster.hosts()[victim]?.incarnation)
            try cluster.lab("cut-storage", victim, "--error")
            try cluster.waitForHost(victim, "NonOperational", within: 40)
            try cluster.wait("it is switched off", within: 40) { try !Set(cluster.quietState()).subtracting(quiet).isEmpty }
            try cluster.lab("heal", victim)
            try cluster.wait("it has booted anew", within: 40) { try cluster.hosts()[victim]?.incarnation ?? 0 > incarnation }
            try cluster.waitForAllUp()
            let switched = try Set(cluster.quietState()).subtracting(quiet)
            #expect(switched.count == 2 && switched.allSatisfy { $0.hasPrefix("\(victim):") && $0.contains("set power") }, "off and on, once, and nothing else: \(switched)")
            #expect(try cluster.explain("host", victim).contains("NonOperational for 6 s"))
            try cluster.expectTicking()
            try cluster.expectOneWriter()
            try cluster.expectSameDecisionsAgain()
        }
    }

    @Test func hangingStorageOfOneHost() throws { try storageOfOneHostFails("--hang") }

    @Test func failingStorageOfOneHost() throws { try storageOfOneHostFails("--error") }

    @Test func hangingStorageOfTheSPMHost() throws { try storageOfOneHostFails("--hang", spm: true) }

    /// A short hang is survived by everybody: no guest ends, nobody is set aside or fenced.
    @Test func aShortHangOfStorage() throws {
        try withStorageFaults { cluster in
            let before = try cluster.quietState()
            try cluster.lab("cut-storage", "host2")
            usleep(4_000_000)
            try cluster.lab("heal", "host2")
            usleep(4_000_000)
            #expect(try cluster.quietState() == before)
            try cluster.waitForAllUp(within: 5)
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }

    /// The domain's fault, not the hosts': it becomes Inactive, nobody is fenced, guests end at their deadline; all by itself everything is back when it is.
    @Test func storageOfAllHostsHangsAndComesBack() throws {
        try withStorageFaults { cluster in
            let actions = cluster.powerActions()
            for host in TestCluster.hostNames { try cluster.lab("cut-storage", host) }
            try cluster.wait("the domain is Inactive", within: 20) { try domainStatus(cluster) == "Inactive" }
            _ = try waitUntilGuestsEnd(cluster, TestCluster.hostNames)
            // Longer than grace and retries: nothing is done about it.
            usleep(8_000_000)
            for vm in try cluster.vms() { #expect(vm.status != "up", "\(vm)") }
            #expect(cluster.powerActions() == actions, "nobody is fenced for storage that fails everywhere")
            for host in TestCluster.hostNames { try cluster.lab("heal", host) }
            try cluster.wait("the domain is Active", within: 20) { try domainStatus(cluster) == "Active" }
            try cluster.waitForAllUp(within: 40)
            try cluster.wait("an SPM serves again", within: 30) { try cluster.spm() != nil }
            #expect(cluster.powerActions() == actions, "the way back takes no power action either")
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }

    private func view(_ cluster: TestCluster, _ vm: String) throws -> VMView {
        try JSONDecoder().decode(VMView.self, from: Data(try cluster.bulwark("--json", "vm", "show", vm).text.utf8))
    }

    private func state(_ pid: Int32) -> Character? {
        let stat = FileManager.default.contents(atPath: "/proc/\(pid)/stat").map { String(decoding: $0, as: UTF8.self) }
        return stat?.split(separator: ")").last?.split(separator: " ").first?.first
    }

    private func defineAndStart(_ cluster: TestCluster, _ vm: String, _ more: String) throws {
        let definition = "\(cluster.directory)/\(vm).yaml"
        try "name: \(vm)\nmemory: 8M\npin: [host2]\n\(more)\ndisks:\n  - {image: \(UUID().uuidString.lowercased()), domain: data, size: 1M, source: guest.img}\n"
            .write(toFile: definition, atomically: true, encoding: .utf8)
        try cluster.bulwark("vm", "define", definition)
        try cluster.wait("the disk of \(vm) is there", within: 20) { try view(cluster, vm).status == .down }
        try cluster.bulwark("vm", "start", vm)
        try cluster.wait("\(vm) is up", within: 20) { try view(cluster, vm).status == .up }
    }

    private func stopAndRemove(_ cluster: TestCluster, _ vm: String) throws {
        try cluster.bulwark("vm", "stop", vm)
        try cluster.wait("\(vm) is down", within: 20) { try view(cluster, vm).status == .down }
        try cluster.bulwark("vm", "remove", vm, "--yes")
    }

    /// Its host's process ids are not ours.
    private func guest(_ cluster: TestCluster, _ vm: String) -> pid_t? {
        processes { $0.hasPrefix("qemu-system") && $0.contains("guest=\(vm) ") && $0.contains("/\(cluster.name)/host2/") }.first
    }

    /// Every write of these processes fails with EIO, until the returned process ends.
    private func failWrites(of pids: [pid_t], _ cluster: TestCluster) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/strace")
        process.arguments = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=pwritev,pwrite64", "-e", "inject=pwritev,pwrite64:error=EIO"] + pids.flatMap { ["-p", "\($0)"] }
        process.standardInput = FileHandle.nullDevice
        try process.run()
        return process
    }

    private struct Write: Codable, Equatable {
        var boot: String
        var count: UInt32
    }

    private func lastWrite(_ cluster: TestCluster, _ vm: String) throws -> Write? {
        struct Disk: Codable {
            var disk: String
            var lastWrite: Write?
        }
        let image = try view(cluster, vm).definition?.disks.first?.image
        return try JSONDecoder().decode([Disk].self, from: Data(try cluster.bulwark("--json", "lab", "ticks").text.utf8)).first { $0.disk == image }?.lastWrite
    }

    /// QEMU's own writes fail for a moment. It pauses its guest, who goes on as the same process with the next write: by itself, or, with `resume: leave`, at an operator's word.
    private func errorsOfTheirDisksPauseGuestsUntilTheyPass(_ cluster: TestCluster) throws {
        let names = ["erring", "left"]
        try defineAndStart(cluster, "erring", "ha: false")
        try defineAndStart(cluster, "left", "ha: false\nresume: leave")
        let pids = try names.map { try #require(guest(cluster, $0)) }
        try cluster.wait("both write", within: 15) { try names.allSatisfy { try lastWrite(cluster, $0) != nil } }
        let errors = try failWrites(of: pids, cluster)
        defer { if errors.isRunning { kill(errors.processIdentifier, SIGKILL) } }
        try cluster.wait("both are paused", within: 15) {
            try names.allSatisfy { name in
                let shown = try view(cluster, name)
                return shown.status == .paused && shown.reason.contains("I/O error")
            }
        }
        let refusal = try cluster.bulwark("vm", "resume", "left", expecting: 1).errorText
        #expect(refusal.contains("vm.not-resumed") && refusal.contains("paused it again"), "\(refusal)")
        let stopped = try #require(try lastWrite(cluster, "left"))
        // It inherits which signals are blocked here; the kernel lets go of whom it traces.
        kill(errors.processIdentifier, SIGKILL)
        errors.waitUntilExit()

        try cluster.wait("one goes on by itself", within: 15) { try view(cluster, "erring").status == .up }
        #expect(try view(cluster, "left").status == .paused && lastWrite(cluster, "left") == stopped, "the other does not")
        try cluster.bulwark("vm", "resume", "left")
        #expect(try view(cluster, "left").status == .up)
        try cluster.wait("it writes on", within: 10) { try lastWrite(cluster, "left").map { $0.boot == stopped.boot && $0.count > stopped.count } ?? false }
        #expect(try names.map { guest(cluster, $0) } == pids && names.allSatisfy { try view(cluster, $0).attempt == 1 }, "they are the same guests")
        #expect(try cluster.explain("vm", "left").contains("its guard has its leases read again first"))
        for name in names { try stopAndRemove(cluster, name) }
        let late = try cluster.bulwark("vm", "resume", "left", expecting: 1).errorText
        #expect(late.contains("vm.not-found"), "\(late)")
    }

    /// All storage hangs, twice. The first time it comes back before the deadline: the guest that is defined to be paused was, and goes on as the same process; the others have only waited.
    /// The second time it does not: the paused one is killed as the others are, and all are back, each on its own disk.
    @Test func aPausedGuestGoesOnInTimeOrIsKilledWithTheOthers() throws {
        try withStorageFaults { cluster in
            let others = try cluster.vms()
            try errorsOfTheirDisksPauseGuestsUntilTheyPass(cluster)
            #expect(try cluster.vms() == others, "nobody else was touched")
            // 4 x io_timeout of 2 s is the longest margin.
            try defineAndStart(cluster, "pausing", "ha: true\nonLeaseLoss: pause\npauseBefore: 8s")
            let pid = try #require(guest(cluster, "pausing"))
            let actions = cluster.powerActions()

            for host in TestCluster.hostNames { try cluster.lab("cut-storage", host) }
            try cluster.wait("it is paused", within: 15) { state(pid) == "T" }
            for host in TestCluster.hostNames { try cluster.lab("heal", host) }
            try cluster.wait("it goes on", within: 8) { state(pid) != "T" }
            try cluster.wait("it is shown to be up", within: 8) { try view(cluster, "pausing").status == .up }
            #expect(try cluster.vms().filter { $0.name != "pausing" } == others && isAlive(pid), "nobody was ended")

            for host in TestCluster.hostNames { try cluster.lab("cut-storage", host) }
            let cut = cl_boottime()
            try cluster.wait("it is shown to be paused, and why", within: 15) {
                let shown = try view(cluster, "pausing")
                return shown.status == .paused && shown.reason.contains("no renewal of its leases")
            }
            _ = try waitUntilGuestsEnd(cluster, TestCluster.hostNames)
            let lasted = Double(cl_boottime() - cut) / 1e9
            #expect(lasted < 17.5, "8 x io_timeout of 2 s after the last renewal; ended after \(lasted) s")
            for host in TestCluster.hostNames { try cluster.lab("heal", host) }
            let healed = cl_boottime()
            try cluster.wait("all are up again", within: 60) { try cluster.vms().count == 5 && cluster.vms().allSatisfy { $0.status == "up" } }
            print("all storage was away: guests ended after \(lasted) s, all were up \(Double(cl_boottime() - healed) / 1e9) s after it was back")
            #expect(try view(cluster, "pausing").attempt == 2 && cluster.powerActions() == actions, "started once more, and nobody was fenced")
            // Its disk stays among those that are looked at, but has a name only in this test.
            try stopAndRemove(cluster, "pausing")
            try cluster.expectOneWriter()
        }
    }

    /// No agent, no lease-service, recovery held: the VMs are unknown, nothing is started; back in time, they are the same guests.
    @Test func theToolstackOfAHostDiesAndReturns() throws {
        try withCluster { cluster in
            let before = try cluster.quietState()
            let there = try cluster.vms(on: "host2")
            let pids = guests(cluster, "host2")
            try cluster.bulwark("hold", "--why", "test")
            try cluster.lab("toolstack-kill", "host2")
            try cluster.wait("its VMs are unknown", within: 12) { try cluster.vms().filter { there.contains($0.name) }.allSatisfy { $0.status == "unknown" } }
            #expect(guests(cluster, "host2") == pids, "the guests run on without their services")
            try cluster.lab("heal", "host2")
            try cluster.waitForAllUp(within: 10)
            #expect(guests(cluster, "host2") == pids)
            let after = try cluster.quietState()
            #expect(after == before, "\(after.difference(from: before))")
            try cluster.bulwark("hold", "--release")
            usleep(3_000_000)
            #expect(try cluster.quietState() == before, "nothing was waiting for the hold to end")
            try cluster.expectTicking()
            try cluster.expectOneWriter()
        }
    }
}
