public import Messages

/// Everything that fencing-service decides: who the hosts are and whether they live, when one is fenced, and what is proven.
///
/// Host statuses are derived after every input (``status(of:)``), never set:
///
/// | what holds (first match)                                   | status         |
/// |------------------------------------------------------------|----------------|
/// | an operator took it out                                    | Maintenance    |
/// | its identity is contradicted, or `host.set-error`          | Error          |
/// | never heard                                                | Unassigned     |
/// | case about this life: proven and kept off / booting / else | Down / Reboot / NonResponsive (Kdumping while its crash kernel says so, before the off) |
/// | case about this life that began with a goodbye, or it is missing or silent after one (S19) | Down |
/// | nothing heard since this service listens again             | as it was      |
/// | two heartbeats missed                                      | Connecting     |
/// | grace over                                                 | NonResponsive (opens a case) |
/// | answers, a power command's outcome is open (S18)           | Connecting (Reboot in a case) |
/// | answers, and shuts down                                    | PreparingForMaintenance |
/// | answers, agent still looks around, or lockspaces missing   | Initializing   |
/// | lockspaces still missing after 60 s, agent still looks around after `liveness.initializing`, set by a service, or its toolstack does not come back by itself (also in a case for not being operational, before the off) | NonOperational |
/// | answers                                                    | Up             |
///
/// A fence case, once opened, goes on until its host is Up again, in maintenance or forgotten:
///
/// | step               | ends with                     | next                                                        |
/// |--------------------|-------------------------------|-------------------------------------------------------------|
/// | checking           | status off                    | reading-generations (already off is fenced)                 |
/// |                    | status on                     | held (S17, hold, HA off), gathering-evidence, dumping, soft-restarting, awaiting-dump, delaying or accepting |
/// |                    | status unknown                | failed: no `off` to a device that cannot even be read       |
/// | any step           | status on, after off was read, not proven | failed, for the time of a boot: somebody switched it on, a new life proves as much |
/// | any step           | status off, device known to be another machine's | failed: it says nothing about this host (S10) |
/// | held               | the reason is gone, or retry  | checking                                                    |
/// | gathering-evidence | renewals stopped / go on      | accepting / held                                            |
/// |                    | unreaped, nonOperational: others read the lost lockspace / nobody does | accepting / failed                 |
/// | soft-restarting    | heard / `fence.softTimeout` is over, or the command failed | closed / checking        |
/// | awaiting-dump      | a sign of a crash dump / `fence.kdumpWait` is over | dumping / checking                        |
/// | dumping            | no more such signs, or `fence.kdumpLimit` is over | checking                                    |
/// | delaying           | the delay of its devices is over | checking                                                 |
/// | accepting          | an agent accepts (S16)        | off                                                         |
/// | off                | the agent ended, in any way   | confirming-off                                              |
/// | confirming-off     | status off / on or unknown    | reading-generations / failed                                |
/// | reading-generations| the readers answered          | rechecking-off (S9); failed if unverified and renewals are not seen to have stopped, or while another level's device that tells that it is the host's own read on (S10) |
/// | rechecking-off     | status off, host silent       | signing, then proven                                        |
/// | proven             | nothing forbids it            | on                                                          |
/// | on                 | the agent ended, in any way   | confirming-on                                               |
/// | confirming-on      | status on / off or unknown    | booting / failed                                            |
/// | booting            | a new boot id, then Up        | closed                                                      |
/// | resolving          | a status                      | closed if on and alive, else reading-generations            |
/// | failed             | retry                         | checking                                                    |
///
/// The same life heard again closes a case whose `off` was not sent (one that an operator asked for: when it is activated); afterwards a status decides (resolving). A new life proves the old one over (`rebooted`).
public struct FencingEngine: Engine {
    public typealias Input = FencingInput
    public typealias Action = FencingAction

    var policy = FencingPolicy()
    var signingKey = ""
    var hosts: [String: HostRecord] = [:]
    var tombstones: [Tombstone] = []
    var ha = HighAvailability()
    /// Why the manager's own network is not to be trusted.
    var networkProblem: String?
    var closedCases: [FenceCaseView] = []

    // Only while an input is handled.
    /// Kept in step by ``update(_:_:)``: the hold rules of many cases ask for it again and again.
    var census = Census()
    var now = Instant(nanoseconds: 0)
    var effects: [Effect<FencingAction>] = []

    private enum CodingKeys: CodingKey { case policy, signingKey, hosts, tombstones, ha, networkProblem, closedCases }

    public init() {}

