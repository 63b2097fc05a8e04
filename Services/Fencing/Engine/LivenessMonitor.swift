public import Messages

/// The failure detectors of all hosts: what the shell feeds with heartbeats, and what hands back the inputs to journal.
///
/// It holds nothing that matters: after a restart it observes anew.
public struct LivenessMonitor: Sendable {
    private var policy: FencingPolicy
    private var watched: [String: (watch: HostWatch, liveness: HostLiveness)] = [:]
    private var runningVMs: [String: Int] = [:]
    private var toldGuests: [String: GuestNews] = [:]
    private var spmHost: String?
    private var dumps: DumpMonitor

    public init(policy: FencingPolicy) {
        self.policy = policy
        dumps = DumpMonitor(policy: policy)
    }

    /// The earliest time ``onWake(at:)`` has something to do.
    public var nextWake: Instant? { (watched.values.compactMap(\.liveness.nextWake) + [dumps.nextWake].compactMap { $0 }).min() }

    /// Watches a host, or takes note of changed facts; another `connection` begins a new observation.
    ///
    /// - Returns: whether the subscription to its events must be made anew.
    public mutating func watch(_ watch: HostWatch, at now: Instant) -> Bool {
        dumps.watch(watch, at: now)
        if var known = watched[watch.host], known.watch.connection == watch.connection, known.watch.events == watch.events, known.watch.key == watch.key {
            known.watch = watch
            known.liveness.distrust(watch.deadBoots, otherThan: watch.hardwareID, bootID: watch.bootID)
            watched[watch.host] = known
            return false
        }
        var liveness = HostLiveness(host: watch.host, policy: policy, deadBoots: watch.deadBoots, startedAt: now)
        liveness.distrust(watch.deadBoots, otherThan: watch.hardwareID, bootID: watch.bootID)
        watched[watch.host] = (watch, liveness)
        return true
    }

    public mutating func unwatch(_ host: String) {
        watched[host] = nil
        toldGuests[host] = nil
        dumps.unwatch(host)
    }

    /// Whether any host may send kdump messages from there.
    public func expectsDumps(from address: String) -> Bool { dumps.expects(address) }

    /// A kdump message came from this address.
    ///
    /// - Returns: inputs to journal.
    public mutating func onDumpMessage(from address: String, at now: Instant) -> [FencingInput] { dumps.onMessage(from: address, at: now) }

    /// - Parameter host: whom the events are subscribed of; topics are prefixes, host1 also gets host10's.
    /// - Returns: inputs to journal; none for most heartbeats.
    public mutating func onHeartbeat(_ heartbeat: AgentHeartbeat, of host: String, at now: Instant) -> [FencingInput] {
        guard heartbeat.host == host else { return [] }
        return watched[host]?.liveness.onHeartbeat(heartbeat, at: now) ?? []
    }

    /// What the host runs: it may be given more time for that.
    ///
    /// - Returns: inputs to journal.
    @discardableResult public mutating func onVMs(_ report: AgentVMs, of host: String) -> [FencingInput] {
        guard report.host == host else { return [] }
        runningVMs[host] = report.vms.count { $0.state != .stopped }
        tellLoad(of: host)
        let news = GuestNews(report)
        guard policy.nonOperational > .zero, news != toldGuests[host] else { return [] }
        toldGuests[host] = news
        return [.guests(news)]
    }

    /// The pool's word of its SPM host; `nil`: it could not be read.
    public mutating func onPool(_ pool: PoolView?) {
        spmHost = pool?.spm
        for host in watched.keys.sorted() { tellLoad(of: host) }
    }

    private mutating func tellLoad(of host: String) { watched[host]?.liveness.onLoad(vms: runningVMs[host] ?? 0, isSPM: host == spmHost) }

    public mutating func onWake(at now: Instant) -> [FencingInput] {
        watched.keys.sorted().flatMap { watched[$0]?.liveness.onWake(at: now) ?? [] } + dumps.onWake(at: now)
    }
}
