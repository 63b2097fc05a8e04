import Messages

/// While nothing automatic happens to power, nothing rests on a host's watchdog, and a person at work is not to be surprised by it: it is disarmed, whatever is held there (S6).
///
/// | automatic recovery | the host says            | what is done                                                                   |
/// |--------------------|--------------------------|--------------------------------------------------------------------------------|
/// | off or held        | armed                    | its watchdog counts for nothing from now on, then it is ordered to disarm it   |
/// | on                 | it obeys that order, or not our last | it is ordered to arm it again; that it does so its heartbeat says, with the number of the order |
///
/// A host that is not heard is sent nothing: what its last heartbeat said still holds.
extension FencingEngine {
    mutating func orderWatchdog(_ name: String) {
        guard let host = hosts[name] else { return }
        let disarm = !haState.enabled || ha.hold != nil
        let isDue = disarm ? host.saysArmed == true : host.obeyedOrder?.disarm == true || !host.isOrderObeyed
        guard isDue, host.liveness == .heard, host.identityProblem == nil, host.obeysOthers == nil else {
            if host.orderAgain != nil { update(name) { $0.orderAgain = nil } }
            return
        }
        if host.sentOrder?.disarm == disarm, let again = host.orderAgain, again > now { return }
        let again = now + policy.retry
        // One that was on its way may still arrive: it is older than this.
        let serial = host.sentOrder.map { $0.disarm == disarm && $0.serial > host.obeyedOrder?.serial ?? 0 ? $0.serial : nil } ?? nil
        update(name) {
            let order = WatchdogOrder(serial: serial ?? $0.nextNumber(), disarm: disarm)
            $0.sentOrder = order
            $0.orderAgain = again
            if disarm { $0.watchdogArmed = false }
        }
        guard let order = hosts[name]?.sentOrder else { return }
        perform(.orderWatchdog(host: name, order))
    }
}

extension HostRecord {
    /// Its watchdog is as the last order wants it, if it says armed.
    var isOrderObeyed: Bool { obeyedOrder?.disarm != true && obeyedOrder?.serial ?? 0 >= sentOrder?.serial ?? 0 && sentOrder?.disarm != true }
}
