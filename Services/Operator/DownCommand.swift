import ArgumentParser
import Bus
import CLinux
import Foundation
import Messages
import ServiceKit

/// Stops a local cluster and removes what it has on this machine; also what a crash left of it.
struct DownCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down", abstract: "Stop a local cluster: services, hosts, VMs, networks. Its state stays.")

    @Option(help: "The cluster's name (default: the one --cluster names).") var name: String?
    @Option(help: "State lives in <state-root>/<name>.") var stateRoot = "/var/lib/bulwark"
    @Flag(help: "Remove its state, too: journals, keys, disks.") var purge = false
    @OptionGroup var options: GlobalOptions

    func run() throws {
        let progress = Progress(quiet: options.json)
        var instance = try found()
        // Hosts that the settings do not know, from an interrupted `up`.
        let groups = try "\(Instance.controlGroups())/bulwark-\(instance.name)"
        let numbers = ((try? FileManager.default.contentsOfDirectory(atPath: groups)) ?? []).compactMap { $0.hasPrefix("host") ? Int($0.dropFirst(4)) : nil }
        instance.settings.hosts = max(instance.settings.hosts, numbers.max() ?? 0)

        if let supervisor = ProcessRecord(file: instance.pidFile(Supervisor.process)) {
            progress.step("manager services and BMCs stop")
            supervisor.signal(SIGTERM)
            if !supervisor.awaitEnd(seconds: 20) { supervisor.signal(SIGKILL) }
        }
        try stopHosts(instance, progress)
        for host in instance.hosts { ProcessRecord(file: instance.pidFile(host.bmcProcess))?.signal(SIGKILL) }
        try LabNetwork(instance: instance).remove(namespaces: [instance.managerNamespace] + instance.hosts.map(\.namespace))
        for host in instance.hosts { rmdir(try host.controlGroup()) }
        rmdir(groups)
        try Files.remove(instance.file.run)
        if purge { try Files.remove(instance.file.state) }
        progress.step("\(instance.name) is down" + (purge ? " and its state is removed" : "; its state stays in \(instance.file.state)"))
        try options.show(.object(["cluster": .string(instance.name), "status": .string("down")])) { "" }
    }

    /// In order first; what does not end is killed.
    private func stopHosts(_ instance: Instance, _ progress: Progress) throws {
        let powered = try instance.hosts.filter { try $0.isPowered() }
        guard !powered.isEmpty else { return }
        progress.step("\(powered.map(\.name).joined(separator: ", ")): shut down")
        for host in powered {
            try host.freeze(false)
            if !purge { try host.shutDown() }
        }
        if !purge { _ = try waitUntil(seconds: 10) { try powered.allSatisfy { try !$0.isPowered() } } }
        for host in powered { try host.losePower() }
    }

    /// The instance, as far as it is known.
    private func found() throws -> Instance {
        let file: ClusterFile
        if let name {
            let path = "\(stateRoot)/\(name)/cluster.yaml"
            file = Files.exists(path) ? try ClusterFile.load(path) : Instance.layout(name: name, stateRoot: stateRoot)
        } else {
            let path = options.clusterFilePath
            let state = (path as NSString).deletingLastPathComponent
            file = Files.exists(path)
                ? try options.clusterFile()
                : Instance.layout(name: (state as NSString).lastPathComponent, stateRoot: (state as NSString).deletingLastPathComponent)
        }
        if let data = FileManager.default.contents(atPath: "\(file.state)/lab.json"), let settings = try? JSONDecoder().decode(Instance.Settings.self, from: data) {
            return Instance(file: file, settings: settings)
        }
        return Instance(file: file, settings: Instance.Settings(hosts: 0, executables: "", compose: "", lab: "", domain: ""))
    }
}
