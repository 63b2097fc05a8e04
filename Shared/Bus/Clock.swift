import CLinux
import Messages

/// The two clocks of a process: one for deciding, one for people.
public enum Clock {
    /// CLOCK_BOOTTIME now: nanoseconds since the machine started, suspend included. Never compared between machines.
    public static func boottime() -> Instant { Instant(nanoseconds: cl_boottime()) }

    /// Wall-clock time in UTC, RFC 3339 with milliseconds: `2026-01-31T08:15:00.125Z`. For people only.
    public static func rfc3339() -> String { rfc3339(nanoseconds: cl_realtime()) }

    /// A wall-clock time given in nanoseconds since 1970.
    public static func rfc3339(nanoseconds: Int64) -> String {
        var seconds = time_t(nanoseconds / 1_000_000_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func padded(_ number: some BinaryInteger, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let date = "\(padded(parts.tm_year + 1900, 4))-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
        let time = "\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
        return "\(date)T\(time).\(padded(nanoseconds % 1_000_000_000 / 1_000_000, 3))Z"
    }
}
