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
            case .leave: "it stays paused until it is stopped"
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
            return .perform(.resume(run.holder))
        }
    }

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
