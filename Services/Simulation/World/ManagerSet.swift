import FencingEngine
import Invariants
import Messages

/// The manager's services, on a machine of their own.
///
/// The hosts obey one set, whose commands and proofs are what the checker judges. Of a second set it sees what comes of its commands: what is started, what is switched off.
final class ManagerSet {
    /// Where its journals come from.
    enum Origin {
        /// The cluster was made with it.
        case own
        /// An old copy of the journals of the cluster's own managers: their lineages and signing key, an older term.
        case restored
        /// It was installed for hosts that have managers already.
        case installed
    }

    let origin: Origin
    unowned(unsafe) let machine: Machine
    private(set) lazy var fencing = FencingProcess(of: self)
    private(set) lazy var placement = PlacementProcess(of: self)
    private(set) lazy var spm = SPMProcess(of: self)
    private(set) lazy var monitor = MonitorProcess(of: self)
    private(set) lazy var op = OperatorProcess(of: self)
    private var causes: [String: CaseCause] = [:]
    /// Hosts that told this life of its fencing-service that they obey others.
    private var refusedBy: Set<String> = []

    init(_ origin: Origin, on machine: Machine) {
        self.origin = origin
        self.machine = machine
        // Made in this order, so that they start in it.
        _ = (fencing, spm, placement, monitor, op)
    }

    private var world: World { machine.world }
    var areObeyed: Bool { origin == .own }
    /// Of its processes' names and of the lineages that it makes.
    var suffix: String { areObeyed ? "" : "-of-\(machine.name)" }
    var signingKey: String { origin == .installed ? "\(Keys.fencing)\(suffix)" : Keys.fencing }

    func verified(_ proof: SignedProof, from sender: String? = nil) -> SignedProof? { world.keys.verified(proof, from: sender, fencing: signingKey) }

    // MARK: What its fencing-service does

    func greeted(_ host: String, isRefused: Bool) { if isRefused { refusedBy.insert(host) } else { refusedBy.remove(host) } }

    func fencingStarted() {
        refusedBy = []
        guard areObeyed else { return }
        world.note(.serviceStarted(fencing.name))
        world.observer.fencingStarted()
    }

    func fencing(_ event: Event) {
        guard !areObeyed else { return world.observer.fencing(event) }
        guard let view = event.body as? FenceCaseView else { return }
        note(case: view)
        world.tell(fencing.name, "case \(view.id) of \(view.host): \(view.step)", view.reason)
    }

    /// Its command is on its way to the device.
    func powerCommanded(_ host: String, isOff: Bool) {
        guard !areObeyed else { return world.observer.powerCommanded(host, isOff: isOff) }
        let view = fencing.engine.view(of: host)?.fenceCase
        if let view { note(case: view) }
        // A set that reaches nobody whom it could ask may switch off what it does not hear: it cannot know that others hear it.
        let canKnow = refusedBy.contains(host) || world.hosts.contains { $0.machine.name != host && canAsk($0.machine) }
        if !isOff || canKnow { judge(host, isOff, view) }
        world.observer.occurred(isOff ? .off(host: host) : .on(host: host))
    }

    private func canAsk(_ other: Machine) -> Bool { other.isRunning && !world.network.isCut(machine.name, other.name) && !world.network.isCut(other.name, machine.name) }

    private func judge(_ host: String, _ isOff: Bool, _ view: FenceCaseView?) {
        world.note(.powerCommanded(host: host, isOff ? .off : .on, view.map { .fenceCase(caseName($0.id)) } ?? .none))
    }

    private func note(case view: FenceCaseView) {
        guard let cause = view.cause.flatMap(CaseCause.init), causes[view.id] != cause else { return }
        causes[view.id] = cause
        world.note(.caseOpened(caseName(view.id), host: view.host, cause))
    }

    private func caseName(_ id: String) -> String { "\(id)\(suffix)" }
}
