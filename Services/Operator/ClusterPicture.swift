import Bus
import Foundation
import Messages
import ServiceKit
import Simulation

/// A cluster as it is now, as a scenario in which nothing happens yet.
struct ClusterPicture {
    private(set) var scenario: Scenario
    /// What is assumed or left out, for people.
    private(set) var notes: [String] = []
    /// What brings the simulated cluster to where the real one is.
    private var preparation: [Happening] = []
    private static let lossAt = Duration.seconds(60)

    /// From the running cluster, or from a file with what `bulwark --json status` printed.
    /// - Parameter settings: `key=value` of the policy.
    /// - Throws: `RequestError` `service.silent`, `file.invalid`.
    init(_ options: GlobalOptions, settings: [String]) throws {
        if let path = options.cluster, let text = try? String(contentsOfFile: path, encoding: .utf8), text.first(where: { !$0.isWhitespace }) == "{" {
            try self.init(status: try Self.parsed(text, path), ioTimeout: nil, settings: settings)
        } else {
            let cluster = try options.connect()
            try self.init(status: try ClusterSurvey(of: cluster).json(), ioTimeout: Self.ioTimeout(of: cluster), settings: settings)
        }
    }

    private static func parsed(_ text: String, _ path: String) throws -> JSONValue {
        do {
            return try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
        } catch {
            throw OperatorError.badFile.error("\(path) is not what `bulwark --json status` prints: \(error)")
        }
    }

    /// What the lockspaces on the storage say, if a lease-service on this machine answers.
    private static func ioTimeout(of cluster: Cluster) -> Duration? {
        guard let witness = try? LeaseWitness.all(nil, in: cluster).first,
            let reply = try? cluster.ask(witness.process, "lockspace.inspect", LockspaceRequest(lockspace: nil))
        else { return nil }
        let views = (reply["lockspaces"]?.elements ?? []).compactMap { try? $0.decoded(as: LockspaceView.self) }
        return views.flatMap(\.hosts).map(\.ioTimeout).max().map { .seconds(Int64($0)) }
    }

    init(status: JSONValue, ioTimeout: Duration?, settings: [String]) throws {
        func part<Part: Decodable>(_ name: String, _ type: Part.Type, owner: String) throws -> Part {
            guard let value = status[name] else { throw OperatorError.serviceSilent.error("the status has no \(name): \(owner) did not answer") }
            do { return try value.decoded(as: type) } catch { throw OperatorError.badFile.error("\(name) of the status cannot be read: \(error)") }
        }
        let hosts = try part("hosts", [HostView].self, owner: "fencing-service")
        let vms = try part("vms", [VMView].self, owner: "placement-service")
        let domains = try part("domains", [DomainView].self, owner: "domain-monitor")
        let pools = try part("pools", [PoolView].self, owner: "spm-coordinator")
        let ha = try part("ha", HAState.self, owner: "fencing-service")
        let master = pools.first?.master
        let names = domains.filter { $0.domain == master }.map(\.name) + domains.filter { $0.domain != master }.map(\.name).sorted()
        scenario = Scenario(name: status["cluster"]?.string ?? "cluster", domains: names)
        addHosts(hosts, vms)
        addVMs(vms, names: Dictionary(domains.map { ($0.domain, $0.name) }) { first, _ in first })
        if let spm = pools.first?.spm, scenario.hosts.contains(where: { $0.name == spm }) { preparation.append(.spmSelect(host: spm)) }
        if !ha.enabled { preparation.append(.haDisable) } else if ha.hold != nil { preparation.append(.haHold) }
        for alarm in ha.alarms ?? [] { notes.append("an alarm holds recovery now, not in the simulation: \(alarm)") }
        if let fencing = try? status["policy"]?.decoded(as: FencingPolicy.self) { scenario.policy.fencing = fencing } else { notes.append("the policy of fencing-service is not known: defaults are assumed") }
        if let ioTimeout {
            scenario.policy.ioTimeout = ioTimeout
        } else if !settings.contains(where: { $0.hasPrefix("storage.ioTimeout=") }) {
            notes.append("storage.ioTimeout is not known: \(scenario.policy.ioTimeout.words) is assumed")
        }
        notes.append("every fence device is taken to work and to be verified; other policies are taken to be as by default (--set KEY=VALUE changes one)")
        for setting in settings { try scenario.policy.take(setting) }
    }

    private mutating func addHosts(_ hosts: [HostView], _ vms: [VMView]) {
        scenario.hosts = []
        for host in hosts.sorted(by: { naturally($0.name, $1.name) }) {
            guard host.status == .up || host.status == .maintenance else {
                notes.append("\(host.name) is \(host.status.rawValue) and left out")
                continue
            }
            let used = vms.filter { $0.host == host.name }.compactMap { $0.definition?.memoryMiB }.reduce(0, +)
            var known = Scenario.Host(host.name, spmPriority: host.spmPriority)
            if let free = host.memoryMiB { known.memoryMiB = free + used } else { notes.append("the memory of \(host.name) is not known") }
            scenario.hosts.append(known)
            if host.status == .maintenance { preparation.append(.hostMaintenance(host: host.name)) }
        }
    }

