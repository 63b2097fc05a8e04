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
        @Flag(help: "Go on though placement-service does not answer, and guests with disks there are not known.") var force = false
        @OptionGroup var reason: Reason
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let keeper = try LockspaceKeeper(lockspace, reason, options)
            if open {
                let views = try keeper.open()
                let missing = keeper.missing(of: views)
                try options.show(try JSONValue(encoding: views)) {
                    "\(keeper.domain.name) is open again on \(views.map(\.host).joined(separator: ", "))" + missing.text
                        + (missing.isEmpty ? "" : "\nrepeat it when they answer: until then it may be closed there")
                }
                return try missing.requireNoneUnknown()
            }
            try keeper.confirmDrain(confirmation, force: force)
            var stopped: [String] = []
            let views = try keeper.drain(stopping: &stopped, force: force)
            let missing = keeper.missing(of: views)
            try options.show(try JSONValue(encoding: views).adding(stopped: stopped, missing)) {
                "\(missing.isEmpty ? "every host" : "every host that answers") has left \(keeper.domain.name): \(views.map(\.host).joined(separator: ", "))" + missing.text
                    + (stopped.isEmpty ? "" : "\nstopped: \(stopped.joined(separator: ", "))") + "\nbulwark lockspace drain --open \(lockspace) ends it"
            }
            try missing.requireNoneUnknown()
        }
    }
}

extension JSONValue {
    fileprivate func adding(stopped: [String], _ missing: MissingHosts) -> JSONValue {
        let names = { (names: [String]) in JSONValue.array(names.map(JSONValue.string)) }
        return .object(["hosts": self, "stopped": names(stopped), "proven": names(missing.proven), "unknown": names(missing.unknown)])
    }
}

/// Hosts that a question to every host was not answered by.
struct MissingHosts {
    /// What they last were is proven over.
    var proven: [String]
    var unknown: [String]

    var isEmpty: Bool { proven.isEmpty && unknown.isEmpty }

    var text: String {
        (proven.isEmpty ? "" : "\nproven gone: \(proven.joined(separator: ", "))")
            + (unknown.isEmpty ? "" : "\nNOT known, without an answer or a proof: \(unknown.joined(separator: ", "))")
    }

    /// - Throws: the exit status that says so.
    func requireNoneUnknown() throws(ExitCode) {
        if !unknown.isEmpty { throw ExitCode(CommandOutcome.unknown.rawValue) }
    }
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

    /// `nil` if nobody knows and the operator goes on all the same.
    private func guests(force: Bool) throws -> [VMView]? {
        do {
            return try guests()
        } catch let error as RequestError {
            guard force else {
                throw RequestError(code: error.code, message: "\(error.message): which guests have disks on \(domain.name) is not known; --force goes on without stopping any; nothing was changed", details: error.details)
            }
            return nil
        }
    }

    func confirmDrain(_ confirmation: Confirmation, force: Bool) throws {
        let known = try guests(force: force)
        let guests = known ?? []
        try confirmation.require(
            "let every host leave \(domain.name)",
            meaning: known == nil ? "which guests have disks there is not known, none is stopped" : guests.isEmpty ? "no guest has disks there" : "these guests are stopped, and stay down until they are started: \(guests.map(\.name).joined(separator: ", "))",
            name: domain.name, checked: ["hosts: \(hosts.joined(separator: ", "))"], notChecked: ["programs that use \(domain.path) without leases"])
    }

    /// How far every host is; silent ones are left out.
    func views(_ drain: LockspaceDrain) -> [LockspaceDrainView] {
        concurrently(hosts) { [cluster] host in
            try? cluster.ask(cluster.leaseService(of: host), "lockspace.drain", drain, timeout: .seconds(10)).decoded(as: LockspaceDrainView.self)
        }.compactMap { $0 }
    }

    func look() -> [LockspaceDrainView] { views(LockspaceDrain(lockspace: domain.domain, onlyLook: true, who: reason.name, why: reason.why)) }

