public import Messages

extension Scenario {
    /// What it expects, at its end or at a time. For people each is a short sentence; see ``Expectation/sentence``.
    public enum Expectation: Codable, Hashable, Sendable {
        /// What placement-service says of a VM.
        case vm(String, VMStatus, host: String?)
        case vmNotOn(String, VMStatus, host: String)
        case host(String, HostStatus)
        /// What is true of a machine, whatever its BMC says.
        case power(host: String, isOn: Bool)
        case fenceCase(host: String, CaseState)
        case spm(host: String)
        case spmServes
        case noSPM
        case domain(String, DomainStatus)
        /// A program on a host uses it, in this way.
        case lease(resource: String, LeaseMode, host: String)
        /// Whether automatic recovery may act.
        case recovery(allowed: Bool)
        /// Guest starts since the cluster was ready.
        case starts(vm: String, Count)
        /// How often fencing-service told a host's device to switch it off.
        case powerOffs(host: String, Count)
        /// Both occurred, and the first time of the one was before the first of the other.
        case order(Occurrence, before: Occurrence)
        case never(Occurrence)
        case happens(Occurrence)
        /// A command of the timeline was refused, each time it was given.
        case refused(Happening, code: String?)
        case accepted(Happening)

        public enum CaseState: String, Codable, Sendable, CaseIterable { case none, open, held, failed }

        public enum Count: Codable, Hashable, Sendable {
            case exactly(Int), atLeast(Int), atMost(Int)

            func admits(_ number: Int) -> Bool {
                switch self {
                case .exactly(let wanted): number == wanted
                case .atLeast(let least): number >= least
                case .atMost(let most): number <= most
                }
            }

            var words: String {
                switch self {
                case .exactly(let number): "\(number)"
                case .atLeast(let number): "at least \(number)"
                case .atMost(let number): "at most \(number)"
                }
            }
        }

        /// As it stands in a scenario file; ``init(sentence:names:)`` reads it.
        public var sentence: String {
            switch self {
            case .vm(let vm, let status, let host): "vm \(vm) \(status.rawValue)" + (host.map { " on \($0)" } ?? "")
            case .vmNotOn(let vm, let status, let host): "vm \(vm) \(status.rawValue) not on \(host)"
            case .host(let host, let status): "host \(host) \(status.rawValue)"
            case .power(let host, let isOn): "power \(host) \(isOn ? "on" : "off")"
            case .fenceCase(let host, let state): "case \(host) \(state.rawValue)"
            case .spm(let host): "spm \(host)"
            case .spmServes: "spm serves"
            case .noSPM: "spm none"
            case .domain(let domain, let status): "domain \(domain) \(status.rawValue)"
            case .lease(let resource, let mode, let host): "lease \(resource) \(mode.rawValue) on \(host)"
            case .recovery(let allowed): "recovery \(allowed ? "allowed" : "held")"
            case .starts(let vm, let count): "starts \(vm) \(count.words)"
            case .powerOffs(let host, let count): "power-offs \(host) \(count.words)"
            case .order(let first, let second): "\(first.sentence) before \(second.sentence)"
            case .never(let occurrence): "never \(occurrence.sentence)"
            case .happens(let occurrence): "happens \(occurrence.sentence)"
            case .refused(let command, let code): "refused \(command.sentence)" + (code.map { " with \($0)" } ?? "")
            case .accepted(let command): "accepted \(command.sentence)"
            }
        }

        static let hostStatuses = HostStatus.allCases.map(\.rawValue)
        static let vmStatuses: [String] = [VMStatus.up, .down, .paused, .starting, .stopping, .locked, .error, .unknown].map(\.rawValue)
        static let domainStatuses: [String] = [DomainStatus.unknown, .active, .inactive, .maintenance, .activating, .locked].map(\.rawValue)
        static let proofKinds = ProofKind.allCases.map(\.rawValue)

        static let forms: [Form<Expectation>] = stateForms + countForms + CaseState.allCases.map { state in
            Form("case HOST \(state.rawValue)") { .fenceCase(host: $0[0], state) }
        }

