public import Messages

/// Something that a ``Scenario/Expectation`` can count, order or forbid. Where a value is `nil`, any is meant.
public enum Occurrence: Codable, Hashable, Sendable {
    /// A guest runs (`start web1 on host2`).
    case start(vm: String, host: String?)
    /// A guest runs no more.
    case end(vm: String)
    /// A guest stands still: its guard has stopped it, or its hypervisor after an I/O error.
    case pause(vm: String)
    /// It goes on after that.
    case resume(vm: String)
    /// fencing-service told a host's device to switch it off.
    case off(host: String)
    case on(host: String)
    /// fencing-service opened a case.
    case caseOpened(host: String)
    /// A proof that a host's life is over was published.
    case proof(host: String, ProofKind?)
    case revoked(host: String)
    /// A host began to serve as SPM.
    case spm(host: String)
    case hostStatus(host: String, HostStatus)
    case vmStatus(vm: String, VMStatus)
    case domainStatus(domain: String, DomainStatus)
    /// A program uses something alone, or shares it (`lease pool1 shared on host2`).
    case lease(resource: String, LeaseMode, host: String?)
    case leaseEnded(resource: String, host: String)

    public var sentence: String {
        switch self {
        case .start(let vm, let host): "start \(vm)" + (host.map { " on \($0)" } ?? "")
        case .end(let vm): "end \(vm)"
        case .pause(let vm): "pause \(vm)"
        case .resume(let vm): "resume \(vm)"
        case .off(let host): "off \(host)"
        case .on(let host): "on \(host)"
        case .caseOpened(let host): "case \(host)"
        case .proof(let host, let kind): "proof \(host)" + (kind.map { " \($0.rawValue)" } ?? "")
        case .revoked(let host): "revoked \(host)"
        case .spm(let host): "spm \(host)"
        case .hostStatus(let host, let status): "host \(host) \(status.rawValue)"
        case .vmStatus(let vm, let status): "vm \(vm) \(status.rawValue)"
        case .domainStatus(let domain, let status): "domain \(domain) \(status.rawValue)"
        case .lease(let resource, let mode, let host): "lease \(resource) \(mode.rawValue)" + (host.map { " on \($0)" } ?? "")
        case .leaseEnded(let resource, let host): "lease \(resource) ends on \(host)"
        }
    }

    static let forms: [Form<Occurrence>] = [
        Form("start VM") { .start(vm: $0[0], host: nil) },
        Form("start VM on HOST") { .start(vm: $0[0], host: $0[1]) },
        Form("end VM") { .end(vm: $0[0]) },
        Form("pause VM") { .pause(vm: $0[0]) },
        Form("resume VM") { .resume(vm: $0[0]) },
        Form("off HOST") { .off(host: $0[0]) },
        Form("on HOST") { .on(host: $0[0]) },
        Form("case HOST") { .caseOpened(host: $0[0]) },
        Form("proof HOST") { .proof(host: $0[0], nil) },
        Form("proof HOST PROOFKIND") { words in ProofKind(rawValue: words[1]).map { .proof(host: words[0], $0) } },
        Form("revoked HOST") { .revoked(host: $0[0]) },
        Form("spm HOST") { .spm(host: $0[0]) },
        Form("host HOST HOSTSTATUS") { words in HostStatus(rawValue: words[1]).map { .hostStatus(host: words[0], $0) } },
        Form("vm VM VMSTATUS") { words in VMStatus(rawValue: words[1]).map { .vmStatus(vm: words[0], $0) } },
        Form("domain DOMAIN DOMAINSTATUS") { words in DomainStatus(rawValue: words[1]).map { .domainStatus(domain: words[0], $0) } },
        Form("lease RESOURCE exclusive") { .lease(resource: $0[0], .exclusive, host: nil) },
        Form("lease RESOURCE shared") { .lease(resource: $0[0], .shared, host: nil) },
        Form("lease RESOURCE exclusive on HOST") { .lease(resource: $0[0], .exclusive, host: $0[1]) },
        Form("lease RESOURCE shared on HOST") { .lease(resource: $0[0], .shared, host: $0[1]) },
        Form("lease RESOURCE ends on HOST") { .leaseEnded(resource: $0[0], host: $0[1]) },
    ]

    /// Every sentence that there is; words in capitals stand for names.
    public static var patterns: [String] { forms.map(\.pattern) }

    public init(sentence: String, names: Vocabulary? = nil) throws(SentenceError) {
        self = try Form.read(sentence, Self.forms, names)
    }

    /// Whether something that was seen, with all its values, is what this means.
    public func matches(_ seen: Occurrence) -> Bool {
        switch (self, seen) {
        case (.start(let vm, nil), .start(let other, _)): vm == other
        case (.lease(let resource, let mode, nil), .lease(let other, let how, _)): resource == other && mode == how
        case (.proof(let host, nil), .proof(let other, _)): host == other
        default: self == seen
        }
    }
}