    /// Who is not among these: of all hosts that are registered now.
    func missing(of views: [LockspaceDrainView]) -> MissingHosts {
        let current = registeredNow()
        let heard = Set(views.map(\.host))
        let silent = Set(hosts + (current ?? []).map(\.name)).filter { !heard.contains($0) }.sorted(by: naturally)
        let proven = silent.filter { name in current?.contains { $0.name == name && $0.proof?.proof.covers(host: name, incarnation: $0.incarnation) == true } ?? false }
        let others = current == nil ? ["hosts that only fencing-service knows"] : []
        return MissingHosts(proven: proven, unknown: silent.filter { !proven.contains($0) } + others)
    }

    private func registeredNow() -> [HostView]? { (try? cluster.ask(.fencing, "host.list").decoded(as: HostList.self).hosts) ?? registered }

    /// Everybody leaves; a host that does not answer is left to its proof.
    /// - Parameter stopped: guests that were stopped for it, also if it fails.
    func drain(stopping stopped: inout [String], force: Bool, patience: Double = 180) throws -> [LockspaceDrainView] {
        let guests = try guests(force: force) ?? []
        _ = try? cluster.command(.domains, "domain.maintenance", DomainRequest(domain: domain.domain))
        var asked = ""
        do {
            for vm in guests {
                progress.step("stopping \(vm.name)")
                asked = vm.name
                _ = try cluster.command(.placement, "vm.stop", VMRequest(vm: vm.name), timeout: .seconds(120))
                stopped.append(vm.name)
            }
        } catch let error as RequestError {
            // No host was told to leave yet.
            if domain.status == .active { _ = try? cluster.command(.domains, "domain.activate", DomainRequest(domain: domain.domain)) }
            throw error.adding("asked to stop", [asked]).adding("stopped", start(stopped))
        }
        progress.step("draining \(hosts.joined(separator: ", "))")
        let drain = LockspaceDrain(lockspace: domain.domain, who: reason.name, why: reason.why)
        let until = Self.now + patience
        while true {
            let seen = views(drain)
            if seen.allSatisfy(\.hasLeft), !seen.isEmpty { return seen }
            if seen.contains(where: { $0.holders.contains { $0.hasPrefix("spm:") } }) {
                _ = try? cluster.command(.spm, "spm.stop", PoolRequest(), timeout: .seconds(30))
            }
            guard Self.now < until else {
                let left = seen.filter { !$0.hasLeft }.map { "\($0.host) is \($0.state.rawValue)\($0.holders.isEmpty ? "" : ", held by \($0.holders.joined(separator: ", "))")" }
                throw RequestError(LockspaceErrorCode.inUse, "not every host has left \(domain.name): \(left.isEmpty ? "no host answers" : left.joined(separator: "; "))")
                    .adding("stopped", stopped)
            }
            Thread.sleep(forTimeInterval: 0.5)
        }
    }

    /// Starts guests again.
    /// - Returns: those that stay down.
    func start(_ guests: [String]) -> [String] {
        guests.filter { vm in
            progress.step("starting \(vm)")
            return (try? cluster.command(.placement, "vm.start", VMRequest(vm: vm), timeout: .seconds(120))) == nil
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
        // Once more: what happened while everybody left counts.
        let registered = registeredNow()
        if let registered {
            facts.registered = Dictionary(registered.map { ($0.id, $0.name) }, uniquingKeysWith: { first, _ in first })
        }
        if let fencing = try? cluster.snapshot(.fencing, as: FencingSnapshot.self) {
            let open = fencing.cases.filter { fence in
                !fencing.hosts.contains { $0.name == fence.host && $0.proof?.proof.covers(host: fence.host, incarnation: fence.incarnation) == true }
            }
            facts.underWay += open.map { "fence case \($0.id) of \($0.host) is at \($0.step)" }
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

extension RequestError {
    /// With these names among its details, if there are any.
    func adding(_ key: String, _ names: [String]) -> RequestError {
        guard !names.isEmpty else { return self }
        return RequestError(code: code, message: message, details: (details ?? [:]).merging([key: names.joined(separator: ", ")]) { $1 })
    }
}
