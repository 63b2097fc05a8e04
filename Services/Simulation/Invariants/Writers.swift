import Messages

/// Who writes which disk, and who holds which lease.
struct Writers: Sendable {
    private struct Held: Sendable {
        var run: Run
        var lease: GuardLease
        var fact: Fact
    }

    /// The last run that began on each disk, and whether it lives.
    private var writers: [String: (run: Run, isLive: Bool, fact: Fact)] = [:]
    /// Live runs by the leases that they were granted; several if all of them share it.
    private var holders: [LeaseName: [Held]] = [:]
    private var owners: [LeaseName: LeaseOwner?] = [:]
    /// Of each host: lockspace to the highest generation that a proof covers.
    private var covered: [String: [String: UInt64]] = [:]
    /// What each live run has.
    private var disks: [Run: [String]] = [:]
    private var leases: [Run: [LeaseName]] = [:]

    mutating func begin(_ run: Run, writes: [String], leases granted: [GuardLease], _ judgement: inout Judgement) {
        for disk in writes {
            if let other = writers[disk], other.isLive, other.run != run {
                judgement.violation(.I1, "\(run) began to write disk \(disk), which \(other.run) still writes", earlier: other.fact)
            }
            writers[disk] = (run, true, judgement.fact)
        }
        for lease in granted {
            if let other = holders[lease.name]?.first(where: { $0.run != run && (lease.mode == .exclusive || $0.lease.mode == .exclusive) }) {
                judgement.violation(run.invariant, "\(run) began with lease \(lease.name.resource), with which \(other.run) still runs", earlier: other.fact)
            }
            if lease.generation > 0, let highest = covered[run.host]?[lease.name.lockspace], lease.generation <= highest {
                judgement.violation(.I3, "\(run) began with generation \(lease.generation) of lease \(lease.name.resource), which a proof covers up to \(highest)")
            }
            holders[lease.name, default: []].removeAll { $0.run == run }
            holders[lease.name]?.append(Held(run: run, lease: lease, fact: judgement.fact))
            if let owner = owners[lease.name] { judge(run, lease, owner, &judgement, earlier: nil) }
        }
        for disk in disks[run] ?? [] where !writes.contains(disk) && writers[disk]?.run == run { writers[disk]?.isLive = false }
        disks[run] = writes.isEmpty ? nil : writes
        if !granted.isEmpty { leases[run] = granted.map(\.name) }
    }

    mutating func end(_ run: Run) {
        for disk in disks.removeValue(forKey: run) ?? [] where writers[disk]?.run == run { writers[disk]?.isLive = false }
        for lease in leases.removeValue(forKey: run) ?? [] { holders[lease]?.removeAll { $0.run == run } }
    }

    func judgeWrite(_ run: Run, _ disk: String, _ judgement: inout Judgement) {
        guard let last = writers[disk], last.run != run else { return }
        judgement.violation(.I1, "a write of \(run) reached disk \(disk) after \(last.run) had begun on it", earlier: last.fact)
    }

    mutating func change(_ lease: LeaseName, _ owner: LeaseOwner?, _ judgement: inout Judgement) {
        owners[lease] = .some(owner)
        for held in holders[lease] ?? [] { judge(held.run, held.lease, owner, &judgement, earlier: held.fact) }
    }

    /// A proof opens the leases that it covers: nobody may run with them.
    mutating func take(_ proof: Proof, _ judgement: inout Judgement) {
        guard proof.kind != .ended else { return }
        covered[proof.host, default: [:]].merge(proof.generations) { max($0, $1) }
        for held in holders.values.joined().filter({ $0.run.host == proof.host }).sorted(by: { "\($0.run)\($0.lease.name)" < "\($1.run)\($1.lease.name)" }) {
            guard let covered = proof.generations[held.lease.name.lockspace], held.lease.generation > 0, held.lease.generation <= covered else { continue }
            judgement.violation(
                .I3, "proof \(proof.id) (\(proof.kind.rawValue)) covers generation \(held.lease.generation) of \(held.lease.name.resource), with which \(held.run) runs", earlier: held.fact)
        }
    }

    mutating func revoke(_ proof: Proof) { covered[proof.host] = nil }

    private func judge(_ run: Run, _ lease: GuardLease, _ owner: LeaseOwner?, _ judgement: inout Judgement, earlier: Fact?) {
        // A share is entered before the leader is freed; from then on nobody else may own it.
        if lease.mode == .shared, owner.map({ $0.isSharing || $0.host == run.host }) ?? true { return }
        guard let owner else {
            return judgement.violation(run.invariant, "lease \(lease.name.resource) is free while \(run) runs with it", earlier: earlier)
        }
        // A source that does not know the numbers says 0.
        let isSame = owner.host == run.host && [0, owner.generation].contains(lease.generation) && [0, owner.lver].contains(lease.lver)
        guard !isSame else { return }
        judgement.violation(
            run.invariant, "lease \(lease.name.resource) belongs to \(owner.host) (generation \(owner.generation), version \(owner.lver)) while \(run) runs with it", earlier: earlier)
    }
}

extension Run {
    /// What is broken when it is not alone.
    var invariant: Invariant { holder.role == .vm ? .I1 : .I2 }
}
