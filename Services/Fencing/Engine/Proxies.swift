import Messages

/// A command that a proxy was told to carry out and did not answer.
struct OwedRun: Codable, Hashable, Sendable {
    var action: FenceAction
    var number: UInt64
    /// The proxy's life that was told.
    var incarnation: Incarnation
    var askedAt: Instant?
    /// It does not begin after this, whatever becomes of the proxy; `nil`: nobody noted that.
    var until: Instant?
}

/// Whether a proxy that owes an answer still has anything of it.
public struct ProxyQuestion: Codable, Hashable, Sendable {
    /// Whose power it is about.
    public var host: String
    public var proxy: String
    public var number: UInt64
}

public struct ProxyAnswer: Codable, Hashable, Sendable {
    public var host: String
    public var proxy: String
    public var number: UInt64
    /// It has nothing left, and refuses whatever older run comes to it; `false` also if it does not answer.
    public var isIdle: Bool
    public init(_ question: ProxyQuestion, _ reply: Result<FenceTicket, RequestError>) {
        host = question.host
        proxy = question.proxy
        number = question.number
        isIdle = if case .success(let ticket) = reply { ticket.isIdle } else { false }
    }
}

/// How a run goes through its proxy, and what the proxy's replies mean.
extension FenceRun {
    /// How long a proxy's word is awaited, beyond the time of what it does.
    public static let proxyPatience = Duration.seconds(3)

    /// Asked first: it finds out whether the proxy answers before anything is risked.
    public var prepare: FencePrepare { FencePrepare(host: host, number: number ?? 0) }

    public enum AfterPrepare: Sendable {
        /// Sent next, as `fence.run`.
        case run(FenceProxyRun)
        /// Nothing was sent.
        case ended([FencePart])
    }

    public func prepared(_ reply: Result<FenceTicket, RequestError>, after took: Duration) -> AfterPrepare {
        switch reply {
        case .success(let ticket):
            let proxied = proxied.map { devices[$0] }
            return .run(FenceProxyRun(host: host, number: number ?? 0, ticket: ticket.ticket, action: action, devices: proxied, deadline: deadline))
        case .failure(let error): return .ended(all(.failed("\(proxy ?? "") does not run it: \(error.isUnknownOutcome ? "no answer" : error.description)"), took))
        }
    }

    /// - Returns: also whether it may still come (S18).
    public func ran(_ reply: Result<FenceProxyResult, RequestError>, after took: Duration) -> (parts: [FencePart], isOwed: Bool) {
        switch reply {
        case .success(let result) where result.parts.count == proxied.count: (result.parts, false)
        case .success: (all(.failed("\(proxy ?? "") did not tell how it ended"), took), false)
        case .failure(let error) where error.isUnknownOutcome: (all(.timedOut("\(proxy ?? "") did not answer"), took), action.isDestructive)
        case .failure(let error): (all(.failed("\(proxy ?? "") refused: \(error)"), took), false)
        }
    }

    private func all(_ outcome: FenceOutcome, _ took: Duration) -> [FencePart] { proxied.map { _ in FencePart(outcome: outcome, took: took) } }
}

extension HostRecord {
    /// One of the devices that act now is reached through other hosts.
    var needsProxy: Bool { levelDevices.contains { definition.fence[$0].via == .hosts } }

    /// Nobody asked through other hosts once.
    mutating func askThroughHostsAgain() {
        for index in definition.fence.indices where definition.fence[index].via == .hosts && trust(index) == .cannotTell { setTrust(index, .unknown) }
    }

    /// Why it is neither switched on nor Up: a late `off` would hit it (S18).
    var owedText: String? {
        guard let proxy = owed?.keys.min(), let run = owed?[proxy] else { return nil }
        return "\(proxy) was told to switch it \(run.action.rawValue) and has not said that nothing of that is left; waits for its word, or for proof that its life is over"
    }
}

/// Fence devices that the manager reaches through other hosts.
///
/// A proxy that stands still may carry out what it was told after it was given up. So every run has a number, and the proxy refuses those below the last that it heard of (`fence.prepare`); a run
/// names a ticket, the proxy's own time, and does not begin later than its deadline after that; and after a command that was not answered, the host is neither switched on nor Up before the proxy
/// has said that nothing of it is left, or that life of the proxy is proven over.
extension FencingEngine {
    /// Hosts that answer, obey this manager, do not leave and are not suspects themselves; those that are Up first, those that are to be switched off although they answer last. All hosts are one cluster.
    func proxies(besides name: String) -> [String] {
        let able = names.filter { $0 != name && hosts[$0].map(isProxy) ?? false }
        func rank(_ name: String) -> Int { hosts[name].map { $0.status == .up ? 0 : isToBeFenced($0) ? 2 : 1 } ?? 2 }
        return able.sorted { (rank($0), $0) < (rank($1), $1) }
    }

