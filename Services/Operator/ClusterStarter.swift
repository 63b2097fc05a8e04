import Bus
import CLinux
import Foundation
import Messages
import ServiceKit

/// Brings the processes of an instance up and gives it storage and VMs. Every step looks first and does only what is missing.
struct ClusterStarter {
    let instance: Instance
    let progress: Progress
    /// Seconds that one step may take.
    let patience: Double

    var cluster: Cluster { Cluster(file: instance.file) }
    static let domainName = "data"
    static let poolName = "main"

    // MARK: Processes

    /// The supervisor, and at the first time since the machine's start the hosts; then waits until every process answers.
    func startProcesses(_ changes: InstanceFiles.Changes) throws {
        try restartChanged(changes)
        if try instance.ensureSupervisor() { progress.step("supervisor started; its log is \(instance.logs)/supervise.log") }
        for host in instance.hosts where !Files.exists(host.poweredFile) {
            progress.step("\(host.name): power on")
            try host.powerOn()
        }
        let powered = try instance.hosts.filter { try $0.isPowered() }
        let waiting = ManagerService.allCases.compactMap { try? cluster.endpoints(of: $0) } + powered.flatMap { cluster.processes(ofHost: $0.name) }
        try wait("every process answers") {
            let silent = concurrently(waiting) { process in
                (try? cluster.ask(process, "health", timeout: .seconds(1))) == nil ? process.name : ""
            }.filter { !$0.isEmpty && !Files.exists(instance.holdFile($0)) }
            return silent.isEmpty ? nil : "no answer from \(silent.joined(separator: ", "))"
        }
    }

    /// New keys and new configuration are read when a process starts.
    private func restartChanged(_ changes: InstanceFiles.Changes) throws {
        guard ProcessRecord(file: instance.pidFile(Supervisor.process)) != nil else { return }
        for service in ClusterFile.managerServices where changes.keys || changes.configuration.contains(service) {
            if let running = ProcessRecord(file: instance.pidFile(service)) {
                progress.step("\(service): restarts for its new \(changes.keys ? "keys" : "configuration")")
                running.signal(SIGTERM)
                _ = running.awaitEnd(seconds: 10)
            }
        }
        for host in instance.hosts {
            for service in Chassis.services where changes.configuration.contains("\(host.name)/\(service)") {
                host.service(service)?.signal(SIGTERM)
            }
        }
    }

    // MARK: Objects

    func registerHosts() throws {
        let known = Set(try cluster.snapshot(.fencing, as: FencingSnapshot.self).hosts.map(\.name))
        for host in instance.hosts where !known.contains(host.name) {
            progress.step("\(host.name): registered")
            _ = try cluster.command(.fencing, "host.add", try host.definition())
        }
        try wait("a host is Up") {
            let hosts = try cluster.snapshot(.fencing, as: FencingSnapshot.self).hosts
            return hosts.contains { $0.status == .up } ? nil : hosts.map { "\($0.name) \($0.status.rawValue): \($0.reason)" }.joined(separator: "; ")
        }
    }

    func makeStorage() throws {
        if try cluster.snapshot(.domains, as: DomainList.self).domains.isEmpty {
            progress.step("storage domain \(Self.domainName) in \(instance.shared)")
            let request = DomainCreate(name: Self.domainName, domain: instance.settings.domain, directory: instance.shared, ioTimeout: 2)
            try persist { _ = try cluster.command(.domains, "domain.create", request) }
        }
        if try cluster.snapshot(.spm, as: SPMSnapshot.self).pools.isEmpty {
            progress.step("pool \(Self.poolName)")
            try persist { _ = try cluster.command(.spm, "pool.create", PoolCreate(pool: Self.poolName, master: instance.settings.domain)) }
        }
    }

    /// The lab's VMs: highly available, of different priorities, at least one for each host. What an operator stopped stays stopped.
    func makeVMs(_ count: Int) throws {
        guard count > 0 else { return }
        let known = try cluster.snapshot(.placement, as: VMList.self).vms
        let missing = (0..<count).map(vmDefinition).filter { wanted in !known.contains { $0.name == wanted.name } }
        if !missing.isEmpty { try awaitStorage() }
        for definition in missing {
            progress.step("\(definition.name): defined, priority \(definition.priority)")
            try persist { _ = try cluster.command(.placement, "vm.define", definition) }
        }
        let hosts = instance.hosts
        for index in 0..<count {
            let name = Self.vmName(index)
            try wait("\(name) can be started") {
                guard let vm = try vm(name) else { return "\(name) is not defined yet" }
                return vm.status == .locked ? "\(name) is locked: \(vm.reason)" : nil
            }
            guard let vm = try vm(name), vm.attempt == 0, vm.status == .down, !vm.wanted else { continue }
            let host = index < hosts.count ? hosts[index].name : nil
            progress.step("\(name): start" + (host.map { " on \($0)" } ?? ""))
            try persist {
                guard try self.vm(name)?.wanted != true else { return }
                _ = try cluster.command(.placement, "vm.start", VMRequest(vm: name, host: host))
            }
        }
    }

