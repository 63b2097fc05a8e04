import Messages

/// What follows from hearing a host, or from not hearing it.
extension FencingEngine {
    mutating func onHeard(_ heartbeat: AgentHeartbeat) {
        guard let host = hosts[heartbeat.host] else { return }
        if let problem = mistrust(of: heartbeat, host) {
            if host.identityProblem != problem { decide(host.name, "heartbeat not believed", why: problem) }
            return update(host.name) { $0.identityProblem = problem }
        }
        if heartbeat.bootID == host.bootID {
            onHeardAgain(heartbeat)
        } else if let old = host.lives.first(where: { $0.bootID == heartbeat.bootID }) {
            onOldLife(host.name, old)
        } else {
            onNewLife(heartbeat)
        }
    }

    /// Why this heartbeat cannot be this host's.
    private func mistrust(of heartbeat: AgentHeartbeat, _ host: HostRecord) -> String? {
        if heartbeat.hostID != host.definition.id {
            return "what is heard as \(host.name) says that its host id is \(heartbeat.hostID), not \(host.definition.id)"
        }
        if let known = host.hardwareID, known != heartbeat.hardwareID, heartbeat.bootID != host.bootID {
            return "what is heard as \(host.name) is another machine: hardware id \(heartbeat.hardwareID), not \(known); forget the host and add it anew if it was replaced"
        }
        if host.refusedBoots.contains(heartbeat.bootID) { return "the forgotten \(host.name) still runs under boot id \(heartbeat.bootID): reinstall it" }
        if let tomb = tombstones.first(where: { $0.hardwareID == heartbeat.hardwareID && $0.name != host.name && $0.boots.contains(heartbeat.bootID) }) {
            return "this is the forgotten host \(tomb.name), which has not been reinstalled"
        }
        return nil
    }

    private mutating func onHeardAgain(_ heartbeat: AgentHeartbeat) {
        let name = heartbeat.host
        take(heartbeat)
        noteHardwareID(heartbeat)
        guard let host = hosts[name] else { return }
        if host.isProvenDead { return revoke(name, "\(name) incarnation \(host.incarnation) was proven over and is heard again") }
        guard let open = host.fenceCase, open.incarnation == host.incarnation else { return }
        switch open.cause {
        case .silent, .shutDown: livesOn(name, open)
        case .unreaped where host.stuck.isEmpty && !open.offSent: closeCase(name, "\(name) has proven over what it could not")
        case .unreaped, .nonOperational, .operatorAsked, .proofRevoked, .toolstackLost: break
        }
    }

    /// The same boot is the same machine: what its agent calls its hardware was changed, and will be said after its next boot too.
    private mutating func noteHardwareID(_ heartbeat: AgentHeartbeat) {
        guard let known = hosts[heartbeat.host]?.hardwareID, known != heartbeat.hardwareID else { return }
        update(heartbeat.host) { $0.hardwareID = heartbeat.hardwareID }
        decide(heartbeat.host, "hardware id changed", why: "boot id \(heartbeat.bootID) goes on with hardware id \(heartbeat.hardwareID), not \(known) any more: the same machine")
        decideWhoseDevices(heartbeat.host)
        watch(heartbeat.host)
    }

    /// The suspect of an open case is heard. Once `off` was sent only a status tells what became of it.
    private mutating func livesOn(_ name: String, _ open: FenceCase) {
        guard let host = hosts[name] else { return }
        if !open.offSent {
            if let minted = host.minted, minted.covers(host: name, incarnation: host.incarnation) { update(name) { $0.minted = nil } }
            return closeCase(name, "\(name) is heard again with the same boot id; no off was sent")
        }
        if host.run != nil || host.minted != nil { return }
        if open.step == .failed, host.unresolved == nil, host.power == .on {
            return closeCase(name, "\(name) is heard again with the same boot id and its device reads on: the off had no effect")
        }
        step(name, .resolving, "\(name) is heard again after off was sent; its power status decides")
        run(.status, on: name)
    }

