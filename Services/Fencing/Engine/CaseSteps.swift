import Messages

/// The steps of a fence case; their table is in ``FencingEngine``.
extension FencingEngine {
    // MARK: Opening, moving, closing

    mutating func openCase(_ name: String, _ cause: FenceCase.Cause, _ why: String) {
        guard let host = hosts[name], host.fenceCase == nil else { return }
        let now = now
        update(name) {
            $0.level = nil
            var open = FenceCase(id: "\(name)-case-\($0.nextNumber())", incarnation: $0.incarnation, cause: cause, reason: why)
            open.proven = $0.isProvenDead && cause == .silent
            open.openedAt = now
            $0.fenceCase = open
            $0.retryAt = nil
        }
        guard let open = hosts[name]?.fenceCase else { return }
        publish("fence.started", name, open.view(of: name))
        decide(name, "fence case opened", why: why, open, evidence: ["cause": open.cause.rawValue])
        checkPower(name)
    }

    mutating func closeCase(_ name: String, _ why: String) {
        guard let open = hosts[name]?.fenceCase else { return }
        step(name, .closed, why)
        decide(name, "fence case closed", why: why, open)
        if var view = hosts[name]?.fenceCase?.wholeView(of: name) {
            view.reason = why
            closedCases.append(view)
            forgetOldHistories()
            if closedCases.count > 100 { closedCases.removeFirst() }
        }
        update(name) {
            $0.fenceCase = nil
            $0.level = nil
            $0.failedProxies = nil
            $0.hasAnotherProxy = nil
            $0.retryAt = nil
        }
    }

    /// Every change of step is an event with its reason.
    mutating func step(_ name: String, _ step: FenceCase.Step, _ reason: String) {
        guard let before = hosts[name]?.fenceCase else { return }
        updateCase(name) {
            $0.step = step
            $0.reason = reason
        }
        guard before.step != step || before.reason != reason, let open = hosts[name]?.fenceCase else { return }
        let type = switch step {
        case .held: "fence.held"
        case .failed: "fence.failed"
        default: "fence.step"
        }
        publish(type, name, open.view(of: name))
        note(step: open, of: name)
        if step == .held || step == .failed, open.told != reason {
            updateCase(name) { $0.told = reason }
            decide(name, step == .held ? "fence case held" : "fence step failed", why: reason, open)
        }
    }

    /// This level cannot do it now: the next one is tried at once, and the first one again after `fence.retry`.
    mutating func failLevel(_ name: String, _ why: String) {
        guard let host = hosts[name] else { return }
        if host.hasAnotherProxy == true {
            update(name) { $0.hasAnotherProxy = nil }
            return postpone(name, .failed, "\(why); tried again through another host", after: .milliseconds(1))
        }
        let failed = (host.fenceCase?.failedLevels ?? 0) + 1
        let isLast = failed >= host.levels.count
        update(name) {
            $0.level = isLast ? nil : failed
            $0.fenceCase?.failedLevels = isLast ? nil : failed
            // What the other level reads is another device's word.
            if $0.levels.count > 1 { $0.power = .unknown }
        }
        postpone(name, .failed, isLast ? why : "\(why); the next level of its fence devices is tried", after: isLast ? nil : .milliseconds(1))
    }

    /// Not now; looked at again after `fence.retry`.
    mutating func postpone(_ name: String, _ to: FenceCase.Step, _ why: String, after: Duration? = nil) {
        let at = now + (after ?? policy.retry)
        update(name) { $0.retryAt = at }
        step(name, to, why)
    }

    mutating func retry(_ name: String) {
        guard let host = hosts[name] else { return }
        if host.fenceCase != nil {
            checkPower(name)
        } else if host.unresolved != nil {
            run(.status, on: name)
        }
    }

    // MARK: Reading the power status

    /// Always allowed, and always first.
    mutating func checkPower(_ name: String) {
        guard let host = hosts[name], let open = host.fenceCase else { return }
        guard host.fenceDevice != nil else {
            if hold(host, open) == nil, softRestart(name) { return }
            return step(name, .failed, "\(name) has no fence device: only its own return or an operator's host confirm-off can prove its life over\(expiryHint(name))")
        }
        guard host.run == nil, host.command == nil else { return }
        updateCase(name) {
            $0.renewalsStopped = false
            $0.readsForEvidence = false
        }
        step(name, .checking, open.proven ? "reads the power status on the way back" : "reads the power status first")
        run(.status, on: name)
    }

