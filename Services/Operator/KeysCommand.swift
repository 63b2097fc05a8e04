import ArgumentParser
import Bus
import Messages
import ServiceKit

/// Keys of the processes that may talk to a cluster.
struct KeysCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Keys of the processes that may talk to the cluster.", subcommands: [New.self, Show.self])

    struct New: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a key pair and let it in.",
            discussion: "Services read the allow-list when they start. The file with the secrets has mode 0600 and belongs on the machine that uses it.")

        @Argument(help: "Name of the key: a host, a service, a person.") var name: String
        @Option(help: "service, agent, operator or observer.") var role: String = Role.observer.rawValue
        @Option(help: "For agents: the host that the key stands for (default: the name).") var host: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            guard let role = Role(rawValue: role) else {
                throw ValidationError("role must be one of \(Role.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            guard !name.isEmpty, !name.contains("/") else { throw ValidationError("a key's name is a file name") }
            let keys = KeyStore(file: try options.clusterFile())
            guard try keys.ensure(name, role: role, host: role == .agent ? host ?? name : nil) else {
                throw RequestError(RequestErrorCode.exists, "there is a key \(name) already: \(keys.file.keyPath(name))")
            }
            try Show.show([try KeyFile.load(keys.file.keyPath(name)).entry], options)
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Public keys of those who are let in.")

        @Argument(help: "Only this key.") var name: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let entries = try KeyStore(file: try options.clusterFile()).allowList().entries.filter { name == nil || $0.name == name }
            guard name == nil || !entries.isEmpty else { throw RequestError(RequestErrorCode.notFound, "no key \(name ?? "") is let in") }
            try Self.show(entries, options)
        }

        static func show(_ entries: [AllowList.Entry], _ options: GlobalOptions) throws {
            try options.show(try JSONValue(encoding: entries)) {
                var table = Table("NAME", "ROLE", "HOST", "KEY", "SIGNING KEY")
                for entry in entries { table.add(entry.name, entry.role.rawValue, entry.host ?? "-", entry.curve, entry.signing) }
                return table.text(empty: "no keys yet")
            }
        }
    }
}
