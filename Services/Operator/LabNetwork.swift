import CLinux
import Foundation
import Messages

/// The network of one instance: a namespace for manager, bridge and BMCs, one for each host, a cable between. All addresses are the same in every instance.
struct LabNetwork {
    let instance: Instance

    /// The manager's interface: what its network check looks at. It is a cable of its own, so that the manager sees its own cut and no other.
    static let managerInterface = "mgr0"

    /// Makes what is missing.
    func make() throws {
        let manager = instance.managerNamespace
        if try namespace(manager) {
            try ip(manager, "link", "set", "lo", "up")
            try ip(manager, "link", "add", "br0", "type", "bridge")
            try ip(manager, "link", "set", "br0", "up")
            try ip(manager, "link", "add", Self.managerInterface, "type", "veth", "peer", "name", "v-manager")
            try ip(manager, "link", "set", "v-manager", "master", "br0", "up")
            try ip(manager, "addr", "add", "10.77.0.254/24", "dev", Self.managerInterface)
            try ip(manager, "link", "set", Self.managerInterface, "up")
        }
        for host in instance.hosts where try namespace(host.namespace) {
            // BMCs have a network of their own: their addresses are the manager's neighbours whatever happens to the bridge.
            try ip(manager, "addr", "replace", "\(host.bmcAddress)/32", "dev", "lo")
            try? ip(manager, "link", "del", host.port)
            try ip(manager, "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            try ip(manager, "link", "set", host.port, "master", "br0", "up")
            try ip(host.namespace, "link", "set", "lo", "up")
            try ip(host.namespace, "addr", "add", "\(host.address)/24", "dev", "eth0")
            try ip(host.namespace, "link", "set", "eth0", "up")
        }
    }

    /// Ends every process inside and removes the namespaces; interfaces go with them.
    func remove(namespaces: [String]) throws {
        for name in namespaces where Self.names().contains(name) {
            Self.kill(inNamespace: name)
            try Tool.run("ip", ["netns", "del", name])
        }
    }

    func connectManager(_ connected: Bool) throws {
        try ip(instance.managerNamespace, "link", "set", Self.managerInterface, connected ? "up" : "down")
    }

    static func names() -> Set<String> { Set((try? FileManager.default.contentsOfDirectory(atPath: "/run/netns")) ?? []) }

    /// - Returns: whether it had to be made.
    private func namespace(_ name: String) throws -> Bool {
        if Self.names().contains(name) {
            if (try? Tool.run("ip", ["-n", name, "link", "show", "lo"])) != nil { return false }
            try Tool.run("ip", ["netns", "del", name])
        }
        try Tool.run("ip", ["netns", "add", name])
        return true
    }

    private func ip(_ namespace: String, _ arguments: String...) throws { try Tool.run("ip", ["-n", namespace] + arguments) }

    /// SIGKILLs every process whose network namespace is this one; never the machine's own.
    private static func kill(inNamespace name: String) {
        guard let wanted = identity("/run/netns/\(name)"), wanted != identity("/proc/self/ns/net"), wanted != identity("/proc/1/ns/net"),
            wanted.device == identity("/proc/self/ns/net")?.device
        else { return }
        let inside = {
            ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { pid_t($0) }.filter {
                identity("/proc/\($0)/ns/net") == wanted
            }.compactMap { ProcessRecord(pid: $0) }
        }
        _ = waitUntil(seconds: 5) {
            let found = inside()
            for process in found { process.signal(SIGKILL) }
            return found.isEmpty
        }
    }

    private struct Identity: Equatable {
        var device: dev_t
        var inode: ino_t
    }

    private static func identity(_ path: String) -> Identity? {
        var found = stat()
        return stat(path, &found) == 0 ? Identity(device: found.st_dev, inode: found.st_ino) : nil
    }
}
