import Messages

/// The hardware watchdog of this host: it is armed before the first grant, and may be disarmed only when nothing is held (S6).
extension LeaseEngine {
    mutating func onWatchdog(_ id: RequestID, _ report: WatchdogReport) -> Effects {
        if let last = watchdog, report.at <= last.at {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "an older report than the last one changes nothing")))]
        }
        if let refusal = refusal(of: report) { return [.reply(to: id, .refused(refusal))] }
        let before = watchdog
        watchdog = report
        guard before?.armed != report.armed || before?.released != report.released else { return [.reply(to: id, .done)] }
        let decision = report.armed
            ? Decision("host/\(host.name)", "watchdog armed", why: "host-agent says so: it resets this host \(report.timeout.seconds) s after the last feeding; leases may be granted")
            : Decision("host/\(host.name)", "watchdog may be disarmed", why: report.released == true
                ? "fencing-service has ordered it, and counts no lease of this host as covered; they are granted without it" : "no lease is held; none is granted before it is armed again")
        return [.decide(decision), .reply(to: id, .done)]
    }

    private func refusal(of report: WatchdogReport) -> RequestError? {
        guard !report.armed else {
            guard let limit = host.watchdog, report.timeout > limit else { return nil }
            return RequestError(
                LeaseErrorCode.watchdog, "it fires after \(report.timeout.seconds) s, lease.watchdog allows \(limit.seconds) s: shorten host-agent's watchdog.timeout or raise lease.watchdog")
        }
        if report.released == true {
            // Also while nothing is held: what is granted next would be as uncovered.
            guard let promised = (host.expiredOwners ?? [:]).filter({ $0.value == .watchdogPromised }).keys.sorted().first else { return nil }
            return RequestError(
                LeaseErrorCode.watchdog, "lockspace \(promised) has expiredOwners: watchdogPromised, so others take what this host holds by time alone: nothing is held or granted without an armed watchdog")
        }
        guard let first = leaseholders.first else { return nil }
        return RequestError(LeaseErrorCode.heldHere, "\(first) has or wants leases of this host", details: ["holder": first.description])
    }

    var watchdogView: LeaseWatchdogView {
        let holders = leaseholders
        return LeaseWatchdogView(armed: watchdog?.armed ?? false, needed: !holders.isEmpty, limit: host.watchdog, holders: holders, released: watchdog?.released)
    }

    private var leaseholders: [Holder] { sortedGrants.map(\.holder) + parked.map(\.request.holder) }

    /// Why nothing is granted yet; `nil`: the watchdog is armed, or none is asked for, or fencing-service does without.
    var unarmedWatchdog: RequestError? {
        guard host.watchdog != nil, watchdog?.armed != true, watchdog?.released != true else { return nil }
        return RequestError(
            LeaseErrorCode.watchdog,
            "lease.watchdog asks for a hardware watchdog, and host-agent has not armed it: see its health and watchdog.device in its configuration")
    }

    /// Why a watchdog does not help in this lockspace: it would fire after others take its leases.
    func watchdogClash(_ membership: Membership) -> RequestError? {
        guard let limit = host.watchdog else { return nil }
        let timing = WatchdogTiming(timeout: limit, inFlight: host.settle, firing: host.firing, ioTimeout: .seconds(membership.ioTimeout))
        return timing.clash.map { RequestError(LeaseErrorCode.watchdog, "lockspace \(membership.record.lockspace): \($0)") }
    }
}