    private func isProxy(_ host: HostRecord) -> Bool {
        guard host.liveness == .heard, host.identityProblem == nil, host.obeysOthers == nil, host.run?.action.isDestructive != true else { return false }
        guard policy.rules < 1 || (host.saving == nil && host.leaving != .over) else { return false }
        guard isToBeFenced(host), let open = host.fenceCase else { return true }
        return !open.offSent && (open.cause == .operatorAsked || open.cause == .unreaped)
    }

    /// It was told to carry something out for another host, and has not said that it is over.
    func isBusyAsProxy(_ name: String) -> Bool { hosts.values.contains { $0.run?.proxy == name || $0.owed?[name] != nil } }

    private func isToBeFenced(_ host: HostRecord) -> Bool { host.fenceCase.map { $0.incarnation == host.incarnation } ?? false }

    /// The first that has not failed, else the one that failed first.
    func proxy(for host: HostRecord) -> String? {
        guard host.needsProxy else { return nil }
        if let way = host.command?.ways?.first { return way.via }
        let able = proxies(besides: host.name)
        let failed = host.failedProxies ?? []
        return able.first { !failed.contains($0) } ?? failed.first { able.contains($0) }
    }

    /// Why this run cannot go through its proxy any more; nothing was sent then.
    func proxyObstacle(_ run: FenceRun) -> String? {
        guard let proxy = run.proxy else { return "no other host answers through which its fence device could be reached" }
        return hosts[proxy]?.liveness == .heard ? nil : "\(proxy), through which its fence device was to be reached, is not heard any more"
    }

    mutating func noteProxy(_ run: FenceRun, _ result: FenceResult) {
        guard let proxy = run.proxy, let host = hosts[run.host] else { return }
        let outcomes = run.proxied.map { index in result.parts.flatMap { $0.indices.contains(index) ? $0[index].outcome : nil } ?? result.outcome }
        let worked = outcomes.allSatisfy { $0 == .succeeded || $0 == .readsOff }
        let failed = host.failedProxies ?? []
        let left = proxies(besides: run.host).contains { $0 != proxy && !failed.contains($0) }
        update(run.host) {
            $0.failedProxies = failed.filter { $0 != proxy } + (worked ? [] : [proxy])
            if host.command?.verb == .rehearse { return }
            if worked { if run.action == .status, $0.unresolved == nil { $0.hasAnotherProxy = nil } } else { $0.hasAnotherProxy = left && !failed.contains(proxy) ? true : nil }
        }
    }

    // MARK: Commands that were not answered

    mutating func noteOwed(_ run: FenceRun) {
        guard run.action.isDestructive, let proxy = run.proxy, let incarnation = hosts[proxy]?.incarnation else { return }
        let until = now + run.deadline + FenceRun.proxyPatience
        update(run.host) { $0.owed = ($0.owed ?? [:]).merging([proxy: OwedRun(action: run.action, number: run.number ?? 0, incarnation: incarnation, until: until)]) { $1 } }
    }

    func nextQuestion(_ host: HostRecord) -> Instant? {
        host.owed?.compactMap { proxy, run in hosts[proxy] == nil ? run.until : hosts[proxy]?.liveness == .heard ? run.askedAt.map { $0 + policy.retry } : nil }.min()
    }

    mutating func settleOwed(_ name: String) {
        guard let owed = hosts[name]?.owed else { return }
        let now = now
        for proxy in owed.keys.sorted() {
            guard let run = owed[proxy] else { continue }
            guard let host = hosts[proxy] else {
                // It cannot be asked, but what it was told has its time.
                if run.until.map({ $0 <= now }) ?? true { forgive(name, proxy, "\(proxy) is no host any more, and the time in which it could begin is over") }
                continue
            }
            if host.proof?.proof.covers(host: proxy, incarnation: run.incarnation) == true {
                forgive(name, proxy, "the life of \(proxy) that was told is proven over")
            } else if host.liveness == .heard, hosts[name]?.run == nil, run.askedAt.map({ now - $0 >= policy.retry }) ?? true {
                var number: UInt64 = 0
                update(name) {
                    number = $0.nextNumber()
                    $0.owed?[proxy]?.askedAt = now
                }
                perform(.askProxy(ProxyQuestion(host: name, proxy: proxy, number: number)))
            }
        }
    }

    mutating func onProxyTold(_ answer: ProxyAnswer) {
        // A later command is not what was asked about.
        guard answer.isIdle, let run = hosts[answer.host]?.owed?[answer.proxy], run.number < answer.number else { return }
        forgive(answer.host, answer.proxy, "\(answer.proxy) says that nothing of it is left, and refuses what comes late")
    }

    private mutating func forgive(_ name: String, _ proxy: String, _ why: String) {
        guard let run = hosts[name]?.owed?[proxy] else { return }
        update(name) {
            $0.owed?[proxy] = nil
            if $0.owed?.isEmpty == true { $0.owed = nil }
        }
        decide(name, "the \(run.action.rawValue) that \(proxy) was told comes no more", why: why, hosts[name]?.fenceCase)
    }
}
