import ArgumentParser
import Bus
import Foundation
import Messages
import ServiceKit

/// What `bulwark up` does around the processes of a local cluster, for a container engine that runs them by `compose/compose.yaml`.
struct ContainerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "container", abstract: "The parts of `up` that containers need (compose/compose.yaml calls them).", subcommands: [MakeFiles.self, MakeCluster.self, EnrolHost.self])

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

    struct EnrolHost: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "host", abstract: "Make the files of a host that is another machine.",
            discussion: """
                The directory gets what that machine needs in its state directory (its keys, the allow-list, its configuration), and NAME.yaml for `bulwark host add`, \
                which lacks only the fence device. Manager services let the host in from their next start on.
                """)

        @Argument(help: "The host's name.") var name: String
        @Option(help: "Its id in every lockspace, 1...2000; never another host's, now or later.") var id: Int
        @Option(help: "The address at which the manager reaches it.") var address: String
        @Option(help: "The directory to make.") var to: String
        @OptionGroup var options: GlobalOptions

        func validate() throws {
            guard (1...2000).contains(id) else { throw ValidationError("--id must be between 1 and 2000") }
            guard name.wholeMatch(of: #/[a-z0-9]([a-z0-9-]*[a-z0-9])?/#) != nil else { throw ValidationError("a host's name has lower-case letters, digits and dashes") }
        }

        func run() throws {
            let instance = try Instance.load(options)
            let keys = KeyStore(file: instance.file)
            guard try keys.ensure(name, role: .agent, host: name) else {
                throw RequestError(RequestErrorCode.exists, "there is a key \(name) already: \(instance.file.keyPath(name))")
            }
            let key = try KeyFile.load(instance.file.keyPath(name))
            let state = "\(instance.file.state)/\(name)"
            let variables = [
                "HOST": name, "HOST_ID": String(id), "HOST_ADDRESS": address, "HOST_STATE": state, "HOST_RUN": "\(instance.file.run)/\(name)",
                "HOST_HARDWARE_ID": "/sys/class/dmi/id/product_uuid",
            ]
            for service in Chassis.services {
                let template = try String(contentsOfFile: "\((instance.settings.lab as NSString).deletingLastPathComponent)/config/\(service).yaml", encoding: .utf8)
                try Files.write(try Template.fill(template, variables), to: "\(to)/\(name)/config/\(service).yaml")
            }
            try FileManager.default.createDirectory(atPath: "\(to)/keys", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            try key.save("\(to)/keys/\(name).json")
            try keys.allowList().save("\(to)/keys/authorized.json")
            try FileManager.default.copyItem(atPath: instance.clusterFile, toPath: "\(to)/cluster.yaml")
            try Files.write(
                """
                name: \(name)
                id: \(id)
                endpoints:
                  agentRequests: tcp://\(address):7301
                  agentEvents: tcp://\(address):7302
                  leaseRequests: tcp://\(address):7303
                  leaseEvents: tcp://\(address):7304
                key: "\(key.curvePublic)"
                signingKey: "\(key.signingPublic)"
                # fence: see compose/definitions/host.yaml

                """, to: "\(to)/\(name).yaml")
            try options.show(.object(["host": .string(name), "directory": .string(to)])) { "the files of \(name) are in \(to)" }
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
