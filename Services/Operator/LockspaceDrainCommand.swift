import ArgumentParser
import Bus
import CLinux
import Foundation
import Messages

/// Who asks for a repair, and why: kept with what was done.
struct Reason: ParsableArguments {
    @Option(help: "Why, for those who read the history.") var why = "asked for by an operator"
    @Option(help: "Your name (default: the user who runs the command).") var who: String?

    var name: String {
        let environment = ProcessInfo.processInfo.environment
        return who ?? environment["SUDO_USER"] ?? environment["USER"] ?? NSUserName()
    }
}

extension LockspaceCommand {
    struct Drain: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let every host leave a lockspace: guests with disks there are stopped, and nothing joins until it is opened again.",
            discussion: "`--open` ends it: hosts join again, the domain is activated. Guests stay as they are: start those that shall run.")
        @Argument(help: "Domain: name or uuid.") var lockspace: String
        @Flag(help: "End the drain.") var open = false
        @OptionGroup var reason: Reason
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let keeper = try LockspaceKeeper(lockspace, reason, options)
            if open {
                let views = try keeper.open()
                return try options.show(try JSONValue(encoding: views)) { "\(keeper.domain.name) is open again on \(views.map(\.host).joined(separator: ", "))" }
            }
            try keeper.confirmDrain(confirmation)
            let (views, stopped) = try keeper.drain()
            try options.show(try JSONValue(encoding: views).adding(stopped: stopped)) {
                "every host has left \(keeper.domain.name): \(views.map(\.host).joined(separator: ", "))"
                    + (stopped.isEmpty ? "" : "\nstopped: \(stopped.joined(separator: ", "))") + "\nbulwark lockspace drain --open \(lockspace) ends it"
            }
        }
    }
}

extension JSONValue {
    fileprivate func adding(stopped: [String]) -> JSONValue { .object(["hosts": self, "stopped": .array(stopped.map(JSONValue.string))]) }
}

/// One lockspace with everybody who uses it: what a drain and a reinitialisation ask, in turn.
struct LockspaceKeeper {
    let cluster: Cluster
    let domain: DomainView
    let reason: Reason
    let progress: Progress
    /// Registered hosts; those with a run directory here if fencing-service does not answer.
    let hosts: [String]
    let registered: [HostView]?

    init(_ name: String, _ reason: Reason, _ options: GlobalOptions) throws {
        cluster = try options.connect()
        self.reason = reason
        progress = Progress(quiet: options.json)
        var names = DomainNames(cluster: cluster)
        let uuid = try names.uuid(of: name)
        registered = try? cluster.ask(.fencing, "host.list").decoded(as: HostList.self).hosts
        hosts = (registered?.map(\.name) ?? cluster.localHosts).sorted(by: naturally)
        if let known = try? cluster.ask(.domains, "domain.list").decoded(as: DomainList.self).domains.first(where: { $0.domain == uuid }) {
            domain = known
        } else {
            // The managers may be gone: a host knows where it joined.
            let views = hosts.compactMap { [cluster] in try? cluster.ask(cluster.leaseService(of: $0), "lockspace.inspect", LockspaceRequest(lockspace: uuid)).decoded(as: LockspaceList.self).lockspaces.first }
            guard let path = views.first?.path else { throw RequestError(DomainErrorCode.notFound, "no service and no host knows where domain \(uuid) is") }
            domain = DomainView(domain: uuid, name: name, path: path, status: .unknown, reason: "domain-monitor does not answer", hosts: [])
        }
    }

    private static var now: Double { Double(cl_boottime()) / 1e9 }

    // MARK: Drain

    /// VMs with disks there that are not down.
    func guests() throws -> [VMView] {
        try cluster.ask(.placement, "vm.list").decoded(as: VMList.self).vms.filter { vm in
            vm.status != .down && (vm.definition?.disks.contains { $0.domain == domain.domain } ?? true)
        }
    }

    func confirmDrain(_ confirmation: Confirmation) throws {
        let guests = try guests()
        try confirmation.require(
            "let every host leave \(domain.name)",
            meaning: guests.isEmpty ? "no guest has disks there" : "these guests are stopped, and stay down until they are started: \(guests.map(\.name).joined(separator: ", "))",
            name: domain.name, checked: ["hosts: \(hosts.joined(separator: ", "))"], notChecked: ["programs that use \(domain.path) without leases"])
    }

    /// How far every host is; silent ones are left out.
    func views(_ drain: LockspaceDrain) -> [LockspaceDrainView] {
        concurrently(hosts) { [cluster] host in
            try? cluster.ask(cluster.leaseService(of: host), "lockspace.drain", drain, timeout: .seconds(10)).decoded(as: LockspaceDrainView.self)
        }.compactMap { $0 }
    }

    func look() -> [LockspaceDrainView] { views(LockspaceDrain(lockspace: domain.domain, onlyLook: true, who: reason.name, why: reason.why)) }

