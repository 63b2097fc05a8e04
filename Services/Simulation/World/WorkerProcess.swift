import HostAgentEngine
import LeaseEngine
import Messages

/// The SPM's worker, payload of the role's guard: it makes volumes and leases, and publishes after a look at its lease (S12).
final class WorkerProcess: Process {
    unowned(unsafe) let host: HostMachine
    let pool: String
    let holder: Holder
    let lver: UInt64
    /// Uuid of the pool's master domain, whose lease SDM it works for.
    let master: String
    private var engine: SPMWorkerEngine<Caller>

    /// Who waits for a reply.
    struct Caller: Sendable {
        var number: Int
    }

    private var callers: [Int: (Reply) -> Void] = [:]
    private var lastCaller = 0

    init(pool: String, master: String, holder: Holder, lver: UInt64, on host: HostMachine) {
        self.host = host
        self.pool = pool
        self.holder = holder
        self.lver = lver
        self.master = master
        engine = SPMWorkerEngine(pool: pool, master: master, holder: holder.description, lver: lver)
        super.init("worker@\(host.name)", on: host.machine, startsAtBoot: false)
    }

    override func begin() { host.worker = self }

    override func end() {
        if host.worker === self { host.worker = nil }
        machine.remove(self)
    }

    /// Its own socket on this host.
    func receive(_ id: RequestID, _ task: WorkerTask, _ answer: @escaping (Reply) -> Void) {
        lastCaller += 1
        callers[lastCaller] = answer
        carryOut(engine.handle(.task(id, task, from: Caller(number: lastCaller))))
    }

    private func handle(_ input: SPMWorkerEngine<Caller>.Input) { carryOut(engine.handle(input)) }

    private func carryOut(_ steps: [SPMWorkerEngine<Caller>.Step]) {
        for step in steps where isAlive { carryOut(step) }
    }

    private func carryOut(_ step: SPMWorkerEngine<Caller>.Step) {
        switch step {
        case .build(let id, let volume): build(id, volume)
        case .inspect(let id, let request, let timeout):
            ask(host.leases, timeout: timeout, { .lookup($0, request) }) { [self] result in
                handle(.inspected(id, result.typed(LeaseView.self)))
            }
        case .publish(let id, let volume): publish(id, volume)
        case .createLease(let id, let request, let timeout):
            ask(host.leases, timeout: timeout, { .create($0, Self.local, request) }) { [self] result in
                handle(.leaseCreated(id, result.error))
            }
        case .reply(_, let reply, let waiting):
            for caller in waiting { callers.removeValue(forKey: caller.number)?(reply) }
        }
    }

    private static let local = Messages.Caller(role: .operator_)

    /// Writing takes time, and comes to nothing while the path hangs.
    private func build(_ id: RequestID, _ volume: VolumeBuild) {
        let domain = world.domain(ofPath: volume.domain)
        let slow: Int64 = world.storage.path(of: host.name, to: domain) == .slow ? 15_000_000_000 : 0
        after(Duration(nanoseconds: world.random.between(5_000_000 + slow / 3, 400_000_000 + slow))) { [self] in
            let life = life
            world.storage.whenPathAnswers(host.machine.name, domain, { [self] in
                run(life) { [self] in
                    if world.storage.path(of: host.machine.name, to: domain) == .fails {
                        return handle(.built(id, .failed(RequestError(AgentErrorCode.taskFailed, "an input/output error"))))
                    }
                    handle(.built(id, world.volumes.contains(volume.image) ? .isPublished : .built))
                }
            })
        }
    }

    /// A rename is one operation at the storage: it happens, or not, or after its asker has died.
    private func publish(_ id: RequestID, _ volume: VolumeBuild) {
        let domain = world.domain(ofPath: volume.domain)
        let boot = machine.boots
        world.willPublish(volume, by: self)
        after(Duration(nanoseconds: world.random.between(200_000, 20_000_000))) { [self] in
            world.storage.whenPathAnswers(host.machine.name, domain, { [self] in
                guard machine.isOn, machine.boots == boot else { return }
                world.publish(volume, by: self)
                handle(.published(id, nil))
            })
        }
    }
}

extension Result where Success == any Encodable & Sendable, Failure == RequestError {
    /// The body as what it is; a reply of another type says nothing (I4).
    func typed<T>(_ type: T.Type) -> Result<T, RequestError> {
        flatMap { body in
            if let body = body as? T { return .success(body) }
            return .failure(RequestError(RequestErrorCode.unknownOutcome, "the reply cannot be read"))
        }
    }

    var error: RequestError? { if case .failure(let error) = self { error } else { nil } }
}
