@testable import FencingEngine
import Messages

/// What must be true in this world, and what tests look at.
extension World {
    /// Whatever is open has something that will make it go on.
    func checkThatNothingIsForgotten(_ name: String) {
        guard let host = engine.hosts[name], host.run == nil, host.command == nil, host.retryAt == nil, host.minted == nil else { return }
        if let open = host.fenceCase {
            let waits = !open.readers.isEmpty || !open.voters.isEmpty || open.bootDeadline != nil || open.incarnation < host.incarnation
            let heldOnTheWayBack = open.step == .proven && engine.powerOnHold(host) != nil
            if !waits, !heldOnTheWayBack { violations.append("forgotten: \(open)") }
        } else if host.unresolved != nil {
            violations.append("the outcome of \(name) is forgotten")
        }
    }

    func noteLives(_ host: HostRecord) {
        guard let boot = host.bootID else { return }
        bootsOf[host.name, default: [:]][host.incarnation.number] = boot
        if let fenceCase = host.fenceCase, fenceCase.incarnation > host.incarnation { violations.append("a case about a life to come: \(fenceCase)") }
    }

    func note(_ result: FenceResult) {
        guard let run = runs[result.host], run.id == result.run else { return }
        runs[result.host] = nil
        guard run.action == .status else { return }
        switch result.outcome {
        case .succeeded:
            openOutcome[result.host] = nil
            statusOffSince[result.host] = nil
        case .readsOff:
            openOutcome[result.host] = nil
            statusOffSince[result.host] = statusOffSince[result.host] ?? now
        default: break
        }
    }

    /// A restarted service has lost its runs; the fence agents ended with it.
    func check(_ proof: Proof) {
        let name = proof.host
        if proof.kind == .leaseExpired { return checkExpired(proof) }
        guard let incarnations = proof.incarnations else { return violations.append("a proof without incarnations") }
        if proof.kind == .powerOff, statusOffSince[name] == nil { violations.append("\(proof.id): powerOff without an own status off") }
        guard proof.kind != .operatorConfirmed, let machine = machines[name], machine.powered else { return }
        for (number, boot) in bootsOf[name] ?? [:] where number <= incarnations.number && boot == bootID(name) {
            violations.append("\(proof.id) (\(proof.kind)) covers incarnation \(number), which lives")
        }
        if let covered = proof.generations[lockspace], machine.generationBefore != nil, covered >= machine.generation {
            violations.append("\(proof.id) covers generation \(covered), which lives")
        }
    }

    func checkExpired(_ proof: Proof) {
        guard let machine = machines[proof.host] else { return }
        if proof.incarnations != nil { violations.append("\(proof.id) says that its leases expired, and speaks of incarnations") }
        if !machine.watchdog || machine.order?.disarm == true { violations.append("\(proof.id) rests on a watchdog that \(proof.host) has not") }
        if proof.generations[lockspace] == machine.generation, now - machine.lastRenewal < Self.deadTime { violations.append("\(proof.id) covers leases that have not expired") }
        if proof.generations[lockspace] ?? 0 > machine.generation { violations.append("\(proof.id) covers memberships to come") }
    }

    // MARK: Looking

    func view(_ name: String) -> HostView {
        if let view = engine.view(of: name) { return view }
        violations.append("\(name) is gone")
        return HostView(name: name, id: 0, status: .error, reason: "", incarnation: Incarnation(0), endpoints: HostEndpoints(agentRequests: "", agentEvents: "", leaseRequests: "", leaseEvents: ""))
    }

    func status(_ name: String) -> HostStatus { view(name).status }
    func step(_ name: String) -> String? { view(name).fenceCase?.step }
    var allUp: Bool { engine.hostViews.allSatisfy { $0.status == .up && $0.fenceCase == nil } }
    func statuses(of name: String) -> [HostStatus] { events.compactMap { ($0.body as? HostView).flatMap { $0.name == name && $0.previous != nil ? $0.status : nil } } }

    /// How the hosts stand and what was decided last, for a failed test.
    var story: String {
        let hosts = engine.hostViews.map { "\($0.name) \($0.status) \($0.reason) \($0.fenceCase?.step ?? "") \($0.fenceCase?.reason ?? "")" }
        return (hosts + decisions.suffix(20).map { "\($0.subject): \($0.what): \($0.why)" }).joined(separator: "\n")
    }

    func refusal(_ id: RequestID) -> String? {
        if case .refused(let error)? = replies[id] { return error.code }
        return nil
    }

    func accepted(_ id: RequestID) -> Bool {
        if case .success? = replies[id] { return true }
        return false
    }
}
