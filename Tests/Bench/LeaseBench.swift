import Bus
import CLinux
import Foundation
import LeaseEngine
import LeaseFormat
import LeaseVolume
import Messages
import TestLab

/// Leases beside a real sanlock on the same file system: acquire and release, renewals, takeover on a proof, and re-adoption after kill -9.
struct LeaseBench {
    let rounds: Int
    /// Where the volumes are.
    let directory: String

    func run(_ parts: [BenchCommand.Part], _ add: ([Figure]) -> Void) throws {
        guard SanlockDaemon.isInstalled else { throw LabFailure("\(SanlockDaemon.executable) is not installed: compose/lab/install-packages test") }
        let place = try LeasePlace(in: directory)
        defer { place.remove() }
        if parts.contains(.cycles) { add(try LeaseCycles(place: place, rounds: rounds).run()) }
        if parts.contains(.renewals) { add(try LeaseRenewals(place: place).run()) }
        if parts.contains(.takeover) { add(try LeaseTakeover(place: place, rounds: rounds).run()) }
    }
}

/// A directory for everything of one run.
struct LeasePlace {
    let directory: String
    /// For run directories, of either daemon: in memory, as `/run` is.
    let memory: String

    init(in parent: String) throws {
        directory = "\(parent)/lb-\(getpid())"
        memory = "/dev/shm/lr-\(getpid())"
        for path in [directory, memory] {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        }
    }

    func remove() { for path in [directory, memory] { try? FileManager.default.removeItem(atPath: path) } }

    func path(_ name: String) throws -> String {
        let path = "\(directory)/\(name)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        return path
    }

    /// Hosts that a lockspace also knows: each has renewed once.
    static func enter(_ hosts: ClosedRange<Int>, in ids: String, lockspace: String, ioTimeout: UInt16) throws {
        var sectors = [UInt8]()
        for host in hosts {
            var record = LeaderRecord(lockspace: lockspace, ioTimeout: ioTimeout)
            record.name = "node\(host)"
            record.ownerID = UInt64(host)
            record.ownerGeneration = 1
            record.timestamp = 1000
            sectors += record.sector
        }
        let written = DirectFile.write(path: ids, offset: Geometry.standard.deltaOffset(host: hosts.lowerBound), bytes: sectors, notAfter: Instant(nanoseconds: .max), create: false)
        guard written == .written else { throw LabFailure("\(ids): \(written)") }
    }

    /// A lockspace and resources as sanlock makes them by default: room for 2000 hosts.
    func makeSanlockVolumes(_ lockspace: String, resources: Int, ioTimeout: Int) throws -> [SanlockClient.Resource] {
        let directory = try path("sanlock-\(lockspace)")
        let area = Geometry.standard.alignment
        for (name, size) in [("ids", area), ("leases", area * max(resources, 1))] {
            guard FileManager.default.createFile(atPath: "\(directory)/\(name)", contents: nil), truncate("\(directory)/\(name)", size) == 0 else { throw LabFailure("\(directory)/\(name) cannot be made") }
        }
        try SanlockDaemon.direct("init", "-s", "\(lockspace):0:\(directory)/ids:0", "-o", String(ioTimeout))
        return try (0..<resources).map {
            let resource = SanlockClient.Resource(lockspace: lockspace, name: "disk\($0)", path: "\(directory)/leases", offset: UInt64($0 * area))
            try SanlockDaemon.direct("init", "-r", resource.text)
            return resource
        }
    }

    func ids(ofSanlock lockspace: String) -> String { "\(directory)/sanlock-\(lockspace)/ids" }
}

/// What a process has used so far.
struct ProcessUse {
    var processor: Double
    var read: Double
    var written: Double

    static func of(_ pid: pid_t) -> ProcessUse {
        var clock = clockid_t()
        var time = timespec()
        if clock_getcpuclockid(pid, &clock) == 0 { clock_gettime(clock, &time) }
        let text = FileManager.default.contents(atPath: "/proc/\(pid)/io").map { String(decoding: $0, as: UTF8.self) } ?? ""
        func bytes(_ field: String) -> Double { text.split(separator: "\n").first { $0.hasPrefix(field + ":") }.flatMap { Double($0.dropFirst(field.count + 2)) } ?? .nan }
        return ProcessUse(processor: Double(time.tv_sec) + Double(time.tv_nsec) / 1e9, read: bytes("read_bytes"), written: bytes("write_bytes"))
    }

    static func - (a: ProcessUse, b: ProcessUse) -> ProcessUse {
        ProcessUse(processor: a.processor - b.processor, read: a.read - b.read, written: a.written - b.written)
    }
}
