import Bus
import HostAgentEngine
import HostAgentStorage
import Messages
import ServiceKit

/// Keeps this host joined to its domains and probes them, and creates new ones: the hands of ``StorageWatch``.
@ReactorActor
final class StorageKeeper {
    var tell: (@ReactorActor (AgentInput) -> Void)?
    private let places: HostPlaces
    private let leases: RequestClient
    private var watch: StorageWatch
    private let alarm = Alarm()

    init(_ places: HostPlaces) throws {
        self.places = places
        watch = StorageWatch(probeInterval: places.probeInterval)
        leases = try RequestClient(endpoint: places.leaseService, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
    }

    func handle(_ input: StorageWatch.Input) {
        for step in watch.handle(input, at: Clock.boottime()) { carryOut(step) }
        alarm.set(watch.nextWake) { [self] in handle(.wake) }
    }

    private func carryOut(_ step: StorageWatch.Step) {
        switch step {
        case .probe(let number, let place, let deadline): probe(number, place, deadline)
        case .join(let number, let join, let timeout):
            leases.request("lockspace.join", join, timeout: timeout) { [self] _ in handle(.joinAnswered(number, domain: join.lockspace)) }
        case .leave(let number, let domain, let timeout):
            leases.request("lockspace.leave", LockspaceRequest(lockspace: domain), timeout: timeout) { [self] reply in
                handle(.leaveAnswered(number, domain: domain, reply.error))
            }
        case .prepare(let id, let create):
            Blocking.run("create") {
                Self.prepare(FileDomain(create))
            } then: { [self] in
                handle(.prepared(id, $0))
            }
        case .initialize(let id, let lockspace, let timeout):
            leases.request("lockspace.initialize", lockspace, timeout: timeout) { [self] reply in handle(.initialized(id, reply.error)) }
        case .publish(let id, let create):
            Blocking.run("publish") {
                Blocking.error { () throws(RequestError) in try FileDomain(create).publish() }
            } then: { [self] in
                handle(.published(id, $0))
            }
        case .tell(let input): tell?(input)
        }
    }

    private func probe(_ number: UInt64, _ place: StoragePlace, _ deadline: Duration) {
        let child = ChildProcess(places.ownExecutable, ["probe", place.path, place.domain], deadline: deadline)
        Blocking.run("probe") {
            child.run()
        } then: { [self] outcome in
            let end: ProbeEnd =
                switch outcome.end {
                case .exited(let status): .exited(status, output: outcome.output)
                case .signalled(let signal): .signalled(signal)
                case .timedOut: .timedOut
                case .notStarted(let why): .notStarted(why)
                }
            handle(.probed(number, domain: place.domain, end, took: outcome.duration))
        }
    }

    private nonisolated static func prepare(_ domain: FileDomain) -> DomainPreparation {
        do throws(RequestError) {
            return switch try domain.prepare() {
            case .nothing: .prepared
            case .thisOne: .isThere
            }
        } catch {
            return .failed(error)
        }
    }
}
