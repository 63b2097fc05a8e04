import ArgumentParser
import Bus
import Messages

/// `bulwark explain`: why something is as it is, from the journals of all manager services; of a lockspace from those of the hosts.
struct ExplainCommand: ParsableCommand {
    enum Kind: String, CaseIterable, ExpressibleByArgument { case vm, host, domain, spm, lockspace }

    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "The story of a VM, host, domain, lockspace or the SPM role: what was decided, when, and why.")
    @Argument(help: "vm, host, domain, spm or lockspace.") var kind: Kind
    @Argument(help: "Its name; for spm, domain and lockspace the only one if left out.") var name: String?
    @Flag(help: "Tell the whole story of the objects that belong to it, not only around the decisions that name them.") var all = false
    @OptionGroup var options: GlobalOptions

    func validate() throws {
        if name == nil, kind == .vm || kind == .host { throw ValidationError("name the \(kind.rawValue)") }
    }

    func run() throws {
        let cluster = try options.connect()
        let subject = try "\(kind.rawValue)/\(resolve(in: cluster))"
        var story = Story(cluster: cluster)
        try story.tell(of: subject, everything: all)
        try options.show(try JSONValue(encoding: story.decisions)) { story.text(story.decisions, empty: "nothing was decided about \(subject) yet") }
    }

    /// The name that the deciding service uses.
    private func resolve(in cluster: Cluster) throws -> String {
        switch (kind, name) {
        case (.vm, let name?), (.host, let name?): return name
        case (.spm, let name?): return name
        case (.domain, let name?), (.lockspace, let name?):
            var names = DomainNames(cluster: cluster)
            return try names.uuid(of: name)
        case (.domain, nil), (.lockspace, nil):
            let domains = try cluster.ask(.domains, "domain.list").decoded(as: DomainList.self).domains
            guard let one = domains.first, domains.count == 1 else {
                throw RequestError(RequestErrorCode.invalid, "name one of the domains: \(domains.map(\.name).joined(separator: ", "))")
            }
            return one.domain
        case (.spm, nil): return try cluster.ask(.spm, "pool.show", PoolRequest()).decoded(as: PoolView.self).pool
        case (.vm, nil), (.host, nil): throw ValidationError("name the \(kind.rawValue)")
        }
    }
}

/// Decisions of all manager services about one object and what belongs to it, merged by time.
struct Story {
    let cluster: Cluster
    private(set) var decisions: [Decision] = []
    /// Services that did not answer: the story may lack their part.
    private(set) var silent: [String] = []

    init(cluster: Cluster) { self.cluster = cluster }

    /// Collects the decisions about `subject`, and of the objects that these name in `see` those made near them.
    /// - Throws: `RequestError` if no service answers.
    mutating func tell(of subject: String, everything: Bool) throws {
        let own = try collect([subject])
        let linked = Set(own.flatMap(\.see)).subtracting([subject]).sorted()
        let moments = own.filter { !$0.see.isEmpty }
        let others = linked.isEmpty ? [] : try collect(linked).filter { other in
            everything || moments.contains { $0.see.contains(other.subject) && Self.near($0, other) }
        }
        decisions = Self.merged(own + others)
    }

    /// Every decision of every service.
    mutating func tellEverything(limit: Int) throws {
        decisions = Self.merged(try collect([nil], limit: limit))
    }

    private mutating func collect(_ subjects: [String?], limit: Int = 1000) throws -> [Decision] {
        let cluster = cluster
        var processes = ManagerService.allCases.compactMap { try? cluster.endpoints(of: $0) }
        // Of these the hosts decide themselves.
        if subjects.contains(where: { $0?.hasPrefix("lockspace/") ?? false }) { processes += cluster.localHosts.map(cluster.leaseService(of:)) }
        let questions = processes.flatMap { process in subjects.map { (process, $0) } }
        let answers = concurrently(questions) { process, subject in
            (process.name, Result { try cluster.ask(process, "explain", ExplainRequest(subject: subject, limit: limit)).decoded(as: Explanation.self).decisions })
        }
        var found: [Decision] = []
        var failure: (any Error)?
        var answered = false
        for (service, answer) in answers {
            switch answer {
            case .success(let decisions):
                answered = true
                found += decisions.map { decision in
                    var named = decision
                    named.source = service.contains("/") ? service : decision.source ?? service
                    return named
                }
            case .failure(let error):
                failure = failure ?? error
                if !silent.contains(service) { silent.append(service) }
            }
        }
        if !answered, let failure { throw failure }
        return found
    }

    /// Within a quarter of an hour; decisions without a time are kept.
    private static func near(_ a: Decision, _ b: Decision) -> Bool {
        guard let first = a.time.flatMap(WallClock.seconds), let second = b.time.flatMap(WallClock.seconds) else { return true }
        return abs(first - second) <= 900
    }

    /// By time; each service's own order is kept.
    private static func merged(_ decisions: [Decision]) -> [Decision] {
        var seen: Set<Decision> = []
        return decisions.filter { seen.insert($0).inserted }.enumerated()
            .sorted { ($0.element.time ?? "", $0.offset) < ($1.element.time ?? "", $1.offset) }.map(\.element)
    }

    /// The story for people; `empty` if there is none.
    func text(_ decisions: [Decision], empty: String) -> String {
        var names = DomainNames(cluster: cluster)
        var lines = decisions.isEmpty ? [empty] : decisions.map { names.readable(Self.line($0)) }
        lines += silent.map { "(\($0) did not answer: its part is missing)" }
        return lines.joined(separator: "\n")
    }

    /// Time, source, subject, what and why on one line, the evidence on a second.
    static func line(_ decision: Decision) -> String {
        let evidence = decision.evidence.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: "  ")
        let first = "\(WallClock.short(decision.time ?? ""))  \(decision.source ?? "?")  \(decision.subject): \(decision.what) - \(decision.why)"
        return evidence.isEmpty ? first : "\(first)\n          \(evidence)"
    }
}
