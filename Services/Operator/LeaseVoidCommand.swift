import ArgumentParser
import Bus
import Messages

extension LeaseCommand {
    struct Void: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Free the host id of a foreign sanlock host that is gone, and with it every lease it held in one domain.",
            discussion: """
                For daemons that no service here watches or fences: a registered host's leases are opened by a proof, see `bulwark host confirm-off`.
                Says first which leases it affects. Refused while a host that has joined sees any sign of life; SDM only with --spm.
                """)
        @Argument(help: "Domain: name or uuid.") var lockspace: String
        @Argument(help: "Host id.") var hostID: Int
        @Option(help: "The generation that you mean, as `bulwark lockspace inspect` shows it.") var generation: UInt64
        @Flag(help: "Also if it held SDM, so that another host may become SPM.") var spm = false
        @Flag(help: "Only say what it would affect.") var dryRun = false
        @Option(help: "Ask this host's lease-service, which must have joined (default: the first that has).") var host: String?
        @OptionGroup var reason: Reason
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let keeper = try LockspaceKeeper(lockspace, reason, options)
            if let own = keeper.registered?.first(where: { $0.id == hostID }) {
                throw RequestError(
                    RequestErrorCode.conflict, "host id \(hostID) is \(own.name)'s, which is registered: its sector is never written by others; let it be fenced, or see `bulwark host confirm-off`")
            }
            let witness = try host ?? joined(keeper)
            var order = LeaseVoid(lockspace: keeper.domain.domain, hostID: hostID, generation: generation, spm: spm, dryRun: true, who: reason.name, why: reason.why)
            let process = keeper.cluster.leaseService(of: witness)
            let view = try keeper.cluster.ask(process, "lease.void", order, timeout: .seconds(120)).decoded(as: LeaseVoidView.self)
            let affected = view.leases.isEmpty ? "it holds no lease" : "these leases are void then: \(view.leases.joined(separator: ", "))"
            if dryRun { return try options.show(try JSONValue(encoding: view)) { "\(Self.words(view)): \(affected)" } }
            try confirmation.require(
                "free host id \(hostID) of \(view.name) in \(keeper.domain.name)", meaning: affected, name: view.name, checked: ["\(Self.words(view)), as \(witness) sees it"],
                notChecked: ["the machine itself: if it still runs, two machines may write to the same disks"] + (keeper.registered == nil ? ["whether it is registered: fencing-service does not answer"] : []))
            order.dryRun = false
            let done = try keeper.cluster.call(process, "lease.void", order, timeout: .seconds(180)).decoded(as: LeaseVoidView.self)
            try options.show(try JSONValue(encoding: done)) { "host id \(hostID) of \(done.name) is free; \(affected)" }
        }

        private static func words(_ view: LeaseVoidView) -> String {
            "\(view.name) (host id \(view.hostID), generation \(view.generation)) is \(view.state.rawValue), unchanged for \(view.unchangedFor.milliseconds / 1000) s"
        }

        private func joined(_ keeper: LockspaceKeeper) throws -> String {
            guard let found = keeper.look().filter({ $0.state == .joined }).map(\.host).sorted(by: naturally).first else {
                throw RequestError(LeaseErrorCode.notJoined, "no host that answers has joined \(keeper.domain.name)")
            }
            return found
        }
    }
}
