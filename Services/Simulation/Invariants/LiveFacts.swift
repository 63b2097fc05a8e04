public import Messages

/// What a live cluster's snapshots and events say, as facts.
///
/// The stream knows less than the truth, late and in no common order, so that whatever could accuse somebody waits and whatever exonerates does not:
///
/// * Ends and proofs are facts at once.
/// * A run is a fact once it was reported twice, ``Patience/settle`` apart: one late report is none.
/// * A run beside another one of the same VM or pool is a fact only when the other one is reported alive, too, by then; or when fencing-service has been heard for
///   ``Patience/proof`` since and still has no proof that the silent one is over. Until proven over it counts as alive.
/// * A run that was said to be over and is reported again, twice, outlived that.
///
/// It never says ``Fact/writeLanded(_:disk:)``, ``Fact/startSent(_:_:)``, ``Fact/hostHeard(host:boot:)`` or what was acknowledged: nobody publishes them so that they could be relied on.
public struct LiveFacts: Sendable {
    /// How long it waits before it believes in something bad.
    public struct Patience: Sendable {
        public var settle: Duration
        public var proof: Duration
        public init(settle: Duration = .seconds(3), proof: Duration = .seconds(10)) {
            self.settle = settle
            self.proof = proof
        }
    }

    public enum Report: Sendable {
        /// It was heard, with nothing that matters here.
        case alive
        case fencing(FencingSnapshot)
        case host(HostView)
        case hostRemoved(String)
        case proof(Proof)
        case proofRevoked(Proof)
        /// An event `fence.*`, by its type.
        case fenceCase(String, FenceCaseView)
        case definition(VMDefinition)
        case vms(AgentVMs)
        case leases(LeaseSnapshot)
        /// An event `lease.*` of this host's lease-service, by its type.
        case lease(String, LeaseEvent, host: String)
        case renewal(LockspaceRenewal, host: String)
    }

    struct Sighting: Sendable {
        /// When it was first reported, of the reports that count together.
        var first: Instant
        var last: Instant
        var lease: GuardLease?
        var isLost = false
        /// It was said to be over.
        var isOver = false
        /// It is a fact that it lives.
        var isTold = false
        /// It was a fact once.
        var wasTold = false
    }

    struct Boot: Hashable, Sendable {
        var host: String
        var boot: String
    }

    let patience: Patience
    private(set) var sightings: [Run: Sighting] = [:]
    var disks: [String: [String]] = [:]
    var numbers: [Boot: Incarnation] = [:]
    /// Of each host, the newest proof about its life.
    var proven: [String: Proof] = [:]
    var cases: Set<String> = []
    /// Of each lease-service, the boot that its snapshot named.
    var leaseBoots: [String: String] = [:]
    private var fencingEpoch: String?
    private var fencingHeard: Instant?

    public init(patience: Patience = Patience()) { self.patience = patience }

    /// What fencing-service says, in this life (`epoch`) of it.
    public mutating func takeFencing(_ report: Report, epoch: String, at now: Instant) -> [Fact] {
        fencingHeard = now
        var facts = understand(report, now)
        // What the first words of a new life tell of is older than that life.
        if let fencingEpoch, fencingEpoch != epoch { facts.append(.serviceStarted("fencing-service")) }
        fencingEpoch = epoch
        return facts + settle(at: now)
    }

    /// What any other process says.
    public mutating func take(_ report: Report, at now: Instant) -> [Fact] { understand(report, now) + settle(at: now) }

    /// Time passed.
    public mutating func tick(at now: Instant) -> [Fact] {
        sightings = sightings.filter { !$0.value.isOver || now - $0.value.last < .seconds(3600) }
        return settle(at: now)
    }

    /// This process stood still: what it reads now may be old, so that nothing that was about to be believed is.
    public mutating func resume(at now: Instant) {
        for run in sightings.keys where sightings[run]?.isTold == false {
            sightings[run]?.first = now
            sightings[run]?.last = now
        }
    }

    // MARK: Sightings

    mutating func see(_ run: Run, lease: GuardLease? = nil, at now: Instant) {
        var sighting = sightings[run] ?? Sighting(first: now, last: now)
        if sighting.isOver {
            sighting.first = now
            sighting.isOver = false
        }
        sighting.last = now
        sighting.lease = lease ?? sighting.lease
        sighting.isLost = false
        sightings[run] = sighting
    }

    /// Its own host says that it is over.
    mutating func end(_ run: Run) -> [Fact] {
        guard let sighting = sightings[run], !sighting.isOver else { return [] }
        close(run)
        let ended: [Fact] = sighting.isTold ? [run.holder.role == .vm ? .guestEnded(run, .unknown) : .workerEnded(run)] : []
        return ended + [.saidOver(run)]
    }

    mutating func close(_ run: Run) {
        sightings[run]?.isOver = true
        sightings[run]?.isTold = false
    }

    mutating func lose(_ run: Run) { sightings[run]?.isLost = true }

    mutating func renew(_ renewal: LockspaceRenewal, on boot: Boot, at now: Instant) {
        for (run, sighting) in sightings where run.host == boot.host && run.boot == boot.boot {
            guard sighting.lease?.name.lockspace == renewal.lockspace, !sighting.isLost, !sighting.isOver else { continue }
            sightings[run]?.last = now
        }
    }

    /// What may be believed by now. Runs are few, and those that are not told yet fewer.
    private mutating func settle(at now: Instant) -> [Fact] {
        var facts: [Fact] = []
        let pending = sightings.filter { !$0.value.isOver && !$0.value.isTold && $0.value.last - $0.value.first >= patience.settle }
        for (run, sighting) in pending.sorted(by: { ($0.value.first, "\($0.key)") < ($1.value.first, "\($1.key)") }) where isCertain(run, sighting) {
            sightings[run]?.isTold = true
            sightings[run]?.wasTold = true
            let writes = run.holder.role == .vm ? disks[run.holder.name] ?? [] : []
            if sighting.wasTold {
                facts.append(.outlived(run, writes: writes))
            } else if let lease = sighting.lease {
                facts.append(.workerBegan(run, lease: lease))
            } else {
                facts.append(.guestBegan(run, writes: writes, leases: []))
            }
        }
        return facts
    }

    private func isCertain(_ run: Run, _ sighting: Sighting) -> Bool {
        let others = sightings.filter { $0.key != run && $0.value.isTold && $0.key.holder.role == run.holder.role && $0.key.holder.name == run.holder.name }
        return others.values.allSatisfy { other in
            if other.last - sighting.first >= patience.settle { return true }
            return fencingHeard.map { $0 - sighting.first >= patience.proof } ?? false
        }
    }
}
