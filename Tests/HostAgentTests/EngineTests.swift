import HostAgentEngine
import Messages
import Testing

private func vm(_ name: String, _ attempt: UInt64) -> Holder { Holder(role: .vm, name: name, attempt: attempt) }

@Test func aStartSpawnsOneGuardAndAnswersWhenItRuns() {
    var bench = EngineBench()
    let effects = bench.start("web1", 3)
    #expect(effects.spawns.map(\.holder) == [vm("web1", 3)])
    #expect(effects.spawns.first?.leases == [LeaseName(lockspace: EngineBench.domain, resource: "image-web1")])
    #expect(effects.replies.isEmpty)
    let running = bench.send(.sighted(vm("web1", 3), .running(pid: 77, lver: 1, paused: false)))
    #expect(running.observations.first?.state == .running)
    #expect(running.observations.first?.pid == 77)
}

@Test func aSecondAttemptIsRefusedWhileTheFirstMayRunAndItsLateCopyToo() {
    var bench = EngineBench()
    _ = bench.start("web1", 3)
    #expect(bench.start("web1", 4).refusals == ["vm.still-here"])
    _ = bench.send(.sighted(vm("web1", 3), .gone(evidence: "lock free")))
    #expect(bench.start("web1", 5).refusals == ["vm.still-here"])
    _ = bench.send(.quiesced(vm("web1", 3)))
    _ = bench.send(.signed(vm("web1", 3), EngineBench.signed(bench.engine.vms.vms[0].ended?.proof ?? anyProof)))
    #expect(bench.start("web1", 5).refusals == ["vm.attempt-stale"])
    #expect(bench.start("web1", 6).spawns.count == 1)
}

private let anyProof = Proof(id: "p", kind: .ended, host: "host1", hostID: 1, statement: "")

@Test func observingAnAttemptThatNeverArrivedBuriesIt() {
    var bench = EngineBench()
    let asked = bench.observe("web1", 9)
    #expect(asked.replies.isEmpty && asked.proofs.isEmpty)
    #expect(asked.scans == 1)
    #expect(bench.send(.scanned([])).proofs.first?.1.covers(holder: "web1", attempt: 9) == true)
    #expect(bench.start("web1", 9).refusals == ["vm.attempt-stale"])
    let answered = bench.send(.signed(vm("web1", 9), EngineBench.signed(anyProof)))
    #expect(answered.observations.first?.state == .stopped)
    #expect(answered.observations.first?.ended != nil)
}

@Test func aStartThatFailsIsNeverReportedAsARun() {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    _ = bench.send(.sighted(vm("web1", 1), .acquiring))
    _ = bench.send(.sighted(vm("web1", 1), .ending(why: "the payload could not be executed")))
    #expect(bench.engine.vms.vms.map(\.state) == [.starting])
    _ = bench.start("web2", 1)
    _ = bench.send(.sighted(vm("web2", 1), .running(pid: 9, lver: 1, paused: false)))
    _ = bench.send(.sighted(vm("web2", 1), .ending(why: "the leases' deadline has passed")))
    #expect(bench.engine.vms.vms.map(\.state) == [.starting, .running])
}

@Test func aRefusedGuardLeavesNothingAndSaysWhy() {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    let refused = bench.send(.sighted(vm("web1", 1), .refused(code: "lease.held", message: "held by host 2")))
    #expect(refused.refusals == ["lease.held"])
    #expect(refused.quiesces.isEmpty)
    #expect(refused.proofs.count == 1)
}

@Test func anEndedGuestIsProvenOnlyAfterItsStorageAnswered() {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    let stop = bench.stop("web1", 1)
    #expect(stop.replies.isEmpty)
    let ended = bench.send(.sighted(vm("web1", 1), .ended(exit: "signal 9", why: "stopped on request")))
    #expect(ended.proofs.isEmpty && ended.replies.isEmpty)
    #expect(ended.quiesces == [vm("web1", 1)])
    #expect(bench.observe("web1", 1).observations.first?.ended == nil)
    let proven = bench.send(.quiesced(vm("web1", 1)))
    #expect(proven.proofs.count == 1)
    let answered = bench.send(.signed(vm("web1", 1), EngineBench.signed(anyProof)))
    #expect(answered.observations.first?.state == .stopped)
}

