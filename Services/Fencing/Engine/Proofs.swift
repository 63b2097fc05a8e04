import Messages

/// Proofs: minted, signed by the shell, then published; revoked when a life that was proven over is heard.
extension FencingEngine {
    mutating func mintPowerOff(_ name: String) {
        guard let host = hosts[name], let open = host.fenceCase, host.minted == nil else { return }
        precondition(host.power == .off && host.unresolved == nil && host.run == nil, "a powerOff proof without an own status off: \(host)")
        if host.liveness == .heard { return waitForSilence(name) }
        let wasSent = open.offLevels?.contains(host.level ?? 0) ?? open.offSent
        mint(
            name, .powerOff, incarnations: open.incarnation, generations: open.sectors, case: open.id,
            "\(name) reads off \(wasSent ? "after our off" : "already"), read again after its generations")
        step(name, .signing, "signs the proof")
    }

    /// A new life of the same machine is heard: what ran in the earlier ones is over, unless two machines go by this name.
    mutating func mintRebooted(_ name: String) {
        guard let host = hosts[name], let bootID = host.bootID, host.incarnation.number > 1, ha.conflicts[name] == nil else { return }
        mint(
            name, .rebooted, incarnations: Incarnation(host.incarnation.number - 1), generations: host.generationsBefore, case: host.fenceCase?.id,
            "\(name) is heard with the new boot id \(bootID) under the same hardware id and key")
    }

    /// As the new life tells what its sectors said before it joined, the proof about the old one comes to cover leases too.
    mutating func mintRebootedIfIncomplete(_ name: String) {
        guard let host = hosts[name], host.minted == nil, host.hasLife, let proof = host.proof?.proof, let incarnations = proof.incarnations,
            incarnations.next == host.incarnation
        else { return }
        let more = host.generationsBefore.contains { $0.value > proof.generations[$0.key] ?? 0 }
        if more { mintRebooted(name) }
    }

    mutating func mint(
        _ name: String, _ kind: ProofKind, incarnations: Incarnation?, generations: [String: UInt64], case caseID: String?, _ statement: String
    ) {
        guard let host = hosts[name] else { return }
        // What an earlier proof covered stays over.
        let known = (kind == .leaseExpired ? host.leaseProof : host.proof)?.proof.generations ?? [:]
        var proof = Proof(
            id: "", kind: kind, host: name, hostID: host.definition.id, incarnations: incarnations,
            generations: known.merging(generations) { max($0, $1) }, caseID: caseID, statement: statement)
        update(name) {
            proof.id = "\(name)-proof-\($0.nextNumber())"
            $0.minted = proof
        }
        perform(.sign(proof))
    }

    mutating func onProofSigned(_ signed: SignedProof) {
        let name = signed.proof.host
        mintAsBefore(signed.proof)
        guard let host = hosts[name], let minted = host.minted, minted.id == signed.proof.id else { return }
        update(name) {
            $0.minted = nil
            if minted.kind == .leaseExpired { $0.leaseProof = signed } else { $0.proof = signed }
            if let lease = $0.leaseProof?.proof, let proof = $0.proof?.proof, lease.generations.allSatisfy({ $0.value <= proof.generations[$0.key] ?? 0 }) { $0.leaseProof = nil }
        }
        publish("host.proof", name, signed)
        let covered = minted.generations.keys.sorted().map { "\($0) <= \(minted.generations[$0] ?? 0)" }.joined(separator: ", ")
        if minted.kind == .leaseExpired {
            return decide(name, "leases expired: generations \(covered)", why: minted.statement, host.fenceCase, evidence: ["proof": minted.id, "kind": minted.kind.rawValue])
        }
        decide(
            name, "proven over: incarnations <= \(minted.incarnations?.description ?? "")", why: minted.statement, host.fenceCase,
            evidence: ["proof": minted.id, "kind": minted.kind.rawValue, "generations": covered])
        watch(name)
        if minted.kind != .rebooted, ha.revoked[name] != nil {
            ha.revoked[name] = nil
            publishHA()
        }
        if let open = host.fenceCase, minted.covers(host: name, incarnation: open.incarnation), minted.kind != .rebooted { onCaseProven(name, by: minted) }
    }

    /// Version 0.1.0 minted at once where a reboot is doubted now: the signature in its journal shows it.
    private mutating func mintAsBefore(_ proof: Proof) {
        let name = proof.host
        guard let host = hosts[name], host.minted == nil, host.rebootDoubtedUntil != nil, host.incarnation.number > 1, proof.kind == .rebooted,
            proof.covers(host: name, incarnation: Incarnation(host.incarnation.number - 1)), proof.id == "\(name)-proof-\(host.counter + 1)"
        else { return }
        update(name) {
            _ = $0.nextNumber()
            $0.rebootDoubtedUntil = nil
            $0.minted = proof
        }
    }

    // MARK: Revocation

    /// A life sign of a life that was proven over: somebody may have acted on a false proof. Recovery stops, the host is fenced (again).
    mutating func revoke(_ name: String, _ why: String) {
        guard let host = hosts[name], let proof = host.proof else { return }
        ha.revoked[name] = why
        decide(name, "proof revoked", why: why, host.fenceCase, evidence: ["proof": proof.proof.id, "kind": proof.proof.kind.rawValue])
        publishRevoked(name, proof)
        publishHA()
        if host.fenceCase != nil {
            updateCase(name) {
                $0.cause = .proofRevoked
                $0.proven = false
                $0.booting = false
                $0.bootDeadline = nil
                $0.readOff = nil
                $0.incarnation = host.incarnation
            }
            step(name, .checking, why)
            checkPower(name)
        } else {
            openCase(name, .proofRevoked, why)
        }
    }

