import ArgumentParser
import Bus
import LeaseFormat
import Messages
import ServiceKit

/// A host's own view of storage: asked of its lease-service, which needs no manager.
struct LeaseWitness {
    let host: String
    let process: ProcessEndpoints

    /// The named host, or every local host whose lease-service answers.
    /// - Throws: `RequestError` `service.silent` if none does.
    static func all(_ host: String?, in cluster: Cluster) throws -> [LeaseWitness] {
        let hosts = host.map { [$0] } ?? cluster.localHosts
        let answering = concurrently(hosts.map { LeaseWitness(host: $0, process: cluster.leaseService(of: $0)) }) { witness in
            (try? cluster.ask(witness.process, "ping", timeout: .seconds(2))) == nil ? nil : witness
        }.compactMap { $0 }
        guard !answering.isEmpty else {
            let asked = hosts.isEmpty ? "any host (none has a run directory in \(cluster.file.run))" : hosts.joined(separator: ", ")
            throw OperatorError.serviceSilent.error("no lease-service answers of \(asked)")
        }
        return answering
    }
}

/// `bulwark lockspace`: host ids on shared storage.
struct LockspaceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "lockspace", abstract: "Lockspaces: host ids on shared storage.", subcommands: [Inspect.self, Notify.self, Init.self, Dump.self, Drain.self, Backup.self, Restore.self, Reinitialize.self])

    struct Inspect: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The used slots of lockspaces, freshly read from storage.",
            discussion: "All lockspaces if none is named; each as the first host that joined it sees it, or as --host does.")
        @Argument(help: "Domain: name or uuid; all if left out.") var lockspace: String?
        @Option(help: "Ask this host's lease-service.") var host: String?
        @Option(help: "Ask no service: read this file (FILE[:OFFSET]).") var path: VolumePlace?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            if let path { return try VolumeDump(path, only: .delta).show(options, all: false) }
            let cluster = try options.connect()
            var names = DomainNames(cluster: cluster)
            let wanted = try lockspace.map { try names.uuid(of: $0) }
            var found: [(host: String, view: JSONValue, lockspace: LockspaceView)] = []
            for witness in try LeaseWitness.all(host, in: cluster) {
                let reply = try cluster.ask(witness.process, "lockspace.inspect", LockspaceRequest(lockspace: wanted), timeout: .seconds(30))
                for view in reply["lockspaces"]?.elements ?? [] {
                    let decoded = try view.decoded(as: LockspaceView.self)
                    if !found.contains(where: { $0.lockspace.lockspace == decoded.lockspace }) { found.append((witness.host, view, decoded)) }
                }
            }
            found.sort { $0.lockspace.lockspace < $1.lockspace.lockspace }
            if options.json {
                let array = found.map { entry in
                    entry.view.adding([
                        "name": entry.view["lockspace"] ?? .null, "status": entry.view["state"] ?? .null, "seenFrom": .string(entry.host),
                        "domain": .string(names.name(of: entry.lockspace.lockspace)),
                    ])
                }
                return print(JSONValue.array(array).text)
            }
            if found.isEmpty { return print("no lockspace is joined") }
            let sections = found.map { entry in
                "\(names.name(of: entry.lockspace.lockspace)) (\(entry.lockspace.lockspace)) as \(entry.host) reads it: \(entry.lockspace.state.rawValue)\n"
                    + Self.table(entry.lockspace)
            }
            print(sections.joined(separator: "\n\n"))
        }

        private static func table(_ view: LockspaceView) -> String {
            var table = Table("HOST ID", "NAME", "STATE", "GENERATION", "TIMESTAMP", "IO TIMEOUT", "LAST CHANGE")
            for host in view.hosts.sorted(by: { $0.hostID < $1.hostID }) {
                table.add(
                    String(host.hostID), host.name, host.state.rawValue, String(host.generation), String(host.timestamp), "\(host.ioTimeout) s",
                    host.lastChange.map { "\($0.milliseconds) ms ago" } ?? "not seen")
            }
            return ([table.text(empty: "no slot is used")] + (view.anomalies ?? []).map { "\($0.kind.rawValue): \($0.what); \($0.advice)" }).joined(separator: "\n")
        }
    }
}