/// S4: what only a proof about the whole host can end is told in the heartbeat.
@Test func anEndedGuestWhoseStorageIsGoneIsTold() {
    var bench = EngineBench()
    func lockspace(_ state: LockspaceState) -> AgentInput {
        .lockspaces([AgentLockspace(lockspace: EngineBench.domain, state: state, generation: 1, generationBefore: 0)])
    }
    _ = bench.send(lockspace(.joined))
    _ = bench.start("web1", 1)
    _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    _ = bench.send(lockspace(.lost))
    #expect(bench.engine.heartbeat.unreapedGuards == ["vm:web1:1"] && bench.engine.heartbeat.unprovenRuns == nil)
    _ = bench.send(.sighted(vm("web1", 1), .ended(exit: "signal 9", why: "the leases' deadline has passed")))
    _ = bench.send(lockspace(.joining))
    #expect(bench.engine.heartbeat.unreapedGuards.isEmpty && bench.engine.heartbeat.unprovenRuns == ["vm:web1:1"])
    _ = bench.send(.quiesced(vm("web1", 1)))
    #expect(bench.engine.heartbeat.unprovenRuns == nil)
}

@Test func whatDoesNotAnswerIsUnknownForEver() {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    _ = bench.send(.sighted(vm("web1", 1), .unclear(evidence: "lock held, guard silent")))
    #expect(bench.observe("web1", 1).observations.first?.state == .unknown)
    #expect(bench.start("web1", 2).refusals == ["vm.still-here"])
}

@Test func aRestartedAgentLooksAtEverythingBeforeItStartsAnything() throws {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    try bench.restart()
    let started = bench.start()
    #expect(started.spawns.isEmpty)
    #expect(bench.engine.heartbeat.initializing)
    let waiting = bench.start("web2", 1)
    #expect(waiting.spawns.isEmpty && waiting.replies.isEmpty)
    #expect(bench.send(.scanned([ScannedGuest(vm: "web1", pid: 7)])).spawns.isEmpty)
    #expect(!bench.engine.vms.complete)
    let seen = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    #expect(seen.spawns.map(\.holder) == [vm("web2", 1)])
    #expect(bench.engine.vms.complete)
}

@Test func aRebootEndsEveryRun() throws {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    try bench.restart()
    let effects = bench.start(boot: "boot2")
    #expect(effects.proofs.map(\.0) == [vm("web1", 1)])
    _ = bench.send(.signed(vm("web1", 1), EngineBench.signed(anyProof)))
    _ = bench.send(.scanned([]))
    #expect(bench.start("web1", 1).refusals == ["vm.attempt-stale"])
    #expect(bench.start("web1", 2).spawns.count == 1)
}

/// S14: the machine that the disk was copied from may run on.
@Test func aCopiedDiskProvesNothingOver() throws {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    for boot in ["boot2", "boot3"] {
        try bench.restart()
        let effects = bench.start(boot: boot, hardware: "hw2")
        #expect(effects.proofs.isEmpty && effects.quiesces.isEmpty)
        _ = bench.send(.scanned([]))
        #expect(bench.engine.vms.vms.map(\.state) == [.unknown])
        #expect(bench.start("web1", boot == "boot2" ? 2 : 3).refusals == ["vm.still-here"])
    }
    try bench.restart()
    #expect(bench.start(boot: "boot4").proofs.map(\.0) == [vm("web1", 1)])
}

/// Its operator wrote another hardware id into a file: within one boot it is the same machine, and so it is after the next one.
@Test func anotherHardwareIDWithinOneBootIsNoOtherMachine() throws {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    try bench.restart()
    #expect(bench.start(hardware: "hw2").proofs.isEmpty)
    _ = bench.send(.scanned([]))
    _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    #expect(bench.engine.vms.vms.map(\.state) == [.running])
    try bench.restart()
    #expect(bench.start(boot: "boot2", hardware: "hw2").proofs.map(\.0) == [vm("web1", 1)])
}

