import Messages

/// What each report says.
extension LiveFacts {
    mutating func understand(_ report: Report, _ now: Instant) -> [Fact] {
        switch report {
        case .alive:
            return []
        case .fencing(let snapshot):
            return snapshot.hosts.flatMap { takeHost($0) } + snapshot.cases.flatMap { takeCase("fence.started", $0) }
        case .host(let host):
            return takeHost(host)
        case .hostRemoved(let host):
            return endBoots(of: host) { _ in true }
        case .proof(let proof):
            return takeProof(proof)
        case .proofRevoked(let proof):
            proven[proof.host] = nil
            return [.proofRevoked(proof)]
        case .fenceCase(let type, let view):
            return takeCase(type, view)
        case .definition(let definition):
            // Who may write to a shareable disk together is told by their leases.
            disks[definition.name] = definition.disks.filter { !$0.readOnly && !$0.isShareable }.map(\.image)
            return []
        case .vms(let report):
            return takeVMs(report, now)
        case .leases(let snapshot):
            return takeLeases(snapshot, now)
        case .lease(let type, let event, let host):
            return takeLease(type, event, host, now)
        case .renewal(let renewal, let host):
            if renewal.ok, let boot = leaseBoots[host] { renew(renewal, on: Boot(host: host, boot: boot), at: now) }
            return []
        }
    }

    // MARK: fencing-service

    private mutating func takeHost(_ host: HostView) -> [Fact] {
        var facts: [Fact] = []
        if let boot = host.bootID, numbers.updateValue(host.incarnation, forKey: Boot(host: host.name, boot: boot)) != host.incarnation {
            facts.append(.bootNumbered(host: host.name, boot: boot, host.incarnation))
        }
        if let proof = host.proof?.proof { facts += takeProof(proof) }
        return facts
    }

    private mutating func takeProof(_ proof: Proof) -> [Fact] {
        guard proof.kind != .ended, let incarnations = proof.incarnations, proven[proof.host]?.id != proof.id else { return [] }
        proven[proof.host] = proof
        let numbers = numbers
        // A boot that never got a number was over before fencing-service came to know it.
        return endBoots(of: proof.host) { numbers[$0].map { $0 <= incarnations } ?? true } + [.proofMade(proof)]
    }

    /// A boot that is over is told so even if nothing was seen to run there.
    private mutating func endBoots(of host: String, where isOver: (Boot) -> Bool) -> [Fact] {
        let runs = sightings.filter { $0.key.host == host && !$0.value.isOver && isOver(Boot(host: host, boot: $0.key.boot)) }.keys
        for run in runs { close(run) }
        return Set(runs.map(\.boot)).sorted().map { .bootEnded(host: host, boot: $0) }
    }

    private mutating func takeCase(_ type: String, _ view: FenceCaseView) -> [Fact] {
        var facts: [Fact] = []
        if view.step == "closed" {
            cases.remove(view.id)
            return [.caseClosed(view.id, host: view.host)]
        }
        if cases.insert(view.id).inserted { facts.append(.caseOpened(view.id, host: view.host, view.cause.flatMap(CaseCause.init) ?? .unknown)) }
        if type == "fence.step", view.step == "off" { facts.append(.powerCommanded(host: view.host, .off, .fenceCase(view.id))) }
        return facts
    }

    // MARK: Hosts

    private mutating func takeVMs(_ report: AgentVMs, _ now: Instant) -> [Fact] {
        var facts: [Fact] = []
        var listed: Set<Run> = []
        for seen in report.vms {
            let run = Run.vm(seen.vm, seen.attempt, host: report.host, boot: report.bootID)
            listed.insert(run)
            switch seen.state {
            case .running, .paused: see(run, at: now)
            // A guest without a record: the process is there.
            case .unknown where seen.attempt == 0: see(run, at: now)
            case .stopped: facts += end(run) + (seen.ended.map { takeEnded($0.proof, run) } ?? [])
            case .starting, .unknown: break
            }
        }
        guard report.complete else { return facts }
        return facts + missing(from: listed, .vm, host: report.host, boot: report.bootID)
    }

    /// An agent repeats its proofs; each is a fact once.
    private mutating func takeEnded(_ proof: Proof, _ run: Run) -> [Fact] {
        guard proven[run.description]?.id != proof.id else { return [] }
        proven[run.description] = proof
        // An agent also speaks of what ran before its machine booted anew.
        let earlier = sightings.keys.filter { $0.host == run.host && $0.holder == run.holder }.sorted { $0.boot < $1.boot }
        return earlier.flatMap { end($0) } + [.proofMade(proof)]
    }

    private mutating func missing(from listed: Set<Run>, _ role: Holder.Role, host: String, boot: String) -> [Fact] {
        let gone = sightings.keys.filter { $0.host == host && $0.boot == boot && $0.holder.role == role && !listed.contains($0) }
        return gone.sorted { "\($0)" < "\($1)" }.flatMap { end($0) }
    }

    // MARK: The SPM role, by its lease

    private mutating func takeLeases(_ snapshot: LeaseSnapshot, _ now: Instant) -> [Fact] {
        leaseBoots[snapshot.host] = snapshot.bootID
        var listed: Set<Run> = []
        for lease in snapshot.leases {
            guard let holder = lease.holder.flatMap({ Holder($0) }), holder.role == .spm else { continue }
            let run = Run(host: snapshot.host, boot: snapshot.bootID, holder: holder)
            listed.insert(run)
            see(run, lease: GuardLease(name: lease.lease, lver: lease.lver, generation: lease.ownerGeneration ?? 0), at: now)
        }
        return missing(from: listed, .spm, host: snapshot.host, boot: snapshot.bootID)
    }

    private mutating func takeLease(_ type: String, _ event: LeaseEvent, _ host: String, _ now: Instant) -> [Fact] {
        guard let holder = Holder(event.holder), holder.role == .spm, let boot = leaseBoots[host] else { return [] }
        let run = Run(host: host, boot: boot, holder: holder)
        switch type {
        case "lease.acquired": see(run, lease: GuardLease(name: event.lease, lver: event.lver, generation: event.generation), at: now)
        case "lease.released": return end(run)
        // Its guard ends it by its deadline; until that is known it counts as alive, but no more as seen.
        case "lease.lost": lose(run)
        default: break
        }
        return []
    }
}
