import Messages

/// A clean shutdown of this host, in one boot (S19).
///
/// | state   | stimulus                                                   | next                          |
/// |---------|------------------------------------------------------------|-------------------------------|
/// | –       | `agent.shutdown`                                           | ending: every run is told to end, no start is accepted any more |
/// | ending  | everything was looked at, each run is proven over, no stray | over: goodbye                 |
/// | any     | called off, or the machine boots anew                      | –                             |
///
/// To save power (`saving`) it begins only where nothing is to be ended, says goodbye only after a look at every process that finds no hypervisor at work, whoever started it, and is given up otherwise. An operator's word
/// replaces that.
///
/// A restarted agent goes on where it was.
struct Departure: Codable, Hashable, Sendable {
    var bootID: String
    var isOver = false
    /// It is only to save power.
    var saves: Bool?
    /// What runs here is still looked for; `nil`: it was, or nobody asked.
    var looks: Bool?
}

extension HostAgentEngine {
    var goingAway: AgentHeartbeat.Leaving? { departure.map { $0.isOver ? .over : .ending } }

    /// Ends every run; says so when all are over, so that the silence that follows is no surprise.
    mutating func onShutdown(_ id: RequestID) -> Effects {
        guard let identity else { return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "this agent has only just started; ask again")))] }
        shutdowns.append(id)
        guard departure == nil else {
            departure?.saves = nil
            departure?.looks = nil
            return []
        }
        departure = Departure(bootID: identity.bootID)
        var effects: Effects = [.decide(Decision("host/\(identity.host)", "shuts down", why: "asked for by an operator, or by the machine's own shutdown"))]
        for subject in runs.keys.sorted() where runs[subject]?.mayRun == true {
            runs[subject]?.endsWithHost = true
            effects += endRun(subject, "this host shuts down")
        }
        // Who listens knows why before the first of them has ended.
        return effects + [.publish(Event("agent.heartbeat", subject: identity.host, body: heartbeat))]
    }

    mutating func onSaveShutdown(_ id: RequestID) -> Effects {
        if departure != nil {
            shutdowns.append(id)
            return []
        }
        if let why = notIdle { return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "\(identity?.host ?? "it") is not empty: \(why)")))] }
        shutdowns.append(id)
        departure = Departure(bootID: identity?.bootID ?? "", saves: true, looks: true)
        return [.decide(Decision("host/\(identity?.host ?? "")", "shuts down to save power", why: "fencing-service asked for it, and nothing is known to run here; every process is looked at first")), .perform(.scan)]
    }

    /// The look that a goodbye to save power waits for; it ends only when nothing was left out.
    mutating func onLooked(_ others: [String]) -> Effects {
        guard departure?.looks == true else { return [] }
        departure?.looks = nil
        guard let why = notIdle ?? others.first.map({ "\($0) runs there, whoever started it" }) else { return [] }
        let waiting = shutdowns
        shutdowns = []
        departure = nil
        let host = identity?.host ?? "it"
        return [.decide(Decision("host/\(host)", "stays on", why: "it was to be powered down to save power, but \(why)"))]
            + waiting.map { .reply(to: $0, .refused(RequestError(RequestErrorCode.conflict, "\(host) is not empty: \(why)"))) }
    }

    /// What runs here, or may.
    var notIdle: String? {
        if identity == nil || isInitializing { return "its agent still finds out what runs there" }
        if let run = runs.values.filter({ $0.phase != .over && $0.leftOn == nil }).min(by: { $0.holder.description < $1.holder.description }) { return "\(run.holder) is there" }
        if let stray = strays.first { return "VM \(stray.vm) runs there, whoever started it" }
        if fenceRuns != nil { return "it runs fence agents for other hosts" }
        if !tasks.isEmpty || !creations.isEmpty { return "storage work is under way there" }
        return lockspaces.first { $0.hasOtherHolders == true }.map { "programs hold leases in \($0.lockspace)" }
    }

    /// An operator's shutdown is not called off by it.
    mutating func onSaveCalledOff(_ id: RequestID) -> Effects { departure?.saves == true ? onShutdownCalledOff(id) : [.reply(to: id, .done)] }

    mutating func onShutdownCalledOff(_ id: RequestID) -> Effects {
        let waiting = shutdowns
        shutdowns = []
        guard departure != nil else { return [.reply(to: id, .done)] }
        let saves = departure?.saves == true
        departure = nil
        let refusal = RequestError(RequestErrorCode.conflict, "the shutdown was called off: what has ended stays ended")
        return waiting.map { .reply(to: $0, .refused(refusal)) } + [
            .decide(Decision("host/\(identity?.host ?? "")", "shutdown called off", why: "\(saves ? "fencing-service" : "an operator") asked for it; guests may be started here again")), .reply(to: id, .done),
        ]
    }

    /// Once nothing runs here, and nothing can any more: that is said, and whoever waits for it is answered.
    mutating func sayGoodbye() -> Effects {
        guard let departure, let identity, departure.looks == nil, !departure.isOver || !shutdowns.isEmpty else { return [] }
        var effects: Effects = []
        if !departure.isOver {
            guard !isInitializing, strays.isEmpty, runs.values.allSatisfy({ $0.phase == .over || $0.leftOn != nil }) else { return [] }
            self.departure?.isOver = true
            effects = [
                .decide(Decision("host/\(identity.host)", "said goodbye", why: "every run here is proven over, and none is started in this boot any more")), publishedVMs,
                .publish(Event("agent.shutdown", subject: identity.host, body: heartbeat)), .publish(Event("agent.heartbeat", subject: identity.host, body: heartbeat)),
            ]
        }
        let waiting = shutdowns
        shutdowns = []
        return effects + waiting.map { .reply(to: $0, .done) }
    }
}
