import CLinux
import Foundation
import Glibc
import HostAgentHypervisor
import Messages
import Testing

@Suite struct HypervisorTests {
    @Test func aVMHasTheSameUUIDEverywhere() {
        #expect(GuestUUID.of(vm: "web1") == GuestUUID.of(vm: "web1"))
        #expect(GuestUUID.of(vm: "web1") != GuestUUID.of(vm: "web2"))
        let uuid = GuestUUID.of(vm: "web1")
        #expect(UUID(uuidString: uuid) != nil)
        #expect(uuid.dropFirst(14).first == "8")
    }

    @Test func theCommandLineIsDirectAndKeepsQEMUItsGuardsChild() {
        let vm = VMDefinition(
            name: "a,b", memoryMiB: 4,
            disks: [DiskDefinition(image: "i1", domain: "d", size: 1), DiskDefinition(image: "i2", domain: "d", size: 1, readOnly: true)])
        let line = QEMUCommand(imageLocking: false).line(for: vm, volumes: ["/d/i1", "/d/i,2"], files: "/run/guards/vm:a:1")
        #expect(!line.contains("-daemonize"))
        #expect(line.contains("guest=a,,b"))
        #expect(line.contains("driver=raw,node-name=disk0,read-only=off,cache.direct=on,file.driver=file,file.filename=/d/i1,file.aio=threads,file.locking=off"))
        #expect(line.contains { $0.contains("read-only=on") && $0.contains("/d/i,,2") })
        #expect(line.contains("ide-hd,bus=ide.0,unit=0,drive=disk0,bootindex=0,werror=stop,rerror=stop"))
    }

    @Test func aLockIsHeldOnlyOnce() {
        let directory = TemporaryDirectory()
        let path = "\(directory.path)/lock"
        let inner = LockFile.holding(path) { LockFile.holding(path) { true } == nil }
        #expect(inner == true)
        #expect(LockFile.holding(path) { true } == true)
    }

    @Test(.enabled(if: access("/usr/bin/qemu-system-x86_64", X_OK) == 0)) func aRealGuestIsFoundAndAnswers() throws {
        let directory = TemporaryDirectory()
        let volume = "\(directory.path)/disk"
        try Data(count: 1 << 20).write(to: URL(fileURLWithPath: volume))
        let name = "scan-\(UInt32.random(in: 0...UInt32.max))"
        let vm = VMDefinition(name: name, memoryMiB: 4, disks: [DiskDefinition(image: "i", domain: "d", size: 1 << 20)])
        let line = QEMUCommand(imageLocking: false).line(for: vm, volumes: [volume], files: "\(directory.path)/g")
        let pid = try spawn("/usr/bin/qemu-system-x86_64", Array(line.dropFirst()) + ["-S"])
        defer {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
        let qmp = QMPClient(path: "\(directory.path)/g.qmp")
        var status = qmp.status()
        for _ in 0..<100 {
            if case .success = status { break }
            usleep(50000)
            status = qmp.status()
        }
        #expect(try status.get() == "prelaunch")
        #expect(qmp.resume() == nil)
        #expect(try qmp.status().get() == "running")
        let scan = ProcessScan.run()
        #expect(scan.guest(uuid: GuestUUID.of(vm: name))?.pid == pid)
        #expect(scan.guest(uuid: GuestUUID.of(vm: name))?.name == name)
        #expect(scan.guest(uuid: GuestUUID.of(vm: name))?.isOwn == true)
    }

    /// Whoever started it: `sleep` with the name of an emulator.
    @Test(arguments: [("qemu-system-x86_64", true), ("kvm", true), ("qemu-nbd", false)]) func everyEmulatorIsFoundAndIsNotBulwarks(program: String, isFound: Bool) throws {
        let directory = TemporaryDirectory()
        let path = "\(directory.path)/\(program)"
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "/bin/sleep")
        let pid = try spawn(path, ["1000"])
        defer {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
        func line() -> String { FileManager.default.contents(atPath: "/proc/\(pid)/cmdline").map { String(decoding: $0, as: UTF8.self) } ?? "" }
        for _ in 0..<100 where !line().hasPrefix(path) { usleep(50000) }
        #expect(line().hasPrefix(path), "it has become that program")
        let guest = ProcessScan.run().guests.first { $0.pid == pid }
        #expect((guest != nil) == isFound)
        if isFound { #expect(guest?.program == program && guest?.isOwn == false) }
    }
}
