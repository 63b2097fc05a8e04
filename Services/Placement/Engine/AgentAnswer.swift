import Messages

/// The agent that a command goes to: this boot of this host and no other (S7).
public struct AgentTarget: Codable, Hashable, Sendable {
    public var host: String
    /// The request's `target`.
    public var bootID: String
    /// Endpoint of the agent's requests.
    public var endpoint: String
    /// CURVE public key (Z85); `nil` for ipc.
    public var key: String?

    public init(host: String, bootID: String, endpoint: String, key: String?) {
        self.host = host
        self.bootID = bootID
        self.endpoint = endpoint
        self.key = key
    }
}

/// What came of a request to an agent.
public enum AgentAnswer: Codable, Hashable, Sendable {
    case observed(VMObservation)
    /// Refused, or `outcome.unknown` when no reply came.
    case failed(RequestError)

    /// - Parameter verified: the proof with its signed content; `nil` if this agent may not make it.
    public init(_ result: Result<VMObservation, RequestError>, _ verified: (SignedProof) -> SignedProof?) {
        switch result {
        case .success(var observation):
            observation.ended = observation.ended.flatMap(verified)
            self = .observed(observation)
        case .failure(let error): self = .failed(error)
        }
    }
}

/// What a failed `vm.start` leaves behind.
enum StartRefusal: Hashable {
    /// Nothing was started by this attempt, on any reading of the code.
    case nothingRemains
    /// As before, and the same host may well accept a little later.
    case tryAgain
    /// It may run, or may still be started.
    case unknown

    /// Only codes that guarantee that this attempt started nothing count as such. A request is sent repeatedly under one id, so a code that speaks only of the
    /// last sending (`request.wrong-target`, `manager.foreign`, ...) says nothing of the earlier ones; `vm.attempt-stale` says nothing of what it was superseded by.
    init(_ error: RequestError) {
        switch error.code {
        case LeaseErrorCode.settling.rawValue:
            self = .tryAgain
        case AgentErrorCode.startFailed.rawValue, AgentErrorCode.stillHere.rawValue, AgentErrorCode.toolstackDown.rawValue, AgentErrorCode.notConnected.rawValue,
            LeaseErrorCode.held.rawValue, LeaseErrorCode.heldHere.rawValue, LeaseErrorCode.notFound.rawValue, LeaseErrorCode.exists.rawValue, LeaseErrorCode.noSpace.rawValue,
            LeaseErrorCode.notJoined.rawValue, LeaseErrorCode.hostIDBusy.rawValue, LeaseErrorCode.lost.rawValue, LeaseErrorCode.generationMismatch.rawValue,
            LeaseErrorCode.lostBallot.rawValue, LeaseErrorCode.corrupt.rawValue, LeaseErrorCode.indexUpdating.rawValue, LeaseErrorCode.io.rawValue,
            LeaseErrorCode.badProof.rawValue, LeaseErrorCode.watchdog.rawValue, LeaseErrorCode.noValue.rawValue, LeaseErrorCode.notHeld.rawValue, LeaseErrorCode.stale.rawValue,
            LockspaceErrorCode.closed.rawValue,
            RequestErrorCode.timeout.rawValue, RequestErrorCode.malformed.rawValue, RequestErrorCode.tooLarge.rawValue,
            RequestErrorCode.unknownVersion.rawValue, RequestErrorCode.unknownType.rawValue, RequestErrorCode.invalid.rawValue:
            self = .nothingRemains
        default:
            self = .unknown
        }
    }
}
