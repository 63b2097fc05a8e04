import CLinux
import Glibc

/// Looks at every process of this machine (of this PID namespace and those within) for guests: the evidence that needs no toolstack. Takes 2-4 ms.
public struct ProcessScan: Sendable {
    public struct Guest: Hashable, Sendable {
        public var pid: Int32
        public var program: String
        /// Empty without one.
        public var uuid: String
        /// From `-name`; empty without one.
        public var name: String

        /// Its uuid is one that a VM of this name has here.
        public var isOwn: Bool { GuestUUID.of(vm: name) == uuid }
    }

    public private(set) var guests: [Guest] = []
    /// Why something could not be looked at; `nil`: everything was.
    public private(set) var gap: String?

    /// Guests are live processes whose program's name says QEMU, and has `-uuid` among its arguments or is an emulator's: `qemu-img` and the like are none.
    public static func run() -> ProcessScan {
        var scan = ProcessScan()
        guard let directory = opendir("/proc") else {
            scan.gap = "/proc cannot be read: \(String(cString: strerror(errno)))"
            return scan
        }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if let pid = Int32(name) { scan.look(at: pid) }
        }
        return scan
    }

    /// The live guest of a VM.
    public func guest(uuid: String) -> Guest? { guests.first { $0.uuid == uuid } }

    private mutating func look(at pid: Int32) {
        guard let line = Self.read("/proc/\(pid)/cmdline") else {
            // A process that ended meanwhile is no gap; one that may not be read is.
            if errno != ENOENT && errno != ESRCH { gap = "process \(pid) cannot be read: \(String(cString: strerror(errno)))" }
            return
        }
        let words = line.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
        guard let program = words.first?.split(separator: "/").last.map(String.init) else { return }
        let uuid = program.contains("qemu") ? Self.value(of: "-uuid", in: words) : nil
        guard uuid != nil || Self.isEmulator(program), Self.isAlive(pid) else { return }
        let name = Self.value(of: "-name", in: words) ?? ""
        let plain = name.hasPrefix("guest=") ? String(name.dropFirst("guest=".count)) : name
        guests.append(Guest(pid: pid, program: program, uuid: uuid ?? "", name: plain.split(separator: ",").first.map(String.init) ?? ""))
    }

    private static func isEmulator(_ program: String) -> Bool { program.hasPrefix("qemu-system-") || program == "qemu-kvm" || program == "kvm" }

    private static func value(of option: String, in words: [String]) -> String? {
        guard let index = words.firstIndex(of: option), index + 1 < words.count else { return nil }
        return words[index + 1]
    }

    /// Not a zombie.
    private static func isAlive(_ pid: Int32) -> Bool {
        guard let stat = read("/proc/\(pid)/stat"), let end = stat.lastIndex(of: UInt8(ascii: ")")), end + 2 < stat.count else { return false }
        return ![UInt8(ascii: "Z"), UInt8(ascii: "X")].contains(stat[end + 2])
    }

    private static func read(_ path: String) -> [UInt8]? {
        let file = cl_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            let count = Glibc.read(file, &buffer, buffer.count)
            if count < 0 { return nil }
            if count == 0 { return bytes }
            bytes += buffer[..<count]
        }
    }
}