@Test func aGuestThatNobodyKnowsIsLeftAloneAndBlocksAStart() {
    var bench = EngineBench(initialized: false)
    _ = bench.start()
    _ = bench.send(.scanned([ScannedGuest(vm: "web1", pid: 99)]))
    _ = bench.request { .storageConnect($0, EngineBench.operator_, StorageConnect(domain: EngineBench.domain, path: "/shared/d")) }
    #expect(bench.start("web1", 1).refusals == ["vm.still-here"])
}

/// I4: a forgotten record proves nothing while a process of that VM is here.
@Test func anAttemptWithoutARecordIsNeverProvenOverUnseenOrBesideAStray() throws {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    bench.engine = HostAgentEngine()
    _ = bench.start()
    #expect(bench.observe("web1", 1).proofs.isEmpty)
    #expect(bench.stop("web1", 1).replies.isEmpty)
    let seen = bench.send(.scanned([ScannedGuest(vm: "web1", pid: 99)]))
    #expect(seen.proofs.isEmpty)
    #expect(seen.observations.map(\.state) == [.unknown, .unknown])
    #expect(seen.observations.first?.pid == 99 && seen.observations.first?.attempt == 1)
    #expect(seen.observations.first?.evidence.contains("99") == true)
    #expect(bench.engine.vms.vms.map(\.state) == [.unknown] && bench.engine.vms.vms.first?.pid == 99)
    try bench.restart()
    #expect(bench.start().proofs.isEmpty)
    #expect(bench.observe("web1", 1).scans == 1)
    #expect(bench.send(.scanned([ScannedGuest(vm: "web1", pid: 99)])).proofs.isEmpty)
    #expect(bench.send(.pulse(sequence: 5, memoryFreeMiB: 1)).scans == 1)
    #expect(bench.send(.scanned([])).proofs.isEmpty)
    #expect(bench.engine.vms.vms.isEmpty)
    _ = bench.observe("web1", 1)
    #expect(bench.send(.scanned([])).proofs.count == 1)
}

/// S4 for disks that no lease-service guards: a proof opens them when it is old enough.
@Test func withoutLeasesAStartWaitsUntilItsProofsHaveSettled() {
    var bench = EngineBench()
    _ = bench.start(settle: .seconds(5))
    _ = bench.send(.scanned([]))
    func proof(_ age: Duration) -> SignedProof {
        var signed = EngineBench.signed(Proof(id: "off-1", kind: .powerOff, host: "host2", hostID: 2, incarnations: Incarnation(1), statement: ""))
        signed.age = age
        return signed
    }
    #expect(bench.start("web1", 1, leases: false, proofs: [proof(.seconds(2))]).refusals == ["proof.settling"])
    #expect(bench.start("leased", 1, proofs: [proof(.zero)]).spawns.count == 1)
    #expect(bench.start("first", 1, leases: false).spawns.count == 1)
    bench.now = bench.now + .milliseconds(2900)
    #expect(bench.start("web1", 2, leases: false).refusals == ["proof.settling"])
    #expect(bench.start("web2", 1, leases: false, proofs: [proof(Duration(nanoseconds: .min))]).refusals == ["proof.settling"])
    bench.now = bench.now + .milliseconds(100)
    #expect(bench.start("web1", 3, leases: false, proofs: [proof(.zero)]).spawns.count == 1)
    #expect(bench.start("web3", 1, leases: false, proofs: [proof(Duration(nanoseconds: .max))]).spawns.count == 1)
}

