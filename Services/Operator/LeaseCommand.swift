import ArgumentParser
import Bus
import Messages

/// `bulwark lease`: who holds which disk.
struct LeaseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lease", abstract: "Leases on storage: list, show, create, remove, rebuild, request, and volumes of leases without a service.",
        discussion: "With --path the verbs read or write a volume directly, without any service; they write only what no host uses.",
        subcommands: [List.self, Show.self, Create.self, Remove.self, Rebuild.self, Request.self, Dump.self, Init.self, Index.self, Rindex.self, Void.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All leases with their owners, as the sectors say.")
        @Argument(help: "Domain: name or uuid; all if left out.") var domain: String?
        @Option(help: "Ask only this host's lease-service.") var host: String?
        @Option(help: "Ask no service: read this xleases volume.") var path: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            if let path { return try VolumeLeases(path: path).list(options) }
            let (leases, problems) = try LeaseCommand.read(domain: domain, host: host, options)
            let unusable = try problems.map { problem in
                try JSONValue(encoding: problem).adding(["name": .string(problem.resource ?? ""), "status": .string(problem.state.rawValue)])
            }
            try options.show(.array(leases.map(\.json) + unusable)) {
                var table = Table("LEASE", "STATUS", "OWNER", "GENERATION", "LVER", "HOLDER", "PLACE")
                for (_, lease) in leases {
                    table.add(
                        lease.lease.resource, lease.status.rawValue, LeaseCommand.owner(lease), lease.ownerGeneration.map(String.init) ?? "-",
                        String(lease.lver), lease.holder ?? "-", "\(lease.path):\(lease.offset)")
                }
                for problem in problems { table.add(problem.resource ?? "?", problem.state.rawValue, "-", "-", "-", "-", "\(problem.path):\(problem.offset) \(problem.reason)") }
                return table.text(empty: "no leases")
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "One lease, as its sectors say.")
        @Argument(help: "Resource: the disk's image uuid, or SDM.") var resource: String
        @Option(help: "Domain, if several have such a lease: name or uuid.") var domain: String?
        @Option(help: "Ask only this host's lease-service.") var host: String?
        @Option(help: "Ask no service: read this xleases volume.") var path: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            if let path { return try VolumeLeases(path: path).show(resource, options) }
            let found = try LeaseCommand.read(domain: domain, host: host, options).leases.filter { $0.lease.lease.resource == resource }
            guard let (json, lease) = found.first else { throw RequestError(LeaseErrorCode.notFound, "there is no lease \(resource) in any joined lockspace") }
            guard found.count == 1 else {
                let domains = found.map(\.lease.lease.lockspace).joined(separator: ", ")
                throw RequestError(RequestErrorCode.invalid, "several domains have a lease \(resource): name one of \(domains) with --domain")
            }
            try options.show(json) { json.outline() + (lease.status == .free ? "" : "\nheld by \(LeaseCommand.owner(lease))") }
        }
    }

    static func owner(_ lease: LeaseView) -> String {
        guard lease.status != .free, let id = lease.ownerID else { return "-" }
        return "host \(id)" + (lease.ownerName.map { ", \($0)" } ?? "")
    }

    /// The leases that any of the asked hosts sees; the holder is known to the host that holds.
    private static func read(domain: String?, host: String?, _ options: GlobalOptions) throws -> (leases: [(json: JSONValue, lease: LeaseView)], problems: [LeaseProblem]) {
        let cluster = try options.connect()
        var names = DomainNames(cluster: cluster)
        let lockspace = try domain.map { try names.uuid(of: $0) }
        var found: [LeaseName: (json: JSONValue, lease: LeaseView)] = [:]
        var problems: [LeaseProblem] = []
        for witness in try LeaseWitness.all(host, in: cluster) {
            let reply = try cluster.ask(witness.process, "lease.list", LockspaceRequest(lockspace: lockspace), timeout: .seconds(30))
            for json in reply["leases"]?.elements ?? [] {
                let lease = try json.decoded(as: LeaseView.self)
                if let known = found[lease.lease], known.lease.holder != nil || lease.holder == nil { continue }
                found[lease.lease] = (json.adding(["name": .string(lease.lease.resource)]), lease)
            }
            for json in reply["problems"]?.elements ?? [] {
                let problem = try json.decoded(as: LeaseProblem.self)
                if !problems.contains(where: { $0.path == problem.path && $0.offset == problem.offset }) { problems.append(problem) }
            }
        }
        return (found.values.sorted { $0.lease.lease < $1.lease.lease }, problems)
    }
}
