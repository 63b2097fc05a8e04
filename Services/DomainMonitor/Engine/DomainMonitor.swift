import Messages

/// What is known of every storage domain, from every host that can see it.
///
/// | status      | any Up host: ok | every Up host: not ok for `failure` | no Up host | `domain.maintenance` | `domain.activate` |
/// |-------------|-----------------|--------------------------------------|------------|----------------------|-------------------|
/// | Locked      | – (being made; → Activating when done, gone when refused)                  |||| –                 |
/// | Activating  | → Active        | → Inactive                           | → Unknown  | → Maintenance        | stay              |
/// | Active      | stay            | → Inactive                           | → Unknown  | → Maintenance        | stay              |
/// | Inactive    | → Active        | stay                                 | → Unknown  | → Maintenance        | stay              |
/// | Unknown     | → Active        | → Inactive                           | stay       | → Maintenance        | stay              |
/// | Maintenance | stay            | stay                                 | stay       | stay                 | → Activating      |
///
/// A host that has not reported, or whose probe has not answered, says nothing for or against (I4). Bad everywhere is the domain's problem; bad on one host for `failure` while another
/// Up host sees it well is that host's: fencing-service is asked to set it NonOperational, and to clear that when it sees the domain again. The last good host is never set aside.
/// Hosts that answer are connected to every watched domain again whenever their report lacks it.
public struct DomainMonitor: Engine {
    /// By name; after a start as last known until the registry is fresh.
    public internal(set) var hosts: [String: MonitoredHost] = [:]
    /// By uuid.
    public internal(set) var domains: [String: Domain] = [:]
    /// Only reports heard since the last start.
    public internal(set) var reports: [String: HostReport] = [:]
    var policy = DomainPolicy()
    /// The registry was read since the last start.
    var fresh = false
    var nextCreation: UInt64 = 1
    /// Host to domain: connections that the host's report does not show yet.
    var links: [String: [String: Link]] = [:]
    /// Host to the domains, sorted, for which it is to be NonOperational.
    var unfit: [String: [String]] = [:]
    /// Host to what fencing-service last acknowledged; no entry: nothing.
    var told: [String: String] = [:]
    /// Hosts of which something was told and never acknowledged: told again, even if it is that nothing is wrong.
    var unsure: Set<String> = []
    /// Host to the telling that has not been acknowledged.
    var telling: [String: Link] = [:]

    /// Knows nothing yet.
    public init() {}

    public var publicState: any Encodable & Sendable { DomainList(domains: views) }

    /// Domains by name.
    public var views: [DomainView] { domains.values.map(\.view).sorted { ($0.name, $0.domain) < ($1.name, $1.domain) } }

    /// By uuid or name.
    public func domain(named name: String) -> Domain? { domains[name] ?? domains.values.filter { $0.name == name }.min { $0.uuid < $1.uuid } }

    /// Applies one input; every domain and host then names what it wants next.
    public mutating func handle(_ input: DomainInput, at now: Instant) -> [Effect<DomainAction>] {
        var effects: [Effect<DomainAction>] = []
        switch input {
        case .started(let policy): onStarted(policy)
        case .wake: break
        case .create(let id, let request): onCreate(id, request, &effects)
        case .maintenance(let id, let request): onMaintenance(id, request, &effects)
        case .activate(let id, let request): onActivate(id, request, &effects)
        case .hosts(let all): onHosts(all)
        case .host(let host): onHost(host)
        case .hostRemoved(let name): onHostRemoved(name)
        case .report(let host, let report): reports[host] = report
        case .created(let ask, let answer): onCreated(ask, answer, at: now, &effects)
        case .connected(let ask, let answer): onConnected(ask, answer, at: now)
        case .flagged(let status, let answer): onFlagged(status, answer, at: now)
        }
        for uuid in domains.keys.sorted() {
            make(uuid, at: now, &effects)
            judge(uuid, at: now, &effects)
            show(uuid, &effects)
        }
        connect(at: now, &effects)
        flag(at: now, &effects)
        if let next = nextWake(after: now) { effects.append(.wake(at: next)) }
        return effects
    }

