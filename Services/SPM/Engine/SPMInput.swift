import Messages

/// Settings of the coordinator, journaled with each start.
public struct SPMPolicy: Codable, Hashable, Sendable {
    /// Time between two looks at a serving SPM.
    public var check: Duration
    /// Time before an unanswered question or task is sent again.
    public var retry: Duration
    /// Unanswered looks in a row after which the pool is no longer called Up.
    public var missed: Int
    /// A term that ends sooner than this after its election counts as flapping.
    public var shortTerm: Duration
    /// First back-off after a failed round of elections or a short term; it doubles.
    public var backoff: Duration
    /// Longest back-off.
    public var backoffLimit: Duration
    /// Finished tasks that stay visible.
    public var keptTasks: Int

    public init(
        check: Duration = .seconds(5), retry: Duration = .seconds(1), missed: Int = 3, shortTerm: Duration = .seconds(60), backoff: Duration = .seconds(1),
        backoffLimit: Duration = .seconds(60), keptTasks: Int = 256
    ) {
        self.check = check
        self.retry = retry
        self.missed = missed
        self.shortTerm = shortTerm
        self.backoff = backoff
        self.backoffLimit = backoffLimit
        self.keptTasks = keptTasks
    }
}

/// Everything that can happen to the coordinator. Proofs in it were verified by the shell.
public enum SPMInput: EngineInput {
    /// The first input after each process start; nothing is elected before the next ``hosts(_:_:)`` (I5).
    case started(SPMPolicy)
    case wake
    case createPool(RequestID, PoolCreate)
    /// `spm.select`, `spm.move`, `spm.stop`: the role leaves its host; then the named host, if any, is elected first.
    case move(RequestID, PoolRequest)
    case createVolume(RequestID, VolumeCreate)
    case createLease(RequestID, LeaseRequest)
    /// The whole registry of fencing-service; hosts that are not in it are forgotten.
    case hosts([SPMHost], HAState)
    case host(SPMHost)
    case hostRemoved(String)
    case recovery(HAState)
    case answer(RoleAsk, RoleAnswer)
    case taskAnswer(TaskAsk, TaskAnswer)
}

/// A question to, or command for, the agent that was given a term.
public struct RoleAsk: Codable, Hashable, Sendable {
    public enum Kind: String, Codable, Sendable { case start, status, stop }
    public var kind: Kind
    public var pool: String
    public var term: UInt64
    public var host: String
    /// `target` of the request: an agent of another boot refuses.
    public var bootID: String

    public init(_ kind: Kind, pool: String, term: UInt64, host: String, bootID: String) {
        self.kind = kind
        self.pool = pool
        self.term = term
        self.host = host
        self.bootID = bootID
    }

    /// Of its request; the term makes a start's: however often that is sent, the agent does it once. `nil`: any.
    ///
    /// - Parameter lineage: of the coordinator's journal, in which the term was counted.
    public func requestID(lineage: String) -> RequestID? { kind == .start ? "spm-start-\(lineage)-\(pool)-\(term)" : nil }
}

/// What came back for a ``RoleAsk``.
public enum RoleAnswer: Codable, Hashable, Sendable {
    case status(SPMRoleStatus)
    case refused(RequestError)
    /// No reply in time: the outcome is unknown (I4).
    case unanswered

    /// - Parameter verified: the proof with its signed content; `nil` if this agent may not make it.
    public init(_ result: Result<SPMRoleStatus, RequestError>, _ verified: (SignedProof) -> SignedProof?) {
        switch result {
        case .success(var status):
            status.ended = status.ended.flatMap(verified)
            self = .status(status)
        case .failure(let error): self = error.isUnknownOutcome ? .unanswered : .refused(error)
        }
    }
}

/// A task sent to the SPM of one term.
public struct TaskAsk: Codable, Hashable, Sendable {
    public var task: String
    public var term: UInt64
    /// Counts the passing refusals before: an unanswered request is repeated under the same id, a refused one is a new request.
    public var attempt: UInt64
    public var host: String
    public var bootID: String

    public init(task: String, term: UInt64, attempt: UInt64, host: String, bootID: String) {
        self.task = task
        self.term = term
        self.attempt = attempt
        self.host = host
        self.bootID = bootID
    }

    /// Of its request: the same one is sent again under the same id.
    public var requestID: RequestID { "task-\(term)-\(attempt)-\(task)" }
}

/// What came back for a ``TaskAsk``.
public enum TaskAnswer: Codable, Hashable, Sendable {
    case finished(TaskResult)
    case refused(RequestError)
    case unanswered

    public init(_ result: Result<TaskResult, RequestError>) {
        switch result {
        case .success(let done): self = .finished(done)
        case .failure(let error): self = error.isUnknownOutcome ? .unanswered : .refused(error)
        }
    }
}

/// What the shell does: one request to an agent each, answered by exactly one ``SPMInput/answer(_:_:)`` or ``SPMInput/taskAnswer(_:_:)``.
public enum SPMAction: Sendable {
    /// `spm.start` with a request id made of pool and term.
    case start(RoleAsk, SPMStart)
    /// `spm.status` or `spm.stop`.
    case ask(RoleAsk)
    /// `task.run` with a request id made of task, term and attempt.
    case run(TaskAsk, TaskRun)
}

extension SPMCoordinator {
    /// The input that news of fencing-service are; `nil` if they say nothing new, for every input is journaled.
    public func input(_ news: RegistryNews) -> SPMInput? {
        switch news {
        case .all(let views, let recovery): return .hosts(views.map { SPMHost($0) }, recovery)
        case .host(let view):
            let host = SPMHost(view)
            return host.isNews(to: hosts[host.name]) ? .host(host) : nil
        case .removed(let name): return .hostRemoved(name)
        case .recovery(let state): return recovery == state ? nil : .recovery(state)
        }
    }
}
