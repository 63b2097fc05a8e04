import Messages

/// A fence case whose host is proven over: it is switched on again, through every level that needs it.
extension FencingEngine {
    /// The proof of the case is signed: it is published already.
    mutating func onCaseProven(_ name: String, by proof: Proof) {
        guard let open = hosts[name]?.fenceCase else { return }
        updateCase(name) {
            if !$0.proven { $0.readings = 0 }
            $0.proven = true
        }
        if !open.proven, let now = hosts[name]?.fenceCase {
            var view = now.view(of: name)
            view.step = FenceCase.Step.proven.rawValue
            view.reason = proof.statement
            publish("fence.succeeded", name, view)
        }
        guard let host = hosts[name], host.run == nil, host.command == nil else { return }
        if proof.kind == .operatorConfirmed, host.power != .off {
            return postpone(name, .proven, "an operator confirmed that it is off; its device is still to switch it off and on")
        }
        let uncovered = host.uncovered(by: proof)
        if !uncovered.isEmpty, !readers(for: name).isEmpty, (hosts[name]?.fenceCase?.readings ?? 0) < 3 {
            return postpone(name, .proven, "proven, but nobody could read its generation in \(uncovered.joined(separator: ", ")); read again")
        }
        powerOn(name)
    }

    mutating func onProvenReadsOff(_ name: String, _ open: FenceCase) {
        guard let host = hosts[name] else { return }
        updateCase(name) { $0.readOff = true }
        if open.step == .recheckingOff { return mintPowerOff(name) }
        if open.step == .confirmingOn {
            if visitNextLevel(name) { return }
            endVisits(name)
            return postpone(name, .failed, "it still reads off after on")
        }
        let completes = !host.uncovered(by: host.proof?.proof).isEmpty && !readers(for: name).isEmpty && open.readings < 3
        if completes || host.proof?.proof.kind == .operatorConfirmed { readGenerations(name) } else { powerOn(name) }
    }

    mutating func onProvenReadsOn(_ name: String, _ open: FenceCase) {
        guard let host = hosts[name] else { return }
        // What was seen to be off since the confirmation, and reads on now, somebody has switched on: it may boot.
        if host.proof?.proof.kind == .operatorConfirmed, !open.booting, open.readOff != true { return open.step == .confirmingOff ? postponeStuck(name) : considerOff(name) }
        let again = open.step == .booting || (open.booting && open.step == .checking)
        let isWholeRound = noteVisit(name, again: again)
        if again, !isWholeRound, visitNextLevel(name) { return }
        let deadline = now + (isWholeRound ? policy.bootTimeout : min(policy.retry, policy.bootTimeout))
        if isWholeRound { endVisits(name) }
        updateCase(name) {
            $0.booting = true
            $0.bootDeadline = deadline
        }
        step(name, .booting, again ? "it reads on, and no heartbeat came yet" : "it reads on; waits for the heartbeat of a new life")
    }

    mutating func postponeStuck(_ name: String) { postpone(name, .failed, "an operator confirmed that it is off, but the device still reads on after off") }

    mutating func powerOn(_ name: String) {
        guard let host = hosts[name], host.run == nil, host.command == nil else { return }
        if host.deviceIsForeign { return postpone(name, .failed, Self.foreignDevice) }
        if let why = powerOnHold(host) { return step(name, .proven, "its life is proven over; it is not switched on: \(why)") }
        let isNewRound = beginsRound(host)
        let levels = (isNewRound ? [] : host.fenceCase?.levelsOn ?? []) + [host.level ?? 0]
        let (now, window) = (now, policy.rebootWindow)
        update(name) {
            // What the dead life's connection still holds must not be taken for a sign of life.
            $0.connection += 1
            if isNewRound { $0.reboots = ($0.reboots ?? []).filter { now - $0 < window } + [now] }
            if $0.levels.count > 1 { $0.fenceCase?.levelsOn = levels }
            $0.fenceCase?.booting = true
        }
        watch(name)
        step(name, .on, "switches it on through \(host.fenceDevice?.agent ?? "its device")")
        decide(name, "power on", why: "its last life is proven over", host.fenceCase)
        run(.on, on: name)
    }

    // MARK: Every level

    /// Whether a new attempt to bring it back begins: one goes through all levels, that which switched it off first.
    func beginsRound(_ host: HostRecord) -> Bool { host.fenceCase?.levelsOn?.contains(host.level ?? 0) ?? true }

    /// Its level reads on. An outlet that is on does not make a machine run that is off behind it: what the other levels switch is to be on too.
    ///
    /// - Parameter again: no heartbeat came, although it was switched on before.
    /// - Returns: whether no other level is left to look at.
    private mutating func noteVisit(_ name: String, again: Bool) -> Bool {
        guard let host = hosts[name], host.levels.count > 1, let open = host.fenceCase, again || open.levelsOn != nil else { return true }
        let level = host.level ?? 0
        if open.levelsOn?.contains(level) != true { updateCase(name) { $0.levelsOn = ($0.levelsOn ?? []) + [level] } }
        return nextLevel(name) == nil
    }

    private func nextLevel(_ name: String) -> Int? {
        guard let host = hosts[name], let seen = host.fenceCase?.levelsOn else { return nil }
        return host.levels.indices.first { level in !seen.contains(level) && !host.levels[level].contains { host.isOwn($0) == false } }
    }

    /// - Returns: `false`: there is none.
    private mutating func visitNextLevel(_ name: String) -> Bool {
        guard let next = nextLevel(name), let host = hosts[name], host.run == nil, host.command == nil else { return false }
        update(name) { $0.level = next }
        step(name, .checking, "looks at level \(host.definition.fence[host.levels[next][0]].level ?? 1) of its fence devices: what that switches is to be on, too")
        run(.status, on: name)
        return true
    }

    /// Afterwards the level that switched it off acts again.
    private mutating func endVisits(_ name: String) {
        update(name) {
            guard $0.levels.count > 1, let first = $0.fenceCase?.levelsOn?.first else { return }
            $0.level = first
            $0.fenceCase?.levelsOn = nil
        }
    }

    /// Another level was looked at that cannot be read, or its host is back already: neither says anything against what was done.
    ///
    /// - Returns: whether that was what was read.
    mutating func endsVisit(_ name: String) -> Bool {
        guard let host = hosts[name], let open = host.fenceCase, open.proven, let seen = open.levelsOn else { return false }
        let isBack = open.incarnation < host.incarnation
        let isVisit = !seen.contains(host.level ?? 0)
        guard isBack ? isVisit : host.power == .unknown && host.hasAnotherProxy != true && (isVisit || open.step == .confirmingOn) else { return false }
        updateCase(name) { if isVisit { $0.levelsOn = seen + [host.level ?? 0] } }
        if !isBack, visitNextLevel(name) { return true }
        endVisits(name)
        let (wasOn, deadline) = (host.reads?.contains { $0.value == .on } ?? false, now + policy.bootTimeout)
        if isBack {
            step(name, .booting, "\(name) came back as incarnation \(host.incarnation); it is to join its lockspaces and become Up")
        } else if wasOn {
            update(name) {
                $0.power = .on
                $0.fenceCase?.bootDeadline = deadline
            }
            step(name, .booting, "it reads on where it can be read; waits for the heartbeat of a new life")
        } else {
            postpone(name, .failed, "no level of its fence devices reads on after on")
        }
        return true
    }
}
