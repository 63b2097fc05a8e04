public import Messages

/// What the engine is told. All of it is journaled; heartbeats are not among it, see ``HostLiveness``.
public enum FencingInput: EngineInput {
    /// First input after each start of the process.
    case started(FencingStart)
    case wake

    // Requests
    case hostAdd(RequestID, HostDefinition)
    /// As ``hostAdd(_:_:)``; the name of a forgotten host is given only to a machine that was installed anew (S20).
    case hostEnrol(RequestID, HostAdd)
    case hostUpdate(RequestID, HostDefinition)
    case hostForget(RequestID, HostForget)
    case hostMaintenance(RequestID, HostRequest)
    case hostActivate(RequestID, HostRequest)
    case hostSetNonOperational(RequestID, HostSetStatus)
    case hostSetError(RequestID, HostSetStatus)
    case confirmOff(RequestID, ConfirmOff)
    case power(RequestID, PowerVerb, HostRequest)
    case fenceNow(RequestID, HostRequest)
    case rehearse(RequestID, HostRequest)
    /// From placement-service: power this empty host down.
    case powerSave(RequestID, HostRequest)
    case haHold(RequestID, HoldRequest)
    case haEnable(RequestID)
    case haDisable(RequestID)

    // Transitions of the failure detector
    case heard(AgentHeartbeat)
    case missing(Silence)
    case silent(Silence)
    /// A host's crash kernel says that it writes a dump, or says so no more.
    case dump(DumpNews)
    /// What a host runs has changed; only told where hosts are fenced that are not operational.
    case guests(GuestNews)
    /// The manager's own network check has another result.
    case network(ok: Bool, detail: String)

    // Results of actions
    case fenceEnded(FenceResult)
    case identified(Identification)
    case acceptance(AcceptanceAnswer)
    /// What its agent said when this service introduced itself; `refusal`: it obeys other managers (S16).
    case greeted(host: String, refusal: String?)
    case sectorsRead(SectorAnswer)
    case proofSigned(SignedProof)
    case proxyTold(ProxyAnswer)
    case softRestarted(SoftRestartResult)
    case savingAnswered(SavingAnswer)
}

/// What an agent says of the VMs of its host.
public struct GuestNews: Codable, Hashable, Sendable {
    public var host: String
    public var bootID: String
    /// VMs that are not known to be stopped; `nil`: it has not looked at everything yet.
    public var running: Int?
    /// See ``AgentVMs/busyWith``.
    public var busyWith: [String]?
    public init(_ report: AgentVMs) {
        host = report.host
        bootID = report.bootID
        running = report.complete ? report.vms.count { $0.state != .stopped } : nil
        busyWith = report.complete ? report.busyWith : nil
    }
}

/// What the process knows at its start.
public struct FencingStart: Codable, Hashable, Sendable {
    public var policy: FencingPolicy
    /// Ed25519 public key that signs this service's proofs, hexadecimal.
    public var signingKey: String
    public init(policy: FencingPolicy, signingKey: String) {
        self.policy = policy
        self.signingKey = signingKey
    }
}

public enum PowerVerb: String, Codable, Hashable, Sendable {
    case status, on, off, cycle
    /// A status through every level.
    case rehearse
    /// An off to save power.
    case save
}

/// What the engine wants done; results come back as inputs.
public enum FencingAction: Hashable, Sendable {
    /// Listen to this host (again), see ``LivenessMonitor/watch(_:at:)``.
    case watch(HostWatch)
    case unwatch(String)
    /// Run the fence agent; ends as ``FencingInput/fenceEnded(_:)`` whatever happens.
    case fence(FenceRun)
    /// Read the own identity of one of the host's fence devices (S10); ends as ``FencingInput/identified(_:)`` with its index.
    case identify(IdentityQuestion)
    /// Ask one agent whether it obeys this manager (S16); ends as ``FencingInput/acceptance(_:)``.
    case askAcceptance(AcceptanceQuestion)
    /// Read the lockspaces freshly at one host's lease-service; ends as ``FencingInput/sectorsRead(_:)``.
    case readSectors(SectorQuestion)
    /// Run the command that restarts a host's agent (`fence.softCommand`); ends as ``FencingInput/softRestarted(_:)``.
    case softRestart(SoftRestart)
    /// Ask its agent to shut down to save power (`agent.shutdown`); ends as ``FencingInput/savingAnswered(_:)``, unless it does not answer.
    case saveShutdown(host: String, request: RequestID)
    /// Call that off; its next heartbeats say whether it obeys.
    case callOffShutdown(host: String)
    /// Ask a proxy whether a run that it has not answered is over (`fence.prepare` with this number); ends as ``FencingInput/proxyTold(_:)``.
    case askProxy(ProxyQuestion)
    /// Tell its agent what becomes of its watchdog; the next heartbeats say whether it obeys.
    case orderWatchdog(host: String, WatchdogOrder)
    /// Sign; ends as ``FencingInput/proofSigned(_:)``. Nothing is published before that is durable (S15).
    case sign(Proof)
}

