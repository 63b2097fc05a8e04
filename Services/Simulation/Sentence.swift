/// The names of a scenario.
public struct Vocabulary: Hashable, Sendable {
    public var hosts: [String]
    public var vms: [String]
    public var domains: [String]
    public var resources: [String]

    public init(hosts: [String], vms: [String], domains: [String], resources: [String] = []) {
        self.hosts = hosts
        self.vms = vms
        self.domains = domains
        self.resources = resources
    }
}

/// A sentence that cannot be read: which word, and what may stand there.
public struct SentenceError: Error, Hashable, CustomStringConvertible {
    public var description: String
}

/// One form of sentence: fixed words, and slots in capitals.
struct Form<Value: Sendable>: Sendable {
    let words: [Substring]
    /// From the words of the slots.
    let make: @Sendable ([String]) -> Value?

    init(_ pattern: String, _ make: @escaping @Sendable ([String]) -> Value?) {
        words = pattern.split(separator: " ")
        self.make = make
    }

    var pattern: String { words.joined(separator: " ") }

    /// Reads a sentence by the form that it has.
    static func read(_ sentence: String, _ forms: [Form], _ names: Vocabulary?) throws(SentenceError) -> Value {
        let words = sentence.split(separator: " ")
        var open = forms
        for (index, word) in words.enumerated() {
            let possible = open.filter { $0.words.count > index }
            let fixed = possible.filter { $0.words[index] == word }
            let slots = possible.filter { Slot($0.words[index])?.admits(word, names) == true }
            guard !fixed.isEmpty || !slots.isEmpty else { throw unreadable(sentence, word, possible, at: index, names) }
            open = fixed.isEmpty ? slots : fixed
        }
        guard let form = open.first(where: { $0.words.count == words.count }) else {
            throw unreadable(sentence, nil, open, at: words.count, names)
        }
        let filled = zip(form.words, words).filter { Slot($0.0) != nil }.map { String($0.1) }
        guard let value = form.make(filled) else { throw SentenceError(description: "\"\(sentence)\" is not possible") }
        return value
    }

    private static func unreadable(_ sentence: String, _ word: Substring?, _ forms: [Form], at index: Int, _ names: Vocabulary?) -> SentenceError {
        var expected: [String] = []
        for form in forms {
            let text = Slot(form.words[index])?.explanation(names) ?? String(form.words[index])
            if !expected.contains(text) { expected.append(text) }
        }
        let start = word.map { "\"\($0)\" in \"\(sentence)\" is not known" } ?? "\"\(sentence)\" is not complete"
        let hint = expected.isEmpty ? "the sentence ends before it" : "possible: \(expected.joined(separator: ", "))"
        return SentenceError(description: "\(start); \(hint)")
    }
}

/// A place for a name in a form.
enum Slot: String {
    case host = "HOST"
    /// A host, or `all`.
    case hosts = "HOSTS"
    case vm = "VM"
    case domain = "DOMAIN"
    /// What is used under a lease.
    case resource = "RESOURCE"
    /// A domain, or `all`.
    case domains = "DOMAINS"
    case process = "PROCESS"
    /// An end of the network.
    case place = "PLACE"
    case number = "NUMBER"
    /// Statuses and words with a fixed set of values.
    case hostStatus = "HOSTSTATUS"
    case vmStatus = "VMSTATUS"
    case domainStatus = "DOMAINSTATUS"
    case proofKind = "PROOFKIND"
    case code = "CODE"

    init?(_ word: Substring) {
        guard let slot = Slot(rawValue: String(word)) else { return nil }
        self = slot
    }

    func admits(_ word: Substring, _ names: Vocabulary?) -> Bool {
        let word = String(word)
        switch self {
        case .number: return Int(word).map { $0 >= 0 } ?? false
        case .code: return word.contains(".")
        case .process:
            guard let process = ProcessName(word) else { return false }
            guard let names else { return true }
            return process.isOf(names)
        default: return known(names)?.contains(word) ?? true
        }
    }

    /// The words that it admits; `nil`: any.
    private func known(_ names: Vocabulary?) -> [String]? {
        switch self {
        case .host: names?.hosts
        case .hosts: names.map { $0.hosts + ["all"] }
        case .vm: names?.vms
        case .domain: names?.domains
        case .resource: names?.resources
        case .domains: names.map { $0.domains + ["all"] }
        case .place: names.map { $0.hosts + ["manager", World.secondManager] }
        case .hostStatus: Scenario.Expectation.hostStatuses
        case .vmStatus: Scenario.Expectation.vmStatuses
        case .domainStatus: Scenario.Expectation.domainStatuses
        case .proofKind: Scenario.Expectation.proofKinds
        case .process, .number, .code: nil
        }
    }

    func explanation(_ names: Vocabulary?) -> String {
        switch self {
        case .number: return "a number"
        case .code: return "an error code such as vm.not-found"
        case .process:
            return "a process: fencing-service, placement-service, spm-coordinator, domain-monitor, lease-service@HOST, host-agent@HOST, worker@HOST, guard@VM"
        default: return known(names).map { $0.isEmpty ? "nothing (there is no \(rawValue))" : $0.joined(separator: ", ") } ?? rawValue
        }
    }
}

extension ProcessName {
    fileprivate func isOf(_ names: Vocabulary) -> Bool {
        switch self {
        case .fencingService, .placementService, .spmCoordinator, .domainMonitor: true
        case .leaseService(let host), .hostAgent(let host), .worker(let host): names.hosts.contains(host)
        case .vmGuard(let vm): names.vms.contains(vm)
        }
    }
}