    /// A status of the case was read: `host.power` says what, or that it could not be read.
    mutating func onPowerRead(_ name: String, _ detail: String) {
        guard let host = hosts[name], let open = host.fenceCase else { return }
        if endsVisit(name) { return }
        if host.power == .unknown { return failLevel(name, "the power status cannot be read: \(detail)\(expiryHint(name))") }
        // S10: another machine that is off says nothing about this one.
        if host.power == .off, host.deviceIsForeign { return failLevel(name, Self.foreignDevice) }
        if open.incarnation < host.incarnation { return onPowerReadOfNewLife(name) }
        switch (open.proven, host.power) {
        case (true, .off): onProvenReadsOff(name, open)
        case (true, _): onProvenReadsOn(name, open)
        case (false, .off): onReadsOff(name, open)
        case (false, _): onReadsOn(name, open, detail)
        }
    }

    private mutating func onPowerReadOfNewLife(_ name: String) {
        guard let host = hosts[name] else { return }
        if host.power == .on {
            return step(name, .booting, "\(name) came back as incarnation \(host.incarnation) and reads on; it is to join its lockspaces and become Up")
        }
        // A late off has hit the new life, or the device is not this machine's, or it has shut down: the case is about the new life now.
        let isGone = policy.rules >= 1 && host.leaving == .over
        updateCase(name) {
            $0.incarnation = host.incarnation
            $0.cause = isGone ? .shutDown : .silent
            $0.proven = false
            $0.booting = false
            $0.offSent = !isGone
            if isGone { $0.offLevels = nil }
            $0.readOff = nil
        }
        readGenerations(name)
    }

    private mutating func onReadsOff(_ name: String, _ open: FenceCase) {
        let level = hosts[name]?.level
        updateCase(name) {
            $0.readOff = true
            $0.readOffLevel = level
        }
        if open.step == .recheckingOff { mintPowerOff(name) } else { readGenerations(name) }
    }

    private mutating func onReadsOn(_ name: String, _ open: FenceCase, _ detail: String) {
        guard let host = hosts[name] else { return }
        if open.cause == .silent || open.cause == .shutDown, host.liveness == .heard {
            let ending = open.offSent ? "the off had no effect, its guests were not touched" : "no off was sent"
            return closeCase(name, "\(name) reads on and is heard with the same boot id: \(ending)")
        }
        if endsAnswering(host, open, detail) { return }
        // What is heard with the boot id of before was not switched on anew, whatever the device read.
        let readOff = open.readOff == true && (policy.rules < 1 || (open.readOffLevel ?? 0) == (host.level ?? 0))
        if readOff, open.cause != .proofRevoked, host.liveness != .heard { return letBoot(name) }
        switch open.step {
        case .confirmingOff:
            failLevel(name, "the device still reads on after off\(detail.isEmpty ? "" : " (\(detail))"); tried again every \(policy.retry.milliseconds) ms")
        default:
            considerOff(name)
        }
    }

    /// Somebody switched it on before its life was proven over. Its new life proves that as well as we could: it is not switched off while it may still boot.
    private mutating func letBoot(_ name: String) {
        updateCase(name) { $0.readOff = false }
        postpone(
            name, .failed, "\(name) read off and reads on again: somebody switched it on; it has \(policy.bootTimeout.milliseconds / 1000) s to be heard", after: policy.bootTimeout)
    }

    // MARK: Before off

    mutating func considerOff(_ name: String) {
        guard let host = hosts[name], let open = host.fenceCase else { return }
        switch hold(host, open) {
        case nil where open.doubted && open.cause == .silent:
            listenAgain(name)
        case nil where open.cause == .unreaped || open.cause == .nonOperational:
            gather(name, "it answers and its storage does not; other hosts are asked to read it now", by: readers(for: name))
        case nil:
            askAcceptance(name)
        case .absolute(Self.foreignDevice) where host.levels.count > 1:
            failLevel(name, Self.foreignDevice)
        case .absolute(let why):
            postpone(name, .held, why)
        case .lease:
            let readers = readers(for: name)
            if readers.isEmpty { return askAcceptance(name) }
            gather(name, "other hosts are asked whether its lease renewals go on", by: readers)
        case .doubtful(let why):
            updateCase(name) { $0.doubted = true }
            let readers = readers(for: name)
            guard !readers.isEmpty else { return postpone(name, .held, "\(why), and no host that answers can see its lease renewals") }
            gather(name, "\(why); other hosts are asked whether its lease renewals stopped", by: readers)
        }
    }

