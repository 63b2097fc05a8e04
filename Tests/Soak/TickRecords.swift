import Foundation
import TestLab

/// What must never be.
struct DoubleWriter: Error, CustomStringConvertible { var description: String }

/// What the guests left on their disks, read past every service by `bulwark lab ticks`.
struct TickRecords {
    struct Disk: Decodable {
        struct Write: Decodable, Equatable {
            var boot: String
            var count: UInt32
        }
        struct Foreign: Decodable {
            var seenBy: String
            var atCount: UInt32
            var other: Write
        }
        var path: String
        var vm: String?
        var lastWrite: Write?
        var foreign: Foreign?
    }

    let disks: [Disk]

    /// - Throws: also if any disk ever had two writers at once.
    init(_ cluster: LabCluster) throws {
        let output = cluster.bulwark(["--json", "lab", "ticks"])
        disks = try JSONDecoder().decode([Disk].self, from: Data(output.text.utf8))
        if let double = disks.first(where: { $0.foreign != nil }), let foreign = double.foreign {
            throw DoubleWriter(description: "DOUBLE WRITER on \(double.path) of \(double.vm ?? "?"): boot \(foreign.seenBy) saw \(foreign.other) at its write \(foreign.atCount)")
        }
        guard output.status == 0 else { throw LabFailure("bulwark lab ticks: exit status \(output.status)") }
    }

    /// VMs that have a disk here.
    var vms: Set<String> { Set(disks.compactMap(\.vm)) }

    /// Disks that nobody has written since an earlier look.
    func idle(since before: TickRecords) -> [String] {
        disks.filter { disk in before.disks.contains { $0.path == disk.path && $0.lastWrite == disk.lastWrite } }.map { $0.vm ?? $0.path }
    }
}
