import Messages

/// The domains that this host is connected to: a durable list, kept joined and probed by the shell.
extension HostAgentEngine {
    mutating func onConnect(_ id: RequestID, _ domain: StorageConnect) -> Effects {
        if let path = domains[domain.domain], path != domain.path, isInUse(domain.domain) {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "domain \(domain.domain) is in use at \(path)")))]
        }
        domains[domain.domain] = domain.path
        leaving[domain.domain] = nil
        return [
            .reply(to: id, .done), .perform(.keep(StoragePlace(domain: domain.domain, path: domain.path))), publishedStorage,
        ]
    }

    mutating func onDisconnect(_ id: RequestID, _ domain: StorageConnect) -> Effects {
        guard !isInUse(domain.domain) else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "domain \(domain.domain) has running VMs, or is master of a serving SPM, on this host")))]
        }
        guard let path = domains.removeValue(forKey: domain.domain) else { return [.reply(to: id, .done)] }
        probes[domain.domain] = nil
        leaving[domain.domain] = path
        return [.reply(to: id, .done), .perform(.drop(StoragePlace(domain: domain.domain, path: path))), publishedStorage]
    }

    mutating func onLeft(_ domain: String) -> Effects {
        leaving[domain] = nil
        return []
    }

    private func isInUse(_ domain: String) -> Bool {
        runs.values.contains { run in run.phase != .over && run.spec.places.contains { $0.domain == domain } }
    }

    mutating func onCreate(_ id: RequestID, _ create: StorageCreate) -> Effects {
        creations[id] = create
        return [.perform(.create(id, create))]
    }

    mutating func onCreated(_ id: RequestID, _ error: RequestError?) -> Effects {
        guard let create = creations.removeValue(forKey: id) else { return [] }
        if let error { return [.reply(to: id, .refused(error))] }
        return [
            .reply(to: id, .done),
            .decide(Decision("domain/\(create.domain)", "created at \(create.path)", why: "directories, metadata and lease volumes are there", evidence: [:])),
        ]
    }

    mutating func onLockspaces(_ seen: [AgentLockspace]) -> Effects {
        guard seen != lockspaces else { return [] }
        lockspaces = seen
        return [publishedStorage]
    }

    mutating func onProbed(_ probe: DomainProbe) -> Effects {
        guard domains[probe.domain] != nil else { return [] }
        let before = probes[probe.domain]
        probes[probe.domain] = probe
        let resumed = probe.ok == true ? resumable(on: probe.domain) : []
        return resumed + (before?.ok == probe.ok && before?.detail == probe.detail ? [] : [publishedStorage])
    }
}