/// How to listen to a host.
public struct HostWatch: Hashable, Sendable {
    public var host: String
    public var events: String
    public var key: String?
    /// Boot ids whose heartbeats say that a life that is over goes on.
    public var deadBoots: [String]
    /// Rises when the old connection, and what it still holds, is to be dropped.
    public var connection: UInt64
    /// What its machine reads of itself; `nil`: not heard yet.
    public var hardwareID: String?
    /// Of its current life.
    public var bootID: String?
    /// From where its crash kernel would send.
    public var dumpsFrom: [String] = []
    /// It was last known to write a dump.
    public var isDumping = false
}

/// One run of the fence agents of a level, all at once.
public struct FenceRun: Codable, Hashable, Sendable {
    public var id: String
    public var host: String
    public var action: FenceAction
    public var device: FenceDevice
    /// The others of its level.
    public var others: [FenceDevice]?
    /// After this the agent is killed.
    public var deadline: Duration
    /// The host that runs the agents of those devices that are reached through hosts; `nil`: there is none.
    public var proxy: String?
    /// Rises with every run for the host.
    public var number: UInt64?
    /// Which of the host's levels, from 0; `nil`: that which acts.
    var level: Int?
}

extension FenceRun {
    public var devices: [FenceDevice] { [device] + (others ?? []) }
    /// Positions of the devices that are reached through ``proxy``.
    public var proxied: [Int] { devices.indices.filter { devices[$0].via == .hosts } }
}

public struct FenceResult: Codable, Hashable, Sendable {
    public var run: String
    public var host: String
    /// Of all its devices together.
    public var outcome: FenceOutcome
    /// How it went at each device, in their order; `nil`: it was not begun, or not told.
    public var parts: [Part]?

    /// `true`: the proxy was told to do it and did not answer, so that it may still come.
    public var isOwed: Bool?

    public typealias Part = FencePart

    public init(run: String, host: String, outcome: FenceOutcome) {
        self.run = run
        self.host = host
        self.outcome = outcome
    }

    /// - Parameter parts: of each device, at least one.
    public init(_ run: FenceRun, _ parts: [Part], isOwed: Bool = false) {
        self.run = run.id
        host = run.host
        outcome = .together(parts.map(\.outcome), of: run)
        self.parts = parts
        self.isOwed = isOwed ? true : nil
    }
}

extension FenceOutcome {
    /// What the devices of a level say together: off if all are off, on if any is on, and nothing of which one failed otherwise.
    ///
    /// | at the devices                        | together  |
    /// |---------------------------------------|-----------|
    /// | all read off                          | readsOff  |
    /// | a status, and any reads on            | succeeded |
    /// | off or on, and all did it             | succeeded |
    /// | else, any timed out                   | timedOut  |
    /// | else                                  | failed    |
    static func together(_ outcomes: [FenceOutcome], of run: FenceRun) -> FenceOutcome {
        if outcomes.count == 1, let only = outcomes.first { return only }
        if !outcomes.isEmpty, outcomes.allSatisfy({ $0 == .readsOff }) { return .readsOff }
        let succeeded = outcomes.count { $0 == .succeeded }
        if succeeded > 0, run.action == .status || succeeded == outcomes.count { return .succeeded }
        let texts = zip(run.devices, outcomes).compactMap { device, outcome in outcome.text.isEmpty ? nil : "\(device.agent) at \(device.address): \(outcome.text)" }
        let isTimedOut = outcomes.contains { if case .timedOut = $0 { true } else { false } }
        return isTimedOut ? .timedOut(texts.joined(separator: "; ")) : .failed(texts.joined(separator: "; "))
    }
}

/// Which device of a host is asked who it is.
public struct IdentityQuestion: Hashable, Sendable {
    public var host: String
    public var device: FenceDevice
    public var index: Int
    /// The host that reads it; `nil`: the manager.
    public var proxy: String?
}

/// The identity that a fence device tells of itself.
public struct Identification: Codable, Hashable, Sendable {
    public var host: String
    /// 32 lower-case hexadecimal digits; `nil`: it could not be read.
    public var guid: String?
    /// The device has no identity to read: asking again is useless.
    public var unsupported: Bool
    public var detail: String
    /// Which of the host's devices; `nil` is the first.
    public var index: Int?
    /// Who was asked: the host's devices may be others by now. `nil`: nobody noted that.
    public var device: FenceDevice?
    public init(host: String, guid: String?, unsupported: Bool, detail: String, index: Int? = nil) {
        self.host = host
        self.index = index
        self.guid = guid
        self.unsupported = unsupported
        self.detail = detail
    }

