import Messages

/// Storage tasks: accepted once, sent to whoever serves until an answer is final, answered once.
extension SPMCoordinator {
    /// A repeated request is the same task: a finished one is answered again, an open one will be. Other work under a known id is refused.
    mutating func onTask(_ id: RequestID, _ work: TaskWork, domain: String, _ effects: inout [Effect<SPMAction>]) {
        if let task = tasks[id] {
            guard task.work == work else {
                let text = "request id \(id) is that of the task for \(task.work.object); choose a new one"
                effects.append(.reply(to: id, .refused(RequestError(RequestErrorCode.idReused, text))))
                return
            }
            if !task.isOpen { effects.append(.reply(to: id, reply(for: task))) }
            return
        }
        if case .volumeCreate(_, _, let size, _) = work, !VolumeCreate.isPossible(size: size) {
            let text = "size: \(size) bytes is not a positive multiple of 512 below 2^60"
            effects.append(.reply(to: id, .refused(RequestError(RequestErrorCode.invalid, text, details: ["key": "size"]))))
            return
        }
        let names = pools.keys.sorted()
        guard let pool = names.first(where: { pools[$0]?.master == domain }) ?? names.first else {
            effects.append(.reply(to: id, .refused(RequestError(SPMErrorCode.poolNotFound, "there is no pool yet; create one first"))))
            return
        }
        let task = StorageTask(id: id, number: nextTask, pool: pool, work: work)
        nextTask += 1
        tasks[id] = task
        effects.append(.publish(Event("task.created", subject: id, body: task.view)))
    }

    /// Sends what is due to the SPM of its pool; of tasks for one thing only the oldest.
    mutating func sendTasks(at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        var objects: Set<String> = []
        for var task in tasks.values.filter(\.isOpen).sorted(by: { $0.number < $1.number }) {
            guard objects.insert(task.work.object).inserted, task.sentIn == nil, (task.retryAt ?? now) <= now else { continue }
            guard let pool = pools[task.pool], let term = pool.term, pool.view.status == .up, term.phase == .serving else {
                let waits = "waits for an SPM: \(pools[task.pool]?.view.reason ?? "")"
                if task.detail != waits, task.status == .created { tasks[task.id]?.detail = waits }
                continue
            }
            task.sentIn = term.number
            task.retryAt = nil
            if task.status == .created {
                task.status = .running
                task.detail = "sent to \(term.host), term \(term.number)"
                effects.append(.publish(Event("task.running", subject: task.id, body: task.view)))
            }
            task.detail = "sent to \(term.host), term \(term.number)"
            tasks[task.id] = task
            effects.append(
                .perform(
                    .run(
                        TaskAsk(task: task.id, term: term.number, attempt: task.refusals, host: term.host, bootID: term.bootID),
                        TaskRun(pool: pool.name, task: task.id, term: term.number, lver: term.lver, work: task.work))))
        }
    }

    mutating func onTaskAnswer(_ ask: TaskAsk, _ answer: TaskAnswer, at now: Instant, _ effects: inout [Effect<SPMAction>]) {
        guard var task = tasks[ask.task], task.isOpen else { return }
        switch answer {
        case .finished(let result):  // what is published stays published, whichever term did it
            task.status = .finished
            task.detail = result.detail
        case .refused(let error) where !isPassing(error):
            guard task.sentIn == ask.term else { return }
            task.status = .failed
            task.detail = error.message
        case .refused(let error):
            guard task.sentIn == ask.term else { return }
            task.refusals += 1
            task.detail = "\(ask.host) answers \(error)"
            if error.code == AgentErrorCode.notSPM.rawValue { hurryCheck(of: task.pool, term: ask.term, at: now) }
        case .unanswered:
            guard task.sentIn == ask.term else { return }
            task.detail = "\(ask.host) gives no answer"
        }
        task.sentIn = nil
        guard !task.isOpen else {
            task.retryAt = now + policy.retry
            tasks[task.id] = task
            return
        }
        task.retryAt = nil
        tasks[task.id] = task
        effects.append(.publish(Event("task.\(task.status.rawValue)", subject: task.id, body: task.view)))
        effects.append(.decide(Decision("spm/\(task.pool)", "task \(task.status.rawValue)", why: "\(task.work.object): \(task.detail)", evidence: ["task": task.id])))
        effects.append(.reply(to: task.id, reply(for: task)))
        forgetOldTasks()
    }

    private func reply(for task: StorageTask) -> Reply {
        guard task.status == .failed else { return .success(task.view) }
        return .refused(RequestError(SPMErrorCode.taskFailed, "\(task.work.object) was not made: \(task.detail)", details: ["task": task.id]))
    }

    /// Whether the refusal says nothing about the work itself, so that sending it again, perhaps to another SPM, may help.
    private func isPassing(_ error: RequestError) -> Bool {
        switch error.code {
        case AgentErrorCode.notSPM.rawValue, AgentErrorCode.termStale.rawValue, AgentErrorCode.notConnected.rawValue, LeaseErrorCode.notJoined.rawValue,
            LeaseErrorCode.lost.rawValue, LeaseErrorCode.io.rawValue, RequestErrorCode.timeout.rawValue, RequestErrorCode.wrongTarget.rawValue,
            RequestErrorCode.journalFull.rawValue, RequestErrorCode.managerForeign.rawValue, RequestErrorCode.unknownOutcome.rawValue:
            true
        default:
            false
        }
    }

    /// The SPM says that it is none: look at once, not at the next round.
    private mutating func hurryCheck(of pool: String, term: UInt64, at now: Instant) {
        guard pools[pool]?.term?.number == term, pools[pool]?.term?.inFlight == false else { return }
        pools[pool]?.term?.askAt = now
    }

    private mutating func forgetOldTasks() {
        let closed = tasks.values.filter { !$0.isOpen }.sorted { $0.number < $1.number }
        for task in closed.dropLast(policy.keptTasks) { tasks[task.id] = nil }
    }
}