    /// Two boot ids of one identity (S14): a clone, or an init that is not the machine's. Everything automatic waits for a person.
    private mutating func onOldLife(_ name: String, _ old: HostRecord.Life) {
        guard let host = hosts[name] else { return }
        let text = "\(name) is heard with boot id \(old.bootID) of incarnation \(old.incarnation) although incarnation \(host.incarnation) is known: two machines, or two inits, use one identity"
        let isNews = ha.conflicts[name] == nil
        if isNews { decide(name, "everything held", why: text) }
        update(name) {
            if isNews { $0.identityProblem = text }
            $0.rebootDoubtedUntil = nil
            if $0.minted?.covers(host: name, incarnation: old.incarnation) == true { $0.minted = nil }
        }
        if let proof = host.proof, proof.proof.covers(host: name, incarnation: old.incarnation) { publishRevoked(name, proof) }
        guard isNews else { return }
        ha.conflicts[name] = text
        publishHA()
    }

    private mutating func onNewLife(_ heartbeat: AgentHeartbeat) {
        let name = heartbeat.host
        guard let before = hosts[name] else { return }
        update(name) { host in
            host.incarnation = host.incarnation.next
            host.lives.append(.init(incarnation: host.incarnation, bootID: heartbeat.bootID))
            if host.lives.count > 32 { host.lives.removeFirst() }
            host.hardwareID = heartbeat.hardwareID
            host.keptOff = false
            host.generationsBefore = [:]
            host.answeringSince = nil
            host.initializingSince = nil
            host.unreapedSince = nil
            host.toolstackLostSince = nil
            // The old life's status does not go over to the new one.
            if host.status == .up || host.status == .connecting { host.status = .initializing }
        }
        take(heartbeat)
        watch(name)
        if before.hardwareID != heartbeat.hardwareID { decideWhoseDevices(name) }
        guard before.hasLife, let host = hosts[name] else {
            return decide(name, "heard", why: "first heartbeat, boot id \(heartbeat.bootID)")
        }
        decide(name, "rebooted", why: "same hardware id and key heard with the new boot id \(heartbeat.bootID)", host.fenceCase)
        // A proof that covers the old life already is older, and so better: what it still lacks is completed as the new life tells it.
        if host.proof?.proof.covers(host: name, incarnation: before.incarnation) != true {
            if before.liveness == .silent { mintRebooted(name) } else { doubtReboot(name) }
        }
        guard let open = host.fenceCase else { return }
        if ha.revoked[name] != nil, open.cause == .proofRevoked {
            ha.revoked[name] = nil
            publishHA()
        }
        updateCase(name) {
            $0.booting = false
            $0.bootDeadline = nil
        }
        update(name) { $0.retryAt = nil }
        if host.run == nil, host.unresolved == nil {
            step(name, .booting, "\(name) came back as incarnation \(host.incarnation); it is to join its lockspaces and become Up")
        } else if host.run == nil {
            step(name, .resolving, "\(name) came back as incarnation \(host.incarnation); the outcome of \(host.unresolved?.rawValue ?? "a command") is open")
            run(.status, on: name)
        }
    }

    /// A machine that reboots is not heard meanwhile. Where it was heard just now, the new boot id may be that of another machine with its identity: the old one has some heartbeats' time to
    /// show that it lives.
    private mutating func doubtReboot(_ name: String) {
        let until = now + policy.heartbeat * 5
        update(name) { $0.rebootDoubtedUntil = until }
    }

    mutating func believeReboot(_ name: String) {
        guard let host = hosts[name], let until = host.rebootDoubtedUntil, until <= now, ha.conflicts[name] == nil else { return }
        // Whether the old life goes on can only be heard while its successor is.
        guard host.liveness == .heard, networkProblem == nil else { return }
        update(name) { $0.rebootDoubtedUntil = nil }
        if host.proof?.proof.covers(host: name, incarnation: Incarnation(host.incarnation.number - 1)) != true { mintRebooted(name) }
    }

