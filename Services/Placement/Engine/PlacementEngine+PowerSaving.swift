import Messages

/// What power saving remembers.
struct PowerSavingMemory: Codable, Hashable, Sendable {
    struct Ask: Codable, Hashable, Sendable {
        var id: RequestID
        var host: String
        var isOff: Bool
    }

    /// Of hosts on which nothing runs.
    var emptySince: [String: Instant] = [:]
    var actedAt: Instant?
    /// The one request to fencing-service that is not answered.
    var ask: Ask?
    var asks: UInt64 = 0
    /// When fencing-service last refused to power a host down: others are tried first.
    var refusedAt: [String: Instant] = [:]
    /// When hosts were asked to be on again, which are not Up yet.
    var wokenAt: [String: Instant] = [:]
    /// When it last failed to switch a host on: others are tried first, and it only after a pause.
    var wakeFailedAt: [String: Instant]?
    /// VMs for which an operator found no host, and when.
    var wantedAt: [String: Instant]?
    /// The host of the SPM; `nil`: none serves, or nothing was heard since this process started.
    var spm: String?
    /// Since when the pool is known to have none.
    var spmLostAt: Instant?
}

/// Power saving, off by default: empty hosts are powered down, one at a time, and on again before they are missed. fencing-service does it, under its own rules, and may refuse; a host says itself that nothing runs there.
///
/// | what holds (first match)                                              | done                          |
/// |-----------------------------------------------------------------------|-------------------------------|
/// | recovery is held or disabled, a request is not answered               | nothing                       |
/// | a VM finds no place, and a host that is powered down may run it        | that one is switched on       |
/// | none that is Up may be SPM beside the one that is, or none is for long | one that may be is switched on |
/// | what is Up is less than the reserve, or HA could not replace a host   | one is switched on            |
/// | a host is not well, a VM is not settled, the SPM is not known         | nothing                       |
/// | without a host that has been empty for long, that would all still hold | it is powered down           |
///
/// One that could not be switched on is asked again after the pause, when others have had their turn.
extension PlacementEngine {
    /// How long a host that was switched on counts as coming.
    private static let bootPatience = Duration.seconds(600)

    mutating func onPool(_ pool: PoolView, _ now: Instant) {
        guard policy.saving != nil else { return }
        saving = changed {
            $0.spm = pool.status == .up ? pool.spm : nil
            $0.spmLostAt = $0.spm == nil ? $0.spmLostAt ?? now : nil
        }
    }

    /// Nothing that was asked of fencing-service before is answered any more; whether a host was switched on is not known.
    mutating func forgetAsked() {
        if let ask = saving?.ask, !ask.isOff { saving?.wokenAt[ask.host] = nil }
        saving?.ask = nil
        saving?.spm = nil
        saving?.spmLostAt = nil
    }

    mutating func onPowered(_ host: String, _ id: RequestID, _ error: RequestError?, _ turn: inout Turn) {
        guard let ask = saving?.ask, ask.id == id else { return }
        saving = changed {
            $0.ask = nil
            $0.actedAt = turn.now
            if error != nil, ask.isOff { $0.refusedAt[host] = turn.now }
            if error != nil, !ask.isOff {
                $0.wokenAt[host] = nil
                $0.wakeFailedAt = ($0.wakeFailedAt ?? [:]).merging([host: turn.now]) { $1 }
            }
            // Their places are coming; a VM that may not run there still waits for its own.
            if error == nil, !ask.isOff { $0.wantedAt = $0.wantedAt?.filter { name, _ in !(vms[name].map { mayRun($0, on: host) } ?? false) } }
        }
        if let error { turn.decide(host: host, ask.isOff ? "not powered down" : "not switched on", why: error.message) }
    }

    private func changed(_ change: (inout PowerSavingMemory) -> Void) -> PowerSavingMemory {
        var state = saving ?? PowerSavingMemory()
        change(&state)
        return state
    }

    /// An operator's start found no host: one that is powered down is switched on for it.
    mutating func wake(for vm: VMRecord, _ now: Instant) -> String? {
        guard policy.saving != nil, hosts.values.contains(where: { isSaved($0) && mayRun(vm, on: $0.view.name) }) else { return nil }
        saving = changed { $0.wantedAt = ($0.wantedAt ?? [:]).merging([vm.definition.name: now]) { $1 } }
        return recoveryAllowed ? "; a host that is powered down to save power is switched on for it: start it again then" : "; hosts are powered down to save power, and automatic recovery is held: bulwark power on"
    }

