import Messages
import SPMEngine
import Testing

private let volume = VolumeCreate(domain: Bench.master, image: "img", size: 1 << 20)

private func view(_ reply: Reply?) -> TaskView? {
    guard case .success(let body)? = reply else { return nil }
    return body as? TaskView
}

@Test func aTaskWaitsForAnSPMAndIsAnsweredOnce() throws {
    var bench = Bench()
    bench.give(.createVolume("t1", volume))
    #expect(bench.takeTasks().isEmpty && bench.engine.taskViews[0].status == .created)
    let term = try bench.serve()
    let sent = bench.takeTasks()
    #expect(sent.count == 1 && sent[0].run.term == term.term && sent[0].run.lver == 1 && sent[0].ask.bootID == "boot1-1")
    bench.give(.taskAnswer(sent[0].ask, .finished(TaskResult(task: "t1", detail: "made"))))
    bench.give(.taskAnswer(sent[0].ask, .finished(TaskResult(task: "t1", detail: "made"))))
    #expect(bench.replies.filter { $0.id == "t1" }.count == 1)
    #expect(view(bench.replies.last?.reply)?.status == .finished)
    #expect(bench.events.map(\.topic).filter { $0.hasPrefix("task") } == ["task.created.t1", "task.running.t1", "task.finished.t1"])
}

@Test func aRepeatedRequestIsTheSameTask() throws {
    var bench = Bench()
    bench.give(.createVolume("t1", volume))
    bench.give(.createVolume("t1", volume))
    #expect(bench.engine.taskViews.count == 1)
    _ = try bench.serve()
    let sent = bench.takeTasks()
    #expect(sent.count == 1)
    bench.give(.taskAnswer(sent[0].ask, .finished(TaskResult(task: "t1", detail: "made"))))
    bench.give(.createVolume("t1", volume))
    #expect(bench.replies.filter { $0.id == "t1" }.count == 2 && bench.takeTasks().isEmpty)
}

@Test func anUnansweredTaskIsSentAgainAndFollowsTheRole() throws {
    var bench = Bench()
    bench.give(.createVolume("t1", volume))
    _ = try bench.serve()
    let first = bench.takeTasks()
    bench.give(.taskAnswer(first[0].ask, .unanswered))
    #expect(bench.takeTasks().isEmpty)
    bench.pass(.seconds(1))
    #expect(bench.takeTasks().map(\.ask) == first.map(\.ask))
    bench.give(.host(Bench.host(1, .down, proof: Bench.proof(1, through: 1))))
    bench.pass(.seconds(2))
    let second = try bench.serve()
    let again = bench.takeTasks()
    #expect(again.map(\.ask.host) == [second.host] && again[0].run.lver == second.term)
    bench.give(.taskAnswer(first[0].ask, .refused(RequestError(AgentErrorCode.taskFailed, "late word of the old term"))))
    #expect(bench.engine.taskViews[0].status == .running)
}

@Test func tasksForOneThingRunOneAfterAnother() throws {
    var bench = Bench()
    bench.give(.createVolume("t1", volume))
    bench.give(.createVolume("t2", volume))
    bench.give(.createLease("t3", LeaseRequest(lease: LeaseName(lockspace: Bench.master, resource: "img"))))
    _ = try bench.serve()
    let sent = bench.takeTasks()
    #expect(sent.map(\.ask.task) == ["t1", "t3"])
    bench.give(.taskAnswer(sent[0].ask, .finished(TaskResult(task: "t1", detail: "made"))))
    #expect(bench.takeTasks().map(\.ask.task) == ["t2"])
}