    /// Takes over what a believed heartbeat says.
    private mutating func take(_ heartbeat: AgentHeartbeat) {
        let now = now
        let conflict = ha.conflicts[heartbeat.host]
        noteToolstack(heartbeat)
        update(heartbeat.host) { host in
            host.identityProblem = conflict
            host.liveness = .heard
            host.silence = nil
            host.initializing = heartbeat.initializing
            host.saysArmed = heartbeat.watchdogArmed ? true : nil
            host.obeyedOrder = heartbeat.watchdogOrder
            host.counter = max(host.counter, heartbeat.watchdogOrder?.serial ?? 0)
            host.watchdogArmed = heartbeat.watchdogArmed && host.isOrderObeyed
            host.leaving = heartbeat.leaving
            host.leavesToSave = heartbeat.leavesToSave
            if FreeMemory.isNews(heartbeat.memoryFreeMiB, after: host.memoryMiB) { host.memoryMiB = FreeMemory.bounded(heartbeat.memoryFreeMiB) }
            host.unreaped = heartbeat.unreapedGuards
            host.unproven = heartbeat.unprovenRuns
            if host.stuck.isEmpty { host.unreapedSince = nil } else if host.unreapedSince == nil { host.unreapedSince = now }
            host.initializingSince = heartbeat.initializing ? host.initializingSince ?? now : nil
            if heartbeat.initializing { host.answeringSince = nil } else if host.answeringSince == nil { host.answeringSince = now }
            host.generations = [:]
            host.lost = heartbeat.lockspaces.filter { $0.state == .lost || $0.state == .joining }.map(\.lockspace).sorted()
            for lockspace in heartbeat.lockspaces {
                if let before = lockspace.generationBefore { host.generationsBefore[lockspace.lockspace] = before }
                guard lockspace.state == .joined else { continue }
                host.generations[lockspace.lockspace] = lockspace.generation
                host.highestGenerations[lockspace.lockspace] = max(host.highestGenerations[lockspace.lockspace] ?? 0, lockspace.generation)
            }
        }
    }

    mutating func onMissing(_ silence: Silence) {
        update(silence.host) {
            $0.liveness = .missing
            $0.silence = silence
            $0.unreapedSince = nil
            $0.toolstackLostSince = nil
            $0.answeringSince = nil
            $0.initializingSince = nil
        }
    }

    mutating func onSilent(_ silence: Silence) {
        update(silence.host) {
            $0.liveness = .silent
            $0.silence = silence
            $0.unreapedSince = nil
            $0.toolstackLostSince = nil
            $0.answeringSince = nil
            $0.initializingSince = nil
        }
        guard let host = hosts[silence.host], host.hasLife, !host.maintenance else { return }
        if let open = host.fenceCase {
            if open.incarnation < host.incarnation {
                closeCase(host.name, "incarnation \(host.incarnation) fell silent before it was Up; a new case follows")
            } else {
                let isAnotherCause = isSilentNow(host.name, open)
                if open.step == .held || open.step == .failed || (isAnotherCause && open.step.isWaiting) { checkPower(host.name) }
                return
            }
        }
        if host.leaving == .over { return openCase(host.name, .shutDown, "it said goodbye and is silent: it is not switched off, and nothing of it waits for a fence") }
        openCase(host.name, .silent, "no heartbeat for \(silence.quiet.milliseconds) ms (\(silence.missed) missed, grace \(silence.grace.milliseconds) ms)")
    }

    /// S13: heartbeats are fine, but guests whose leases are lost cannot be ended; or they ended and cannot be proven over because the storage does not answer there (S4), and
    /// the host was set aside for that: others can use the storage.
    mutating func openCaseForUnreapedGuards(_ name: String) {
        guard let host = hosts[name], host.fenceCase == nil || isMereIntent(host), !host.maintenance, host.liveness == .heard, let since = host.unreapedSince else { return }
        if nobodyElseJoined(host) != nil {
            let now = now
            return update(name) { $0.unreapedSince = now }
        }
        guard now - since >= policy.grace, !host.unreaped.isEmpty || host.nonOperational != nil else { return }
        closeCase(name, "what ran on \(name) is stuck: that has a case of its own")
        openCase(name, .unreaped, "a lockspace is lost, and what ran with it cannot be proven over: \(host.stuck.joined(separator: ", "))")
    }
}
