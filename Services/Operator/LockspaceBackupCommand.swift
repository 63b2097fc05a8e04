import ArgumentParser
import Bus
import Foundation
import Messages

extension LockspaceCommand {
    struct Backup: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the used sectors of a lockspace to a checksummed file, beside whatever runs there.",
            discussion: "Configure lease.backup.every to have this done on schedule; `bulwark lockspace restore` writes one back.")
        @Argument(help: "Domain: name or uuid.") var lockspace: String
        @Option(help: "File on the host that reads (default: in its lease.backup.directory).") var file: String?
        @Option(help: "The host that reads (default: the first that answers).") var host: String?
        @OptionGroup var reason: Reason
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let keeper = try LockspaceKeeper(lockspace, reason, options)
            let host = try keeper.writer(host)
            let order = LockspaceBackup(lockspace: keeper.domain.domain, path: keeper.domain.path, file: file.map { URL(fileURLWithPath: $0).path })
            let view = try keeper.cluster.call(keeper.cluster.leaseService(of: host), "lockspace.backup", order, timeout: .seconds(300)).decoded(as: LockspaceBackupView.self)
            try options.show(try JSONValue(encoding: view)) {
                (["\(keeper.domain.name): \(view.leases) leases, \(view.bytes) bytes in \(host):\(view.file), read back and verified"] + view.unreadable.map { "not readable, kept as it is: \($0)" })
                    .joined(separator: "\n")
            }
        }
    }
}