@Test func aDisconnectedDomainIsLeftEvenIfTheAgentDiesFirst() throws {
    var bench = EngineBench()
    let place = StorageConnect(domain: EngineBench.domain, path: "/shared/d")
    #expect(bench.request { .storageDisconnect($0, EngineBench.operator_, place) }.drops == [EngineBench.domain])
    try bench.restart()
    let started = bench.start()
    #expect(started.drops == [EngineBench.domain] && started.keeps.isEmpty)
    _ = bench.send(.left(EngineBench.domain))
    try bench.restart()
    #expect(bench.start().drops.isEmpty)
    _ = bench.request { .storageConnect($0, EngineBench.operator_, place) }
    _ = bench.request { .storageDisconnect($0, EngineBench.operator_, place) }
    _ = bench.request { .storageConnect($0, EngineBench.operator_, place) }
    try bench.restart()
    let again = bench.start()
    #expect(again.drops.isEmpty && again.keeps == [EngineBench.domain])
}

@Test func anotherLineageIsNotObeyed() {
    var bench = EngineBench()
    let pinned = Caller(role: .service, from: "placement-service", lineage: "a", term: 4)
    let foreign = Caller(role: .service, from: "placement-service", lineage: "b", term: 9)
    let older = Caller(role: .service, from: "placement-service", lineage: "a", term: 3)
    let accept = FenceAccept(host: "host2", caseID: "c")
    #expect(bench.send(.fenceAccept("1", pinned, accept)).refusals == [])
    #expect(bench.send(.fenceAccept("2", foreign, accept)).refusals == ["manager.foreign"])
    #expect(bench.send(.fenceAccept("3", older, accept)).refusals == ["manager.foreign"])
    #expect(bench.send(.fenceAccept("4", pinned, FenceAccept(host: "host1", caseID: "c"))).refusals == ["object.conflict"])
}

/// How often fencing-service wants to hear it outlives a restart of the agent, and nobody else's hello changes it.
@Test func aHelloSaysHowOftenTheHeartBeats() throws {
    var bench = EngineBench()
    func caller(_ name: String, _ lineage: String) -> Caller { Caller(role: .service, from: name, lineage: lineage, term: 1) }
    let fast = ManagerWords(heartbeat: .milliseconds(500))
    #expect(bench.engine.heartbeatInterval == nil)
    #expect(bench.send(.hello("1", caller("fencing-service", "a"), fast)).refusals == [])
    #expect(bench.send(.hello("2", caller("placement-service", "b"), ManagerWords())).refusals == [])
    #expect(bench.send(.hello("3", caller("fencing-service", "foreign"), ManagerWords(heartbeat: .seconds(9)))).refusals == ["manager.foreign"])
    try bench.restart()
    _ = bench.start()
    #expect(bench.engine.heartbeatInterval == .milliseconds(500))
}

/// Who introduces itself first is obeyed, before any command.
@Test func aHelloPinsItsSender() throws {
    var bench = EngineBench()
    func caller(_ lineage: String, _ term: UInt64) -> Caller { Caller(role: .service, from: "fencing-service", lineage: lineage, term: term) }
    #expect(bench.send(.hello("1", caller("a", 4))).refusals == [])
    #expect(bench.send(.hello("2", caller("b", 9))).refusals == ["manager.foreign"])
    #expect(bench.send(.hello("3", caller("a", 5))).refusals == [])
    try bench.restart()
    _ = bench.start()
    #expect(bench.send(.fenceAccept("4", caller("a", 4), FenceAccept(host: "host2", caseID: "c"))).refusals == ["manager.foreign"])
    #expect(bench.send(.fenceAccept("5", caller("b", 9), FenceAccept(host: "host2", caseID: "c"))).refusals == ["manager.foreign"])

    #expect(bench.send(.pin("6", ManagerPin(service: "fencing-service", lineage: "b", term: 9))).refusals == [])
    try bench.restart()
    _ = bench.start()
    #expect(bench.send(.fenceAccept("7", caller("b", 9), FenceAccept(host: "host2", caseID: "c"))).refusals == [])
    #expect(bench.send(.fenceAccept("8", caller("a", 10), FenceAccept(host: "host2", caseID: "c"))).refusals == ["manager.foreign"])
    #expect(bench.send(.pin("9", ManagerPin(service: "host-agent", lineage: "c", term: 1))).refusals == ["request.invalid"])
}

