import Glibc

/// An interface of this process's own network namespace. `/sys/class/net` may show another namespace's, so the kernel is asked through the address list.
enum NetworkInterface {
    /// Up and with carrier. An interface that does not exist is not.
    static func isRunning(_ name: String) -> Bool {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return false }
        defer { freeifaddrs(list) }
        var next = list
        while let entry = next {
            if String(cString: entry.pointee.ifa_name) == name {
                let wanted = UInt32(IFF_UP | IFF_RUNNING)
                return entry.pointee.ifa_flags & wanted == wanted
            }
            next = entry.pointee.ifa_next
        }
        return false
    }
}
