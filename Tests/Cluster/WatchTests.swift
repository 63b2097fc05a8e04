import CLinux
import Foundation
import Messages
import Testing

/// `bulwark watch` is quiet while the promise is kept, and is not when it is broken.
@Suite(.serialized) struct WatchTests {
    /// A watch that runs beside the test.
    private struct Watch {
        let process = Process()
        let base = NSTemporaryDirectory() + "bulwark-watch-" + UUID().uuidString

        init(_ cluster: TestCluster, _ arguments: String...) throws {
            process.executableURL = URL(fileURLWithPath: cluster.binaries + "/bulwark")
            process.arguments = ["--cluster", cluster.name, "watch"] + arguments
            for end in [".out", ".err"] { _ = FileManager.default.createFile(atPath: base + end, contents: nil) }
            process.standardOutput = FileHandle(forWritingAtPath: base + ".out")
            process.standardError = FileHandle(forWritingAtPath: base + ".err")
            process.standardInput = FileHandle.nullDevice
            try process.run()
        }

        var told: String { text(".out") }
        var alarms: String { text(".err") }

        /// - Returns: its exit status.
        func end() -> Int32 {
            process.waitUntilExit()
            return process.terminationStatus
        }

        func remove() {
            if process.isRunning { process.terminate() }
            process.waitUntilExit()
            for end in [".out", ".err"] { try? FileManager.default.removeItem(atPath: base + end) }
        }

        private func text(_ end: String) -> String { String(decoding: FileManager.default.contents(atPath: base + end) ?? Data(), as: UTF8.self) }
    }

    @Test func aFailoverRaisesNoAlarm() throws {
        try withCluster { cluster in
            let watch = try Watch(cluster, "--for", "60s", "--facts")
            defer { watch.remove() }
            try cluster.wait("every guest is seen", within: 20) { try cluster.vms().allSatisfy { watch.told.contains("vm:\($0.name):\($0.attempt ?? 0) on") } }
            let victim = try #require(try cluster.spm())
            let moved = try cluster.vms(on: victim)
            try cluster.lab("crash", victim)
            try cluster.waitForVMsElsewhere(than: victim, within: 40)
            try cluster.waitForAllUp()
            try cluster.wait("the moved guests are seen", within: 20) {
                try cluster.vms().filter { moved.contains($0.name) }.allSatisfy { watch.told.contains("vm:\($0.name):\($0.attempt ?? 0) on \($0.host ?? "-") runs") }
            }
            #expect(watch.end() == 0, "\(watch.alarms)\n\(watch.told)")
            #expect(watch.alarms == "")
            for word in ["is open (silent)", "proof", "is over", "0 alarms"] { #expect(watch.told.contains(word), "\(watch.told)") }
        }
    }

    /// Somebody starts a guest by hand beside the one that runs elsewhere. It is paused and writes nothing: what alarms is that it could.
    @Test func aSecondGuestRaisesAnAlarmAndHolds() throws {
        try withCluster { cluster in
            let vm = try #require(try cluster.vms(on: "host1").first)
            let watch = try Watch(cluster, "--for", "50s", "--hold", "--facts")
            defer { watch.remove() }
            try cluster.wait("its guest is seen", within: 20) { watch.told.contains("vm:\(vm):") }
            let guest = try #require(processes { $0.contains("qemu-system") && $0.contains("/\(cluster.name)/host1/") && $0.contains("guest=\(vm)") }.first)
            let words = (FileManager.default.contents(atPath: "/proc/\(guest)/cmdline") ?? Data()).split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            let uuid = words[try #require(words.firstIndex(of: "-uuid")) + 1]
            let agent = try #require(processes { $0.contains("host-agent") && $0.contains("/\(cluster.name)/host2/config/") }.first)
            let second = Process()
            second.executableURL = URL(fileURLWithPath: "/usr/bin/nsenter")
            second.arguments = [
                "--target", "\(agent)", "--pid", "--mount", "--", "/usr/bin/qemu-system-x86_64", "-name", "guest=\(vm)", "-uuid", uuid, "-accel", "tcg", "-machine", "pc",
                "-m", "4", "-nodefaults", "-display", "none", "-S",
            ]
            try second.run()
            let strays = { processes { $0.hasPrefix("/usr/bin/qemu-system") && $0.contains("-uuid \(uuid) -accel") } }
            defer {
                // The guest first: it holds open what `waitUntilExit` waits for.
                for stray in strays() { kill(stray, SIGKILL) }
                kill(second.processIdentifier, SIGKILL)
                second.waitUntilExit()
            }
            // An agent looks for guests without a record when it starts.
            try cluster.wait("it runs", within: 10) { !strays().isEmpty }
            try cluster.lab("kill", "host2/host-agent")
            try cluster.wait("the alarm", within: 30) { watch.alarms.contains("ALARM: I3: vm:\(vm):0 on host2 began while vm:\(vm):") }
            try cluster.wait("HA is held", within: 15) { try cluster.bulwark("ha", "status").text.contains("HELD by an operator: bulwark watch: I3") }
            #expect(watch.end() == 1)
            #expect(watch.alarms.contains("HELD: "), "\(watch.alarms)")
        }
    }
}
