import Messages

/// What follows from the reports.
extension DomainMonitor {
    /// How this life of a host sees a domain; `nil` if it has not said so since the last start.
    func sight(of uuid: String, on host: MonitoredHost) -> Sight? {
        guard let report = reports[host.name], report.bootID == host.bootID else { return nil }
        return report.domains[uuid]
    }

    mutating func judge(_ uuid: String, at now: Instant, _ effects: inout [Effect<DomainAction>]) {
        guard fresh, var domain = domains[uuid], domain.isWatched else { return }
        let before = domain.status
        let up = hosts.keys.sorted().compactMap { hosts[$0] }.filter { $0.status == .up }
        let good = up.filter { sight(of: uuid, on: $0)?.ok == true }.map(\.name)
        let bad = up.filter { sight(of: uuid, on: $0)?.ok == false }.map(\.name)
        let allBad = !up.isEmpty && bad.count == up.count
        domain.badSince = allBad ? domain.badSince ?? now : nil
        if up.isEmpty {
            domain.status = .unknown
            domain.reason = "no host is Up to look at it"
        } else if !good.isEmpty {
            domain.status = .active
            domain.reason = bad.isEmpty ? "seen by \(good.joined(separator: ", "))" : "seen by \(good.joined(separator: ", ")), not by \(bad.joined(separator: ", "))"
        } else if let since = domain.badSince {
            let details = bad.compactMap { name in hosts[name].flatMap { sight(of: uuid, on: $0) }.map { "\(name): \($0.detail)" } }.joined(separator: "; ")
            if now - since >= policy.failure { domain.status = .inactive }
            domain.reason = domain.status == .inactive ? "no host can use it (\(details))" : "no host can use it (\(details)); Inactive if that lasts \(policy.failure.milliseconds) ms"
        } else if domain.status != .activating {
            domain.reason = "waits for the reports of \(up.map(\.name).filter { !bad.contains($0) }.joined(separator: ", "))"
        }
        judgeHosts(&domain, good: good, at: now, &effects)
        domains[uuid] = domain
        guard domain.status != before else { return }
        effects.append(
            .decide(
                Decision(
                    "domain/\(uuid)", domain.status.rawValue, why: domain.reason,
                    evidence: ["good": good.joined(separator: " "), "bad": bad.joined(separator: " ")], see: bad.map { "host/\($0)" })))
    }

    /// A domain that others see well is the host's own problem once it lasted; it is over when the host sees the domain again.
    private mutating func judgeHosts(_ domain: inout Domain, good: [String], at now: Instant, _ effects: inout [Effect<DomainAction>]) {
        for name in hosts.keys.sorted() {
            guard let host = hosts[name], host.answers else {
                domain.badOn[name] = nil
                continue
            }
            let ok = sight(of: domain.uuid, on: host)?.ok
            if ok == true, let at = unfit[name]?.firstIndex(of: domain.uuid) {
                unfit[name]?.remove(at: at)
                effects.append(
                    .decide(Decision("domain/\(domain.uuid)", "well again on \(name)", why: "\(name) reports it ok", see: ["host/\(name)"])))
            }
            guard ok == false, host.status == .up, good.contains(where: { $0 != name }) else {
                domain.badOn[name] = nil
                continue
            }
            let since = domain.badOn[name] ?? now
            domain.badOn[name] = since
            guard now - since >= policy.failure, unfit[name]?.contains(domain.uuid) != true else { continue }
            domain.badOn[name] = nil
            unfit[name] = ((unfit[name] ?? []) + [domain.uuid]).sorted()
            effects.append(
                .decide(
                    Decision(
                        "domain/\(domain.uuid)", "\(name) is not operational",
                        why: "\(name) cannot use it for \(policy.failure.milliseconds) ms while \(good.joined(separator: ", ")) can", see: ["host/\(name)"])))
        }
    }

    /// Publishes the domain if it looks different from what was last shown.
    mutating func show(_ uuid: String, _ effects: inout [Effect<DomainAction>]) {
        guard let domain = domains[uuid] else { return }
        let statuses = hosts.keys.sorted().compactMap { hosts[$0] }.map { status(of: uuid, on: $0) }
        let view = DomainView(domain: uuid, name: domain.name, path: domain.path, status: domain.status, reason: domain.reason, hosts: statuses)
        let before = domain.view
        guard view != before else { return }
        domains[uuid]?.view = view
        for status in statuses where !before.hosts.contains(status) {
            effects.append(.publish(Event("domain.host-status", subject: "\(uuid).\(status.host)", body: status)))
        }
        effects.append(.publish(Event("domain.status", subject: uuid, body: view)))
    }

    private func status(of uuid: String, on host: MonitoredHost) -> DomainHostStatus {
        guard host.answers else {
            return DomainHostStatus(domain: uuid, host: host.name, ok: nil, joined: false, detail: "\(host.name) is \(host.status.rawValue)")
        }
        guard let sight = sight(of: uuid, on: host) else {
            return DomainHostStatus(domain: uuid, host: host.name, ok: nil, joined: false, detail: "not reported")
        }
        return DomainHostStatus(domain: uuid, host: host.name, ok: sight.ok, joined: sight.joined, detail: sight.detail)
    }
}