    /// What the proxy says that the device says.
    public init(_ question: IdentityQuestion, _ reply: Result<FenceIdentity, RequestError>) {
        self.init(host: question.host, guid: nil, unsupported: false, detail: "", index: question.index)
        device = question.device
        switch reply {
        case .success(let identity): (guid, unsupported, detail) = (identity.guid, identity.unsupported, identity.detail)
        case .failure(let error): detail = "\(question.proxy ?? "") did not tell: \(error)"
        }
    }
}

public struct AcceptanceQuestion: Codable, Hashable, Sendable {
    public var caseID: String
    public var host: String
    /// Who is asked.
    public var voter: String
}

public struct AcceptanceAnswer: Codable, Hashable, Sendable {
    public var caseID: String
    public var host: String
    public var voter: String
    /// `nil`: no answer.
    public var accepted: Bool?
    public var detail: String
    public init(caseID: String, host: String, voter: String, accepted: Bool?, detail: String) {
        self.caseID = caseID
        self.host = host
        self.voter = voter
        self.accepted = accepted
        self.detail = detail
    }

    /// What the voter's reply says; what it carries does not matter.
    public init<T>(_ question: AcceptanceQuestion, _ result: Result<T, RequestError>) {
        caseID = question.caseID
        host = question.host
        voter = question.voter
        switch result {
        case .success: (accepted, detail) = (true, "")
        case .failure(let error): (accepted, detail) = (error.isUnknownOutcome ? nil : false, error.description)
        }
    }
}

public struct SectorQuestion: Codable, Hashable, Sendable {
    /// Answers of earlier questions are recognised by it.
    public var serial: UInt64
    /// Whose sectors.
    public var host: String
    public var hostID: Int
    /// Who reads.
    public var reader: String
}

public struct SectorAnswer: Codable, Hashable, Sendable {
    public var serial: UInt64
    public var host: String
    public var reader: String
    /// `nil`: the reader did not answer.
    public var sectors: [Sector]?
    public init(serial: UInt64, host: String, reader: String, sectors: [Sector]?) {
        self.serial = serial
        self.host = host
        self.reader = reader
        self.sectors = sectors
    }

    /// What the reader's reply says of the suspect's sectors.
    public init(_ question: SectorQuestion, _ result: Result<LockspaceList, RequestError>) {
        self.init(serial: question.serial, host: question.host, reader: question.reader, sectors: nil)
        guard case .success(let list) = result else { return }
        sectors = list.lockspaces.flatMap { lockspace in
            lockspace.hosts.filter { $0.hostID == question.hostID }.map { slot in
                Sector(lockspace: lockspace.lockspace, generation: slot.generation, held: slot.state != .free, lastChange: slot.lastChange,
                    unchangedFor: slot.unchangedFor, ioTimeout: slot.ioTimeout, deadIn: slot.deadIn)
            }
        }
    }
}

/// The suspect's delta sector in one lockspace, as another host just read it.
public struct Sector: Codable, Hashable, Sendable {
    public var lockspace: String
    public var generation: UInt64
    /// The slot is in use.
    public var held: Bool
    /// Since the reader last saw it change; `nil` if it never did.
    public var lastChange: Duration?
    /// How long the reader has read the same there, whether it saw the last change or not.
    public var unchangedFor: Duration?
    public var ioTimeout: Int
    /// When the reader counts its owner as dead, if it goes on like this; zero: it does. `nil`: it does not say.
    public var deadIn: Duration?
    public init(lockspace: String, generation: UInt64, held: Bool, lastChange: Duration?, unchangedFor: Duration? = nil, ioTimeout: Int, deadIn: Duration? = nil) {
        self.lockspace = lockspace
        self.generation = generation
        self.held = held
        self.lastChange = lastChange
        self.unchangedFor = unchangedFor
        self.ioTimeout = ioTimeout
        self.deadIn = deadIn
    }

    /// At least one renewal was due and did not come: unchanged for two renewal intervals, which are 2 x io_timeout each. A reader that began to read after the last renewal
    /// knows that too, once it has read on for so long.
    public var renewalsStopped: Bool { held && ((unchangedFor ?? lastChange).map { $0 >= missed } ?? false) }
    /// The reader saw it change within its owner's renewal intervals.
    public var renewalsSeen: Bool { held && (lastChange.map { $0 < missed } ?? false) }
    /// How long, from the read on, the owner's guards may still let their guests run: to 8 x io_timeout after the last renewal (S8). Zero: not any more, as far as
    /// the reader can tell.
    public var guardsMayRunFor: Duration { held ? max(.zero, (lastChange.map { missed * 2 - $0 } ?? .zero)) : .zero }
    /// Whatever number the reader sent: no trap, and no renewal is missed at once.
    private var missed: Duration { .seconds(4 * Int64(min(max(1, ioTimeout), 1_000_000))) }
}
