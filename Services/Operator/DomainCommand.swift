import ArgumentParser
import Bus
import Foundation
import Messages
import ServiceKit

/// `bulwark domain`: storage domains.
struct DomainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "domain", abstract: "Storage domains: list, show, create, activate, maintain.",
        subcommands: [List.self, Show.self, Create.self, Activate.self, Maintenance.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All storage domains.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.domains, "domain.list")
            try options.show(reply["domains"] ?? .array([])) { DomainCommand.table(try reply.decoded(as: DomainList.self).domains) }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "One domain and how each host sees it.")
        @Argument(help: "Name or uuid.") var domain: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.domains, "domain.show", DomainRequest(domain: domain))
            try options.show(reply) {
                let view = try reply.decoded(as: DomainView.self)
                var table = Table("HOST", "SEEN", "JOINED", "DETAIL")
                for host in view.hosts.sorted(by: { naturally($0.host, $1.host) }) {
                    table.add(host.host, host.ok.map { $0 ? "ok" : "failing" } ?? "unknown", host.joined ? "yes" : "no", host.detail)
                }
                return "\(view.name) \(view.status.rawValue): \(view.reason)\nuuid \(view.domain)\npath \(view.path)\n\n\(table.text(empty: "no host reports it yet"))"
            }
        }
    }

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a new file domain in <directory>/<uuid>.",
            discussion: "NAME may be a YAML file instead, with name, directory, uuid and ioTimeout. The same uuid and directory again is success.")
        @Argument(help: "Name, or a definition (YAML).") var name: String
        @Option(help: "Directory that every host sees under the same path (default: the cluster's shared directory).") var directory: String?
        @Option(help: "Its uuid (default: a new one).") var uuid: String?
        @Option(help: "Seconds within which its storage answers; sanlock's io_timeout.") var ioTimeout: Int?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            let request = try definition(shared: cluster.file.shared)
            let reply = try cluster.command(.domains, "domain.create", request, timeout: .seconds(120))
            try options.show(reply) { "domain \(request.name) (\(request.domain)) is in \(request.directory)/\(request.domain)" }
        }

        private func definition(shared: String?) throws -> DomainCreate {
            guard name.hasSuffix(".yaml") || name.hasSuffix(".yml") else {
                return DomainCreate(
                    name: name, domain: (uuid ?? UUID().uuidString).lowercased(), directory: try place(directory ?? shared), ioTimeout: ioTimeout ?? 10)
            }
            let file = try DefinitionFile(path: name, kind: "domain", keys: ["name", "directory", "uuid", "ioTimeout"])
            return DomainCreate(
                name: try file.string("name"), domain: (try uuid ?? file.optionalString("uuid") ?? UUID().uuidString).lowercased(),
                directory: try place(try directory ?? file.optionalString("directory") ?? shared), ioTimeout: try ioTimeout ?? file.optionalInt("ioTimeout") ?? 10)
        }

        private func place(_ directory: String?) throws -> String {
            guard let directory else { throw ValidationError("this cluster has no shared directory of its own: say --directory") }
            return directory
        }
    }

    struct Activate: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Bring a domain back into service.")
        @Argument(help: "Name or uuid.") var domain: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().command(.domains, "domain.activate", DomainRequest(domain: domain))
            try options.show(reply) { "\(domain) \(reply["status"]?.string ?? "is being activated")" }
        }
    }

    struct Maintenance: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take a domain out of service.")
        @Argument(help: "Name or uuid.") var domain: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().command(.domains, "domain.maintenance", DomainRequest(domain: domain))
            try options.show(reply) { "\(domain) \(reply["status"]?.string ?? "goes to maintenance")" }
        }
    }

    static func table(_ domains: [DomainView]) -> String {
        var table = Table("NAME", "STATUS", "JOINED BY", "PATH", "WHY")
        for domain in domains.sorted(by: { ($0.name, $0.domain) < ($1.name, $1.domain) }) {
            let joined = domain.hosts.filter(\.joined).map(\.host).sorted(by: naturally)
            table.add(domain.name, domain.status.rawValue, joined.isEmpty ? "-" : joined.joined(separator: ","), domain.path, domain.reason)
        }
        return table.text(empty: "no storage domains yet; `bulwark domain create NAME` makes one")
    }
}

/// Uuids of storage domains by name, asked for once and only if a name is used.
struct DomainNames {
    let cluster: Cluster
    private var known: [DomainView]?

    init(cluster: Cluster) { self.cluster = cluster }

    /// - Throws: `RequestError` `domain.not-found`.
    mutating func uuid(of nameOrID: String) throws -> String {
        if UUID(uuidString: nameOrID) != nil { return nameOrID.lowercased() }
        let domains = try known ?? cluster.ask(.domains, "domain.list").decoded(as: DomainList.self).domains
        known = domains
        let found = domains.filter { $0.name == nameOrID }
        guard let one = found.first, found.count == 1 else {
            let what = found.isEmpty ? "there is no storage domain \(nameOrID)" : "several storage domains are named \(nameOrID): use a uuid"
            throw RequestError(DomainErrorCode.notFound, "\(what); domains are \(domains.map { "\($0.name) (\($0.domain))" }.joined(separator: ", "))")
        }
        return one.domain
    }

    /// The name of a domain if it is known, else its uuid.
    mutating func name(of uuid: String) -> String { listed.first { $0.domain == uuid }?.name ?? uuid }

    /// The text with known domains' uuids replaced by their names, for people.
    mutating func readable(_ text: String) -> String {
        listed.reduce(text) { text, domain in domain.name.isEmpty ? text : text.replacingOccurrences(of: domain.domain, with: domain.name) }
    }

    /// What is known without an error: names only make things easier to read.
    private var listed: [DomainView] {
        mutating get {
            if let known { return known }
            let answer = (try? cluster.ask(.domains, "domain.list", timeout: .seconds(2)).decoded(as: DomainList.self).domains) ?? []
            known = answer
            return answer
        }
    }
}
