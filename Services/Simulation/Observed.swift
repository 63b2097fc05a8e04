public import Messages

/// What a run has come to: all that expectations are checked against, whoever ran it.
public struct Observed: Sendable {
    public struct VM: Hashable, Sendable {
        public var status: VMStatus
        public var host: String?
        /// Why it has this status.
        public var reason: String
        public init(status: VMStatus, host: String?, reason: String = "") {
            self.status = status
            self.host = host
            self.reason = reason
        }
    }

    public struct Host: Hashable, Sendable {
        public var status: HostStatus
        public var isOn: Bool
        /// Of its open fence case.
        public var caseStep: String?
        public init(status: HostStatus, isOn: Bool, caseStep: String?) {
            self.status = status
            self.isOn = isOn
            self.caseStep = caseStep
        }
    }

    /// What came of a command.
    public struct Answer: Hashable, Sendable {
        public var command: Happening
        /// `nil`: accepted.
        public var refusal: RequestError?
        public init(command: Happening, refusal: RequestError?) {
            self.command = command
            self.refusal = refusal
        }
    }

    /// As placement-service knows them.
    public var vms: [String: VM] = [:]
    /// As fencing-service knows them, but for their power.
    public var hosts: [String: Host] = [:]
    /// The host that serves as SPM.
    public var spm: String?
    public var domains: [String: DomainStatus] = [:]
    /// Who uses a resource, and how.
    public var leases: [String: [String: LeaseMode]] = [:]
    public var recoveryAllowed = true
    /// Since the cluster was ready, in order, each with all its values.
    public var occurrences: [Occurrence] = []
    /// When each of them was.
    public var times: [Duration] = []
    public var answers: [Answer] = []

    public init() {}

    func count(_ occurrence: Occurrence) -> Int { occurrences.count { occurrence.matches($0) } }
}

extension Scenario.Expectation {
    /// What is true instead; `nil`: it is met.
    public func unmet(in seen: Observed) -> String? {
        switch self {
        case .vm(let vm, let status, let host):
            let found = seen.vms[vm]
            return found?.status == status && (host == nil || found?.host == host) ? nil : Self.words(vm, found)
        case .vmNotOn(let vm, let status, let host):
            let found = seen.vms[vm]
            return found?.status == status && found?.host != host ? nil : Self.words(vm, found)
        case .host(let host, let status):
            return seen.hosts[host]?.status == status ? nil : "\(host) is \(seen.hosts[host]?.status.rawValue ?? "not known")"
        case .power(let host, let isOn):
            return seen.hosts[host]?.isOn == isOn ? nil : "\(host) is \(isOn ? "off" : "on")"
        case .fenceCase(let host, let state):
            let step = seen.hosts[host]?.caseStep
            let isMet = switch state {
            case .none: step == nil
            case .open: step != nil
            case .held, .failed: step == state.rawValue
            }
            return isMet ? nil : step.map { "the case of \(host) is at \($0)" } ?? "\(host) has no open case"
        case .spm(let host): return seen.spm == host ? nil : "the SPM is \(seen.spm ?? "nobody")"
        case .spmServes: return seen.spm != nil ? nil : "nobody serves as SPM"
        case .noSPM: return seen.spm.map { "the SPM is \($0)" }
        case .domain(let domain, let status):
            return seen.domains[domain] == status ? nil : "\(domain) is \(seen.domains[domain]?.rawValue ?? "not known")"
        case .lease(let resource, let mode, let host):
            let found = seen.leases[resource]?[host]
            return found == mode ? nil : "\(host) \(found.map { "holds it \($0.rawValue)" } ?? "does not hold it")"
        case .recovery(let allowed): return seen.recoveryAllowed == allowed ? nil : "recovery is \(allowed ? "held" : "allowed")"
        case .starts(let vm, let count): return Self.unmet(count, seen.count(.start(vm: vm, host: nil)), "started \(vm)")
        case .powerOffs(let host, let count): return Self.unmet(count, seen.count(.off(host: host)), "switched \(host) off")
        case .order(let first, let second): return Self.unmetOrder(first, second, in: seen)
        case .never(let occurrence): return seen.count(occurrence) == 0 ? nil : "\(occurrence.sentence) occurred \(Self.times(seen.count(occurrence)))"
        case .happens(let occurrence): return seen.count(occurrence) > 0 ? nil : "it did not"
        case .refused(let command, let code): return Self.unmetRefusal(command, code, in: seen)
        case .accepted(let command):
            let answers = seen.answers.filter { $0.command == command }
            if let refusal = answers.compactMap(\.refusal).first { return "it was refused: \(refusal)" }
            return answers.isEmpty ? "it was not answered" : nil
        }
    }

    private static func words(_ vm: String, _ found: Observed.VM?) -> String {
        guard let found else { return "\(vm) is not defined" }
        return "\(vm) is \(found.status.rawValue)" + (found.host.map { " on \($0)" } ?? "")
    }

    private static func times(_ count: Int) -> String { count == 1 ? "once" : "\(count) times" }

    private static func unmet(_ wanted: Count, _ count: Int, _ what: String) -> String? { wanted.admits(count) ? nil : "\(what) \(times(count))" }

    private static func unmetOrder(_ first: Occurrence, _ second: Occurrence, in seen: Observed) -> String? {
        guard let one = seen.occurrences.firstIndex(where: first.matches) else { return "\(first.sentence) did not occur" }
        guard let other = seen.occurrences.firstIndex(where: second.matches) else { return "\(second.sentence) did not occur" }
        return one < other ? nil : "it was the other way round"
    }

    private static func unmetRefusal(_ command: Happening, _ code: String?, in seen: Observed) -> String? {
        let answers = seen.answers.filter { $0.command == command }
        guard !answers.isEmpty else { return "it was not answered" }
        for answer in answers {
            guard let refusal = answer.refusal else { return "it was accepted" }
            if let code, refusal.code != code { return "it was refused with \(refusal)" }
        }
        return nil
    }
}