    /// Every host Up, the pool served, the domain Active, every VM that is wanted up.
    func awaitUp() throws {
        try wait("all is Up") {
            let hosts = try cluster.snapshot(.fencing, as: FencingSnapshot.self).hosts
            let pools = try cluster.snapshot(.spm, as: SPMSnapshot.self).pools
            let domains = try cluster.snapshot(.domains, as: DomainList.self).domains
            let vms = try cluster.snapshot(.placement, as: VMList.self).vms
            let missing =
                hosts.filter { $0.status != .up && $0.status != .maintenance }.map { "\($0.name) \($0.status.rawValue): \($0.reason)" }
                + pools.filter { $0.status != .up }.map { "pool \($0.pool) \($0.status.rawValue): \($0.reason)" }
                + domains.filter { $0.status != .active && $0.status != .maintenance }.map { "domain \($0.name) \($0.status.rawValue): \($0.reason)" }
                + vms.filter { $0.wanted && $0.status != .up && $0.status != .paused }.map { "\($0.name) \($0.status.rawValue): \($0.reason)" }
            return missing.isEmpty ? nil : missing.joined(separator: "; ")
        }
        progress.step("all is Up")
    }

    private func awaitStorage() throws {
        try wait("the storage domain is Active everywhere and an SPM serves") {
            let domains = try cluster.snapshot(.domains, as: DomainList.self).domains
            let pools = try cluster.snapshot(.spm, as: SPMSnapshot.self).pools
            let up = try cluster.snapshot(.fencing, as: FencingSnapshot.self).hosts.filter { $0.status == .up }.map(\.name)
            let joined = Set(domains.flatMap(\.hosts).filter(\.joined).map(\.host))
            let missing =
                domains.filter { $0.status != .active }.map { "domain \($0.name) \($0.status.rawValue): \($0.reason)" }
                + instance.hosts.map(\.name).filter { !up.contains($0) || !joined.contains($0) }.map { "\($0) has not joined" }
                + pools.filter { $0.status != .up }.map { "pool \($0.pool) \($0.status.rawValue): \($0.reason)" }
            return missing.isEmpty ? nil : missing.joined(separator: "; ")
        }
    }

    // MARK: VMs of the lab

    private func vm(_ name: String) throws -> VMView? { try cluster.snapshot(.placement, as: VMList.self).vms.first { $0.name == name } }

    static func vmName(_ index: Int) -> String {
        let names = ["web1", "web2", "db1", "app1"]
        return index < names.count ? names[index] : "vm\(index + 1)"
    }

    /// The boot-sector guest on a 1 MiB disk of its own.
    private func vmDefinition(_ index: Int) -> VMDefinition {
        let priorities = [70, 60, 90, 50]
        let name = Self.vmName(index)
        let disk = DiskDefinition(
            image: Self.imageID(cluster: instance.settings.domain, vm: name), domain: instance.settings.domain, size: 1 << 20, source: instance.guestDisk)
        return VMDefinition(
            name: name, memoryMiB: 8, disks: [disk], ha: true, priority: index < priorities.count ? priorities[index] : max(1, 40 - index))
    }

    /// The same uuid for the same VM of the same cluster, so that an interrupted `up` continues where it was.
    static func imageID(cluster: String, vm: String) -> String {
        let digits = Array(Chassis.hardwareID(cluster: cluster, host: "disk of \(vm)"))
        let parts = [digits[0..<8], digits[8..<12], ["4"] + digits[13..<16], ["8"] + digits[17..<20], digits[20..<32]]
        return parts.map { String($0) }.joined(separator: "-")
    }

    // MARK: Waiting

    /// Looks until nothing is missing any more.
    /// - Parameter missing: what is missing, `nil` when nothing is; errors count as missing.
    private func wait(_ what: String, _ missing: () throws -> String?) throws {
        var last: String?
        let begun = cl_boottime()
        var told = begun
        let done = waitUntil(seconds: patience) {
            do { last = try missing() } catch { last = "\(error)" }
            if let last, cl_boottime() - told > 5_000_000_000 {
                told = cl_boottime()
                progress.step("waiting until \(what): \(last)")
            }
            if last != nil { usleep(80_000) }
            return last == nil
        }
        guard done else {
            throw RequestError(
                code: "up.timeout", message: "waited \(Int(patience)) s until \(what): \(last ?? "")",
                details: ["logs": instance.logs, "status": "bulwark --cluster \(instance.clusterFile) status"])
        }
    }

    /// Gives a command until it is accepted: right after the start a service may have to wait for others. All these commands are idempotent.
    private func persist(_ command: () throws -> Void) throws {
        var last: (any Error)?
        let end = cl_boottime() + Int64(min(patience, 60) * 1e9)
        repeat {
            do {
                return try command()
            } catch let error as RequestError {
                last = error
                usleep(500_000)
            }
        } while cl_boottime() < end
        if let last { throw last }
    }
}

extension Instance {
    /// Starts the supervisor in the background unless it runs.
    /// - Returns: whether it had to be started.
    @discardableResult
    func ensureSupervisor() throws -> Bool {
        if ProcessRecord(file: pidFile(Supervisor.process)) != nil { return false }
        try Files.directory(logs)
        let output = cl_open("\(logs)/supervise.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        let input = cl_open("/dev/null", O_RDONLY | O_CLOEXEC, 0)
        defer { for descriptor in [output, input] where descriptor >= 0 { close(descriptor) } }
        let pid = Spawn.spawn(
            "\(settings.executables)/bulwark", ["supervise", "--cluster", clusterFile],
            ["PATH": ([settings.executables] + Tool.path).joined(separator: ":"), "LANG": "C.UTF-8"], input: input, output: output, error: output)
        guard pid > 0, waitUntil(seconds: 10, { ProcessRecord(file: pidFile(Supervisor.process)) != nil || ProcessRecord(pid: pid) == nil }),
            ProcessRecord(pid: pid) != nil
        else {
            throw RequestError(code: "supervise.failed", message: "the supervisor does not start; see \(logs)/supervise.log")
        }
        return true
    }
}
