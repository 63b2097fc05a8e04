import CLinux
import Foundation
import HostAgentHypervisor
import LeaseEngine
import LeaseVolume
import Messages
import ServiceKit
import TestLab

/// What the steps of a failover cost without us, measured in the same run: the fence agent alone, QEMU alone, and the disk alone.
final class BareCosts {
    private let cluster: LabCluster
    private let directory: String
    private let secret: String
    private var fence: [Double] = []
    private var guest: [Double] = []
    private var disk: [Double] = []

    init(_ cluster: LabCluster) throws {
        self.cluster = cluster
        directory = "\(cluster.file.state)/bare"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: "\(cluster.file.state)/guest.img", toPath: "\(directory)/disk")
        let secret = FileManager.default.contents(atPath: "\(cluster.file.state)/host1/bmc/secret") ?? Data()
        self.secret = String(decoding: secret, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    func remove() { try? FileManager.default.removeItem(atPath: directory) }

    func measure() throws {
        fence.append(try fenceStatus())
        guest.append(try bootGuest())
        disk.append(try takeSectors())
    }

    /// The bare costs, and what our steps cost against them.
    func figures(beside times: [String: [Double]]) -> [Figure] {
        func ratio(_ step: String, _ bare: [Double]) -> Double { (times[step] ?? []).percentile(0.5) / bare.percentile(0.5) }
        return [
            Figure("bare.fence-status", "fence_ipmilan status alone", .milliseconds, fence),
            Figure("bare.guest", "QEMU alone: spawn until it answers that it runs", .milliseconds, guest),
            Figure("bare.lease-io", "the sectors of one takeover alone (O_DIRECT, O_SYNC)", .milliseconds, disk),
            Figure(
                "failover.confirmed-to-guest.ratio", "confirmed off until the guest runs, against QEMU and the lease's sectors alone", .ratio,
                (times["confirmed-to-guest"] ?? []).percentile(0.5) / (guest.percentile(0.5) + disk.percentile(0.5))),
            Figure("failover.confirm.ratio", "confirm against fence_ipmilan alone", .ratio, ratio("confirm", fence)),
            Figure("failover.guest.ratio", "guest against QEMU alone", .ratio, ratio("guest", guest)),
            Figure("failover.lease.ratio", "lease against its sectors alone", .ratio, ratio("lease", disk)),
        ]
    }

    func fenceStatus() throws -> Double {
        let options = ["ip=10.77.1.1", "username=admin", "password=\(secret)", "lanplus=1", "cipher=3", "action=status"].map { $0 + "\n" }.joined()
        let outcome = ChildProcess(
            "/sbin/ip", ["netns", "exec", "bw-\(cluster.name)", "/usr/sbin/fence_ipmilan"],
            environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"],
            input: Data(options.utf8), deadline: .seconds(20)
        ).run()
        guard outcome.end == .exited(0) else { throw LabFailure("fence_ipmilan: \(outcome.end) \(outcome.errorOutput)") }
        return Double(outcome.duration.nanoseconds) / 1e6
    }

    private func bootGuest() throws -> Double {
        let disk = DiskDefinition(image: "bare", domain: "bare", size: 1 << 20)
        let files = "\(directory)/guest"
        let line = QEMUCommand(imageLocking: false).line(for: VMDefinition(name: "bare", memoryMiB: 8, disks: [disk]), volumes: ["\(directory)/disk"], files: files)
        unlink("\(files).qmp")
        let began = cl_boottime()
        let child = try Child.start("/usr/bin/\(line[0])", Array(line.dropFirst()))
        defer { child.kill() }
        try child.await("QEMU answers", seconds: 10) {
            if case .success("running") = QMPClient(path: "\(files).qmp").status() { true } else { false }
        }
        return Double(cl_boottime() - began) / 1e6
    }

    /// What one Disk Paxos ballot against a dead owner reads and writes: the area thrice, the owner's sector, our block twice, the leader.
    private func takeSectors() throws -> Double {
        let path = "\(directory)/leases"
        if access(path, F_OK) != 0 {
            for index in 0..<4 {
                _ = DirectFile.write(path: path, offset: UInt64(index) << 18, bytes: [UInt8](repeating: 0, count: 1 << 18), notAfter: Instant(nanoseconds: .max), create: true)
            }
        }
        let began = cl_boottime()
        func read(_ length: Int) -> Bool { if case .data = DirectFile.read(path: path, offset: 0, length: length) { true } else { false } }
        func write() -> Bool {
            DirectFile.write(path: path, offset: 1024, bytes: [UInt8](repeating: 0, count: 512), notAfter: Instant(nanoseconds: .max), create: false) == .written
        }
        guard read(1 << 20), read(512), write(), read(1 << 20), write(), read(1 << 20), write() else { throw LabFailure("\(path): a sector cannot be read or written") }
        return Double(cl_boottime() - began) / 1e6
    }
}
