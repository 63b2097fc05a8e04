import Foundation
import Messages

extension VMDefinition {
    /// Reads a VM definition:
    ///
    ///     name: web1
    ///     memory: 512M            # or a number of MiB
    ///     cpus: 1
    ///     ha: true                # restarted elsewhere after a proof; needs leases
    ///     leases: true            # one for each writable disk (default)
    ///     priority: 50            # 0-100, highest first
    ///     pin: [host1, host2]     # only these hosts; default: any
    ///     onLeaseLoss: kill       # or pause: stopped pauseBefore the deadline of its leases, resumed if they are still its own, killed at the deadline
    ///     pauseBefore: 20s        # default: 2 x io_timeout
    ///     resume: kill            # after an I/O error has paused it: auto, leave or kill; default: kill with ha, else auto
    ///     disks:
    ///       - image: 6b2e0c51-...  # uuid of the disk; names its lease
    ///         domain: data        # name or uuid of its storage domain
    ///         size: 1G
    ///         source: guest.img   # file a new disk begins with; relative to the definition
    ///         readOnly: false
    ///         shareable: false    # other VMs that say so too may write to it at the same time, on other hosts
    ///
    /// - Parameter domainID: uuid of a storage domain by its name; uuids are given as they are.
    /// - Throws: `RequestError` that names file, line and key.
    init(file path: String, domainID: (String) throws -> String) throws {
        let file = try DefinitionFile(path: path, kind: "VM", keys: ["name", "memory", "cpus", "disks", "ha", "leases", "priority", "pin", "onLeaseLoss", "pauseBefore", "resume"])
        let memory = try file.bytes("memory", unit: 1 << 20)
        guard memory >= 1 << 20, memory % (1 << 20) == 0 else { throw file.problem(key: "memory", "must be a whole number of MiB") }
        let disks = try file.sections("disks", kind: "disk", keys: ["image", "domain", "size", "source", "readOnly", "shareable"]).map { disk in
            let image = try disk.string("image").lowercased()
            guard UUID(uuidString: image) != nil else { throw disk.problem(key: "image", "must be a uuid; `uuidgen` makes one") }
            return DiskDefinition(
                image: image, domain: try domainID(try disk.string("domain")), size: try disk.bytes("size", unit: 1),
                source: try disk.optionalString("source").map { Self.absolute($0, from: path) }, readOnly: try disk.optionalBool("readOnly") ?? false,
                shareable: try disk.optionalBool("shareable"))
        }
        self.init(
            name: try file.string("name"), memoryMiB: Int(memory >> 20), cpus: try file.optionalInt("cpus") ?? 1, disks: disks,
            ha: try file.optionalBool("ha") ?? false, leases: try file.optionalBool("leases") ?? true, priority: try file.optionalInt("priority") ?? 50,
            pin: try file.strings("pin"), onLeaseLoss: try file.optionalChoice("onLeaseLoss"), pauseBefore: try file.optionalDuration("pauseBefore"),
            resume: try file.optionalChoice("resume"))
        guard (0...100).contains(priority) else { throw file.problem(key: "priority", "must be between 0 and 100") }
        guard cpus >= 1 else { throw file.problem(key: "cpus", "must be at least 1") }
        guard leases || !ha else { throw file.problem(key: "ha", "needs leases: without them nothing keeps a second run from its disks") }
    }

    private static func absolute(_ source: String, from definition: String) -> String {
        source.hasPrefix("/") ? source : URL(fileURLWithPath: definition).deletingLastPathComponent().appendingPathComponent(source).standardizedFileURL.path
    }
}

extension HostDefinition {
    /// Reads a host definition:
    ///
    ///     name: host1
    ///     id: 1                   # its id in every lockspace, 1-2000
    ///     endpoints:
    ///       agentRequests: tcp://10.77.0.1:7301
    ///       agentEvents: tcp://10.77.0.1:7302
    ///       leaseRequests: tcp://10.77.0.1:7303
    ///       leaseEvents: tcp://10.77.0.1:7304
    ///     key: "..."              # CURVE public key (Z85) of agent and lease-service
    ///     signingKey: "..."       # Ed25519 public key (hexadecimal)
    ///     spmPriority: 5          # -1 (never) ... 10
    ///     watchdog: false
    ///     kdump: [10.77.0.1]      # its crash kernel runs fence_kdump_send, from these addresses; []: from that of agentRequests
    ///     powerSaving: true       # false: never powered down to save power
    ///     fence:
    ///       - agent: fence_ipmilan
    ///         address: 10.77.1.1
    ///         username: admin
    ///         secretFile: /etc/bulwark/host1.secret   # password, mode 0600
    ///         options: {lanplus: "1"}
    ///         level: 1
    ///         vouched: false      # true: you know that this device powers this host
    ///         via: manager        # hosts: other hosts run the agent, the secret file lies on each of them
    ///         delay: 5s           # before the first off of a case, in which the host may still be heard
    ///
    /// - Throws: `RequestError` that names file, line and key.
    init(file path: String) throws {
        let file = try DefinitionFile(
            path: path, kind: "host", keys: ["name", "id", "endpoints", "key", "signingKey", "spmPriority", "watchdog", "powerSaving", "kdump", "fence"])
        let endpoints = try file.section("endpoints", kind: "host's endpoints", keys: ["agentRequests", "agentEvents", "leaseRequests", "leaseEvents"])
        let devices = try file.sections(
            "fence", kind: "fence device", keys: ["agent", "address", "username", "secretFile", "options", "level", "vouched", "via", "delay"]
        ).map { device in
            FenceDevice(
                agent: try device.string("agent"), address: try device.string("address"), username: try device.optionalString("username"),
                secretFile: try device.optionalString("secretFile"), options: try device.texts("options"), level: try device.optionalInt("level"),
                vouched: try device.optionalBool("vouched"), via: try device.optionalChoice("via"), delay: try device.optionalDuration("delay"))
        }
        self.init(
            name: try file.string("name"), id: try file.int("id"),
            endpoints: HostEndpoints(
                agentRequests: try endpoints.string("agentRequests"), agentEvents: try endpoints.string("agentEvents"),
                leaseRequests: try endpoints.string("leaseRequests"), leaseEvents: try endpoints.string("leaseEvents")),
            key: try file.optionalString("key"), signingKey: try file.optionalString("signingKey"), spmPriority: try file.optionalInt("spmPriority"),
            watchdog: try file.optionalBool("watchdog"), powerSaving: try file.optionalBool("powerSaving"), fence: devices, kdump: file.has("kdump") ? try file.strings("kdump") : nil)
        guard (1...2000).contains(id) else { throw file.problem(key: "id", "must be between 1 and 2000") }
        guard (-1...10).contains(spmPriority ?? 5) else { throw file.problem(key: "spmPriority", "must be between -1 and 10") }
    }
}