    public mutating func handle(_ input: FencingInput, at now: Instant) -> [Effect<FencingAction>] {
        self.now = now
        effects = []
        census = takeCensus()
        defer { effects = [] }
        dispatch(input)
        settle()
        if let next = nextWake { effects.append(.wake(at: next)) }
        return effects
    }

    private mutating func dispatch(_ input: FencingInput) {
        switch input {
        case .started(let start): onStarted(start)
        case .wake: onWake()
        case .hostAdd(let id, let definition): onHostAdd(id, definition)
        case .hostEnrol(let id, let add): onHostEnrol(id, add)
        case .hostUpdate(let id, let definition): onHostUpdate(id, definition)
        case .hostForget(let id, let request): onHostForget(id, request)
        case .hostMaintenance(let id, let request): onHostMaintenance(id, request)
        case .hostActivate(let id, let request): onHostActivate(id, request)
        case .hostSetNonOperational(let id, let body): onSetStatus(id, body, \.nonOperational)
        case .hostSetError(let id, let body): onSetStatus(id, body, \.error)
        case .confirmOff(let id, let body): onConfirmOff(id, body)
        case .power(let id, let verb, let request): onPower(id, verb, request)
        case .fenceNow(let id, let request): onFenceNow(id, request)
        case .rehearse(let id, let request): onRehearse(id, request)
        case .powerSave(let id, let request): onPowerSave(id, request)
        case .haHold(let id, let request): onHold(id, request)
        case .haEnable(let id): onEnable(id)
        case .haDisable(let id): onDisable(id)
        case .heard(let heartbeat): onHeard(heartbeat)
        case .missing(let silence): onMissing(silence)
        case .silent(let silence): onSilent(silence)
        case .dump(let news): onDump(news)
        case .guests(let news): update(news.host) { $0.guests = Guests(bootID: news.bootID, running: news.running, busyWith: news.busyWith) }
        case .network(let ok, let detail): onNetwork(ok, detail)
        case .fenceEnded(let result): onFenceEnded(result)
        case .identified(let identification): onIdentified(identification)
        case .acceptance(let answer): onAcceptance(answer)
        case .greeted(let host, let refusal): update(host) { $0.obeysOthers = refusal }
        case .sectorsRead(let answer): onSectorsRead(answer)
        case .proofSigned(let proof): onProofSigned(proof)
        case .proxyTold(let answer): onProxyTold(answer)
        case .softRestarted(let result): onSoftRestarted(result)
        case .savingAnswered(let answer): onSavingAnswered(answer)
        }
    }

    // MARK: Start and time

    /// After a restart nothing is believed that was not heard or read since (I5), and no destructive command is issued again before a status (S11).
    mutating func onStarted(_ start: FencingStart) {
        policy = start.policy
        let hearsDumps = policy.kdumpLimit > .zero
        signingKey = start.signingKey
        networkProblem = nil
        let doubtedUntil = now + policy.heartbeat * 5
        for name in names {
            // Its proxy goes on without this service.
            if let lost = hosts[name]?.run { noteOwed(lost) }
            update(name) { host in
                host.liveness = .observing
                host.silence = nil
                host.answeringSince = nil
                host.unreapedSince = nil
                host.retryAt = nil
                host.identifyAt = nil
                host.askThroughHostsAgain()
                host.expiry = nil
                host.orderAgain = nil
                host.callOffAt = nil
                host.published = nil
                host.toolstackLostSince = nil
                host.initializingSince = nil
                host.nonOperationalSince = nil
                host.guests = nil
                // It was said of an older term; every agent is asked anew, and must accept each fencing.
                host.obeysOthers = nil
                if host.rebootDoubtedUntil != nil { host.rebootDoubtedUntil = doubtedUntil }
                if let lost = host.run, lost.action.isDestructive { host.unresolved = lost.action }
                host.hasAnotherProxy = nil
                if !hearsDumps { host.dump = nil }
                host.run = nil
                host.fenceCase?.readers = []
                host.fenceCase?.voters = []
                host.fenceCase?.bootDeadline = nil
            }
            watch(name)
            if let minted = hosts[name]?.minted { perform(.sign(minted)) }
            if let saving = hosts[name]?.saving, saving.stage == .leaving { perform(.saveShutdown(host: name, request: saving.request)) }
            askAgainToConfirm(name)
            if hosts[name]?.command?.verb == .rehearse { endRehearsal(name, "fencing-service restarted") }
            if hosts[name]?.command != nil {
                update(name) { $0.command?.steps = [.status] }
                run(.status, on: name)
            } else if let open = hosts[name]?.fenceCase {
                decide(name, "case resumed", why: "fencing-service started again; step \(open.step.rawValue) is re-validated by the power status first", open)
                checkPower(name)
            } else if hosts[name]?.unresolved != nil {
                run(.status, on: name)
            }
        }
    }

