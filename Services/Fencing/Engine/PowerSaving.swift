import Messages

/// A host that is powered down to save power, from the request on.
struct Saving: Codable, Hashable, Sendable {
    enum Stage: String, Codable, Hashable, Sendable { case leaving, switchingOff, off }

    var stage = Stage.leaving
    /// Of placement-service; answered when it is off, or with why it is not.
    var request: RequestID
    /// The life that is to end.
    var bootID: String?
    /// Until when it may take: to say goodbye, and then to be heard although it is off.
    var until: Instant
}

/// What a host said that was asked to shut down to save power.
public struct SavingAnswer: Codable, Hashable, Sendable {
    public var host: String
    public var request: RequestID
    /// `nil`: it says goodbye.
    public var refusal: String?
    public init(host: String, request: RequestID, refusal: String?) {
        self.host = host
        self.request = request
        self.refusal = refusal
    }
}

/// Powering down an empty host: its agent, which alone knows that nothing runs there, shuts down and says goodbye (S19); then its device switches it off, as for an operator.
///
/// | stage        | stimulus                                            | next                                               |
/// |--------------|-----------------------------------------------------|----------------------------------------------------|
/// | –            | `power.save`, and nothing speaks against it         | leaving: its agent is asked                        |
/// | leaving      | its goodbye is heard                                | switchingOff                                       |
/// |              | refused, hold, case, maintenance, 120 s             | –                                                  |
/// | switchingOff | the agent ended, and its status was read            | off: its silence opens a case that only reads      |
/// | off          | a new life; maintenance; an operator's `power off`  | –                                                  |
/// |              | the same life is heard a grace later                | –                                                  |
///
/// Whenever a host leaves to save power and nobody wants that any more, it is called off, again and again until its heartbeat says so.
extension FencingEngine {
    private static let patience = Duration.seconds(120)

    mutating func onPowerSave(_ id: RequestID, _ request: HostRequest) {
        guard let host = known(id, request.host) else { return }
        if host.saving?.request == id { return }
        if let why = savingObstacle(host) { return refuse(id, RequestErrorCode.conflict, "\(host.name) is not powered down: \(why)") }
        let until = now + Self.patience
        update(host.name) { $0.saving = Saving(request: id, bootID: host.bootID, until: until) }
        decide(host.name, "power down", why: request.reason ?? "to save power")
        perform(.saveShutdown(host: host.name, request: id))
    }

    private func savingObstacle(_ host: HostRecord) -> String? {
        if let why = powerHold { return why }
        if let networkProblem { return "the manager's own network check fails: \(networkProblem)" }
        if mayNeverBeSaved(host) { return "its definition forbids it, or no device that is known to be its own could switch it on again" }
        if host.status != .up { return "it is \(host.status.rawValue): \(host.reason)" }
        if host.fenceCase != nil || host.unresolved != nil || host.owed != nil || host.run != nil || host.command != nil || !host.stuck.isEmpty { return "its power, or what runs there, is being dealt with" }
        if policy.rules >= 1, isBusyAsProxy(host.name) { return "it carries out a fence command for another host" }
        let others = hosts.values.filter { $0.name != host.name }
        if let other = others.filter({ $0.saving.map { $0.stage != .off } ?? false }).map(\.name).min() { return "\(other) is just being powered down" }
        return others.contains { $0.status == .up } ? nil : "no other host is Up"
    }

    func mayNeverBeSaved(_ host: HostRecord) -> Bool { host.definition.powerSaving == false || !host.deviceVerified }

    func savingState(of host: HostRecord) -> PowerSavingState? {
        switch host.saving?.stage {
        case .leaving, .switchingOff: .leaving
        case .off: host.power == .on ? .leaving : .off
        case nil: host.definition.powerSaving == false || host.definition.fence.isEmpty ? .never : nil
        }
    }

    mutating func onSavingAnswered(_ answer: SavingAnswer) {
        guard let saving = hosts[answer.host]?.saving, saving.request == answer.request, saving.stage == .leaving, let refusal = answer.refusal else { return }
        giveUpSaving(answer.host, refusal)
    }

    mutating func followSaving(_ name: String) {
        guard let host = hosts[name] else { return }
        if let saving = host.saving {
            if host.maintenance || saving.bootID != host.bootID { return giveUpSaving(name, host.maintenance ? "it is in maintenance" : "it boots anew") }
            switch saving.stage {
            case .leaving: followLeaving(host, saving)
            case .switchingOff: break
            case .off where host.liveness == .heard && saving.until <= now: giveUpSaving(name, "it is heard again, so it never went off")
            case .off: break
            }
        } else if host.leavesToSave == true, host.liveness == .heard, host.callOffAt.map({ $0 <= now }) ?? true {
            let again = now + policy.retry
            update(name) { $0.callOffAt = again }
            perform(.callOffShutdown(host: name))
        }
    }

    private mutating func followLeaving(_ host: HostRecord, _ saving: Saving) {
        if let why = powerHold ?? (host.fenceCase.map { "fence case \($0.id) is open" }) ?? (saving.until <= now ? "it has not said goodbye in time" : nil) {
            return giveUpSaving(host.name, why)
        }
        guard host.leaving == .over, host.leavesToSave == true, host.liveness == .heard, host.run == nil, host.command == nil, host.unresolved == nil, host.owed == nil else { return }
        if policy.rules >= 1, isBusyAsProxy(host.name) { return }
        update(host.name) {
            $0.saving?.stage = .switchingOff
            $0.command = PowerCommand(request: saving.request, verb: .save, steps: PowerVerb.save.steps)
        }
        decide(host.name, "power off", why: "it has said goodbye, and is powered down to save power")
        run(.off, on: host.name)
    }

    /// Its device has been told, and was read. What reads on may go off yet: it is given up when it is heard on.
    mutating func endSaving(_ name: String) {
        let until = now + policy.grace
        update(name) {
            $0.saving?.stage = .off
            $0.saving?.until = until
        }
    }

    private mutating func giveUpSaving(_ name: String, _ why: String) {
        guard let saving = hosts[name]?.saving else { return }
        update(name) { $0.saving = nil }
        if saving.stage == .leaving {
            decide(name, "not powered down", why: why)
            refuse(saving.request, RequestErrorCode.conflict, "\(name) is not powered down: \(why)")
        }
        followSaving(name)
    }

    func nextSaving(_ host: HostRecord) -> Instant? {
        if let saving = host.saving { return saving.stage == .switchingOff ? nil : saving.until }
        return host.leavesToSave == true && host.liveness == .heard ? host.callOffAt : nil
    }
}