        private static let stateForms: [Form<Expectation>] = [
            Form("vm VM VMSTATUS") { words in VMStatus(rawValue: words[1]).map { .vm(words[0], $0, host: nil) } },
            Form("vm VM VMSTATUS on HOST") { words in VMStatus(rawValue: words[1]).map { .vm(words[0], $0, host: words[2]) } },
            Form("vm VM VMSTATUS not on HOST") { words in VMStatus(rawValue: words[1]).map { .vmNotOn(words[0], $0, host: words[2]) } },
            Form("host HOST HOSTSTATUS") { words in HostStatus(rawValue: words[1]).map { .host(words[0], $0) } },
            Form("power HOST on") { .power(host: $0[0], isOn: true) },
            Form("power HOST off") { .power(host: $0[0], isOn: false) },
            Form("spm serves") { _ in .spmServes },
            Form("spm none") { _ in .noSPM },
            Form("spm HOST") { .spm(host: $0[0]) },
            Form("domain DOMAIN DOMAINSTATUS") { words in DomainStatus(rawValue: words[1]).map { .domain(words[0], $0) } },
            Form("lease RESOURCE exclusive on HOST") { .lease(resource: $0[0], .exclusive, host: $0[1]) },
            Form("lease RESOURCE shared on HOST") { .lease(resource: $0[0], .shared, host: $0[1]) },
            Form("recovery allowed") { _ in .recovery(allowed: true) },
            Form("recovery held") { _ in .recovery(allowed: false) },
        ]

        private static let countForms: [Form<Expectation>] = [
            Form("starts VM NUMBER") { words in Int(words[1]).map { .starts(vm: words[0], .exactly($0)) } },
            Form("starts VM at least NUMBER") { words in Int(words[1]).map { .starts(vm: words[0], .atLeast($0)) } },
            Form("starts VM at most NUMBER") { words in Int(words[1]).map { .starts(vm: words[0], .atMost($0)) } },
            Form("power-offs HOST NUMBER") { words in Int(words[1]).map { .powerOffs(host: words[0], .exactly($0)) } },
            Form("power-offs HOST at least NUMBER") { words in Int(words[1]).map { .powerOffs(host: words[0], .atLeast($0)) } },
            Form("power-offs HOST at most NUMBER") { words in Int(words[1]).map { .powerOffs(host: words[0], .atMost($0)) } },
        ]

        /// Every sentence that there is; words in capitals stand for names or other sentences.
        public static var patterns: [String] { (forms + openings).map(\.pattern) }

        /// - Parameter names: the names that it may use; `nil`: any.
        /// - Throws: ``SentenceError`` with the word that is wrong and what may stand there.
        public init(sentence: String, names: Vocabulary? = nil) throws(SentenceError) {
            let words = sentence.split(separator: " ")
            let rest = words.dropFirst().joined(separator: " ")
            if let middle = words.firstIndex(of: "before") {
                self = .order(
                    try Occurrence(sentence: words[..<middle].joined(separator: " "), names: names),
                    before: try Occurrence(sentence: words[(middle + 1)...].joined(separator: " "), names: names))
                return
            }
            switch words.first {
            case "never": self = .never(try Occurrence(sentence: rest, names: names))
            case "happens": self = .happens(try Occurrence(sentence: rest, names: names))
            case "accepted": self = .accepted(try Happening(sentence: rest, names: names))
            case "refused":
                let end = words.firstIndex(of: "with") ?? words.endIndex
                let code = words[end...].dropFirst().joined(separator: " ")
                self = .refused(try Happening(sentence: words[1..<end].joined(separator: " "), names: names), code: code.isEmpty ? nil : code)
            default: self = try Form.read(sentence, Self.forms + Self.openings, names)
            }
        }

        /// The first words of sentences that contain others; only to be named as possible.
        private static let openings: [Form<Expectation>] = ["never OCCURRENCE", "happens OCCURRENCE", "refused COMMAND", "accepted COMMAND", "OCCURRENCE before OCCURRENCE"].map {
            Form($0) { _ in nil }
        }
    }
}