    mutating func onWake() {
        expireHold()
        for name in names {
            guard let host = hosts[name], host.run == nil, host.command == nil else { continue }
            if let deadline = host.fenceCase?.bootDeadline, deadline <= now {
                update(name) { $0.fenceCase?.bootDeadline = nil }
                checkPower(name)
            } else if let retryAt = host.retryAt, retryAt <= now {
                update(name) { $0.retryAt = nil }
                retry(name)
            }
        }
    }

    var nextWake: Instant? {
        var times = [ha.holdUntil]
        for name in names {
            guard let host = hosts[name] else { continue }
            times += [nextRehearsal(host), nextQuestion(host), nextSaving(host), host.reboots?.first.map { $0 + policy.rebootWindow }, host.vainOffs?.first.map { $0 + policy.rebootWindow }, host.expiry?.again, host.orderAgain, host.identifyAt, host.rebootDoubtedUntil, host.unreapedSince.map { $0 + policy.grace }, host.toolstackLostSince.map { $0 + policy.toolstackLost }, host.answeringSince.map { $0 + policy.joinPatience }, host.initializingSince.map { $0 + policy.initializing }]
            if policy.nonOperational > .zero { times.append(host.nonOperationalSince.map { $0 + policy.nonOperational }) }
            // What spares it may be another host's.
            if host.spared != nil { times.append(now + policy.retry) }
            if host.run == nil && host.command == nil { times += [host.retryAt, host.fenceCase?.bootDeadline] }
        }
        return times.compactMap { $0 }.filter { $0 > now }.min()
    }

    /// What follows from the new state, whichever input made it.
    private mutating func settle() {
        for name in names {
            settleOwed(name)
            identifyIfDue(name)
            openCaseForUnreapedGuards(name)
            followAnswering(name)
            reconsiderHeld(name)
            believeReboot(name)
            mintRebootedIfIncomplete(name)
            resolveLater(name)
            followExpiry(name)
            orderWatchdog(name)
            finishForgetting(name)
            rehearseIfDue(name)
            followSaving(name)
        }
        for name in names { settleStatus(name) }
    }

    /// An open outcome is asked for until a status resolves it, also when its case is closed.
    private mutating func resolveLater(_ name: String) {
        guard let host = hosts[name], host.unresolved != nil, host.fenceCase == nil, host.run == nil, host.command == nil, host.retryAt == nil else { return }
        let at = now + policy.retry
        update(name) { $0.retryAt = at }
    }

    // MARK: Small tools

    var names: [String] { hosts.keys.sorted() }

    mutating func update(_ name: String, _ change: (inout HostRecord) -> Void) {
        guard var host = hosts[name] else { return }
        hosts[name] = nil
        count(host, -1)
        change(&host)
        count(host, 1)
        hosts[name] = host
    }

    /// Into the census, or out of it.
    private mutating func count(_ host: HostRecord, _ sign: Int) {
        guard counts(host) else { return }
        census.counted += sign
        if host.liveness != .heard { census.silent += sign }
    }

    mutating func updateCase(_ name: String, _ change: (inout FenceCase) -> Void) {
        update(name) { host in
            guard var open = host.fenceCase else { return }
            change(&open)
            host.fenceCase = open
        }
    }

    mutating func publish(_ type: String, _ subject: String?, _ body: any Encodable & Sendable) {
        effects.append(.publish(Event(type, subject: subject, body: body)))
    }

    mutating func perform(_ action: FencingAction) { effects.append(.perform(action)) }
    mutating func reply(_ id: RequestID, _ reply: Reply) { effects.append(.reply(to: id, reply)) }
    mutating func refuse(_ id: RequestID, _ code: some RawRepresentable<String>, _ message: String) {
        reply(id, .refused(RequestError(code, message)))
    }

    mutating func decide(_ name: String, _ what: String, why: String, _ open: FenceCase? = nil, evidence: [String: String] = [:]) {
        var evidence = evidence
        if let host = hosts[name] {
            evidence["incarnation"] = "\(host.incarnation)"
            evidence["power"] = host.power.rawValue
        }
        if let open { evidence["case"] = open.id }
        effects.append(.decide(Decision("host/\(name)", what, why: why, evidence: evidence)))
    }

    /// The host, or a refusal.
    mutating func known(_ id: RequestID, _ name: String) -> HostRecord? {
        if let host = hosts[name] { return host }
        refuse(id, RequestErrorCode.notFound, "there is no host \(name); host list shows all")
        return nil
    }
}
