import Messages

/// Keeping hosts connected, and telling fencing-service which of them cannot use a domain.
extension DomainMonitor {
    /// Connects every host that answers to every watched domain that its report lacks.
    mutating func connect(at now: Instant, _ effects: inout [Effect<DomainAction>]) {
        guard fresh else { return }
        for name in hosts.keys.sorted() {
            guard let host = hosts[name], host.answers, let bootID = host.bootID else {
                links[name] = nil
                continue
            }
            let reported = reports[name]?.bootID == bootID
            for uuid in domains.keys.sorted() {
                guard let domain = domains[uuid], domain.isWatched, sight(of: uuid, on: host) == nil else {
                    links[name]?[uuid] = nil
                    continue
                }
                // A host that has not reported yet may be connected already.
                var link = links[name]?[uuid] ?? Link(retryAt: now + policy.patience, waitsForReport: true)
                if reported, link.waitsForReport { link = Link(retryAt: now) }
                if !link.inFlight, link.retryAt <= now {
                    link.inFlight = true
                    effects.append(
                        .perform(.connect(ConnectAsk(domain: uuid, host: name, bootID: bootID), StorageConnect(domain: uuid, path: domain.path))))
                }
                links[name, default: [:]][uuid] = link
            }
        }
    }

    mutating func onConnected(_ ask: ConnectAsk, _ answer: Answer, at now: Instant) {
        guard links[ask.host]?[ask.domain]?.inFlight == true else { return }
        links[ask.host]?[ask.domain] = Link(retryAt: now + (answer == .done ? policy.patience : policy.retry))
    }

    /// Tells fencing-service what is to be, until it has acknowledged exactly that.
    mutating func flag(at now: Instant, _ effects: inout [Effect<DomainAction>]) {
        for name in unfit.keys.sorted() { unfit[name]?.removeAll { domains[$0]?.isWatched != true } }
        unfit = unfit.filter { !$0.value.isEmpty }
        guard fresh else { return }
        for name in hosts.keys.sorted() {
            let wanted = wantedReason(name)
            guard wanted != told[name] || unsure.contains(name), wanted == nil || isStillBad(name) else {
                telling[name] = nil
                continue
            }
            var link = telling[name] ?? Link(retryAt: now)
            if !link.inFlight, link.retryAt <= now {
                link.inFlight = true
                unsure.insert(name)
                effects.append(.perform(.flag(HostSetStatus(host: name, reason: wanted))))
            }
            telling[name] = link
        }
    }

    /// Whether a report since the last start shows what is to be told (I5).
    private func isStillBad(_ name: String) -> Bool {
        guard let host = hosts[name] else { return false }
        return unfit[name, default: []].contains { sight(of: $0, on: host)?.ok == false }
    }

    private func wantedReason(_ name: String) -> String? {
        guard let uuids = unfit[name], !uuids.isEmpty else { return nil }
        return "cannot use storage domain " + uuids.compactMap { domains[$0]?.name }.joined(separator: ", ") + ", which other hosts can"
    }

    mutating func onFlagged(_ status: HostSetStatus, _ answer: Answer, at now: Instant) {
        guard hosts[status.host] != nil else { return }
        if answer == .done {
            told[status.host] = status.reason
            unsure.remove(status.host)
        }
        telling[status.host] = Link(retryAt: now + policy.retry)
    }
}
