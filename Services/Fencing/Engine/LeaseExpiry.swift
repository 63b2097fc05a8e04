import Messages

/// What is asked, and known, of a suspect's sectors while its power cannot be proven off (S6).
struct Expiry: Codable, Hashable, Sendable {
    /// Of the question that is out; answers of earlier ones are recognised by it.
    var serial: UInt64
    /// Who has not answered yet.
    var readers: [String]
    /// The longest of what the readers said: lockspace to the time until its owner is dead.
    var deadIn: [String: Duration] = [:]
    /// When the readers are asked again.
    var again: Instant?
}

/// A suspect that cannot be switched off, but had its watchdog armed when it was heard last: once its sector has stood still for all of its dead time, the watchdog has reset it, or its guards had
/// nothing left to guard. Its leases of that lockspace and generation are proven expired, and nothing else of it (S6). This goes on beside the steps of the case, which waits for the device.
extension FencingEngine {
    /// Why nobody may conclude anything from an expired lease of this host; `nil`: its watchdog vouches for it.
    func expiryObstacle(_ host: HostRecord) -> String? {
        guard let open = host.fenceCase, !open.proven, open.incarnation == host.incarnation else { return "no case about its life is open" }
        if host.liveness != .silent { return "it has not been silent for its grace" }
        if !host.watchdogArmed { return "no armed watchdog was reported" }
        if let why = powerHold { return why }
        return unexpired(host).isEmpty ? "all its leases are proven expired" : nil
    }

    /// Lockspaces whose memberships, as last heard, no proof covers yet.
    private func unexpired(_ host: HostRecord) -> [String] {
        host.generations.keys.sorted().filter { lockspace in
            let generation = host.generations[lockspace] ?? 0
            return ![host.proof, host.leaseProof].contains { $0?.proof.generations[lockspace] ?? 0 >= generation }
        }
    }

    /// Follows from every input: asks the readers while a case waits, and no more when it does not.
    mutating func followExpiry(_ name: String) {
        guard let host = hosts[name] else { return }
        guard expiryObstacle(host) == nil, let step = host.fenceCase?.step, [.failed, .held, .dumping].contains(step) else {
            if host.expiry != nil, host.fenceCase == nil || host.liveness == .heard { update(name) { $0.expiry = nil } }
            return
        }
        guard host.minted == nil else { return }
        if let expiry = host.expiry {
            guard expiry.readers.isEmpty, expiry.again.map({ $0 <= now }) ?? true else { return }
        }
        askForExpiry(name)
    }

    private mutating func askForExpiry(_ name: String) {
        let readers = readers(for: name)
        let again = readers.isEmpty ? now + policy.retry : nil
        var serial: UInt64 = 0
        update(name) {
            serial = $0.nextNumber()
            $0.expiry = Expiry(serial: serial, readers: readers, again: again)
        }
        guard let host = hosts[name] else { return }
        for reader in readers { perform(.readSectors(SectorQuestion(serial: serial, host: name, hostID: host.definition.id, reader: reader))) }
    }

    /// - Returns: whether the answer belonged to such a question.
    mutating func onSectorsForExpiry(_ answer: SectorAnswer) -> Bool {
        guard let host = hosts[answer.host], var expiry = host.expiry, expiry.serial == answer.serial, expiry.readers.contains(answer.reader) else { return false }
        expiry.readers.removeAll { $0 == answer.reader }
        for sector in answer.sectors ?? [] {
            // Of another generation, or freed: that membership is over in its own way, and the lease engine sees it.
            guard let deadIn = sector.deadIn, sector.held, sector.generation == host.generations[sector.lockspace] else { continue }
            expiry.deadIn[sector.lockspace] = max(expiry.deadIn[sector.lockspace] ?? .zero, deadIn)
        }
        if expiry.readers.isEmpty { expiry.again = now + lookAgain(expiry) }
        update(answer.host) { $0.expiry = expiry }
        if expiry.readers.isEmpty { mintExpired(answer.host, expiry) }
        return true
    }

    /// As soon as the next one can be dead; nobody could tell: after `fence.retry`.
    private func lookAgain(_ expiry: Expiry) -> Duration {
        let next = expiry.deadIn.values.filter { $0 > .zero }.min() ?? policy.retry
        return min(max(next, .milliseconds(100)), .seconds(3600))
    }

    /// Every reader that can read it says that it is dead.
    private mutating func mintExpired(_ name: String, _ expiry: Expiry) {
        guard let host = hosts[name], host.minted == nil, expiryObstacle(host) == nil else { return }
        let expired = unexpired(host).filter { expiry.deadIn[$0] == .zero }
        guard !expired.isEmpty else { return }
        mint(
            name, .leaseExpired, incarnations: nil, generations: host.generations.filter { expired.contains($0.key) }, case: host.fenceCase?.id,
            "\(name) has not renewed in \(expired.joined(separator: ", ")) for all of its dead time, and its last heartbeat said that an armed watchdog covers what it guards there")
    }

    /// What an operator is told beside the reason of a case that cannot go on.
    func expiryHint(_ name: String) -> String {
        guard let host = hosts[name], host.fenceCase?.proven == false else { return "" }
        if !host.watchdogArmed { return "; it reported no armed watchdog: when you have made sure that it is off, say so with bulwark host confirm-off \(name)" }
        return powerHold == nil ? "; its watchdog is armed: its leases are free for others once they have expired" : ""
    }
}