@Test func tasksAreForTheServingTermOnly() {
    var bench = EngineBench()
    let start = SPMStart(pool: "p", domain: EngineBench.domain, term: 2, generations: [:], proofs: [])
    let holder = Holder(role: .spm, name: "p", attempt: 2)
    #expect(bench.request { .spmStart($0, EngineBench.operator_, start) }.spawns.first?.leases == [LeaseName(lockspace: EngineBench.domain, resource: "SDM")])
    #expect(bench.send(.sighted(holder, .running(pid: 5, lver: 8, paused: false))).roles.first?.lver == 8)
    let work = TaskWork.leaseCreate(lease: LeaseName(lockspace: EngineBench.domain, resource: "x"))
    func task(_ term: UInt64, _ lver: UInt64) -> TaskRun { TaskRun(pool: "p", task: "t", term: term, lver: lver, work: work) }
    #expect(bench.request { .taskRun($0, EngineBench.operator_, task(2, 7)) }.refusals == ["spm.not-here"])
    #expect(bench.request { .taskRun($0, EngineBench.operator_, task(1, 8)) }.refusals == ["spm.not-here"])
    #expect(bench.request { .taskRun($0, EngineBench.operator_, task(2, 8)) }.actions.count == 1)
    #expect(bench.send(.sighted(holder, .ended(exit: "exit 0", why: "lost"))).refusals == ["spm.not-here"])
    var old = start
    old.term = 1
    #expect(bench.request { .spmStart($0, EngineBench.operator_, old) }.refusals == ["spm.term-stale"])
}

@Test func aShutdownWaitsForEveryRun() {
    var bench = EngineBench()
    _ = bench.start("web1", 1)
    #expect(bench.request { .shutdown($0, EngineBench.operator_) }.replies.isEmpty)
    #expect(bench.engine.heartbeat.leaving == .ending)
    #expect(bench.start("web2", 1).refusals == ["vm.start-failed"])
    _ = bench.send(.sighted(vm("web1", 1), .ended(exit: "signal 9", why: "this host shuts down")))
    _ = bench.send(.quiesced(vm("web1", 1)))
    #expect(bench.engine.heartbeat.leaving == .ending, "not proven over yet")
    #expect(bench.send(.signed(vm("web1", 1), EngineBench.signed(anyProof))).replies.count == 2)
    #expect(bench.engine.heartbeat.leaving == .over)
    #expect(bench.engine.vms.vms.map(\.hostLeaves) == [true])
}

@Test func aGoodbyeHoldsForTheBootAndUntilItIsCalledOff() throws {
    var bench = EngineBench()
    #expect(bench.request { .shutdown($0, EngineBench.operator_) }.replies.count == 1, "nothing ran")
    #expect(bench.start("web1", 1).refusals == ["vm.start-failed"])
    try bench.restart()
    _ = bench.start()
    #expect(bench.engine.heartbeat.leaving == .over)
    _ = bench.send(.scanned([]))
    #expect(bench.request { .shutdown($0, EngineBench.operator_) }.replies.count == 1, "asked again, it is answered at once")
    #expect(bench.request { .shutdownCalledOff($0, EngineBench.operator_) }.replies.count == 1)
    #expect(bench.engine.heartbeat.leaving == nil)
    #expect(bench.start("web1", 2).spawns.count == 1)
    _ = bench.request { .shutdown($0, EngineBench.operator_) }
    try bench.restart()
    _ = bench.start(boot: "another-boot")
    #expect(bench.engine.heartbeat.leaving == nil, "a new boot is a new life")
}

