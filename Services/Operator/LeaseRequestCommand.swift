import ArgumentParser
import Messages

extension LeaseWitness {
    /// The named host, or the first local one that has joined the lockspace.
    /// - Throws: `RequestError` `lease.not-joined` if none has.
    static func joined(_ lockspace: String, _ host: String?, in cluster: Cluster) throws -> LeaseWitness {
        let witnesses = try all(host, in: cluster)
        let joined = witnesses.first { witness in
            let reply = try? cluster.ask(witness.process, "lockspace.inspect", LockspaceRequest(lockspace: lockspace), timeout: .seconds(30))
            let views = (reply?["lockspaces"]?.elements ?? []).compactMap { try? $0.decoded(as: LockspaceView.self) }
            return views.contains { $0.lockspace == lockspace && $0.state == .joined }
        }
        guard let joined else {
            throw RequestError(LeaseErrorCode.notJoined, "none of \(witnesses.map(\.host).joined(separator: ", ")) has joined lockspace \(lockspace); `bulwark lockspace inspect` shows who has")
        }
        return joined
    }
}

extension LeaseCommand {
    struct Request: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Ask whoever holds a lease to give it up.",
            discussion: """
                The request is written beside the lease and the holders are called through the asking host's sector, as sanlock does it; they hear of it within a few renewals.
                A guard that is asked kindly shows it in its status and goes on; by force its guest is ended at once. Sanlock's clients get SIGTERM or SIGKILL.
                """)
        @Argument(help: "Resource: the disk's image uuid.") var resource: String
        @Option(help: "Domain of the lease: name or uuid.") var domain: String
        @Flag(help: "End the holder's guest.") var force = false
        @Option(help: "The host that asks; the first that has joined if left out.") var host: String?
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            var names = DomainNames(cluster: cluster)
            let lease = LeaseName(lockspace: try names.uuid(of: domain), resource: resource)
            let witness = try LeaseWitness.joined(lease.lockspace, host, in: cluster)
            let view = try cluster.ask(witness.process, "lease.lookup", LeaseRequest(lease: lease), timeout: .seconds(30)).decoded(as: LeaseView.self)
            if force {
                try confirmation.require(
                    "ask by force for lease \(resource)", meaning: "its holder ends the guest at once", name: resource,
                    checked: ["the lease is \(view.status.rawValue)" + (view.status == .free ? "" : ", held by \(LeaseCommand.owner(view))")],
                    notChecked: ["what that guest is doing"])
            }
            let reply = try cluster.call(witness.process, "lease.request", LeaseDemand(lease: lease, mode: force ? .force : .graceful), timeout: .seconds(60))
            try options.show(reply) { "\(witness.host) asked for lease \(resource)" + (view.status == .free ? "" : ", which \(LeaseCommand.owner(view)) holds") }
        }
    }
}

extension LockspaceCommand {
    struct Notify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Leave an event for another host of a lockspace, in a host's own sector.",
            discussion: "The other host hears of it within a few renewals: a lease-service publishes `lockspace.event`, a sanlock tells its registered listeners.")
        @Argument(help: "Domain: name or uuid.") var lockspace: String
        @Argument(help: "Host id of the one that is to hear it.") var hostID: Int
        @Option(help: "A number that both sides understand.") var event: UInt64
        @Option(help: "Another one.") var data: UInt64 = 0
        @Option(help: "The life of that host that is meant; 0: any.") var generation: UInt64 = 0
        @Option(help: "The host that leaves it; the first that has joined if left out.") var host: String?
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let cluster = try options.connect()
            var names = DomainNames(cluster: cluster)
            let uuid = try names.uuid(of: lockspace)
            let witness = try LeaseWitness.joined(uuid, host, in: cluster)
            let notice = LockspaceNotice(lockspace: uuid, hostID: hostID, generation: generation, event: event, data: data)
            let reply = try cluster.call(witness.process, "lockspace.notify", notice, timeout: .seconds(30))
            try options.show(reply) { "\(witness.host) leaves event \(event) for host \(hostID) in its next renewals" }
        }
    }
}
