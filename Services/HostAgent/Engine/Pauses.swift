import Messages

/// Guests that their hypervisor has paused because of an I/O error: they never go on by themselves.
extension HostAgentEngine {
    /// One that meets an error again so soon was not well in between: the errors of some storage take half a minute to be told.
    private static let relapse = ResumeBehaviour.limit

    mutating func onPause(_ subject: String, _ why: PauseCause?) -> Effects {
        guard let run = runs[subject] else { return [] }
        guard why == .ioError else {
            // Paused by its guard, too, it has not gone on.
            if why == nil, run.pausedSince != nil, run.resumedAt == nil { runs[subject]?.resumedAt = now }
            return []
        }
        runs[subject]?.resumedAt = nil
        if run.pausedSince != nil, run.resumedAt.map({ now - $0 < Self.relapse }) ?? true { return nextPauseEnd }
        runs[subject]?.pausedSince = now
        let what =
            switch run.resumeBehaviour {
            case .auto: "it goes on when its storage answers"
            case .leave: "it stays paused until it is resumed or stopped"
            case .kill: "it goes on when its storage answers, and is ended after \(Int(ResumeBehaviour.limit.seconds)) s"
            }
        return [.decide(Decision(run.holder.decisionSubject, "paused by an I/O error", why: "resume is \(run.resumeBehaviour.rawValue): \(what)", evidence: ["holder": run.holder.description]))] + nextPauseEnd
    }

    /// Those whose storage answers now. That it answered this host says little about the guest's own I/O: what meets an error again is paused again.
    func resumable(on domain: String) -> Effects {
        runs.keys.sorted().compactMap { subject in
            guard let run = runs[subject], run.isPausedByError, run.mayRun, run.stop == nil, run.resumeBehaviour != .leave,
                run.spec.places.contains(where: { $0.domain == domain }), run.spec.places.allSatisfy({ probes[$0.domain]?.ok == true })
            else { return nil }
            return .perform(.resume(run.holder, asked: false))
        }
    }

    // MARK: An operator's word

    /// Whether its leases are still its own is for its guard to say, whatever `resume` it is defined with; past their deadline there is nothing left that could go on.
    mutating func onResume(_ id: RequestID, _ holder: Holder) -> Effects {
        func stays(_ why: String) -> Effects { [.reply(to: id, .refused(notResumed(holder, why)))] }
        guard !isInitializing else { return stays("the agent has just started and still finds out what runs here; ask again") }
        guard let run = runs[holder.subject], run.holder == holder else { return stays("nothing of it is here") }
        if let stop = run.stop { return stays("its guard was told to end it: \(stop)") }
        guard case .running = run.phase else { return stays(run.evidence) }
        runs[holder.subject]?.resumers = (run.resumers ?? []) + [id]
        return run.resumers == nil ? [.perform(.resume(holder, asked: true))] : []
    }

    mutating func onResumed(_ holder: Holder, _ outcome: ResumeOutcome) -> Effects {
        guard let run = runs[holder.subject], run.holder == holder, let waiting = run.resumers else { return [] }
        if case .stays(let why) = outcome { return refuseResumers(holder.subject, why) }
        runs[holder.subject]?.resumers = nil
        let decision = Decision(
            holder.decisionSubject, "resumed", why: "an operator asked for it, and its guard had its leases read again: they are its own", evidence: ["holder": holder.description])
        return [.decide(decision)] + waiting.map { .reply(to: $0, report(of: run)) }
    }

    /// Nobody waits for ever, and what an earlier life of the agent was asked is not done by a later one.
    mutating func refuseResumers(_ subject: String, _ why: String) -> Effects {
        guard let run = runs[subject], let waiting = run.resumers else { return [] }
        runs[subject]?.resumers = nil
        let decision = Decision(run.holder.decisionSubject, "not resumed", why: why, evidence: ["holder": run.holder.description])
        return [.decide(decision)] + waiting.map { .reply(to: $0, .refused(notResumed(run.holder, why))) }
    }

    private func notResumed(_ holder: Holder, _ why: String) -> RequestError { RequestError(AgentErrorCode.notResumed, "\(holder) does not go on: \(why)") }

    // MARK: Time

    mutating func onWake() -> Effects {
        var effects: Effects = []
        for subject in runs.keys.sorted() {
            guard let run = runs[subject], let end = run.pauseEnd, end <= now else { continue }
            effects += endRun(subject, "an I/O error has paused it for \(Int(ResumeBehaviour.limit.seconds)) s, and resume is kill")
        }
        return effects + nextPauseEnd
    }

    var nextPauseEnd: Effects { runs.values.compactMap(\.pauseEnd).min().map { [.wake(at: max($0, now))] } ?? [] }
}

extension Run {
    fileprivate var isPausedByError: Bool { pausedSince != nil && resumedAt == nil }

    fileprivate var resumeBehaviour: ResumeBehaviour {
        guard case .guest(let vm, _) = spec.payload else { return .leave }
        return vm.resume ?? (vm.ha ? .kill : .auto)
    }

    /// When it is ended for being paused; `nil`: it is not, or it is being ended.
    fileprivate var pauseEnd: Instant? {
        guard let pausedSince, isPausedByError, mayRun, stop == nil, resumeBehaviour == .kill else { return nil }
        return pausedSince + ResumeBehaviour.limit
    }
}
