public import Messages

/// Everything an agent decides: which attempt may run here, what is known of it, and when it is proven over.
///
/// * At most one attempt of a VM (one term of the SPM role) exists here at a time; a new one is accepted only when the one before is over: guard and group gone, its storage answered
///   afterwards (S3, S4).
/// * An attempt at or below the tombstone never starts (S7). Refusing a start, and observing one that never arrived, raises the tombstone first.
/// * `stopped` is said only on evidence; whatever cannot be told is `unknown` and stays so until it is seen (I4). Of an attempt without a record it is said only after a look at every
///   process that began no earlier than this life of the agent.
/// * After a restart it looks at every known attempt and at every process before it accepts a start (I5); it starts and stops nothing by itself (I7).
public struct HostAgentEngine: Engine {
    public typealias Input = AgentInput
    public typealias Action = AgentAction
    public typealias Effects = [Effect<AgentAction>]

    var identity: AgentIdentity?
    var pins = ManagerPins()
    /// By subject (`vm:web1`, `spm:<pool>`).
    var runs: [String: Run] = [:]
    /// By subject: attempts up to this one never start here any more.
    var tombstones: [String: UInt64] = [:]
    /// By holder: requests that wait for a look at every process, and then for the proof that nothing of an attempt without a record is here.
    var observers: [String: [RequestID]] = [:]
    /// Connected domains, by uuid.
    var domains: [String: String] = [:]
    /// Disconnected domains whose lockspace lease-service has not left yet; uuid to path.
    var leaving: [String: String] = [:]
    /// By VM without leases: when each proof that its start came with is old enough (S4).
    var settling: [String: [String: Instant]] = [:]
    var creations: [RequestID: StorageCreate] = [:]
    var tasks: [RequestID: TaskRun] = [:]
    /// Requests that wait for the goodbye.
    var shutdowns: [RequestID] = []
    /// How often fencing-service wants to hear this host, as it last said.
    public private(set) var heartbeatInterval: Duration?
    /// By host whose power it is about: runs of fence agents with lower numbers never begin here any more.
    var fenceNumbers: [String: UInt64]?
    /// Fence agents that run here for other hosts. They end with this process.
    var fenceRuns: [RequestID: FenceProxyRun]?
    /// This host shuts down, or has nothing left to end.
    var departure: Departure?

    /// Holders not looked at since the start.
    var unseen: [String] = []
    var isScanned = false
    /// Guests without an attempt that this agent knows.
    var strays: [ScannedGuest] = []
    /// Starts that came while initializing.
    var deferred: [AgentInput] = []

    var lockspaces: [AgentLockspace] = []
    var probes: [String: DomainProbe] = [:]
    /// `nil`: no.
    var watchdogArmed: Bool?
    var watchdogOrder: WatchdogOrder?
    /// The hypervisor cannot be controlled.
    public internal(set) var toolstack: ToolstackReport?
    var pulse: UInt64 = 0
    /// When this life of the agent began.
    var startedAt: Instant?
    var memoryFreeMiB = 0
    /// Time of the input that is being handled.
    var now = Instant(nanoseconds: 0)

    public init() {}

    /// It has restarted and still finds out what runs here.
    public var isInitializing: Bool { identity == nil || !unseen.isEmpty || !isScanned }

    public mutating func handle(_ input: AgentInput, at now: Instant) -> Effects {
        self.now = now
        return dispatch(input) + sayGoodbye()
    }

