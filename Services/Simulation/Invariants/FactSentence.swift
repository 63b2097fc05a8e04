import Messages

extension Fact: CustomStringConvertible {
    /// In a few words, for people.
    public var description: String {
        switch self {
        case .bootNumbered(let host, let boot, let incarnation): "\(host) boot \(boot) is incarnation \(incarnation)"
        case .bootEnded(let host, let boot): "\(host) boot \(boot) is over"
        case .hostHeard(let host, _): "\(host) was heard"
        case .toolstack(let host, let works): "the toolstack of \(host) \(works ? "works" : "is down")"
        case .powerCommanded(let host, let action, .fenceCase(let id)): "power \(action.rawValue) of \(host) for case \(id)"
        case .powerCommanded(let host, let action, .operatorAsked): "power \(action.rawValue) of \(host), an operator asked for it"
        case .powerCommanded(let host, let action, .saving): "power \(action.rawValue) of \(host) to save power"
        case .powerCommanded(let host, let action, .none): "power \(action.rawValue) of \(host)"
        case .deviceCommanded(let host, let action, _): "power \(action.rawValue) reaches the device of \(host)"
        case .hostUp(let host): "\(host) is Up"
        case .caseOpened(let id, let host, let cause): "case \(id) of \(host) is open (\(cause.rawValue))"
        case .caseClosed(let id, let host): "case \(id) of \(host) is closed"
        case .serviceStarted(let service): "\(service) started"
        case .startSent(let run, let incarnation): "start sent of \(run) incarnation \(incarnation)"
        case .saidOver(let run): "\(run): its agent says that nothing of it is left"
        case .guestBegan(let run, _, _): "\(run) runs"
        case .guestEnded(let run, let cause): "\(run) ended (\(cause))"
        case .outlived(let run, _): "\(run) runs after all"
        case .writeLanded(let run, let disk): "a write of \(run) reached \(disk)"
        case .workerBegan(let run, let lease): "\(run) serves (version \(lease.lver))"
        case .workerEnded(let run): "\(run) serves no more"
        case .published(let run, let lver, let what): "\(what) published by \(run) (version \(lver))"
        case .leaseUsed(let run, let lease, _): "\(run) uses lease \(lease.name.resource) (\(lease.mode.rawValue), version \(lease.lver))"
        case .leaseUnused(let run): "\(run) uses its lease no more"
        case .leaseMade(let lease): "lease \(lease.resource) was made"
        case .valueAsked(let lease, let run, let value): "\(run) asks for \(value) beside lease \(lease.resource)"
        case .valueWritten(let lease, let run, let value): "\(run) is told that \(value) is beside lease \(lease.resource)"
        case .valueRead(let lease, let run, let value): "\(run) reads \(value) beside lease \(lease.resource)"
        case .leaseChanged(let lease, let owner?): "lease \(lease.resource) belongs to \(owner.host), generation \(owner.generation), version \(owner.lver)"
        case .leaseChanged(let lease, nil): "lease \(lease.resource) is free"
        case .proofMade(let proof): "\(proof.kind.rawValue) proof \(proof.id): \(proof.statement)"
        case .proofRevoked(let proof): "proof \(proof.id) about \(proof.host) was revoked"
        case .asked(let id, let promise): "asked: \(promise.object) \(promise.value) (\(id))"
        case .acknowledged(let id): "acknowledged: \(id)"
        case .refused(let id): "refused: \(id)"
        case .found(let promise): "\(promise.object) is \(promise.value)"
        case .effectBegan(let name): "\(name) begins"
        case .effectDone(let name): "\(name) is done"
        }
    }
}
