import CLinux
import Foundation
import Messages
import Testing

/// The check that all others rest on can turn red.
@Suite(.serialized) struct TickTests {
    @Test func twoGuestsStartedByHandOnOneDiskAreSeen() throws {
        try withCluster { cluster in
            try cluster.expectOneWriter()
            let guest = try #require(processes { $0.contains("qemu-system") && $0.contains("/\(cluster.name)/host1/") }.first)
            let line = String(decoding: (FileManager.default.contents(atPath: "/proc/\(guest)/cmdline") ?? Data()).map { $0 == 0 ? 32 : $0 }, as: UTF8.self)
            let disk = try #require(line.split { " ,".contains($0) }.first { $0.contains("/images/") }?.split(separator: "=").last.map(String.init))
            let second = Process()
            second.executableURL = URL(fileURLWithPath: "/usr/bin/qemu-system-x86_64")
            second.arguments = [
                "-accel", "tcg", "-machine", "pc", "-m", "4", "-nodefaults", "-display", "none", "-blockdev",
                "driver=raw,node-name=disk,cache.direct=on,file.driver=file,file.filename=\(disk),file.locking=off", "-device", "ide-hd,drive=disk",
            ]
            try second.run()
            defer {
                kill(second.processIdentifier, SIGKILL)
                second.waitUntilExit()
            }
            try cluster.wait("lab ticks reports two writers", within: 30) { try cluster.bulwark("lab", "ticks", expecting: nil).status == 1 }
        }
    }
}
