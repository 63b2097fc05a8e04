public import Messages

/// What the SPM's worker decides: it works for exactly one version of lease SDM, and asks lease-service whether that is still held right before anything is published (S12).
///
/// Every task can be given again: one that is under way is only waited for, one that is done is found done. `Caller` is whatever names the asker for the shell.
public struct SPMWorkerEngine<Caller: Sendable>: Sendable {
    public enum Input: Sendable {
        case task(RequestID, WorkerTask, from: Caller)
        case built(RequestID, VolumeBuildOutcome)
        /// What lease-service says of lease SDM.
        case inspected(RequestID, Result<LeaseView, RequestError>)
        /// `nil`: the volume has its name, or another has had it before.
        case published(RequestID, RequestError?)
        /// Answer to `lease.create`.
        case leaseCreated(RequestID, RequestError?)
    }

    public enum Step: Sendable {
        /// Make the volume's bytes durable under its temporary name, unless it is published.
        case build(RequestID, VolumeBuild)
        /// Ask lease-service with `lease.inspect`.
        case inspect(RequestID, LeaseRequest, timeout: Duration)
        /// Give the volume its name, unless another has it.
        case publish(RequestID, VolumeBuild)
        /// Ask lease-service with `lease.create`.
        case createLease(RequestID, LeaseRequest, timeout: Duration)
        case reply(RequestID, Reply, to: [Caller])
    }

    private struct Work: Sendable {
        /// Once it is done.
        var result: TaskResult
        var waiting: [Caller]
        var volume: VolumeBuild?
    }

    private let pool: String
    /// Uuid of the master domain.
    private let master: String
    private let holder: String
    private let lver: UInt64
    private var works: [RequestID: Work] = [:]

    /// - Parameters:
    ///   - master: uuid of the master domain.
    ///   - holder: `spm:<pool>:<term>`: the guard that this worker is the payload of.
    ///   - lver: version of lease SDM that it works for.
    public init(pool: String, master: String, holder: String, lver: UInt64) {
        self.pool = pool
        self.master = master
        self.holder = holder
        self.lver = lver
    }

    public mutating func handle(_ input: Input) -> [Step] {
        switch input {
        case .task(let id, let task, let caller): onTask(id, task, caller)
        case .built(let id, let outcome): onBuilt(id, outcome)
        case .inspected(let id, let lease): onInspected(id, lease)
        case .published(let id, let error): onPublished(id, error)
        case .leaseCreated(let id, let error): onLeaseCreated(id, error)
        }
    }

    private mutating func onTask(_ id: RequestID, _ work: WorkerTask, _ caller: Caller) -> [Step] {
        let task = work.task
        guard task.pool == pool, task.lver == lver else {
            return [.reply(id, .refused(RequestError(AgentErrorCode.notSPM, "this worker serves pool \(pool) with lease version \(lver)")), to: [caller])]
        }
        guard works[id] == nil else {
            works[id]?.waiting.append(caller)
            return []
        }
        switch task.work {
        case .volumeCreate(_, let image, let size, let source):
            guard let path = work.path else { return [.reply(id, .refused(RequestError(RequestErrorCode.malformed, "a volume needs its domain's path")), to: [caller])] }
            let volume = VolumeBuild(task: task.task, lver: lver, domain: path, image: image, size: size, source: source)
            works[id] = Work(result: TaskResult(task: task.task, detail: "volume \(image) exists"), waiting: [caller], volume: volume)
            return [.build(id, volume)]
        case .leaseCreate(let lease):
            works[id] = Work(result: TaskResult(task: task.task, detail: "lease \(lease.resource) exists in \(lease.lockspace)"), waiting: [caller])
            return [.createLease(id, LeaseRequest(lease: lease, lver: lver), timeout: .seconds(120))]
        }
    }

    private mutating func onBuilt(_ id: RequestID, _ outcome: VolumeBuildOutcome) -> [Step] {
        switch outcome {
        case .failed(let error): failed(id, error)
        case .isPublished: done(id)
        case .built: [.inspect(id, LeaseRequest(lease: LeaseName(lockspace: master, resource: DomainLayout.sdm)), timeout: .seconds(20))]
        }
    }

    /// Goes on only if lease SDM is still held by this worker's guard, under the version it was started with.
    private mutating func onInspected(_ id: RequestID, _ answer: Result<LeaseView, RequestError>) -> [Step] {
        guard let volume = works[id]?.volume else { return [] }
        switch answer {
        case .failure(let error): return finish(id, .refused(error))
        case .success(let lease):
            guard lease.holder == holder, lease.lver == lver else {
                let now = "version \(lease.lver), \(lease.holder ?? "nobody here")"
                return finish(id, .refused(RequestError(AgentErrorCode.notSPM, "lease SDM is not held by \(holder) with version \(lver) any more (\(now))")))
            }
            return [.publish(id, volume)]
        }
    }

    private mutating func onPublished(_ id: RequestID, _ error: RequestError?) -> [Step] { error.map { failed(id, $0) } ?? done(id) }

    private mutating func onLeaseCreated(_ id: RequestID, _ error: RequestError?) -> [Step] {
        if let error, error.code != LeaseErrorCode.exists.rawValue { return finish(id, .refused(error)) }
        return done(id)
    }

    private mutating func failed(_ id: RequestID, _ error: RequestError) -> [Step] {
        finish(id, .refused(RequestError(AgentErrorCode.taskFailed, error.message)))
    }

    private mutating func done(_ id: RequestID) -> [Step] { works[id].map { finish(id, .success($0.result)) } ?? [] }

    private mutating func finish(_ id: RequestID, _ reply: Reply) -> [Step] {
        works.removeValue(forKey: id).map { [.reply(id, reply, to: $0.waiting)] } ?? []
    }
}