    mutating func publishRevoked(_ name: String, _ proof: SignedProof) {
        update(name) {
            $0.proof = nil
            $0.minted = nil
        }
        watch(name)
        publish("host.proof-revoked", name, proof)
    }

    // MARK: An operator's word

    mutating func onConfirmOff(_ id: RequestID, _ body: ConfirmOff) {
        guard let host = known(id, body.host) else { return }
        guard let open = host.fenceCase, open.id == body.caseID, open.incarnation == body.incarnation else {
            return refuse(
                id, FencingErrorCode.stale,
                "\(body.host) has \(host.fenceCase.map { "the case \($0.id) about incarnation \($0.incarnation)" } ?? "no open case"); confirm exactly that, after looking at the machine again")
        }
        guard !body.who.isEmpty, !body.why.isEmpty else { return refuse(id, RequestErrorCode.invalid, "a confirmation needs who and why") }
        if open.proven { return reply(id, .success(open.view(of: host.name))) }
        if host.liveness == .heard { return refuse(id, FencingErrorCode.signsOfLife, "heartbeats of \(host.name) come: it is not off") }
        let readingOn = host.readingOn
        if host.power == .on || !readingOn.isEmpty, body.checked != true {
            let which = host.definition.fence.count > 1 && !readingOn.isEmpty ? readingOn.map { "\($0.agent) at \($0.address)" }.joined(separator: ", ") + " of" : "the fence device of"
            return refuse(
                id, FencingErrorCode.signsOfLife,
                "\(which) \(host.name) reads on: only if you have looked at the machine itself and it is off, confirm again with --yes-i-checked")
        }
        guard host.liveness == .silent else {
            return refuse(id, FencingErrorCode.held, "fencing-service has not listened to \(host.name) for a full grace yet; confirm again then")
        }
        guard host.minted == nil, host.confirmation == nil else { return refuse(id, FencingErrorCode.busy, "a proof about \(host.name) is being made") }
        update(host.name) { $0.confirmation = PendingConfirmation(request: id, body: body, serial: 0, readers: []) }
        askAgainToConfirm(host.name)
    }

    /// Asks the other hosts for the suspect's renewals and generations before its operator is believed.
    mutating func askAgainToConfirm(_ name: String) {
        guard let host = hosts[name], host.confirmation != nil else { return }
        let readers = readers(for: name)
        var serial: UInt64 = 0
        update(name) {
            serial = $0.nextNumber()
            $0.confirmation?.serial = serial
            $0.confirmation?.readers = readers
            $0.confirmation?.answered = 0
        }
        for reader in readers { perform(.readSectors(SectorQuestion(serial: serial, host: name, hostID: host.definition.id, reader: reader))) }
        if readers.isEmpty { confirm(name, [:]) }
    }

    /// - Returns: whether the answer belonged to a confirmation.
    mutating func onSectorsForConfirmation(_ answer: SectorAnswer) -> Bool {
        guard let host = hosts[answer.host], let pending = host.confirmation, pending.serial == answer.serial, pending.readers.contains(answer.reader) else { return false }
        if let seen = answer.sectors?.max(by: { $0.guardsMayRunFor < $1.guardsMayRunFor }), seen.guardsMayRunFor > .zero {
            refuseConfirmation(
                pending, FencingErrorCode.signsOfLife,
                "\(answer.reader) saw \(answer.host) renew its lease in \(seen.lockspace) \(seen.lastChange?.milliseconds ?? 0) ms ago: if it is not off, its guests run until their deadline; look again and confirm in \(seen.guardsMayRunFor.milliseconds / 1000 + 1) s")
            return true
        }
        var left = pending
        left.readers.removeAll { $0 == answer.reader }
        if let sectors = answer.sectors {
            left.answered += 1
            for sector in sectors { left.generations[sector.lockspace] = max(left.generations[sector.lockspace] ?? 0, sector.generation) }
        }
        update(answer.host) { $0.confirmation = left }
        if left.readers.isEmpty { confirm(answer.host, left.generations) }
        return true
    }

    private mutating func refuseConfirmation(_ pending: PendingConfirmation, _ code: FencingErrorCode, _ why: String) {
        update(pending.body.host) {
            $0.confirmation = nil
            $0.forgetting = nil
        }
        refuse(pending.request, code, why)
    }

    private mutating func confirm(_ name: String, _ generations: [String: UInt64]) {
        guard let host = hosts[name], let pending = host.confirmation else { return }
        let isForgotten = host.forgetting != nil
        guard let open = host.fenceCase, open.id == pending.body.caseID, open.incarnation == pending.body.incarnation, host.incarnation == pending.body.incarnation else {
            let isHeard = host.liveness == .heard
            return refuseConfirmation(
                pending, isHeard ? FencingErrorCode.signsOfLife : .stale, isHeard ? "\(name) was heard while the confirmation was checked: it is not off" : "the case changed while the confirmation was checked")
        }
        guard open.proven || host.liveness == .silent else {
            return refuseConfirmation(pending, FencingErrorCode.signsOfLife, "\(name) was heard, or fencing-service started again, meanwhile")
        }
        update(name) { $0.confirmation = nil }
        if open.proven {
            if !isForgotten { reply(pending.request, .success(open.view(of: name))) }
            return
        }
        let checked = pending.answered > 0 ? "\(pending.answered) hosts see no renewal" : "no host could look for renewals"
        mint(
            name, .operatorConfirmed, incarnations: open.incarnation, generations: generations, case: open.id,
            "\(pending.body.who) confirmed that \(name) is off: \(pending.body.why) (no heartbeat, \(checked)\(host.power == .on || !host.readingOn.isEmpty ? ", its device reads on, and the machine itself was looked at" : ""))")
        if !isForgotten { reply(pending.request, .success(open.view(of: name))) }
    }
}