    /// Everybody leaves; a host that does not answer is left to its proof.
    func drain(patience: Double = 180) throws -> (views: [LockspaceDrainView], stopped: [String]) {
        _ = try? cluster.command(.domains, "domain.maintenance", DomainRequest(domain: domain.domain))
        let guests = try guests()
        for vm in guests {
            progress.step("stopping \(vm.name)")
            _ = try cluster.command(.placement, "vm.stop", VMRequest(vm: vm.name), timeout: .seconds(120))
        }
        progress.step("draining \(hosts.joined(separator: ", "))")
        let drain = LockspaceDrain(lockspace: domain.domain, who: reason.name, why: reason.why)
        let until = Self.now + patience
        while true {
            let seen = views(drain)
            if seen.allSatisfy(\.hasLeft), !seen.isEmpty { return (seen, guests.map(\.name)) }
            if seen.contains(where: { $0.holders.contains { $0.hasPrefix("spm:") } }) {
                _ = try? cluster.command(.spm, "spm.stop", PoolRequest(), timeout: .seconds(30))
            }
            guard Self.now < until else {
                let left = seen.filter { !$0.hasLeft }.map { "\($0.host) is \($0.state.rawValue)\($0.holders.isEmpty ? "" : ", held by \($0.holders.joined(separator: ", "))")" }
                throw RequestError(LockspaceErrorCode.inUse, "not every host has left \(domain.name): \(left.isEmpty ? "no host answers" : left.joined(separator: "; "))")
            }
            Thread.sleep(forTimeInterval: 0.5)
        }
    }

    /// Ends the drain everywhere.
    func open() throws -> [LockspaceDrainView] {
        let seen = views(LockspaceDrain(lockspace: domain.domain, open: true, who: reason.name, why: reason.why))
        guard !seen.isEmpty else { throw OperatorError.serviceSilent.error("no lease-service answers of \(hosts.joined(separator: ", "))") }
        if let closed = seen.first(where: \.isClosed) { throw RequestError(LockspaceErrorCode.closed, "\(closed.host) did not open \(domain.name)") }
        _ = try? cluster.command(.domains, "domain.activate", DomainRequest(domain: domain.domain))
        return seen
    }

    /// Until every host has joined again and the domain was Active for three renewals.
    func watch(_ hosts: [String], patience: Double = 300) throws {
        progress.step("watching \(domain.name) until every host has joined and it was Active for three renewals")
        let until = Self.now + patience
        var since: Double?
        while true {
            let views = concurrently(hosts) { [cluster, domain] host in
                try? cluster.ask(cluster.leaseService(of: host), "lockspace.inspect", LockspaceRequest(lockspace: domain.domain)).decoded(as: LockspaceList.self).lockspaces.first
            }
            let joined = views.compactMap { $0 }.filter { $0.state == .joined }
            let status = try? cluster.ask(.domains, "domain.show", DomainRequest(domain: domain.domain)).decoded(as: DomainView.self).status
            let isWell = joined.count == hosts.count && (status == nil || status == .active)
            since = isWell ? since ?? Self.now : nil
            let interval = joined.flatMap(\.hosts).map(\.ioTimeout).max().map { Double(2 * $0) } ?? 20
            if let since, Self.now - since > 3 * interval { return }
            guard Self.now < until else {
                let missing = hosts.filter { host in !joined.contains { $0.hosts.contains { $0.name == host } } }
                throw RequestError(
                    LeaseErrorCode.notJoined, "\(domain.name) is \(status?.rawValue ?? "not known") and not joined by \(missing.isEmpty ? "every host" : missing.joined(separator: ", ")) yet; bulwark lockspace inspect shows it")
            }
            Thread.sleep(forTimeInterval: 0.5)
        }
    }

    // MARK: Facts

    /// What hosts and managers say now.
    func facts() -> (facts: LockspaceFacts, proofs: [SignedProof]) {
        var facts = LockspaceFacts()
        for view in look() where view.hasLeft {
            facts.departures.append(LockspaceFacts.Departure(host: view.host, hostID: view.hostID, bootID: view.bootID, age: .zero))
        }
        if let registered {
            facts.registered = Dictionary(registered.map { ($0.id, $0.name) }, uniquingKeysWith: { first, _ in first })
        }
        if let fencing = try? cluster.snapshot(.fencing, as: FencingSnapshot.self) {
            let proven = Set(fencing.hosts.filter { $0.proof != nil }.map(\.name))
            facts.underWay += fencing.cases.filter { !proven.contains($0.host) }.map { "fence case \($0.id) of \($0.host) is at \($0.step)" }
        } else {
            facts.silent.append(ManagerService.fencing.rawValue)
        }
        if let spm = try? cluster.snapshot(.spm, as: SPMSnapshot.self) {
            facts.underWay += spm.tasks.filter { $0.status == .created || $0.status == .running }.map { "storage task \($0.task) is \($0.status.rawValue)" }
        } else {
            facts.silent.append(ManagerService.spm.rawValue)
        }
        if let guests = try? guests() {
            facts.underWay += guests.map { "VM \($0.name), with disks there, is \($0.status.rawValue)" }
        } else {
            facts.silent.append(ManagerService.placement.rawValue)
        }
        let gone = Set(facts.departures.map(\.host))
        return (facts, (registered ?? []).filter { !gone.contains($0.name) }.compactMap(\.proof))
    }
}