@Test(arguments: [
    (AgentErrorCode.taskFailed.rawValue, TaskStatus.failed), ("lease.no-space", .failed), ("request.invalid", .failed),
    (AgentErrorCode.notSPM.rawValue, .running), ("request.wrong-target", .running), ("lease.io", .running), ("journal.full", .running),
])
func onlyARefusalOfTheWorkItselfFailsATask(code: String, status: TaskStatus) throws {
    var bench = Bench()
    bench.give(.createVolume("t1", volume))
    _ = try bench.serve()
    let sent = bench.takeTasks()
    bench.give(.taskAnswer(sent[0].ask, .refused(RequestError(code: code, message: "no"))))
    #expect(bench.engine.taskViews[0].status == status)
    #expect(bench.replies.contains { $0.id == "t1" } == (status == .failed))
}

/// The agent keeps its reply to a request id: a refusal of one moment must not be its answer for ever.
@Test func aRefusedTaskIsANewRequest() throws {
    var bench = Bench()
    bench.give(.createVolume("t1", volume))
    _ = try bench.serve()
    let first = bench.takeTasks()
    bench.give(.taskAnswer(first[0].ask, .refused(RequestError(LeaseErrorCode.io, "slow"))))
    bench.pass(.seconds(1))
    #expect(bench.takeTasks().map(\.ask.attempt) == [1])
}

@Test func aRestartSendsOpenTasksAgainOnceTheOwnerIsAdopted() throws {
    var bench = Bench()
    bench.give(.createVolume("t1", volume))
    let term = try bench.serve()
    _ = bench.takeTasks()
    bench.give(.started(SPMPolicy()))
    #expect(bench.takeTasks().isEmpty)
    bench.give(.answer(try bench.takeAsk(.status), Bench.status(.spm, term: term.term, lver: 1)))
    #expect(bench.takeTasks().map(\.run.lver) == [1])
}

@Test func withoutAPoolATaskIsRefused() {
    var bench = Bench(pool: false)
    bench.give(.createVolume("t1", volume))
    guard case .refused(let error) = bench.replies[0].reply else { return #expect(Bool(false)) }
    #expect(error.code == SPMErrorCode.poolNotFound.rawValue)
}

@Test func oldFinishedTasksAreForgotten() throws {
    var bench = Bench()
    bench.give(.started(SPMPolicy(keptTasks: 3)))
    bench.give(.hosts([Bench.host(1)], Bench.allowed))
    bench.give(.answer(try bench.takeAsk(.status), Bench.status(.spm, term: 1)))
    for n in 0..<6 {
        bench.give(.createVolume("t\(n)", VolumeCreate(domain: Bench.master, image: "i\(n)", size: 512)))
        for sent in bench.takeTasks() { bench.give(.taskAnswer(sent.ask, .finished(TaskResult(task: sent.ask.task, detail: "")))) }
    }
    #expect(bench.engine.taskViews.map(\.task) == ["t3", "t4", "t5"])
}

/// The answer about one volume is never given for another.
@Test func otherWorkUnderAKnownIDIsRefused() throws {
    var bench = Bench()
    bench.give(.createVolume("t1", volume))
    _ = try bench.serve()
    bench.give(.taskAnswer(bench.takeTasks()[0].ask, .finished(TaskResult(task: "t1", detail: "made"))))
    bench.give(.createVolume("t1", VolumeCreate(domain: Bench.master, image: "other", size: 1 << 20)))
    guard case .refused(let error)? = bench.replies.last?.reply else { Issue.record("answered as if made"); return }
    #expect(error.code == RequestErrorCode.idReused.rawValue && bench.engine.taskViews.count == 1)
}

@Test(arguments: [0, 1, 513, 1 << 60, UInt64.max - 511]) func aVolumeOfAnImpossibleSizeIsRefused(size: UInt64) {
    var bench = Bench()
    bench.give(.createVolume("t1", VolumeCreate(domain: Bench.master, image: "img", size: size)))
    guard case .refused(let error)? = bench.replies.last?.reply else { Issue.record("accepted"); return }
    #expect(error.code == RequestErrorCode.invalid.rawValue && error.message.hasPrefix("size: ") && bench.engine.tasks.isEmpty)
}
