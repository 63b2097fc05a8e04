import Messages

/// Forgetting a host that may have run guests, as a pool without HA forgets a dead member: a person's word proves its life over, its VMs and leases are free, and it is refused from then on (S9, S20).
///
/// | what holds                                             | `host.forget`                                                |
/// |--------------------------------------------------------|--------------------------------------------------------------|
/// | in maintenance, never heard, or proven over            | forgotten at once                                            |
/// | HA is enabled                                          | refused: HA fences it, or waits for `confirm-off`            |
/// | it is heard, reads on, or was not listened to for a grace | refused                                                   |
/// | nobody says who looked at it, and why                  | refused                                                      |
/// | other hosts see its lease renewals                     | refused, once they were asked                                |
/// | else                                                   | an `operatorConfirmed` proof, and then it is forgotten       |
extension FencingEngine {
    mutating func confirmAndForget(_ id: RequestID, _ host: HostRecord, _ request: HostForget) {
        let name = host.name
        if haState.enabled {
            return refuse(
                id, RequestErrorCode.conflict,
                "\(name) may be running guests: put it into maintenance, or let its life be proven over, first; while HA is disabled (bulwark ha disable) your word that it is off is enough")
        }
        if host.liveness == .heard { return refuse(id, FencingErrorCode.signsOfLife, "heartbeats of \(name) come: it is not off") }
        guard host.liveness == .silent, let open = host.fenceCase, open.incarnation == host.incarnation else {
            return refuse(id, FencingErrorCode.held, "fencing-service has not listened to \(name) for a full grace yet; forget it then")
        }
        if host.power == .on { return refuse(id, FencingErrorCode.signsOfLife, "the fence device of \(name) reads on: switch it off, or say host confirm-off \(name) --yes-i-checked when the device errs") }
        guard let who = request.who, !who.isEmpty, let reason = request.reason, !reason.isEmpty, request.checked == true else {
            return refuse(id, RequestErrorCode.invalid, "\(name) may be running guests, and nothing but your word says that it does not: say who you are and why, and that you looked at the machine (--yes-i-checked)")
        }
        guard host.minted == nil, host.confirmation == nil, host.forgetting == nil else { return refuse(id, FencingErrorCode.busy, "a proof about \(name) is being made") }
        let body = ConfirmOff(host: name, caseID: open.id, incarnation: open.incarnation, who: who, why: reason, checked: true)
        update(name) {
            $0.confirmation = PendingConfirmation(request: id, body: body, serial: 0, readers: [])
            $0.forgetting = Forgetting(request: id, reason: "\(who): \(reason)")
        }
        askAgainToConfirm(name)
    }

    /// Once its proof is published, nobody needs to know the host any more.
    mutating func finishForgetting(_ name: String) {
        guard let host = hosts[name], let forgetting = host.forgetting, host.confirmation == nil, host.minted == nil else { return }
        guard host.isProvenDead, host.run == nil, host.command == nil, host.unresolved == nil else {
            guard !host.isProvenDead else { return }
            update(name) { $0.forgetting = nil }
            let what = host.liveness == .silent ? "the proof that its life is over was taken back before it was signed" : "it was heard before the proof that its life is over was signed"
            return refuse(forgetting.request, FencingErrorCode.signsOfLife, "\(name) is not forgotten: \(what)\(host.identityProblem.map { " (\($0))" } ?? "")")
        }
        forget(host, forgetting.reason)
        reply(forgetting.request, .done)
    }
}
