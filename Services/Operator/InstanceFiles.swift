import Bus
import Foundation
import Messages
import ServiceKit
import Yams

/// Makes the files of an instance. What is there already is kept: an operator's changes survive every `up`.
struct InstanceFiles {
    let instance: Instance
    /// Service to `section.key` to value, from `--config-override`.
    let overrides: [String: [String: String]]

    /// What had to be made or changed.
    struct Changes {
        var keys = false
        /// Services with new configuration.
        var configuration: [String] = []
    }

    func make() throws -> Changes {
        var changes = Changes()
        for directory in [instance.shared, instance.configuration, instance.logs, instance.labRun, "\(instance.file.run)/hold"] { try Files.directory(directory) }
        try Files.write(YAMLEncoder().encode(instance.file), to: instance.clusterFile)
        changes.keys = try makeKeys()
        for service in ClusterFile.managerServices where try configure(service, to: "\(instance.configuration)/\(service).yaml", instance.variables) {
            changes.configuration.append(service)
        }
        for host in instance.hosts {
            try host.prepare()
            for service in Chassis.services where try configure(service, to: "\(host.state)/config/\(service).yaml", host.variables) {
                changes.configuration.append("\(host.name)/\(service)")
            }
        }
        if !Files.exists(instance.guestDisk) {
            if let ready = FileManager.default.contents(atPath: "\(instance.settings.executables)/guest.img") {
                try Files.write(ready, to: instance.guestDisk)
            } else {
                try Tool.run("\(instance.settings.lab)/build-guest", [instance.guestDisk])
            }
        }
        return changes
    }

    /// One key for each manager service, one for each host (its agent and lease-service share it), one for the operator; all in the allow-list.
    /// - Returns: whether any was made.
    private func makeKeys() throws -> Bool {
        let keys = KeyStore(file: instance.file)
        var made = false
        for service in ClusterFile.managerServices { made = try keys.ensure(service, role: .service, host: nil) || made }
        for host in instance.hosts { made = try keys.ensure(host.name, role: .agent, host: host.name) || made }
        return try keys.ensure("operator", role: .operator_, host: nil) || made
    }

    /// Fills a template of `compose/config`; a file that exists is only changed where an override says so.
    private func configure(_ service: String, to path: String, _ variables: [String: String]) throws -> Bool {
        let wanted = overrides[service] ?? [:]
        let template = "\((instance.settings.lab as NSString).deletingLastPathComponent)/config/\(service).yaml"
        let existing = try? String(contentsOfFile: path, encoding: .utf8)
        if existing != nil, wanted.isEmpty { return false }
        guard let source = try existing ?? Template.fill(String(contentsOfFile: template, encoding: .utf8), variables) as String? else { return false }
        guard !wanted.isEmpty else { return try Files.write(source, to: path) }
        var tree = try Yams.load(yaml: source) as? [String: Any] ?? [:]
        let before = try Yams.dump(object: tree, sortKeys: true)
        for (key, value) in wanted.sorted(by: { $0.key < $1.key }) {
            let parts = key.split(separator: ".", maxSplits: 1).map(String.init)
            guard parts.count == 2 else {
                tree[key] = value
                continue
            }
            var section = tree[parts[0]] as? [String: Any] ?? [:]
            section[parts[1]] = value
            tree[parts[0]] = section
        }
        let after = try Yams.dump(object: tree, sortKeys: true)
        return existing != nil && before == after ? false : try Files.write(after, to: path)
    }
}

extension Instance {
    /// What compose file and templates may use.
    var variables: [String: String] {
        ["BULWARK_CLUSTER": clusterFile, "BULWARK_CONFIG": configuration, "BULWARK_NAME": name, "MANAGER_INTERFACE": settings.inContainers == true ? "eth0" : LabNetwork.managerInterface]
    }
}

extension Chassis {
    /// What the templates of a host's services may use.
    var variables: [String: String] {
        let own = [
            "HOST": name, "HOST_ID": String(number), "HOST_ADDRESS": address, "HOST_STATE": state, "HOST_RUN": run, "HOST_HARDWARE_ID": hardwareIDFile,
        ]
        return instance.variables.merging(own) { $1 }
    }

    /// This host as it is registered.
    func definition() throws -> HostDefinition {
        let key = try KeyFile.load(instance.file.keyPath(name))
        return HostDefinition(
            name: name, id: number,
            endpoints: HostEndpoints(
                agentRequests: "tcp://\(address):7301", agentEvents: "tcp://\(address):7302", leaseRequests: "tcp://\(address):7303",
                leaseEvents: "tcp://\(address):7304"),
            key: key.curvePublic, signingKey: key.signingPublic,
            fence: [
                FenceDevice(
                    agent: "fence_ipmilan", address: bmcAddress, username: Self.bmcUser, secretFile: secretFile,
                    options: ["lanplus": "1", "cipher": "3", "power_wait": "0"], level: 1)
            ])
    }
}
