import Messages

/// What it means that this host's hypervisor, or one guest of it, cannot be controlled.
///
/// | | while the toolstack is down |
/// |---|---|
/// | guests that run, or are paused | told as unknown, with what their guards say; their guards, leases and deadlines go on |
/// | a start | refused, and buried (S7): nothing of it ever runs here |
/// | a stop, a shutdown of the host | told to the guard, which needs no toolstack; answered only when the group is reaped, its storage has answered and that is signed (S4) |
/// | a guest that ends by itself | proven over by the same evidence, and by no other |
extension HostAgentEngine {
    mutating func onToolstack(_ report: ToolstackReport?) -> Effects {
        guard let identity, report != toolstack else { return [] }
        toolstack = report
        let subject = "host/\(identity.host)"
        var effects: Effects = []
        if let report {
            effects.append(.decide(Decision(
                subject, report.state == .restarting ? "toolstack restarted" : report.state == .lost ? "hypervisor control lost" : "toolstack check failed",
                why: "\(report.sentence). Its guests are unknown: none is started, and none is taken for stopped without proof", evidence: ["restarts": "\(report.restarts)"])))
            if report.state == .restarting { effects.append(.perform(.restartToolstack)) }
        } else {
            effects.append(.decide(Decision(subject, "hypervisor controlled again", why: "its check succeeds (toolstack.check)")))
        }
        return effects + [publishedVMs, .publish(Event("agent.heartbeat", subject: identity.host, body: heartbeat))]
    }

    /// Its guard still proves that it runs: only what its hypervisor knows and can do is out of reach.
    mutating func onMonitor(_ holder: Holder, _ answers: Bool) -> Effects {
        guard let run = runs[holder.subject], run.holder == holder, run.mayRun, (run.isMute ?? false) == answers else { return [] }
        runs[holder.subject]?.isMute = answers ? nil : true
        let decision = answers
            ? Decision(holder.decisionSubject, "its monitor answers again", why: "its QEMU answered over QMP", evidence: ["holder": holder.description])
            : Decision(
                holder.decisionSubject, "its monitor does not answer", why: "its QEMU says nothing over QMP, its guard says that it runs: it is not touched",
                evidence: ["holder": holder.description])
        return [.decide(decision), publishedVMs]
    }
}
