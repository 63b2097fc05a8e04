import Messages

/// Runs fence agents for other hosts, whose devices the manager reaches through this one.
///
/// What was under way for too long must not hit a host that has come back (S18): runs have rising numbers, and older ones are refused; a run names a ticket, this host's own time when it was
/// prepared, and counts its deadline from there, also over a time in which nothing moved here.
extension HostAgentEngine {
    mutating func onFencePrepare(_ id: RequestID, _ prepare: FencePrepare) -> Effects {
        if let refusal = proxyRefusal(prepare.host, prepare.number) { return [.reply(to: id, .refused(refusal))] }
        fenceNumbers = (fenceNumbers ?? [:]).merging([prepare.host: prepare.number]) { $1 }
        let isIdle = (fenceRuns ?? [:]).values.allSatisfy { $0.host != prepare.host }
        return [.reply(to: id, .success(FenceTicket(ticket: now, isIdle: isIdle)))]
    }

    mutating func onFenceRun(_ id: RequestID, _ run: FenceProxyRun) -> Effects {
        if let refusal = proxyRefusal(run.host, run.number) { return [.reply(to: id, .refused(refusal))] }
        let late = now - run.ticket
        guard run.number == fenceNumbers?[run.host], late >= .zero else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "run \(run.number) for \(run.host) was not prepared in this life of the host")))]
        }
        guard late < run.deadline else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.timeout, "run \(run.number) for \(run.host) came \(late.milliseconds) ms after it was prepared, its time was \(run.deadline.milliseconds) ms")))]
        }
        // Once each.
        fenceNumbers?[run.host] = run.number + 1
        fenceRuns = (fenceRuns ?? [:]).merging([id: run]) { $1 }
        var left = run
        left.deadline = run.deadline - late
        guard run.action.isDestructive else { return [.perform(.fence(id, left))] }
        let decision = Decision("host/\(run.host)", "power \(run.action.rawValue) as proxy", why: "run \(run.number) through \(run.devices.map(\.agent).joined(separator: ", "))")
        return [.decide(decision), .perform(.fence(id, left))]
    }

    mutating func onFenceRan(_ id: RequestID, _ result: FenceProxyResult) -> Effects {
        guard fenceRuns?.removeValue(forKey: id) != nil else { return [] }
        if fenceRuns?.isEmpty == true { fenceRuns = nil }
        return [.reply(to: id, .success(result))]
    }

    /// Nothing is switched by it, so it needs no number.
    func onFenceIdentify(_ id: RequestID, _ question: FenceIdentify) -> Effects {
        if question.host == identity?.host { return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "\(question.host) is this host: another one must read its fence devices")))] }
        return [.perform(.identify(id, question.device))]
    }

    private func proxyRefusal(_ host: String, _ number: UInt64) -> RequestError? {
        if host == identity?.host { return RequestError(RequestErrorCode.conflict, "\(host) is this host: another one must run its fence agents") }
        if let newest = fenceNumbers?[host], number < newest {
            return RequestError(RequestErrorCode.conflict, "a later run than \(number) for \(host) was prepared already: this one comes too late")
        }
        return nil
    }
}
