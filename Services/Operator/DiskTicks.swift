import Foundation
import Messages

/// What the lab guest (`compose/lab/guest.S`) left on its disk: read from the image itself, past every service.
struct DiskTicks: Codable, Hashable, Sendable {
    /// The last write.
    struct Write: Codable, Hashable, Sendable {
        /// Boot id of the guest, 16 hexadecimal digits.
        var boot: String
        /// How many times that boot had written.
        var count: UInt32
        /// BIOS ticks since midnight, 18.2 in a second.
        var ticks: UInt32
    }

    /// Two writers at once: seen by a guest after its own first write.
    struct Foreign: Codable, Hashable, Sendable {
        var seenBy: String
        var atCount: UInt32
        var other: Write
    }

    var disk: String
    var path: String
    /// The VM it was made for, if it is one of the lab's.
    var vm: String?
    var lastWrite: Write?
    /// Every boot that ever began to write here, oldest first (the last 63).
    var boots: [String]
    /// How many boots that were.
    var bootCount: UInt32
    /// Set for good once two guests wrote at the same time.
    var foreign: Foreign?

    /// `nil` when it is not a disk of the lab guest.
    init?(path: String, vm: String?) {
        guard let file = FileHandle(forReadingAtPath: path), let data = try? file.read(upToCount: 2048), data.count == 2048 else { return nil }
        try? file.close()
        let bytes = [UInt8](data)
        guard bytes[510] == 0x55, bytes[511] == 0xaa else { return nil }
        func number(_ offset: Int) -> UInt32 { (0..<4).reversed().reduce(0) { $0 << 8 | UInt32(bytes[offset + $1]) } }
        func id(_ offset: Int) -> String { String(format: "%08x%08x", number(offset + 4), number(offset)) }
        func write(_ offset: Int) -> Write? {
            number(offset) == 0x4b43_4954 ? Write(boot: id(offset + 12), count: number(offset + 4), ticks: number(offset + 8)) : nil
        }
        disk = (path as NSString).lastPathComponent
        self.path = path
        self.vm = vm
        lastWrite = write(512)
        let count = number(1536)
        let kept = min(count, 63)
        bootCount = count
        boots = (0..<kept).map { id(1544 + 8 * Int((count - kept + $0) % 63)) }
        if number(1024) == 0x4c41_5544 {
            foreign = Foreign(seenBy: id(1032), atCount: number(1028), other: write(1040) ?? Write(boot: id(1052), count: 0, ticks: 0))
        }
    }

    /// All disks in the file domains below a shared-storage directory.
    static func all(in shared: String, vms: [String: String]) -> [DiskTicks] {
        func inside(_ directory: String) -> [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted().map { "\(directory)/\($0)" }
        }
        return inside(shared).flatMap { inside("\($0)/images") }.flatMap { image in
            inside(image).compactMap { DiskTicks(path: $0, vm: vms[(image as NSString).lastPathComponent]) }
        }
    }
}
