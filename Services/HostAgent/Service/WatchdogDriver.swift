import CLinux
import Glibc
import HostAgentEngine
import Messages

/// An open or closed watchdog; used by one thread. What fails says what was tried on which device, and what to do.
protocol WatchdogDriver {
    /// Open it, which arms it, and let it fire no later than so long after its last feeding, if it can.
    mutating func open(timeout: Duration) -> Result<Watchdog.Device, WatchdogFailure>
    mutating func feed() -> WatchdogFailure?
    /// As short as it can.
    mutating func shorten()
    /// So that it does not fire.
    mutating func close() -> WatchdogFailure?
}

struct WatchdogFailure: Error {
    var message: String

    init(_ message: String) { self.message = message }

    /// With what the kernel said.
    init(_ tried: String, _ error: Int32, _ advice: String = "") { message = "\(tried): \(String(cString: strerror(error)))" + (advice.isEmpty ? "" : "; \(advice)") }
}

/// The kernel's, by its character device.
struct KernelWatchdog: WatchdogDriver {
    let path: String
    private var file: Int32 = -1

    init(path: String) { self.path = path }

    mutating func open(timeout: Duration) -> Result<Watchdog.Device, WatchdogFailure> {
        // One that could not be disarmed is still open.
        if file < 0, let failure = openDevice() { return .failure(failure) }
        var name = [CChar](repeating: 0, count: 33)
        var options: UInt32 = 0
        guard cl_watchdog_support(file, &name, &options) == 0 else {
            let failure = WatchdogFailure("\(path) is not a watchdog (WDIOC_GETSUPPORT)", errno, Self.nameOne)
            closeFile()
            return .failure(failure)
        }
        let driver = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let identity = "\(path) (\(driver))"
        guard options & cl_watchdog_alarm_only == 0 else { return giveUp(WatchdogFailure("\(identity) only raises an alarm and resets nothing: use another device")) }
        // One that cannot be set keeps its own timeout: that is what counts.
        _ = cl_watchdog_set_timeout(file, Int32(max(1, timeout.nanoseconds / 1_000_000_000)))
        var seconds: Int32 = 0
        guard cl_watchdog_timeout(file, &seconds) == 0, seconds > 0 else { return giveUp(WatchdogFailure("\(identity) does not tell when it fires (WDIOC_GETTIMEOUT)", errno)) }
        if let failure = feed() { return giveUp(failure) }
        let closes = options & cl_watchdog_magic_close != 0
        let forEver = WatchdogAttributes.isForEver(file, driver)
        // Unless its driver says that it can be disarmed it is not tried: it would count on and nobody would feed it.
        return .success(Watchdog.Device(identity: identity, timeout: .seconds(Int64(seconds)), outlivesProcess: closes || forEver == true, canDisarm: forEver == false))
    }

    /// Nothing is written to, and nothing but a character device is opened: it may be somebody's disk.
    private mutating func openDevice() -> WatchdogFailure? {
        var status = stat()
        guard stat(path, &status) == 0 else { return Self.notOpened(path, errno) }
        guard status.st_mode & S_IFMT == S_IFCHR else { return WatchdogFailure("\(path) is not a watchdog, it is no character device; \(Self.nameOne)") }
        file = cl_open(path, O_WRONLY | O_CLOEXEC, 0)
        return file >= 0 ? nil : Self.notOpened(path, errno)
    }

    private static let nameOne = "name this machine's in watchdog.device, such as /dev/watchdog"

    private mutating func closeFile() {
        Glibc.close(file)
        file = -1
    }

    mutating func shorten() {
        for seconds: Int32 in 1...10 where cl_watchdog_set_timeout(file, seconds) == 0 { return }
    }

    mutating func feed() -> WatchdogFailure? {
        cl_watchdog_keepalive(file) == 0 ? nil : WatchdogFailure("\(path) cannot be fed (WDIOC_KEEPALIVE)", errno, "it will reset this host")
    }

    /// The magic letter first: whatever else is closed fires.
    mutating func close() -> WatchdogFailure? {
        guard write(file, "V", 1) == 1 else { return WatchdogFailure("\(path) cannot be disarmed", errno, "it stays armed and is fed") }
        closeFile()
        return nil
    }

    private mutating func giveUp(_ failure: WatchdogFailure) -> Result<Watchdog.Device, WatchdogFailure> {
        _ = close()
        return .failure(failure)
    }

    private static func notOpened(_ path: String, _ error: Int32) -> WatchdogFailure {
        let advice =
            switch error {
            case EBUSY: "another process has it (wdmd, watchdogd, or systemd by RuntimeWatchdogSec), and only one can: end that one's use of it, or name another device in watchdog.device"
            case ENOENT, ENODEV, ENXIO: "load the driver of this machine's watchdog (such as iTCO_wdt or ipmi_watchdog), or leave watchdog.device and lease-service's lease.watchdog empty"
            case EACCES, EPERM: "host-agent must be root"
            default: ""
            }
        return WatchdogFailure("cannot open the watchdog \(path)", error, advice)
    }
}

/// The lab's: a file that the host's chassis watches. It holds seconds and a count that each feeding changes; `V` disarms it.
struct ChassisWatchdog: WatchdogDriver {
    let path: String
    private var file: Int32 = -1
    private var seconds: Int64 = 0
    private var count: UInt64 = 0

    init(path: String) { self.path = path }

    mutating func open(timeout: Duration) -> Result<Watchdog.Device, WatchdogFailure> {
        file = cl_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { return .failure(WatchdogFailure("cannot open \(path)", errno)) }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else { return giveUp(WatchdogFailure("cannot open \(path)", errno, "another process has it")) }
        seconds = timeout.nanoseconds / 1_000_000_000
        // An earlier life counted, too: what it wrote last must change.
        count = UInt64(max(0, cl_boottime()))
        if let failure = feed() { return giveUp(failure) }
        return .success(Watchdog.Device(identity: "the chassis (\(path))", timeout: .seconds(seconds), outlivesProcess: true, canDisarm: true))
    }

    mutating func feed() -> WatchdogFailure? {
        count += 1
        return write("\(seconds) \(count)")
    }

    mutating func shorten() {
        seconds = 1
        _ = feed()
    }

    mutating func close() -> WatchdogFailure? {
        if let failure = write("V \(count)") { return failure }
        Glibc.close(file)
        file = -1
        return nil
    }

    private mutating func giveUp(_ failure: WatchdogFailure) -> Result<Watchdog.Device, WatchdogFailure> {
        Glibc.close(file)
        file = -1
        return .failure(failure)
    }

    /// One write of one length: who reads sees the old or the new.
    private func write(_ text: String) -> WatchdogFailure? {
        let line = Array((text + String(repeating: " ", count: max(0, 40 - text.utf8.count)) + "\n").utf8)
        return pwrite(file, line, line.count, 0) == line.count ? nil : WatchdogFailure("cannot write \(path)", errno)
    }
}
