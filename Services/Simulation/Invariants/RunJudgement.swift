import Messages

extension InvariantChecker {
    mutating func onStartSent(_ run: Run, _ incarnation: Incarnation, _ judgement: inout Judgement) {
        let history = runs.history(of: run.holder)
        if let sent = history.sent, sent.holder == run.holder, sent.host != run.host || sent.boot != run.boot {
            judgement.violation(.I3, "\(run.holder) is started on \(run.host) under a number that \(sent.host) has", earlier: history.sentFact)
        }
        judgeLastRun(run, "start sent of", history, &judgement)
        if run.holder.role == .vm {
            let stopped = Promise.wanted(vm: run.holder.name, false)
            if promises.isCertain(stopped), history.sent?.holder != run.holder {
                judgement.violation(.I6, "start sent of \(run), whose stop was acknowledged", earlier: promises.fact(for: stopped.object))
            }
        }
        runs.sent(run, incarnation, judgement.fact)
    }

    mutating func onBegan(_ run: Run, writes: [String], leases: [GuardLease], _ judgement: inout Judgement) {
        let history = runs.history(of: run.holder)
        if let last = history.last, last.run.holder == run.holder, run.holder.attempt > 0 {
            judgement.violation(.I6, "\(run) began, and \(last.run) began before: one attempt, two runs", earlier: last.fact)
        } else if let sent = history.sent, run.holder.attempt > 0, run.holder.attempt < sent.holder.attempt {
            judgement.violation(.I3, "\(run) began although attempt \(sent.holder.attempt) was sent to \(sent.host)", earlier: history.sentFact)
        }
        if let other = history.live.first(where: { $0 != run }) {
            judgement.violation(run.holder.role == .vm ? .I3 : .I2, "\(run) began while \(other) lives", earlier: history.last?.fact)
        } else if history.sent?.holder != run.holder {
            // What was judged when its start was sent is not told twice.
            judgeLastRun(run, "began", history, &judgement)
        }
        if let proof = runs.proofCovering(run) {
            judgement.violation(.I3, "\(run) began in a life of its host that \(proof.kind.rawValue) proof \(proof.id) says is over", earlier: .proofMade(proof))
        }
        storage.begin(run, writes: writes, leases: leases, &judgement)
        runs.began(run, leases: leases, judgement.fact)
    }

    /// What ran elsewhere must be over, and proven to be (I3). The same boot refuses by itself.
    private func judgeLastRun(_ run: Run, _ what: String, _ history: Runs.History, _ judgement: inout Judgement) {
        guard let last = history.last, last.run.holder != run.holder, last.run.host != run.host || last.run.boot != run.boot else { return }
        if history.live.contains(last.run) {
            judgement.violation(.I3, "\(what) \(run) while \(last.run) lives", earlier: last.fact)
        } else if !runs.isProvenOver(last) {
            judgement.violation(.I3, "\(what) \(run) without a proof that \(last.run) is over", earlier: last.fact)
        } else {
            return
        }
        if let silence = power.silence(of: last.run.host, at: judgement.now, crossing: .zero), silence >= settings.silence {
            judgement.violation(.I4, "\(what) \(run) on nothing but the silence of \(last.run.host)", earlier: last.fact)
        }
    }

    mutating func onEnded(_ run: Run, _ cause: EndCause, _ judgement: inout Judgement) {
        let history = runs.history(of: run.holder)
        let isCurrent = runs.isLive(run) && run.holder.attempt >= history.sent?.holder.attempt ?? 0
        switch cause {
        case .command where isCurrent && promises.isCertain(.wanted(vm: run.holder.name, true)):
            judgement.violation(.I4, "\(run) was stopped by a command, and nobody wanted it stopped", earlier: history.last?.fact)
        case .restart(let service) where runs.isLive(run):
            judgement.violation(.I7, "\(run) ended because \(service) was restarted", earlier: history.last?.fact)
        case .none where runs.isLive(run):
            judgement.violation(.I4, "\(run) ended for no reason", earlier: history.last?.fact)
        default:
            break
        }
        end(run)
    }

    mutating func onOutlived(_ run: Run, writes: [String], _ judgement: inout Judgement) {
        guard !runs.isLive(run) else { return }
        let history = runs.history(of: run.holder)
        if let proof = runs.proofCovering(run) {
            judgement.violation(.I3, "\(run) lives although \(proof.kind.rawValue) proof \(proof.id) says that it is over", earlier: .proofMade(proof))
        }
        if let other = history.live.first {
            judgement.violation(run.holder.role == .vm ? .I3 : .I2, "\(run) lives beside \(other)", earlier: history.last?.fact)
        }
        storage.begin(run, writes: writes, leases: [], &judgement)
        runs.began(run, leases: [], judgement.fact)
    }

    mutating func end(_ run: Run) {
        runs.end(run)
        storage.end(run)
    }

    mutating func onPublished(_ run: Run, _ lver: UInt64, _ what: String, _ judgement: inout Judgement) {
        let history = runs.history(of: run.holder)
        if let last = history.last, last.run.holder.attempt > run.holder.attempt || history.lver > lver {
            judgement.violation(.I2, "\(what) was published by \(run) (version \(lver)), deposed by \(last.run) (version \(history.lver))", earlier: last.fact)
        }
        promises.judgeBegin("publication of \(what)", &judgement)
        promises.done("publication of \(what)")
    }
}