    private mutating func dispatch(_ input: AgentInput) -> Effects {
        switch input {
        case .wake: onWake()
        case .started(let identity): onStarted(identity)
        case .pulse(let sequence, let memory): onPulse(sequence, memory)
        case .vmStart(let id, let caller, let start): commanded(id, caller) { $0.onVMStart(id, start, input) }
        case .vmStop(let id, let caller, let attempt): commanded(id, caller) { $0.onStop(id, Holder(role: .vm, name: attempt.vm, attempt: attempt.attempt)) }
        case .vmObserve(let id, let caller, let attempt):
            commanded(id, caller) { $0.onObserve(id, Holder(role: .vm, name: attempt.vm, attempt: attempt.attempt)) }
        case .vmResume(let id, let caller, let attempt):
            commanded(id, caller) { $0.onResume(id, Holder(role: .vm, name: attempt.vm, attempt: attempt.attempt)) }
        case .spmStart(let id, let caller, let start): commanded(id, caller) { $0.onSPMStart(id, start, input) }
        case .spmStop(let id, let caller, let term): commanded(id, caller) { $0.onStop(id, $0.holder(of: term)) }
        case .spmStatus(let id, let caller, let term): commanded(id, caller) { $0.onObserve(id, $0.holder(of: term)) }
        case .taskRun(let id, let caller, let task): commanded(id, caller) { $0.onTask(id, task) }
        case .storageConnect(let id, let caller, let domain): commanded(id, caller) { $0.onConnect(id, domain) }
        case .storageDisconnect(let id, let caller, let domain): commanded(id, caller) { $0.onDisconnect(id, domain) }
        case .storageCreate(let id, let caller, let domain): commanded(id, caller) { $0.onCreate(id, domain) }
        case .fenceAccept(let id, let caller, let fence): commanded(id, caller) { $0.onFenceAccept(id, fence) }
        case .fencePrepare(let id, let caller, let prepare): commanded(id, caller) { $0.onFencePrepare(id, prepare) }
        case .fenceRun(let id, let caller, let run): commanded(id, caller) { $0.onFenceRun(id, run) }
        case .fenceIdentify(let id, let caller, let question): commanded(id, caller) { $0.onFenceIdentify(id, question) }
        case .hello(let id, let caller, let words): commanded(id, caller) { $0.onHello(id, words) }
        case .watchdogOrder(let id, let caller, let order): commanded(id, caller) { $0.onWatchdogOrder(id, order) }
        case .pin(let id, let pin): onPin(id, pin)
        case .shutdown(let id, let caller): commanded(id, caller) { $0.onShutdown(id) }
        case .shutdownCalledOff(let id, let caller): commanded(id, caller) { $0.onShutdownCalledOff(id) }
        case .saveShutdown(let id, let caller): commanded(id, caller) { $0.onSaveShutdown(id) }
        case .saveCalledOff(let id, let caller): commanded(id, caller) { $0.onSaveCalledOff(id) }
        case .sighted(let holder, let sighting): onSighted(holder, sighting)
        case .resumed(let holder, let outcome): onResumed(holder, outcome)
        case .scanned(let guests, let others): onScanned(guests, others ?? [])
        case .quiesced(let holder): onQuiesced(holder)
        case .signed(let holder, let proof): onSigned(holder, proof)
        case .taskDone(let id, let result, let error): onTaskDone(id, result, error)
        case .fenceRan(let id, let result): onFenceRan(id, result)
        case .fenceIdentified(let id, let identity): [.reply(to: id, .success(identity))]
        case .storageCreated(let id, let error): onCreated(id, error)
        case .left(let domain): onLeft(domain)
        case .lockspaces(let seen): onLockspaces(seen)
        case .probed(let probe): onProbed(probe)
        case .watchdog(let covers, let why): onWatchdog(covers, why)
        case .toolstack(let report): onToolstack(report)
        case .monitor(let holder, let answers): onMonitor(holder, answers)
        }
    }

    /// A command counts only from a manager lineage and term that this host obeys (S16).
    private mutating func commanded(_ id: RequestID, _ caller: Caller, _ command: (inout HostAgentEngine) -> Effects) -> Effects {
        if let refusal = pins.refusal(of: caller) { return [.reply(to: id, .refused(refusal))] }
        return command(&self)
    }

    private mutating func onHello(_ id: RequestID, _ words: ManagerWords?) -> Effects {
        if let wanted = words?.heartbeat { heartbeatInterval = min(max(wanted, .milliseconds(10)), .seconds(60)) }
        return [.reply(to: id, .done)]
    }

    private mutating func onPin(_ id: RequestID, _ pin: ManagerPin) -> Effects {
        do throws(RequestError) {
            let old = try pins.replace(pin)
            // Another journal counts its runs anew.
            fenceNumbers = nil
            return [.decide(Decision(repin: pin, instead: old, on: identity?.host ?? "")), .reply(to: id, .done)]
        } catch {
            return [.reply(to: id, .refused(error))]
        }
    }

    // MARK: Start of the process

