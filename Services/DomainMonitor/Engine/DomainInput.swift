import Messages

/// Settings of the monitor, journaled with each start.
public struct DomainPolicy: Codable, Hashable, Sendable {
    /// How long a domain must be bad before anything is concluded from it.
    public var failure: Duration
    /// Time before an unanswered request is sent again.
    public var retry: Duration
    /// Time for a connected domain to appear in a host's report, and for a host's first report.
    public var patience: Duration

    public init(failure: Duration = .seconds(300), retry: Duration = .seconds(2), patience: Duration = .seconds(5)) {
        self.failure = failure
        self.retry = retry
        self.patience = patience
    }
}

/// Everything that can happen to the monitor.
public enum DomainInput: EngineInput {
    /// The first input after each process start: earlier reports count no more, nothing is concluded before the registry and fresh reports are here (I5).
    case started(DomainPolicy)
    case wake
    case create(RequestID, DomainCreate)
    case maintenance(RequestID, DomainRequest)
    case activate(RequestID, DomainRequest)
    /// The whole registry of fencing-service; hosts that are not in it are forgotten.
    case hosts([MonitoredHost])
    case host(MonitoredHost)
    case hostRemoved(String)
    /// What a host's probes say, whenever that changes.
    case report(host: String, HostReport)
    case created(CreateAsk, Answer)
    case connected(ConnectAsk, Answer)
    case flagged(HostSetStatus, Answer)
}

/// What came back for a request.
public enum Answer: Codable, Hashable, Sendable {
    case done
    case refused(RequestError)
    /// No reply in time: the outcome is unknown (I4).
    case unanswered

    /// What the reply carries does not matter.
    public init<T>(_ result: Result<T, RequestError>) {
        switch result {
        case .success: self = .done
        case .failure(let error): self = error.isUnknownOutcome ? .unanswered : .refused(error)
        }
    }
}

/// One creation on one host; sent again under the same request id.
public struct CreateAsk: Codable, Hashable, Sendable {
    public var domain: String
    /// Counts the creations ever accepted; names the request.
    public var number: UInt64
    public var host: String
    public var bootID: String

    /// Of its request; one for one creation: however often it is sent, a host does it once.
    ///
    /// - Parameter lineage: of the monitor's journal, in which the creations are counted.
    public func requestID(lineage: String) -> RequestID { "storage-create-\(lineage)-\(number)" }
}

/// One connection of one host to one domain.
public struct ConnectAsk: Codable, Hashable, Sendable {
    public var domain: String
    public var host: String
    public var bootID: String
}

/// What the shell does: one request each, answered by exactly one input of the like name.
public enum DomainAction: Sendable {
    /// `storage.create` to an agent.
    case create(CreateAsk, StorageCreate)
    /// `storage.connect` to an agent.
    case connect(ConnectAsk, StorageConnect)
    /// `host.set-nonoperational` to fencing-service.
    case flag(HostSetStatus)
}

extension DomainMonitor {
    /// The input that news of fencing-service are; `nil` if they say nothing new, for every input is journaled.
    public func input(_ news: RegistryNews) -> DomainInput? {
        switch news {
        case .all(let views, _): return .hosts(views.map { MonitoredHost($0, proof: $0.proof?.proof) })
        case .host(let view):
            let host = MonitoredHost(view, proof: view.proof?.proof)
            return hosts[host.name] == host ? nil : .host(host)
        case .removed(let name): return .hostRemoved(name)
        case .recovery: return nil
        }
    }

    /// The input that a host's report is; `nil` if it changes nothing of the host's word: latencies and repetitions are not journaled.
    public func input(_ storage: AgentStorage) -> DomainInput? {
        let report = HostReport(storage)
        return reports[storage.host] == report ? nil : .report(host: storage.host, report)
    }
}
