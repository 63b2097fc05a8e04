import CLinux
import Glibc

/// What sysfs tells of a watchdog.
enum WatchdogAttributes {
    /// nowayout: a watchdog that was opened once fires, unless it is fed, until the machine is off; `nil`: it cannot be told.
    ///
    /// - Parameters:
    ///   - file: the open device.
    ///   - driver: as it calls itself.
    ///   - system: where sysfs is.
    static func isForEver(_ file: Int32, _ driver: String, system: String = "/sys") -> Bool? {
        var (major, minor): (UInt32, UInt32) = (0, 0)
        guard cl_device_number(file, &major, &minor) == 0 else { return nil }
        return isForEver(major: major, minor: minor, driver, system: system)
    }

    /// The old name /dev/watchdog (10:130) is that of watchdog0, or of a driver that is older than the class; the driver's name tells which.
    static func isForEver(major: UInt32, minor: UInt32, _ driver: String, system: String) -> Bool? {
        if driver == "IPMI" { return letter("\(system)/module/ipmi_watchdog/parameters/nowayout") }
        guard (major, minor) == (10, 130) else { return letter("\(system)/dev/char/\(major):\(minor)/nowayout") }
        let first = "\(system)/class/watchdog/watchdog0"
        return text("\(first)/identity") == driver ? letter("\(first)/nowayout") : nil
    }

    private static func letter(_ path: String) -> Bool? {
        switch text(path) {
        case "1", "Y": true
        case "0", "N": false
        default: nil
        }
    }

    private static func text(_ path: String) -> String? {
        let file = cl_open(path, O_RDONLY | O_CLOEXEC, 0)
        guard file >= 0 else { return nil }
        defer { Glibc.close(file) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = read(file, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes.prefix(count).prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self) : nil
    }
}
