import Messages

/// When each host was heard, which cases are open, when services started.
struct Power: Sendable {
    struct Case: Sendable {
        var host: String
        var cause: CaseCause
        var opened: Instant
        var fact: Fact
    }

    /// The newest heartbeats of each host, the latest last.
    private var heartbeats: [String: [Instant]] = [:]
    private(set) var cases: [String: Case] = [:]
    private(set) var starts: [String: Instant] = [:]
    /// When each host was last told to be on, or was said to be Up.
    private var lastOn: [String: Instant] = [:]
    private var lastUp: [String: Instant] = [:]
    /// When the toolstack of each host was down last; `until` nil: it is.
    private var toolstacksDown: [String: (since: Instant, until: Instant?)] = [:]

    mutating func heard(_ host: String, _ now: Instant) {
        heartbeats[host, default: []].append(now)
        if heartbeats[host, default: []].count > 16 { heartbeats[host]?.removeFirst() }
    }

    mutating func open(_ id: String, _ host: String, _ cause: CaseCause, _ now: Instant) {
        cases[id] = Case(host: host, cause: cause, opened: now, fact: .caseOpened(id, host: host, cause))
    }

    mutating func commandedOn(_ host: String, _ now: Instant) { lastOn[host] = now }
    mutating func up(_ host: String, _ now: Instant) { lastUp[host] = now }

    /// What became of a host since an off for it was sent that must not come any more.
    func since(_ sent: Instant, _ host: String) -> String? {
        if let at = lastOn[host], at > sent { return "was switched on" }
        return lastUp[host].map { $0 > sent } == true ? "is Up again" : nil
    }

    mutating func toolstack(_ host: String, _ works: Bool, _ now: Instant) {
        if works {
            toolstacksDown[host]?.until = now
        } else if let last = toolstacksDown[host], let until = last.until, now - until < Self.notSeen {
            toolstacksDown[host]?.until = nil
        } else {
            toolstacksDown[host] = (now, nil)
        }
    }

    /// What works for a shorter time no check may have seen.
    private static let notSeen = Duration.seconds(60)

    /// How long the toolstack of a host was down when it was down last.
    func toolstackWasDown(_ host: String, at now: Instant) -> Duration { toolstacksDown[host].map { ($0.until ?? now) - $0.since } ?? .zero }

    mutating func close(_ id: String, _ host: String) { cases[id] = nil }
    mutating func started(_ service: String, _ now: Instant) { starts[service] = now }

    /// How long a host was silent, heartbeats apart that are younger than `crossing`; `nil`: never heard.
    func silence(of host: String, at now: Instant, crossing: Duration) -> Duration? {
        heartbeats[host]?.last { now - $0 >= crossing }.map { now - $0 }
    }
}

extension InvariantChecker {
    /// S18: whoever was given up must not come back with it.
    func onDevice(_ host: String, _ action: PowerAction, sent: Instant, _ judgement: inout Judgement) {
        guard action == .off, let news = power.since(sent, host) else { return }
        judgement.violation(.I7, "an off of \(host) reaches its device \((judgement.now - sent).milliseconds) ms after it was sent, and \(host) \(news) since")
    }

    mutating func onPower(_ host: String, _ action: PowerAction, _ cause: PowerCause, _ judgement: inout Judgement) {
        if action == .on { power.commandedOn(host, judgement.now) }
        switch cause {
        case .operatorAsked:
            return
        case .saving:
            if action == .off, let run = runs.live(on: host) { judgement.violation(.I4, "\(host) is switched off to save power while \(run) lives there") }
            if promises.isCertain(.held(true)) || promises.isCertain(.enabled(false)) {
                judgement.violation(.I7, "power \(action.rawValue) of \(host) to save power, although an operator wants nothing automatic")
            }
        case .none:
            judgement.violation(.I7, "power \(action.rawValue) of \(host) without any cause")
        case .fenceCase(let id):
            guard let fenceCase = power.cases[id], fenceCase.host == host else {
                return judgement.violation(.I7, "power \(action.rawValue) of \(host) for case \(id), which is not open")
            }
            if action == .off, fenceCase.cause == .shutDown { judgement.violation(.I7, "\(host) is switched off by case \(id) although it said goodbye", earlier: fenceCase.fact) }
            if action == .off, fenceCase.cause == .toolstackLost { onOffForToolstack(host, id, fenceCase, &judgement) }
            if action == .off, fenceCase.cause == .nonOperational, let run = runs.live(on: host) {
                judgement.violation(.I7, "\(host) answers, \(run) runs there, and it is switched off by case \(id)", earlier: fenceCase.fact)
            }
            if action == .off, fenceCase.cause == .silent { onOffForSilence(host, id, fenceCase, &judgement) }
        }
    }

    /// Its guests may run and be well: only a policy may have it switched off for that, and no sooner than that says.
    private func onOffForToolstack(_ host: String, _ id: String, _ fenceCase: Power.Case, _ judgement: inout Judgement) {
        guard let limit = settings.toolstackLost else { return }
        let down = power.toolstackWasDown(host, at: judgement.now)
        guard limit == .zero || down < limit else { return }
        judgement.violation(
            .I4, "\(host) is switched off for its toolstack (case \(id)), which was down for \(down.milliseconds) ms; by policy it must be \(limit == .zero ? "left alone" : "\(limit.milliseconds) ms")",
            earlier: fenceCase.fact)
    }

    private func onOffForSilence(_ host: String, _ id: String, _ fenceCase: Power.Case, _ judgement: inout Judgement) {
        if let silence = power.silence(of: host, at: judgement.now, crossing: settings.crossing), silence < settings.grace {
            judgement.violation(.I5, "\(host) is switched off for its silence (case \(id)); it was heard \(silence.milliseconds) ms ago", earlier: fenceCase.fact)
        }
        guard let start = power.starts["fencing-service"], judgement.now - start < settings.grace, settings.knowsStarts || fenceCase.opened > start
        else { return }
        judgement.violation(
            .I5, "\(host) is switched off for its silence (case \(id)) \((judgement.now - start).milliseconds) ms after fencing-service began to listen", earlier: fenceCase.fact)
    }
}
