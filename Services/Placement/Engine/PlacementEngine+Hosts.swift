import Messages

/// What fencing-service says: hosts, proofs, and whether recovery may act.
extension PlacementEngine {
    mutating func onFencing(_ snapshot: FencingSnapshot, _ turn: inout Turn) {
        let names = Set(snapshot.hosts.map(\.name))
        for gone in hosts.keys.sorted() where !names.contains(gone) { onHostRemoved(gone, &turn) }
        for host in snapshot.hosts.sorted(by: { $0.name < $1.name }) { onHost(host, &turn) }
        recoveryAllowed = snapshot.ha.recoveryAllowed
        synced = true
    }

    mutating func onHA(_ state: HAState) { recoveryAllowed = state.recoveryAllowed }

    mutating func onHost(_ view: HostView, _ turn: inout Turn) {
        let known = hosts[view.name]
        if let known, view.incarnation < known.view.incarnation { return }
        hosts[view.name] = HostRecord(view: view, seenAt: turn.now, reportedBoot: known?.reportedBoot, aliens: known?.aliens ?? [])
        if let proof = view.proof {
            hold(proof, &turn)
        } else if known?.view.proof != nil, isProvenOver(view.name, view.incarnation) {  // a host that was enrolled anew never had it and revokes nothing
            onProofRevoked(view.name)
        }
        if let proof = view.leaseProof { hold(proof, &turn) }
        forgetOldSightings(on: view.name)
        for name in vms.keys.sorted() {
            guard let vm = vms[name], let run = vm.run, run.host == view.name, vm.end == nil, vm.phase == .up || vm.phase == .starting else { continue }
            if view.incarnation != run.incarnation || view.bootID != run.bootID {
                markUnknown(name, "\(view.name) is in a new life (incarnation \(view.incarnation)); the run of incarnation \(run.incarnation) is not proven over yet", &turn)
            } else if let known = hosts[view.name], !known.answers {
                markUnknown(name, "\(view.name) is \(view.status.rawValue): \(view.reason)", &turn)
            }
        }
        if known?.view.status != .up && view.status == .up || known?.view.generations != view.generations { retryNow(turn.now) }
    }

    /// Every host that fencing-service named, by name.
    public var hostViews: [HostView] { hosts.keys.sorted().compactMap { hosts[$0]?.view } }

    mutating func onHostRemoved(_ host: String, _ turn: inout Turn) {
        hosts[host] = nil
        forgetOldSightings(on: host)
        for name in vms.keys.sorted() {
            guard let vm = vms[name], vm.run?.host == host, vm.end == nil, vm.phase == .up || vm.phase == .starting else { continue }
            markUnknown(name, "\(host) was forgotten", &turn)
        }
    }

    mutating func onProof(_ signed: SignedProof, _ turn: inout Turn) {
        if signed.proof.kind == .leaseExpired { hosts[signed.proof.host]?.view.leaseProof = signed } else { hosts[signed.proof.host]?.view.proof = signed }
        hold(signed, &turn)
    }

    /// A life sign of an incarnation that was proven dead; what follows for the runs there: ``proceedDoubts(_:_:)``.
    mutating func onProofRevoked(_ host: String) { proofs[host] = nil }

    /// A run that is over only by a proof about its host is unknown again once no held proof covers it, whichever proof ended it and whatever was tried since.
    mutating func proceedDoubts(_ names: [String], _ turn: inout Turn) {
        for name in names {
            guard var vm = vms[name], vm.preparation == nil, vm.run == nil || vm.end != nil else { continue }
            var runs = Array(vm.provenRuns.values)
            if case .hostProven = vm.end, let run = vm.run { runs.append(run) }
            let doubted = runs.filter { !isProvenOver($0) }.max { $0.attempt < $1.attempt }
            guard let doubted else { continue }
            if vm.run != doubted {
                vm.setRunAside()
                vm.provenRuns[doubted.host] = nil
                vm.run = doubted
            }
            vm.end = nil
            if let sighting = vm.sighting, sighting.bootID == doubted.bootID, sighting.attempt == doubted.attempt { vm.sighting = nil }
            vms[name] = vm
            markUnknown(name, "the proof that \(doubted.host) was off was revoked: the host showed a sign of life", &turn)
        }
    }

    /// Whether a held proof about its host says that this run is over.
    private func isProvenOver(_ run: VMRun) -> Bool {
        [proofs[run.host], leaseProofs?[run.host]].contains { $0.map { run.isOver(by: $0.signed.proof) } ?? false }
    }

    /// Whether the held proof covers this life of the host.
    func isProvenOver(_ host: String, _ incarnation: Incarnation) -> Bool {
        proofs[host]?.signed.proof.covers(host: host, incarnation: incarnation) ?? false
    }

    /// What this host was seen to run, but cannot run any more: it has a later life or none, and the earlier one is proven over.
    private mutating func forgetOldSightings(on host: String) {
        for name in vms.keys.sorted() {
            guard let sighting = vms[name]?.sighting, sighting.host == host, isProvenOver(host, sighting.incarnation) else { continue }
            if let known = hosts[host], known.view.incarnation <= sighting.incarnation { continue }
            vms[name]?.sighting = nil
        }
    }

    /// Keeps the newest proof of each host and ends the runs that it covers.
    private mutating func hold(_ signed: SignedProof, _ turn: inout Turn) {
        let host = signed.proof.host
        if signed.proof.kind == .leaseExpired { return holdLeaseProof(signed, &turn) }
        guard let covered = signed.proof.incarnations else { return }
        if let known = proofs[host], let knownCoverage = known.signed.proof.incarnations {
            guard covered >= knownCoverage else { return }
            if covered == knownCoverage, known.signed.proof.generations.count > signed.proof.generations.count { return }
            if known.signed.statement == signed.statement, known.aged(at: turn.now).age >= signed.age { return }
        }
        let held = HeldProof(signed: signed, receivedAt: turn.now)
        let isNews = proofs[host]?.signed.statement != signed.statement
        proofs[host] = held
        for name in vms.keys.sorted() {
            if isNews, let sighting = vms[name]?.sighting, signed.proof.covers(host: sighting.host, incarnation: sighting.incarnation) { vms[name]?.sighting = nil }
        }
        end(by: held, &turn)
        if isNews { retryNow(turn.now) }
    }

    private mutating func holdLeaseProof(_ signed: SignedProof, _ turn: inout Turn) {
        let host = signed.proof.host
        if let known = leaseProofs?[host] {
            guard signed.proof.generations.allSatisfy({ $0.value >= known.signed.proof.generations[$0.key] ?? 0 }) else { return }
            if known.signed.statement == signed.statement { return }
        }
        let held = HeldProof(signed: signed, receivedAt: turn.now)
        leaseProofs = (leaseProofs ?? [:]).merging([host: held]) { $1 }
        end(by: held, &turn)
        retryNow(turn.now)
    }

    /// Ends the runs that this proof covers.
    private mutating func end(by held: HeldProof, _ turn: inout Turn) {
        for name in vms.keys.sorted() {
            guard let vm = vms[name], let run = vm.run, vm.end == nil, run.isOver(by: held.signed.proof) else { continue }
            finish(name, .hostProven(held), &turn)
        }
    }

    /// Something changed for the better: whoever waits for a next round begins it now.
    mutating func retryNow(_ now: Instant) {
        for name in vms.keys.sorted() {
            guard let retryAt = vms[name]?.round.retryAt, retryAt > now, vms[name]?.phase == .waiting else { continue }
            vms[name]?.round.retryAt = nil
            vms[name]?.round.tried = [:]
        }
    }
}