    func isBeingPoweredDown(_ host: HostView) -> Bool { host.powerSaving == .leaving || saving?.ask.map { $0.isOff && $0.host == host.name } ?? false }

    private func isSaved(_ host: HostRecord) -> Bool { host.view.powerSaving == .off }
    private func mayRun(_ vm: VMRecord, on host: String) -> Bool { vm.definition.pin.isEmpty || vm.definition.pin.contains(host) }

    mutating func proceedSaving(_ turn: inout Turn) {
        guard let policy = policy.saving else { return }
        noteEmptyHosts(turn.now)
        guard synced, recoveryAllowed, turn.now >= settleUntil, let state = saving, state.ask == nil else { return }
        let coming = hosts.values.filter { host in state.wokenAt[host.view.name].map { turn.now - $0 < Self.bootPatience } ?? false }
        let saved = wakeable(coming, policy, &turn)
        for host in coming { if let at = state.wokenAt[host.view.name] { turn.wake(at: at + Self.bootPatience) } }
        if let host = saved.first(where: { isMissedByAVM($0, coming) }) { return ask(host.view.name, isOff: false, "a VM finds no other place", &turn) }
        let next = (state.actedAt ?? settleUntil) + policy.pause
        guard next <= turn.now else { return turn.wake(at: next) }
        let up = hosts.values.filter { $0.view.status == .up }.sorted { $0.view.name < $1.view.name }
        if let host = saved.first(where: maySPM), lacksSPM(up + coming, policy, &turn) { return ask(host.view.name, isOff: false, "the pool's SPM can be nowhere else", &turn) }
        if let why = shortage(of: up + coming, policy) {
            if let host = saved.first { ask(host.view.name, isOff: false, why, &turn) }
            return
        }
        guard let spm = state.spm, isCalm else { return }
        let empty = up.filter { state.emptySince[$0.view.name] != nil && $0.view.name != spm && $0.view.powerSaving == nil }
        let due = empty.filter { host in state.emptySince[host.view.name].map { $0 + policy.emptyFor <= turn.now } ?? false }
        for host in empty { if let since = state.emptySince[host.view.name] { turn.wake(at: since + policy.emptyFor) } }
        func isSpare(_ host: HostRecord) -> Bool {
            let rest = up.filter { $0.view.name != host.view.name }
            return shortage(of: rest, policy) == nil && (!maySPM(host) || rest.contains { maySPM($0) && $0.view.name != spm })
        }
        let first = due.filter(isSpare)
            .min { (state.refusedAt[$0.view.name]?.nanoseconds ?? 0, $1.view.name) < (state.refusedAt[$1.view.name]?.nanoseconds ?? 0, $0.view.name) }
        if let first { ask(first.view.name, isOff: true, "nothing runs there, and the others are enough", &turn) }
    }

    /// Hosts that are powered down and may be switched on now, those first that have not failed to be for the longest time.
    private func wakeable(_ coming: [HostRecord], _ policy: PowerSavingPolicy, _ turn: inout Turn) -> [HostRecord] {
        let failedAt = saving?.wakeFailedAt ?? [:]
        let saved = hosts.values.filter { host in isSaved(host) && !coming.contains { $0.view.name == host.view.name } }
        for host in saved { if let at = failedAt[host.view.name] { turn.wake(at: at + policy.pause) } }
        return saved.filter { host in failedAt[host.view.name].map { $0 + policy.pause <= turn.now } ?? true }
            .sorted { (failedAt[$0.view.name]?.nanoseconds ?? 0, $0.view.name) < (failedAt[$1.view.name]?.nanoseconds ?? 0, $1.view.name) }
    }

    private func maySPM(_ host: HostRecord) -> Bool { host.view.spmPriority >= 0 }

    /// None of these hosts could be SPM beside the one that is, or the pool has been without one for long although one could.
    private func lacksSPM(_ hosts: [HostRecord], _ policy: PowerSavingPolicy, _ turn: inout Turn) -> Bool {
        if !hosts.contains(where: { maySPM($0) && $0.view.name != saving?.spm }) { return true }
        guard let lost = saving?.spmLostAt else { return false }
        turn.wake(at: lost + Self.bootPatience)
        return lost + Self.bootPatience <= turn.now
    }