    /// Forgets what was on its way and every report: what was true before may not be true now.
    mutating func onStarted(_ policy: DomainPolicy) {
        self.policy = policy
        fresh = false
        reports = [:]
        links = [:]
        telling = [:]
        for uuid in domains.keys {
            domains[uuid]?.creation?.inFlight = false
            domains[uuid]?.creation?.retryAt = nil
            domains[uuid]?.badSince = nil
            domains[uuid]?.badOn = [:]
        }
    }

    mutating func onHosts(_ all: [MonitoredHost]) {
        fresh = true
        let named = Set(all.map(\.name))
        for name in hosts.keys.sorted() where !named.contains(name) { onHostRemoved(name) }
        for host in all { onHost(host) }
    }

    /// A host that is Up although it was set aside was activated by an operator: it is judged anew.
    mutating func onHost(_ host: MonitoredHost) {
        if hosts[host.name]?.status == .nonOperational, host.status == .up, told[host.name] != nil {
            told[host.name] = nil
            unfit[host.name] = nil
        }
        hosts[host.name] = host
    }

    mutating func onHostRemoved(_ name: String) {
        hosts[name] = nil
        reports[name] = nil
        links[name] = nil
        unfit[name] = nil
        told[name] = nil
        unsure.remove(name)
        telling[name] = nil
    }

    mutating func onMaintenance(_ id: RequestID, _ request: DomainRequest, _ effects: inout [Effect<DomainAction>]) {
        guard let domain = existing(id, request, &effects) else { return }
        domains[domain.uuid]?.status = .maintenance
        domains[domain.uuid]?.reason = "an operator put it into maintenance: it is not watched; hosts stay connected"
        domains[domain.uuid]?.badSince = nil
        domains[domain.uuid]?.badOn = [:]
        finish(id, domain.uuid, "maintenance", &effects)
    }

    mutating func onActivate(_ id: RequestID, _ request: DomainRequest, _ effects: inout [Effect<DomainAction>]) {
        guard let domain = existing(id, request, &effects) else { return }
        if domain.status == .maintenance {
            domains[domain.uuid]?.status = .activating
            domains[domain.uuid]?.reason = "an operator activated it"
        }
        finish(id, domain.uuid, "activated", &effects)
    }

    private func existing(_ id: RequestID, _ request: DomainRequest, _ effects: inout [Effect<DomainAction>]) -> Domain? {
        guard let domain = domain(named: request.domain) else {
            effects.append(.reply(to: id, .refused(RequestError(DomainErrorCode.notFound, "there is no domain \(request.domain)"))))
            return nil
        }
        guard domain.creation == nil else {
            effects.append(.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "domain \(domain.name) is being created"))))
            return nil
        }
        return domain
    }

    private mutating func finish(_ id: RequestID, _ uuid: String, _ what: String, _ effects: inout [Effect<DomainAction>]) {
        effects.append(.decide(Decision("domain/\(uuid)", what, why: "an operator asked for it")))
        show(uuid, &effects)
        if let view = domains[uuid]?.view { effects.append(.reply(to: id, .success(view))) }
    }

    /// The earliest moment at which any part wants to act.
    func nextWake(after now: Instant) -> Instant? {
        var moments: [Instant] = []
        for domain in domains.values {
            if let creation = domain.creation, !creation.inFlight, let retryAt = creation.retryAt { moments.append(retryAt) }
            if let badSince = domain.badSince { moments.append(badSince + policy.failure) }
            moments += domain.badOn.values.map { $0 + policy.failure }
        }
        for link in links.values.flatMap(\.values) + Array(telling.values) where !link.inFlight { moments.append(link.retryAt) }
        return moments.filter { $0 > now }.min()
    }
}
