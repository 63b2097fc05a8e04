import Bus
import Foundation
import HostAgentEngine
import HostAgentStorage
import Messages
import ServiceKit

/// Keeps this host joined to its domains and probes them, and creates new ones.
///
/// Each probe is a process of its own: one that hangs hangs alone, and the next of that domain waits for it.
@ReactorActor
final class StorageKeeper {
    var tell: (@ReactorActor (AgentInput) -> Void)?
    /// Memberships as lease-service tells them; `nil`: it does not answer.
    var joined: [AgentLockspace]? { didSet { for domain in watches.keys.sorted() { join(domain) } } }
    private let places: HostPlaces
    private let leases: RequestClient
    private var watches: [String: Watch] = [:]
    /// Domains whose leaving is under way, and which of the leaves that is: one that a keep has overtaken says nothing any more.
    private var leaving: [String: UInt64] = [:]
    private var leaves: UInt64 = 0
    /// Domains that each ended run still waits for.
    private var quiescing: [Holder: Set<String>] = [:]

    private struct Watch {
        var place: StoragePlace
        /// Wanted by the engine; others are only here until a run's end is settled.
        var isKept: Bool
        var probe: Probe?
        /// Runs that need a probe that begins after their end.
        var waiting: [Holder] = []
        var isJoining = false
    }

    private struct Probe {
        var number: UInt64
        var began: Instant
        /// Runs that had ended when it began.
        var serves: [Holder]
    }

    private var probes: UInt64 = 0
    /// A probe that took this long is told as a failure, while it is waited for.
    private static let patience = Duration.seconds(5)