    private mutating func noteEmptyHosts(_ now: Instant) {
        let busy = Set(vms.values.filter { $0.end == nil }.compactMap { $0.run?.host } + vms.values.compactMap { $0.sighting?.host })
        var state = saving ?? PowerSavingMemory()
        for (name, host) in hosts {
            let isEmpty = host.view.status == .up && host.reported && host.aliens.isEmpty && !busy.contains(name)
            if !isEmpty { state.emptySince[name] = nil } else if state.emptySince[name] == nil { state.emptySince[name] = now }
            if host.view.status == .up {
                state.wokenAt[name] = nil
                state.wakeFailedAt?[name] = nil
            }
        }
        state.emptySince = state.emptySince.filter { hosts[$0.key] != nil }
        state.wokenAt = state.wokenAt.filter { hosts[$0.key] != nil }
        state.wakeFailedAt = state.wakeFailedAt?.filter { hosts[$0.key] != nil }
        state.wantedAt = state.wantedAt?.filter { name, at in (vms[name]?.phase == .down || vms[name]?.phase == .failed) && now - at < Self.bootPatience }
        if state != saving { saving = state }
    }

    /// It waits for a host, and this one may be it.
    private func isMissedByAVM(_ host: HostRecord, _ coming: [HostRecord]) -> Bool {
        vms.values.contains { vm in
            let isWaiting = (vm.phase == .waiting && vm.round.hadNoHost == true) || saving?.wantedAt?[vm.definition.name] != nil
            return isWaiting && mayRun(vm, on: host.view.name) && !coming.contains { mayRun(vm, on: $0.view.name) }
        }
    }

    /// Everything else is as it should be: nobody knows what a host that is not well will need.
    private var isCalm: Bool {
        hosts.values.allSatisfy { ($0.view.status == .up && $0.view.toolstack == nil) || $0.view.status == .maintenance || isSaved($0) }
            && vms.values.allSatisfy { [.up, .down, .failed].contains($0.phase) && $0.sighting == nil && $0.missingSince == nil }
    }

    /// What these hosts lack if they are all; `nil`: nothing.
    private func shortage(of hosts: [HostRecord], _ policy: PowerSavingPolicy) -> String? {
        let loads = Dictionary(grouping: vms.values.filter { $0.end == nil && $0.run != nil }) { $0.run?.host ?? "" }
        let empty = hosts.filter { loads[$0.view.name] == nil && $0.aliens.isEmpty }.count
        if hosts.count < 2 { return "fewer than two hosts are Up" }
        if empty < policy.reserveHosts { return "\(empty) empty hosts are Up, the reserve is \(policy.reserveHosts)" }
        let free = hosts.reduce(0) { $0 + ($1.view.memoryMiB ?? 0) }
        if free < policy.reserveMemoryMiB { return "\(free) MiB of memory are free, the reserve is \(policy.reserveMemoryMiB)" }
        for lost in hosts where !canReplace(lost, by: hosts, (loads[lost.view.name] ?? []).filter(\.definition.ha)) { return "the others could not take the HA VMs of \(lost.view.name)" }
        return nil
    }

    /// The largest first, each where most is left.
    private func canReplace(_ lost: HostRecord, by hosts: [HostRecord], _ load: [VMRecord]) -> Bool {
        var left = Dictionary(uniqueKeysWithValues: hosts.filter { $0.view.name != lost.view.name }.map { ($0.view.name, $0.view.memoryMiB ?? .max) })
        for vm in load.sorted(by: { ($1.definition.memoryMiB, $0.definition.name) < ($0.definition.memoryMiB, $1.definition.name) }) {
            // One that is pinned to the lost host waits for that, whatever else is on.
            if !vm.definition.pin.isEmpty, vm.definition.pin.allSatisfy({ left[$0] == nil }) { continue }
            let able = left.filter { (vm.definition.pin.isEmpty || vm.definition.pin.contains($0.key)) && $0.value >= vm.definition.memoryMiB }
            guard let best = able.max(by: { ($0.value, $1.key) < ($1.value, $0.key) })?.key else { return false }
            left[best, default: 0] -= vm.definition.memoryMiB
        }
        return true
    }

    private mutating func ask(_ host: String, isOff: Bool, _ why: String, _ turn: inout Turn) {
        let number = (saving?.asks ?? 0) + 1
        let id = "\(lineage).power.\(host).\(number)"
        saving = changed {
            $0.asks = number
            $0.ask = PowerSavingMemory.Ask(id: id, host: host, isOff: isOff)
            if !isOff { $0.wokenAt[host] = turn.now }
        }
        turn.decide(host: host, isOff ? "power down" : "switch on", why: why)
        let request = HostRequest(host: host, reason: "to save power: \(why)", now: true)
        turn.perform(isOff ? .powerDown(request, id: id) : .powerUp(request, id: id))
    }
}