    private mutating func gather(_ name: String, _ why: String, by readers: [String]) {
        updateCase(name) {
            $0.readsForEvidence = true
            $0.sectors = [:]
        }
        step(name, .gathering, why)
        readSectors(name, by: readers)
    }

    /// What was not heard while the manager could not hear says nothing (I4): the host's silence counts from now on.
    private mutating func listenAgain(_ name: String) {
        updateCase(name) { $0.doubted = false }
        update(name) {
            $0.liveness = .observing
            $0.silence = nil
            $0.answeringSince = nil
            $0.connection += 1
        }
        watch(name)
        postpone(name, .held, "the manager hears others again; it is listened to for a full grace first")
    }

    private mutating func onEvidence(_ name: String) {
        guard let host = hosts[name], let open = host.fenceCase else { return }
        switch hold(host, open) {
        case nil:
            let lacking = open.cause == .unreaped ? host.lost ?? [] : open.cause == .nonOperational ? missingLockspaces(host) : []
            let unread = lacking.filter { open.sectors[$0] == nil }
            guard unread.isEmpty else { return postpone(name, .failed, "no other host can read \(unread.joined(separator: ", ")) now: its storage fails, not \(name)") }
            askAcceptance(name)
        case .absolute(let why):
            postpone(name, .held, why)
        case .lease:
            guard !open.renewalsSeen else {
                return postpone(name, .held, "its lease renewals go on, so its guests run: fence.sparesLiveLeases leaves it alone until they end or it is heard")
            }
            askAcceptance(name)
        case .doubtful(let why):
            guard open.renewalsStopped, !open.renewalsSeen else {
                return postpone(name, .held, "\(why), and its lease renewals \(open.renewalsSeen ? "go on" : "are not seen to have stopped")")
            }
            askAcceptance(name)
        }
    }

    /// S16: another agent must obey this manager and its term, if any answers.
    private mutating func askAcceptance(_ name: String) {
        if dump(name) || softRestart(name) || awaitDump(name) || delay(name) { return }
        let voters = names.filter { $0 != name && hosts[$0]?.liveness == .heard && hosts[$0]?.identityProblem == nil }
        guard let open = hosts[name]?.fenceCase else { return }
        updateCase(name) {
            $0.voters = voters
            $0.refusedBy = nil
        }
        guard !voters.isEmpty else { return sendOff(name) }
        step(name, .accepting, "asks \(voters.joined(separator: ", ")) to accept this manager's off")
        for voter in voters { perform(.askAcceptance(AcceptanceQuestion(caseID: open.id, host: name, voter: voter))) }
    }

    mutating func onAcceptance(_ answer: AcceptanceAnswer) {
        guard let host = hosts[answer.host], let open = host.fenceCase, open.id == answer.caseID, open.step == .accepting,
            open.voters.contains(answer.voter), host.run == nil
        else { return }
        if answer.accepted == true { return sendOff(answer.host) }
        updateCase(answer.host) {
            $0.voters.removeAll { $0 == answer.voter }
            if answer.accepted == false { $0.refusedBy = "\(answer.voter): \(answer.detail)" }
        }
        guard let left = hosts[answer.host]?.fenceCase, left.voters.isEmpty else { return }
        if let refusal = left.refusedBy {
            postpone(answer.host, .failed, "no agent accepts this manager's off (\(refusal))")
        } else {
            sendOff(answer.host)
        }
    }

    private mutating func sendOff(_ name: String) {
        guard let host = hosts[name], let open = host.fenceCase else { return }
        switch hold(host, open) {
        case .absolute(let why): return postpone(name, .held, why)
        // Others may have fallen silent while the agents were asked.
        case .doubtful where !open.renewalsStopped || open.renewalsSeen: return considerOff(name)
        case .doubtful, .lease, nil: break
        }
        guard host.command == nil, host.run == nil, !dump(name) else { return }
        let levels = policy.rules < 1 ? nil : (open.offLevels ?? []).filter { $0 != host.level ?? 0 } + [host.level ?? 0]
        updateCase(name) {
            $0.offSent = true
            $0.offLevels = levels
            $0.voters = []
        }
        step(name, .off, "switches it off through \(host.fenceDevice?.agent ?? "its device")")
        decide(name, "power off", why: open.cause.sentence + dumpHint(host), open)
        run(.off, on: name)
    }

    // MARK: After off

