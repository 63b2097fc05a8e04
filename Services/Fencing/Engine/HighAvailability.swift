import Messages

/// What allows or forbids automatic power and recovery, cluster-wide.
struct HighAvailability: Codable, Hashable, Sendable {
    var enabled = true
    var hold: String?
    var holdUntil: Instant?
    /// Host to why its proof was revoked.
    var revoked: [String: String] = [:]
    /// Host to the contradiction of its boot ids (S14).
    var conflicts: [String: String] = [:]

    var alarms: [String] {
        revoked.keys.sorted().compactMap { revoked[$0] } + conflicts.keys.sorted().compactMap { conflicts[$0] }
    }

    /// Why nothing automatic may happen to power.
    var powerHold: String? {
        if !enabled { return "HA is disabled" }
        if let hold { return "held by an operator: \(hold)" }
        return conflicts.keys.sorted().first.flatMap { conflicts[$0] }
    }
}

extension FencingEngine {
    /// Why nothing automatic may happen to power: an operator's word, or the profile.
    var powerHold: String? {
        policy.isAutomatic ? ha.powerHold : "fence.profile is no-ha: operators act (host confirm-off, fence now, power off, host forget)"
    }

    var haState: HAState {
        HAState(
            enabled: ha.enabled && policy.isAutomatic, hold: ha.hold, recoveryAllowed: policy.isAutomatic && ha.enabled && ha.hold == nil && ha.alarms.isEmpty,
            alarms: ha.alarms.isEmpty ? nil : ha.alarms)
    }

    private static let longestHold = Duration.seconds(10 * 365 * 86_400)

    mutating func publishHA() { publish("ha.state", nil, haState) }

    mutating func onHold(_ id: RequestID, _ request: HoldRequest) {
        if request.release {
            ha.hold = nil
            ha.holdUntil = nil
        } else {
            guard !request.why.isEmpty else { return refuse(id, RequestErrorCode.invalid, "a hold needs a reason (--why)") }
            if let duration = request.duration, !(Duration.zero...Self.longestHold).contains(duration) {
                return refuse(id, RequestErrorCode.invalid, "a hold lasts at most ten years; without a duration it lasts until it is released")
            }
            ha.hold = request.why
            ha.holdUntil = request.duration.map { now + $0 }
        }
        reply(id, .success(haState))
        publishHA()
    }

    mutating func expireHold() {
        guard let until = ha.holdUntil, until <= now else { return }
        ha.hold = nil
        ha.holdUntil = nil
        publishHA()
    }

    /// Also the operator's word that alarms were looked at.
    mutating func onEnable(_ id: RequestID) {
        ha.enabled = true
        ha.revoked = [:]
        for name in ha.conflicts.keys.sorted() {
            // Whoever of them still lives is to be heard first: silence of the one that was believed last says nothing of the other.
            let doubtedUntil = now + policy.grace
            update(name) {
                let isCovered = $0.proof?.proof.covers(host: name, incarnation: Incarnation(max($0.incarnation.number, 1) - 1)) == true
                if $0.lives.count > 1, !isCovered { $0.rebootDoubtedUntil = doubtedUntil }
                $0.identityProblem = nil
                $0.liveness = .observing
                $0.silence = nil
                $0.answeringSince = nil
                $0.connection += 1
            }
            watch(name)
        }
        ha.conflicts = [:]
        reply(id, .success(haState))
        publishHA()
    }

    mutating func onDisable(_ id: RequestID) {
        ha.enabled = false
        reply(id, .success(haState))
        publishHA()
    }

    mutating func onNetwork(_ ok: Bool, _ detail: String) { networkProblem = ok ? nil : detail }
}
