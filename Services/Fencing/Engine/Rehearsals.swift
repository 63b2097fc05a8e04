import Messages

/// Tries every way to fence a host up to its status, so that a wrong password is found before it matters.
extension FencingEngine {
    mutating func onRehearse(_ id: RequestID, _ request: HostRequest) {
        guard let host = known(id, request.host) else { return }
        if host.command?.request == id { return }
        guard host.fenceDevice != nil else { return refuse(id, FencingErrorCode.noDevice, "\(host.name) has no fence device: it cannot be fenced at all") }
        if let open = host.fenceCase { return refuse(id, RequestErrorCode.conflict, "fence case \(open.id) of \(host.name) is open: this is no rehearsal any more") }
        guard host.run == nil, host.command == nil else { return refuse(id, FencingErrorCode.busy, "a fence command of \(host.name) runs; ask again when it has ended") }
        beginRehearsal(host, id)
    }

    /// From one that was cut short to the next one.
    private static let pause = Duration.seconds(120)

    /// On its schedule: a host that is well and has nothing under way.
    mutating func rehearseIfDue(_ name: String) {
        guard let host = hosts[name], let due = nextRehearsal(host) else { return }
        guard due <= now else { return }
        beginRehearsal(host, "")
    }

    func nextRehearsal(_ host: HostRecord) -> Instant? {
        guard policy.rehearseEvery > .zero, host.fenceDevice != nil, host.liveness == .heard, host.fenceCase == nil, host.run == nil, host.command == nil, host.unresolved == nil
        else { return nil }
        return host.rehearsedAt.map { $0 + policy.rehearseEvery } ?? now
    }

    private mutating func beginRehearsal(_ host: HostRecord, _ request: RequestID) {
        let now = now
        let ways = ways(to: host)
        var command = PowerCommand(request: request, verb: .rehearse, steps: ways.map { _ in .status })
        command.ways = ways
        update(host.name) {
            $0.command = command
            $0.rehearsedAt = now
            $0.level = 0
        }
        run(.status, on: host.name)
    }

    /// Each level; one that other hosts reach through each of those that could now. Not all hosts begin with the same one.
    private func ways(to host: HostRecord) -> [Rehearsal.Way] {
        let able = proxies(besides: host.name).sorted()
        let proxies = able.filter { $0 > host.name } + able.filter { $0 < host.name }
        return host.levels.flatMap { devices -> [Rehearsal.Way] in
            let level = devices.first.flatMap { host.definition.fence[$0].level } ?? 1
            guard !proxies.isEmpty, devices.contains(where: { host.definition.fence[$0].via == .hosts }) else { return [Rehearsal.Way(level: level)] }
            return proxies.map { Rehearsal.Way(level: level, via: $0) }
        }
    }

    /// A rehearsal through many hosts takes its time: whoever asks for something else meanwhile does not wait for all of it.
    mutating func cutShortRehearsal(of name: String, _ why: String) {
        update(name) { if $0.command?.verb == .rehearse { $0.command?.cutShort = why } }
    }

    mutating func continueRehearsal(_ run: FenceRun, _ result: FenceResult) {
        let name = run.host
        guard let host = hosts[name], var command = host.command, !command.steps.isEmpty else { return }
        command.steps.removeFirst()
        let told = zip(host.devices(of: run), run.devices).enumerated().map { position, pair in
            let part = result.parts.flatMap { $0.indices.contains(position) ? $0[position] : nil }
            let outcome = part?.outcome ?? result.outcome
            return Rehearsal.Device(
                level: pair.1.level ?? 1, agent: pair.1.agent, address: pair.1.address, outcome: outcome.word(of: run.action), output: outcome.text, took: part?.took,
                verified: host.isOwn(pair.0) == true, via: pair.1.via == .hosts ? run.proxy : nil)
        }
        command.rehearsed = (command.rehearsed ?? []) + told
        let works = told.allSatisfy { ["on", "off"].contains($0.outcome) }
        command.tried = (command.tried ?? []) + [Rehearsal.Way(level: told.first?.level ?? 1, via: run.proxy, works: works)]
        command.ways = command.ways.map { Array($0.dropFirst()) }
        let level = command.ways?.first?.level
        let next = host.levels.firstIndex { $0.contains { (host.definition.fence[$0].level ?? 1) == level } } ?? (run.level ?? host.level ?? 0) + 1
        update(name) {
            $0.command = command
            if !command.steps.isEmpty { $0.level = next }
        }
        // A host that has fallen silent meanwhile is the case's.
        let why = command.cutShort ?? (policy.rules >= 1 ? host.fenceCase.map { "fence case \($0.id) was opened" } : nil)
        if why != nil || command.steps.isEmpty || host.fenceCase != nil { endRehearsal(name, why) } else { self.run(.status, on: name) }
    }

    /// - Parameter why: why it ends before every level was tried.
    mutating func endRehearsal(_ name: String, _ why: String?) {
        guard let host = hosts[name], let command = host.command else { return }
        let devices = command.rehearsed ?? []
        let tried = command.tried ?? []
        // Whoever wants something else has it done first.
        let rehearsedAt = policy.rules < 1 ? nil : now + (Self.pause - policy.rehearseEvery)
        let works = Set(tried.filter { $0.works == true }.map(\.level))
        update(name) {
            $0.command = nil
            $0.level = nil
            if command.cutShort != nil { $0.rehearsedAt = rehearsedAt }
            // What reaches nothing through anybody is the device's fault.
            if !tried.contains(where: { $0.via != nil && $0.works == true }) { $0.failedProxies = nil }
        }
        let rehearsal = Rehearsal(host: name, ways: works.count, devices: devices, tried: tried.contains { $0.via != nil } ? tried : nil)
        if why == nil { publish("fence.rehearsed", name, rehearsal) }
        if !command.request.isEmpty {
            if let why { refuse(command.request, RequestErrorCode.unknownOutcome, "the rehearsal of \(name) was cut off: \(why); ask again") } else { reply(command.request, .success(rehearsal)) }
        }
        if why == nil, works.isEmpty {
            decide(name, "cannot be fenced", why: devices.map { "\($0.agent) at \($0.address): \($0.outcome) \($0.output)" }.joined(separator: "; "))
        }
        checkPower(name)
    }
}