    mutating func onStarted(_ identity: AgentIdentity) -> Effects {
        let rebooted = self.identity.map { $0.bootID != identity.bootID } ?? false
        noteMachine(identity)
        if departure?.bootID != identity.bootID { departure = nil }
        if rebooted { toolstack = nil }
        self.identity = identity
        startedAt = now
        pulse = 0
        isScanned = false
        strays = []
        lockspaces = []
        probes = [:]
        watchdogArmed = nil
        fenceRuns = nil
        unseen = []
        var effects: Effects = [.publish(Event("agent.boot", subject: identity.host, body: heartbeat)), .perform(.scan)]
        for subject in runs.keys.sorted() {
            effects += refuseResumers(subject, "its agent has restarted meanwhile; ask again")
            runs[subject]?.isMute = nil
            guard let run = runs[subject], run.leftOn == nil else { continue }
            if rebooted && run.phase != .over && run.phase != .signing {
                effects += over(subject, "this machine has booted anew (\(identity.bootID)): nothing of its earlier life runs", needsStorage: false)
            } else if run.mayRun {
                unseen.append(run.holder.description)
                effects.append(.perform(.watch(run.spec)))
            } else if run.phase == .quiescing {
                effects.append(.perform(.quiesce(run.holder, run.spec.places)))
            } else if run.phase == .signing {
                effects.append(.perform(.sign(run.holder, proof(of: run.holder, run.evidence))))
            }
        }
        if watchdogOrder?.disarm == true { effects.append(.perform(.releaseWatchdog(true))) }
        effects += nextPauseEnd
        for domain in domains.keys.sorted() { effects.append(.perform(.keep(StoragePlace(domain: domain, path: domains[domain] ?? "")))) }
        for domain in leaving.keys.sorted() { effects.append(.perform(.drop(StoragePlace(domain: domain, path: leaving[domain] ?? "")))) }
        for id in creations.keys.sorted() { if let create = creations[id] { effects.append(.perform(.create(id, create))) } }
        for id in tasks.keys.sorted() { if let task = tasks[id] { effects.append(.perform(.task(id, task, path: path(for: task.work)))) } }
        return effects
    }

    /// The disk may be a copy of one whose machine runs on: what that machine runs is not over because this one started (S14). Within one boot it is the same machine.
    private mutating func noteMachine(_ new: AgentIdentity) {
        guard let identity, identity.hardwareID != new.hardwareID, identity.bootID != new.bootID else { return }
        let old = identity.hardwareID
        for subject in runs.keys.sorted() {
            guard let run = runs[subject], run.mayRun || run.phase == .quiescing else { continue }
            if run.leftOn == new.hardwareID {
                runs[subject]?.leftOn = nil
            } else if run.leftOn == nil {
                runs[subject]?.leftOn = old
                runs[subject]?.phase = .unknown
                runs[subject]?.evidence = "it was started on another machine (hardware id \(old)), of which this one (\(new.hardwareID)) has the disk, or a copy of it"
            }
        }
    }

    mutating func onScanned(_ guests: [ScannedGuest], _ others: [String]) -> Effects {
        isScanned = true
        let before = Set(strays)
        strays = guests.filter { runs["vm:\($0.vm)"]?.mayRun != true }.sorted { ($0.vm, $0.pid ?? 0) < ($1.vm, $1.pid ?? 0) }
        let news: Effects = strays.filter { !before.contains($0) }.map {
            .decide(Decision("vm/\($0.vm)", "runs without a known attempt", why: "\($0.evidence): it is left alone and no attempt starts here"))
        }
        return news + answerObservers() + initialized() + onLooked(others)
    }

    /// Of an attempt without a record: it is over, unless a process of its VM is here, of whatever attempt that is (I4).
    private mutating func answerObservers() -> Effects {
        var effects: Effects = []
        for text in observers.keys.sorted() {
            guard let holder = Holder(text) else { continue }
            if let stray = stray(of: holder) {
                let waiting = observers.removeValue(forKey: text) ?? []
                effects += waiting.map { .reply(to: $0, .success(Self.observation(of: stray, attempt: holder.attempt))) }
            } else {
                effects.append(.perform(.sign(holder, proof(of: holder, Self.notHere))))
            }
        }
        return effects
    }

    func stray(of holder: Holder) -> ScannedGuest? { holder.role == .vm ? strays.first { $0.vm == holder.name } : nil }

    /// Starts that waited for the first look at everything.
    mutating func initialized() -> Effects {
        guard !isInitializing else { return [] }
        let waiting = deferred
        deferred = []
        return [publishedVMs] + waiting.flatMap { handle($0, at: now) }
    }

    mutating func onFenceAccept(_ id: RequestID, _ fence: FenceAccept) -> Effects {
        guard fence.host != identity?.host else {
            return [.reply(to: id, .refused(RequestError(RequestErrorCode.conflict, "\(fence.host) is this host: another one must accept its fencing")))]
        }
        return [.reply(to: id, .done)]
    }
}
