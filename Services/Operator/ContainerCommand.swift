import ArgumentParser
import Foundation
import Messages
import ServiceKit

/// What `bulwark up` does around the processes of a local cluster, for a container engine that runs them by `compose/compose.yaml`.
struct ContainerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "container", abstract: "The parts of `up` that containers need (compose/compose.yaml calls them).", subcommands: [MakeFiles.self, MakeCluster.self])

    struct MakeFiles: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "files", abstract: "Make what is missing of a cluster's files: keys, configuration, BMCs.")

        @Option(help: "Number of hosts that are containers too; 0 if they are other machines.") var hosts = 3
        @OptionGroup var options: GlobalOptions

        func validate() throws {
            guard (0...200).contains(hosts) else { throw ValidationError("--hosts must be between 0 and 200") }
        }

        func run() throws {
            let instance = try ContainerCommand.instance(options, hosts: hosts)
            try instance.save()
            _ = try InstanceFiles(instance: instance, overrides: [:]).make()
            try options.show(.object(["cluster": .string(instance.name)])) { "the files of \(instance.name) are in \(instance.file.state)" }
        }
    }

    struct MakeCluster: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cluster", abstract: "Register the hosts, make storage and VMs as far as they are missing, and wait until all is Up.")

        @Option(help: "Number of VMs to make.") var vms = 4
        @Option(help: "Give up when a step takes longer than so many seconds.") var patience = 300.0
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let instance = try Instance.load(options)
            let starter = ClusterStarter(instance: instance, progress: Progress(quiet: options.json), patience: patience)
            try starter.registerHosts()
            try starter.makeStorage()
            try starter.makeVMs(vms)
            try starter.awaitUp()
        }
    }

    /// The instance as it is, or as it shall be: all of it is reached by the same paths in every container.
    private static func instance(_ options: GlobalOptions, hosts: Int) throws -> Instance {
        let state = (options.clusterFilePath as NSString).deletingLastPathComponent
        let layout = Instance.layout(name: (state as NSString).lastPathComponent, stateRoot: (state as NSString).deletingLastPathComponent)
        let executables = (URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path as NSString).deletingLastPathComponent
        let sources = try UpCommand.sources(near: [executables])
        let known = FileManager.default.contents(atPath: "\(state)/lab.json").flatMap { try? JSONDecoder().decode(Instance.Settings.self, from: $0) }
        return Instance(
            file: layout,
            settings: Instance.Settings(
                hosts: hosts, executables: executables, compose: "\(sources)/compose.yaml", lab: "\(sources)/lab",
                domain: known?.domain ?? UUID().uuidString.lowercased(), inContainers: true))
    }
}