@Test func ordersAboutTheWatchdogAreObeyedInTheirOrder() throws {
    var bench = EngineBench()
    func order(_ serial: UInt64, _ disarm: Bool) -> [Effect<AgentAction>] { bench.request { .watchdogOrder($0, EngineBench.operator_, WatchdogOrder(serial: serial, disarm: disarm)) } }
    _ = bench.send(.watchdog(covers: true, why: "it is fed"))
    #expect(bench.engine.heartbeat.watchdogArmed)
    #expect(order(5, true).actions.count == 1)
    #expect(!bench.engine.heartbeat.watchdogArmed, "before its keeper has done anything")
    #expect(order(5, true).actions.isEmpty && order(4, false).refusals == ["object.conflict"])
    try bench.restart()
    #expect(bench.start().actions.contains { if case .releaseWatchdog(true) = $0 { true } else { false } })
    #expect(order(6, false).actions.count == 1)
    #expect(!bench.engine.heartbeat.watchdogArmed && bench.engine.heartbeat.watchdogOrder?.serial == 6, "its keeper has not said so yet")
}

@Test func nobodySaysGoodbyeWhileAStrayGuestRuns() {
    var bench = EngineBench()
    _ = bench.send(.scanned([ScannedGuest(vm: "stray", pid: 7)]))
    #expect(bench.request { .shutdown($0, EngineBench.operator_) }.replies.isEmpty)
    #expect(bench.engine.heartbeat.leaving == .ending)
    #expect(bench.send(.scanned([])).replies.count == 1)
}

// MARK: I/O errors

/// A run that its hypervisor has paused by an I/O error.
private func pausedByError(_ behaviour: ResumeBehaviour) -> EngineBench {
    var bench = EngineBench()
    var definition = EngineBench.definition("web1")
    definition.resume = behaviour
    _ = bench.request { .vmStart($0, EngineBench.operator_, VMStart(vm: definition, attempt: 1, generations: [:], proofs: [])) }
    _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    _ = bench.send(.sighted(vm("web1", 1), ioError))
    return bench
}

private let ioError = GuardSighting.running(pid: 7, lver: 1, paused: true, why: .ioError)

private func probe(_ ok: Bool) -> AgentInput {
    .probed(DomainProbe(domain: EngineBench.domain, path: "/shared/d", ok: ok, latency: nil, detail: "", lockspace: nil))
}

private func resumes(_ effects: [Effect<AgentAction>]) -> Int { effects.actions.filter { if case .resume = $0 { true } else { false } }.count }
private func stops(_ effects: [Effect<AgentAction>]) -> Int { effects.actions.filter { if case .stop = $0 { true } else { false } }.count }

@Test func aGuestPausedByAnErrorIsToldPausedAndGoesOnWhenItsStorageAnswers() {
    for behaviour in ResumeBehaviour.allCases {
        var bench = pausedByError(behaviour)
        let seen = bench.engine.vms.vms[0]
        #expect(seen.state == .paused && seen.evidence.contains("I/O error"), "\(seen)")
        #expect(resumes(bench.send(probe(false))) == 0)
        #expect(resumes(bench.send(probe(true))) == (behaviour == .leave ? 0 : 1))
        _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
        #expect(resumes(bench.send(probe(true))) == 0)
        #expect(bench.engine.vms.vms[0].state == .running)
    }
}

@Test func onlyResumeKillEndsAGuestThatStaysPausedAlsoAfterTheAgentsRestart() throws {
    for behaviour in ResumeBehaviour.allCases {
        var bench = pausedByError(behaviour)
        bench.now = Instant(nanoseconds: 0) + .seconds(79)
        #expect(stops(bench.send(.wake)) == 0)
        // An error again at once is the same pause.
        _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
        #expect(stops(bench.send(.wake)) == 0)
        _ = bench.send(.sighted(vm("web1", 1), ioError))
        try bench.restart()
        _ = bench.start()
        bench.now = Instant(nanoseconds: 0) + .seconds(80)
        #expect(stops(bench.send(.wake)) == (behaviour == .kill ? 1 : 0))
    }
}