    init(_ places: HostPlaces) throws {
        self.places = places
        leases = try RequestClient(endpoint: places.leaseService, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
    }

    func keep(_ place: StoragePlace) {
        var watch = watches[place.domain] ?? Watch(place: place, isKept: true)
        watch.place = place
        watch.isKept = true
        watches[place.domain] = watch
        leaving[place.domain] = nil
        join(place.domain)
        probe(place.domain)
    }

    func drop(_ place: StoragePlace) {
        watches[place.domain]?.isKept = false
        forgetIfUnused(place.domain)
        leaves += 1
        leaving[place.domain] = leaves
        leave(place.domain, leaves)
    }

    /// Until lease-service says that it is done: it may be away now, or still give back leases of a guard that has just ended.
    private func leave(_ domain: String, _ number: UInt64) {
        guard leaving[domain] == number else { return }
        leases.request("lockspace.leave", LockspaceRequest(lockspace: domain), timeout: .seconds(30)) { [self] reply in
            guard leaving[domain] == number else { return }
            if case .success = reply {
                leaving[domain] = nil
                tell?(.left(domain))
            } else {
                Reactor.shared.after(.seconds(1)) { [self] in leave(domain, number) }
            }
        }
    }

    private func forgetIfUnused(_ domain: String) {
        guard let watch = watches[domain], !watch.isKept, watch.waiting.isEmpty, watch.probe == nil else { return }
        watches[domain] = nil
    }

    // MARK: Lockspace

    private func join(_ domain: String) {
        guard let watch = watches[domain], watch.isKept, !watch.isJoining, let joined else { return }
        if let membership = joined.first(where: { $0.lockspace == domain }), membership.state == .joined || membership.state == .joining { return }
        watches[domain]?.isJoining = true
        leases.request("lockspace.join", LockspaceJoin(lockspace: domain, path: watch.place.path), timeout: .seconds(30)) { [self] _ in
            Reactor.shared.after(.seconds(1)) { [self] in
                watches[domain]?.isJoining = false
                join(domain)
            }
        }
    }

    // MARK: Probes

    /// Asks every domain of an ended run, as often as needed (S4).
    func quiesce(_ holder: Holder, _ domains: [StoragePlace]) {
        quiescing[holder] = Set(domains.map(\.domain))
        for place in domains {
            watches[place.domain, default: Watch(place: place, isKept: false)].waiting.append(holder)
            probe(place.domain)
        }
    }

    private func probe(_ domain: String) {
        guard var watch = watches[domain], watch.probe == nil else { return }
        probes += 1
        let probe = Probe(number: probes, began: Clock.boottime(), serves: watch.waiting)
        watch.waiting = []
        watch.probe = probe
        watches[domain] = watch
        let child = ChildProcess(places.ownExecutable, ["probe", watch.place.path, domain], deadline: .seconds(30))
        Blocking.run("probe") {
            child.run()
        } then: { [self] outcome in
            onProbed(domain, probe, outcome)
        }
        Reactor.shared.after(Self.patience) { [self] in
            guard watches[domain]?.probe?.number == probe.number else { return }
            report(domain, ok: false, nil, "has not answered a probe for \(Int(Self.patience.seconds)) s")
        }
    }

    private func onProbed(_ domain: String, _ probe: Probe, _ outcome: ChildProcess.Outcome) {
        let said = outcome.output.split(separator: "\n").joined(separator: " ")
        let isWell = outcome.end == .exited(0)
        watches[domain]?.probe = nil
        let detail: String =
            switch outcome.end {
            case .exited(0): "answers"
            case .exited: said.isEmpty ? "the probe failed" : said
            case .signalled(let signal): "the probe ended by signal \(signal)"
            case .timedOut: "has not answered a probe for \(Int(Self.patience.seconds)) s"
            case .notStarted(let why): "no probe could be started: \(why)"
            }
        report(domain, ok: isWell, isWell ? outcome.duration : nil, detail)
        if isWell {
            for holder in probe.serves { settle(holder, domain) }
        } else {
            watches[domain]?.waiting.append(contentsOf: probe.serves)
        }
        // A run that ended while this probe was under way needs one of its own, at once.
        let isUrgent = isWell && watches[domain]?.waiting.isEmpty == false
        let pause = isUrgent ? Duration.zero : probe.serves.isEmpty || isWell ? places.probeInterval : min(.seconds(1), places.probeInterval)
        forgetIfUnused(domain)
        Reactor.shared.after(pause) { [self] in self.probe(domain) }
    }

    private func settle(_ holder: Holder, _ domain: String) {
        quiescing[holder]?.remove(domain)
        guard quiescing[holder]?.isEmpty == true else { return }
        quiescing[holder] = nil
        tell?(.quiesced(holder))
    }

    private func report(_ domain: String, ok: Bool, _ latency: Duration?, _ detail: String) {
        guard let watch = watches[domain], watch.isKept else { return }
        tell?(.probed(DomainProbe(domain: domain, path: watch.place.path, ok: ok, latency: latency, detail: detail, lockspace: nil)))
    }

    // MARK: Creation

    func create(_ id: RequestID, _ create: StorageCreate) {
        let domain = FileDomain(create)
        Blocking.run("create") { () -> Result<FileDomain.Found, RequestError> in
            Result { () throws(RequestError) in try domain.prepare() }
        } then: { [self] prepared in
            switch prepared {
            case .failure(let error): tell?(.storageCreated(id, error))
            case .success(.thisOne): tell?(.storageCreated(id, nil))
            case .success(.nothing): initialize(id, domain)
            }
        }
    }

    private func initialize(_ id: RequestID, _ domain: FileDomain) {
        let create = domain.create
        let request = LockspaceInitialize(lockspace: create.domain, path: create.path, ioTimeout: create.ioTimeout)
        leases.request("lockspace.initialize", request, timeout: .seconds(60)) { [self] reply in
            // Without metadata the domain was not whole: lease volumes that are there are its own, of a creation that was cut off.
            if case .failure(let error) = reply, error.code != LeaseErrorCode.exists.rawValue {
                tell?(.storageCreated(id, error))
                return
            }
            Blocking.run("publish") { () -> RequestError? in
                do throws(RequestError) {
                    try domain.publish()
                    return nil
                } catch {
                    return error
                }
            } then: { [self] error in
                tell?(.storageCreated(id, error))
            }
        }
    }
}