    mutating func readGenerations(_ name: String) {
        updateCase(name) {
            $0.sectors = [:]
            $0.renewalsStopped = false
            $0.renewalsSeen = false
            $0.readsForEvidence = false
            $0.readings += 1
        }
        let readers = readers(for: name)
        step(name, .readingGenerations, "reads off; \(readers.isEmpty ? "no host can read its generations" : "its generations are read at \(readers.joined(separator: ", "))")")
        if readers.isEmpty { onGenerationsRead(name) } else { readSectors(name, by: readers) }
    }

    private mutating func readSectors(_ name: String, by readers: [String]) {
        guard let host = hosts[name] else { return }
        var serial: UInt64 = 0
        update(name) {
            serial = $0.nextNumber()
            $0.fenceCase?.serial = serial
            $0.fenceCase?.readers = readers
            $0.fenceCase?.renewalsStopped = false
            $0.fenceCase?.renewalsSeen = false
        }
        for reader in readers { perform(.readSectors(SectorQuestion(serial: serial, host: name, hostID: host.definition.id, reader: reader))) }
    }

    mutating func onSectorsRead(_ answer: SectorAnswer) {
        if onSectorsForConfirmation(answer) || onSectorsForExpiry(answer) { return }
        guard let host = hosts[answer.host], let open = host.fenceCase, open.serial == answer.serial, open.readers.contains(answer.reader),
            open.step == .gathering || open.step == .readingGenerations
        else { return }
        updateCase(answer.host) {
            $0.readers.removeAll { $0 == answer.reader }
            for sector in answer.sectors ?? [] {
                $0.sectors[sector.lockspace] = max($0.sectors[sector.lockspace] ?? 0, sector.generation)
                if sector.renewalsStopped, host.renews(sector) { $0.renewalsStopped = true }
                if sector.renewalsSeen { $0.renewalsSeen = true }
            }
        }
        guard let host = hosts[answer.host], let left = host.fenceCase else { return }
        if left.readsForEvidence {
            if left.readers.isEmpty { onEvidence(answer.host) }
        } else {
            let complete = host.highestGenerations.allSatisfy { lockspace, highest in (left.sectors[lockspace] ?? 0) >= highest }
            if left.readers.isEmpty || (complete && host.deviceVerified) { onGenerationsRead(answer.host) }
        }
    }

    /// S10: what speaks against a device that reads off.
    func contradiction(of host: HostRecord) -> FenceDevice? { policy.rules < 1 ? nil : host.contradiction }

    /// It is asked again in its turn; at once if it has not been since this level was told to switch off.
    private mutating func onContradiction(_ name: String, by other: FenceDevice) {
        guard let host = hosts[name], let open = host.fenceCase else { return }
        let why = "it reads off, but \(other.agent) at \(other.address), which tells that it is \(name)'s own, read on when it was asked last (S10); it is asked again"
        guard open.offLevels?.last == host.level ?? 0 else { return failLevel(name, why) }
        update(name) {
            $0.level = nil
            $0.fenceCase?.failedLevels = nil
            $0.power = .unknown
        }
        postpone(name, .failed, why, after: .milliseconds(1))
    }

    private mutating func onGenerationsRead(_ name: String) {
        guard let host = hosts[name], let open = host.fenceCase else { return }
        if let other = contradiction(of: host) { return open.proven ? powerOn(name) : onContradiction(name, by: other) }
        guard host.deviceVerified || (open.renewalsStopped && !open.renewalsSeen) else {
            // A person's word has proven it over already; the device's would only have been better.
            if open.proven { return powerOn(name) }
            let seen = open.renewalsSeen ? "its renewals go on, or ended only just" : "none is yet"
            let why = "its fence device is not verified (S10): off counts only once a missed lease renewal is seen, and \(seen)"
            // The next level may be known to be its own.
            return host.levels.count > 1 && open.readings >= 3 && policy.rules >= 1 ? failLevel(name, why) : postpone(name, .failed, why)
        }
        if host.liveness == .heard { return waitForSilence(name) }
        updateCase(name) { $0.readers = [] }
        step(name, .recheckingOff, "reads the power status once more, after the generations (S9)")
        run(.status, on: name)
    }

    /// A device that reads off while its host goes on beating is not this host's; a host just switched off is quiet after two intervals.
    mutating func waitForSilence(_ name: String) {
        let soon = (hosts[name]?.fenceCase?.readings ?? 0) < 5
        postpone(name, .failed, "it reads off and yet heartbeats come: waits for them to end", after: soon ? policy.heartbeat * 2 : policy.retry)
    }
}