/// Some storage tells an error only half a minute later; and a guest that its guard has paused, too, has not gone on.
@Test func aGuestThatIsNotWellInBetweenIsEndedAllTheSame() {
    for between in [GuardSighting.running(pid: 7, lver: 1, paused: false), .running(pid: 7, lver: 1, paused: true, why: .leaseLoss("no renewal"))] {
        var bench = pausedByError(.kill)
        bench.now = Instant(nanoseconds: 0) + .seconds(20)
        _ = bench.send(.sighted(vm("web1", 1), between))
        bench.now = Instant(nanoseconds: 0) + .seconds(50)
        _ = bench.send(.sighted(vm("web1", 1), ioError))
        bench.now = Instant(nanoseconds: 0) + .seconds(80)
        #expect(stops(bench.send(.wake)) == 1)
    }
}

private func asked(_ effects: [Effect<AgentAction>]) -> Int { effects.actions.filter { if case .resume(_, asked: true) = $0 { true } else { false } }.count }

extension EngineBench {
    fileprivate mutating func resume(_ name: String, _ attempt: UInt64) -> [Effect<AgentAction>] {
        request { .vmResume($0, Self.operator_, VMAttempt(vm: name, attempt: attempt)) }
    }
}

@Test func anOperatorLetsALeftGuestGoOn() {
    var bench = pausedByError(.leave)
    let first = bench.resume("web1", 1)
    #expect(asked(first) == 1 && first.replies.isEmpty)
    #expect(asked(bench.resume("web1", 1)) == 0)
    _ = bench.send(.sighted(vm("web1", 1), .running(pid: 7, lver: 1, paused: false)))
    let done = bench.send(.resumed(vm("web1", 1), .goesOn))
    #expect(done.observations.map(\.state) == [.running, .running])
    #expect(bench.send(.resumed(vm("web1", 1), .goesOn)).isEmpty)
}

@Test func whoIsNotLetGoOnHearsWhy() throws {
    var bench = pausedByError(.leave)
    #expect(bench.resume("web1", 2).refusals == ["vm.not-resumed"] && bench.resume("web2", 1).refusals == ["vm.not-resumed"])
    _ = bench.resume("web1", 1)
    let kept = bench.send(.resumed(vm("web1", 1), .stays(why: "its leases are another's")))
    guard case .refused(let error)? = kept.replies.first else { Issue.record("\(kept)"); return }
    #expect(error.message.contains("its leases are another's"))

    // Neither a restarted agent nor the end of the run leaves anybody waiting, and nothing goes on afterwards.
    _ = bench.resume("web1", 1)
    try bench.restart()
    let restarted = bench.start()
    #expect(restarted.refusals == ["vm.not-resumed"] && resumes(restarted) == 0)
    _ = bench.send(.scanned([]))
    _ = bench.send(.sighted(vm("web1", 1), ioError))
    _ = bench.resume("web1", 1)
    #expect(bench.send(.sighted(vm("web1", 1), .ended(exit: "signal 9", why: "the leases' deadline has passed"))).refusals == ["vm.not-resumed"])
    #expect(bench.resume("web1", 1).refusals == ["vm.not-resumed"])
    #expect(bench.send(.resumed(vm("web1", 1), .goesOn)).isEmpty)

    var stopping = pausedByError(.leave)
    _ = stopping.stop("web1", 1)
    #expect(stopping.resume("web1", 1).refusals == ["vm.not-resumed"])
}

/// Its lease is asked for shared, whatever the VM's other disks are.
@Test func aShareableDiskIsSharedAndNoOther() {
    var bench = EngineBench()
    var definition = EngineBench.definition("web1")
    definition.disks.append(DiskDefinition(image: "a-shared-one", domain: EngineBench.domain, size: 512, shareable: true))
    let spec = bench.request { .vmStart($0, EngineBench.operator_, VMStart(vm: definition, attempt: 1, generations: [:], proofs: [])) }.spawns.first
    #expect(spec?.requests.map(\.request) == ["\(EngineBench.domain)|a-shared-one|shared", "\(EngineBench.domain)|image-web1"])
    #expect(spec?.diskLocks == ["a-shared-one", "image-web1"])
    #expect(bench.start("web2", 1).spawns.first?.shared == nil)
}