    private mutating func addVMs(_ vms: [VMView], names: [String: String]) {
        let known = Set(scenario.hosts.map(\.name))
        for vm in vms.sorted(by: { naturally($0.name, $1.name) }) {
            guard let definition = vm.definition else { continue }
            if vm.status == .unknown || vm.host.map({ !known.contains($0) }) ?? false {
                notes.append("VM \(vm.name) is \(vm.status.rawValue)\(vm.host.map { " on \($0)" } ?? "") and left out")
                continue
            }
            scenario.vms.append(
                Scenario.VM(
                    vm.name, ha: definition.ha, priority: definition.priority, memoryMiB: definition.memoryMiB,
                    disks: definition.disks.filter { !$0.readOnly }.compactMap { names[$0.domain] }, leases: definition.leases,
                    pin: definition.pin.filter { known.contains($0) }, started: vm.host != nil, host: vm.host))
        }
    }

    /// The scenario in which these hosts lose their power at once and stay without, unless they are switched on.
    func losing(_ hosts: [String]) -> Scenario {
        var scenario = scenario
        scenario.about = "What if \(hosts.joined(separator: " and ")) lost power?"
        scenario.timeline = preparation.map { Scenario.Moment(at: .zero, $0) } + hosts.map { Scenario.Moment(at: Self.lossAt, .crash(host: $0)) }
        scenario.end = Self.lossAt + scenario.policy.fencing.grace + scenario.policy.fencing.bootTimeout + .seconds(600)
        return scenario
    }

    // MARK: The answer

    func answer(_ outcome: Outcome, losing hosts: [String], timeline: Bool) -> String {
        var table = Table("VM", "NOW", "THEN", "AFTER", "WHY")
        for vm in scenario.vms {
            let now = vm.host.map { "up on \($0)" } ?? "down"
            let seen = outcome.observed.vms[vm.name]
            let starts = zip(outcome.observed.occurrences, outcome.observed.times).filter { Occurrence.start(vm: vm.name, host: nil).matches($0.0) }
            let reason = seen?.reason ?? ""
            if let last = starts.last, seen?.status == .up {
                table.add(vm.name, now, "restarted on \(seen?.host ?? "?")", Self.after(last.1), reason)
            } else if seen?.status == .up || !vm.started {
                table.add(vm.name, now, "not touched", "-", "")
            } else {
                table.add(vm.name, now, "NOT restarted: \(seen?.status.rawValue ?? "not known")", "-", reason)
            }
        }
        var sections = ["If \(hosts.joined(separator: " and ")) lost power now:", table.text(empty: "no VM is defined")]
        sections.append((hosts.flatMap { story(of: $0, outcome.observed) } + spmStory(outcome.observed)).joined(separator: "\n"))
        if timeline { sections.append(outcome.timeline.map(\.words).joined(separator: "\n")) }
        sections += outcome.violations.map { "BROKEN \($0)" }
        sections.append("Assumed:\n" + notes.map { "  \($0)" }.joined(separator: "\n"))
        return scenario.named(sections.joined(separator: "\n\n"))
    }

    private static func after(_ at: Duration) -> String { "\((at - lossAt).milliseconds / 1000) s" }

    private func story(of host: String, _ seen: Observed) -> [String] {
        let all = Array(zip(seen.occurrences, seen.times))
        func first(_ occurrence: Occurrence) -> String? { all.first { $0.1 >= Self.lossAt && occurrence.matches($0.0) }.map { Self.after($0.1) } }
        let proof = first(.proof(host: host, nil)).map { "its life is proven over after \($0)" } ?? "its life is never proven over"
        let back = first(.hostStatus(host: host, .up)).map { "it is Up again after \($0)" } ?? "it is \(seen.hosts[host]?.status.rawValue ?? "not known") in the end"
        return ["\(host): \(proof), \(back)"]
    }

    private func spmStory(_ seen: Observed) -> [String] {
        guard !scenario.domains.isEmpty else { return [] }
        let moves = zip(seen.occurrences, seen.times).compactMap { occurrence, at -> String? in
            guard at >= Self.lossAt, case .spm(let host) = occurrence else { return nil }
            return "\(host) serves after \(Self.after(at))"
        }
        return ["SPM: " + (moves.isEmpty ? "\(seen.spm.map { "\($0) goes on serving" } ?? "nobody serves")" : moves.joined(separator: ", "))]
    }
}

extension Scenario.Policy {
    /// - Parameter setting: `liveness.grace=10s`.
    fileprivate mutating func take(_ setting: String) throws {
        let parts = setting.split(separator: "=", maxSplits: 1).map(String.init)
        if parts.count == 2, let (_, path) = Self.durations.first(where: { $0.name == parts[0] }), let value = Duration(text: parts[1]) {
            self[keyPath: path] = value
        } else if parts.count == 2, let (_, path) = Self.numbers.first(where: { $0.name == parts[0] }), let value = Int(parts[1]) {
            self[keyPath: path] = value
        } else {
            throw OperatorError.badFile.error("\(setting) is not KEY=VALUE with one of \((Self.durations.map(\.name) + Self.numbers.map(\.name)).joined(separator: ", "))")
        }
    }
}
