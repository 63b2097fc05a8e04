import ArgumentParser
import Bus
import Messages

/// `bulwark pool`: the storage pool.
struct PoolCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "pool", abstract: "Storage pools: show, create.", subcommands: [Show.self, Create.self])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "A pool: its SPM, master domain and status.")
        @Argument(help: "Pool; the only one if left out.") var pool: String?
        @OptionGroup var options: GlobalOptions

        func run() throws { try PoolCommand.show(try options.connect().ask(.spm, "pool.show", PoolRequest(pool: pool)), options) }
    }

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a pool on a master domain.", discussion: "POOL may be a YAML file instead, with name and master.")
        @Argument(help: "Name, or a definition (YAML).") var pool: String
        @Option(help: "Master domain: name or uuid.") var master: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            var name = pool
            var domain = master
            if pool.hasSuffix(".yaml") || pool.hasSuffix(".yml") {
                let file = try DefinitionFile(path: pool, kind: "pool", keys: ["name", "master"])
                name = try file.string("name")
                domain = try master ?? file.string("master")
            }
            guard let domain else { throw ValidationError("say which domain is its --master") }
            let cluster = try options.connect()
            var names = DomainNames(cluster: cluster)
            let request = PoolCreate(pool: name, master: try names.uuid(of: domain))
            let reply = try cluster.command(.spm, "pool.create", request, timeout: .seconds(120))
            try options.show(reply) { (try? reply.decoded(as: PoolView.self)).map(PoolCommand.words) ?? "pool \(name) created on \(domain)" }
        }
    }

    static func show(_ reply: JSONValue, _ options: GlobalOptions) throws {
        let pool = reply.adding(["name": reply["pool"] ?? .null])
        try options.show(pool) { PoolCommand.words(try reply.decoded(as: PoolView.self)) }
    }

    /// One line: status, SPM, why.
    static func words(_ pool: PoolView) -> String {
        let role = pool.spm.map { "SPM \($0) (incarnation \(pool.incarnation?.description ?? "?"), term \(pool.term), lver \(pool.lver))" } ?? "no SPM"
        return "\(pool.pool) \(pool.status.rawValue), \(role): \(pool.reason)"
    }
}

/// `bulwark spm`: the storage pool manager's role.
struct SPMCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "spm", abstract: "The SPM role: show, select, move.", subcommands: [Show.self, Select.self, Move.self])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Who is SPM, or what the election waits for.")
        @Argument(help: "Pool; the only one if left out.") var pool: String?
        @OptionGroup var options: GlobalOptions

        func run() throws { try PoolCommand.show(try options.connect().ask(.spm, "pool.show", PoolRequest(pool: pool)), options) }
    }

    struct Select: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a host SPM if there is none.")
        @Argument(help: "Host.") var host: String
        @Option(help: "Pool; the only one if left out.") var pool: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            try PoolCommand.show(try options.connect().command(.spm, "spm.select", PoolRequest(pool: pool, host: host), timeout: .seconds(120)), options)
        }
    }

    struct Move: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Release the role and have it elected anew, on a host or on the best one.")
        @Argument(help: "Host; the best if left out.") var host: String?
        @Option(help: "Pool; the only one if left out.") var pool: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            try PoolCommand.show(try options.connect().command(.spm, "spm.move", PoolRequest(pool: pool, host: host), timeout: .seconds(120)), options)
        }
    }
}

/// `bulwark task`: storage tasks of the SPM.
struct TaskCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "task", abstract: "Storage tasks: list, show.", subcommands: [List.self, Show.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All storage tasks.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.spm, "task.list")
            try options.show((reply["tasks"] ?? .array([])).naming(by: "task")) {
                var table = Table("TASK", "STATUS", "WORK", "DETAIL")
                for task in try reply.decoded(as: TaskList.self).tasks {
                    table.add(task.task, task.status.rawValue, TaskCommand.words(task.work), task.detail)
                }
                return table.text(empty: "no storage tasks")
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "One storage task.")
        @Argument(help: "Task.") var task: String
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let reply = try options.connect().ask(.spm, "task.show", TaskRequest(task: task))
            try options.show(reply.adding(["name": reply["task"] ?? .null])) { reply.outline() }
        }
    }

    static func words(_ work: TaskWork) -> String {
        switch work {
        case .volumeCreate(let domain, let image, let size, _): "create volume \(image) of \(size) bytes in \(domain)"
        case .leaseCreate(let lease): "create lease \(lease.resource) in \(lease.lockspace)"
        }
    }
}
