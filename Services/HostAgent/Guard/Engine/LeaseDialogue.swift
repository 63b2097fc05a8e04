import Messages

/// What a guard and its lease-service say to each other. The connection is made again, at most five times a second, whenever it breaks.
extension GuardEngine {
    private static let connectPause = Duration.milliseconds(200)

    mutating func connect(_ now: Instant) {
        triedAt = now
        link = .connecting
        actions.append(.connectToLeaseService)
    }

    mutating func reconnect(_ now: Instant) {
        if case .broken(let retryAt) = link, now >= retryAt { connect(now) }
    }

    mutating func onLeaseConnected() {
        link = .connected
        log("connected to lease-service")
        switch state {
        case .acquiring: actions.append(.send(acquire))
        case .running, .paused, .ending: actions.append(.send(adopt))
        case .releasing: actions += [.send(adopt), .send(release)]
        case .locking, .over: break
        }
    }

    mutating func onLeaseBroken(_ why: String, _ now: Instant) {
        if link == .connected { log("lease-service: \(why)") }
        onQuestionLost(why)
        link = .broken(retryAt: max(now, (triedAt ?? now) + Self.connectPause))
        reconnect(now)
    }

    mutating func onLeaseMessage(_ message: GuardMessage, _ now: Instant) {
        switch (message.verb, state) {
        case ("granted", .acquiring):
            onGranted(message, now)
        case ("take", .acquiring):
            onTake(message)
        case ("drop", .releasing):
            sanlock = .none
            actions.append(.dropSanlock)
        case ("refused", .acquiring):
            refuse(message["code"] ?? "lease.io", message["message"] ?? "refused")
        case ("refused", .running) where isAboutQuestion(message), ("refused", .paused) where isAboutQuestion(message):
            onQuestionLost(message["message"] ?? "it does not know the question")
        case ("refused", .running), ("refused", .paused):
            granted = []
            end("lease-service does not take this run back: \(message["message"] ?? "no reason given")", now)
        case ("lost", .running), ("lost", .paused):
            end("the leases are lost: \(message["message"] ?? "no reason given")", now)
        case ("granted", .running), ("granted", .paused), ("converted", .running), ("converted", .paused), ("granted", .releasing):
            deadline = Self.deadline(in: message) ?? deadline
            let leases = message.all("lease").compactMap(GuardLease.init)
            if leases.map(\.name) == granted.map(\.name) { granted = leases }
        case ("deadline", .running), ("deadline", .paused), ("deadline", .releasing):
            deadline = Self.deadline(in: message) ?? deadline
        case ("verified", .running), ("verified", .paused), ("unverified", .running), ("unverified", .paused):
            onAnswer(message, now)
        case ("requested", .running), ("requested", .paused):
            onRequested(message, now)
        case ("released", .releasing):
            finish(released: true)
        case ("refused", .releasing), ("lost", .releasing):
            finish(released: false)
        default:
            break
        }
    }

    /// A lease-service of an earlier version does not know `verify`, which says nothing about the leases.
    private func isAboutQuestion(_ message: GuardMessage) -> Bool { pause.isAsked && message["code"] == RequestErrorCode.unknownType.rawValue }

    // MARK: sanlock

    /// With sanlock's engine lease-service judges, looks after the lockspace and gives the deadline; the leases are taken by this process from the daemon.
    private mutating func onTake(_ order: GuardMessage) {
        switch sanlock {
        case .none:
            sanlock = .asked
            log("asking sanlock for \(order.all("place").joined(separator: ", "))")
            actions.append(.takeFromSanlock(order))
        case .asked: break
        case .held: actions.append(.send(taken))
        }
    }

    mutating func onSanlockAnswered(_ answer: SanlockAnswer) {
        sanlock = answer.result == 0 ? .held : .none
        log(answer.result == 0 ? "sanlock holds the leases for this process" : "sanlock refuses: \(answer.result) \(answer.why)")
        guard link == .connected else { return }
        actions.append(.send(answer.result == 0 ? taken : GuardMessage("nottaken", [("holder", plan.holder.description), ("result", String(answer.result)), ("message", answer.why)])))
    }

    /// A daemon that is started anew may join at once with the next generation: these leases are void then, and others take them long before the deadline.
    mutating func onSanlockGone(_ now: Instant) {
        guard sanlock == .held else { return }
        sanlock = .none
        granted = []
        let why = "sanlock's daemon, which held the leases, has closed its connection: it ended, or gave this guard up"
        switch state {
        case .acquiring: refuse(LeaseErrorCode.lost.rawValue, why)
        case .running, .paused: end(why, now)
        case .releasing: finish(released: false)
        case .locking, .ending, .over: break
        }
    }

    private var taken: GuardMessage { GuardMessage("taken", [("holder", plan.holder.description)]) }

    /// Somebody asks for one of the leases. Only force ends the group; what a graceful request is worth decides whoever started this guard, and sees it in the status.
    private mutating func onRequested(_ message: GuardMessage, _ now: Instant) {
        guard let lease = message["lease"], granted.contains(where: { $0.name == GuardLease(lease)?.name }) else { return }
        let by = message["by"] ?? "somebody"
        if message["mode"] == LeaseDemand.Mode.force.rawValue { return end("\(by) took lease \(lease) by force", now) }
        guard !requested.contains(lease) else { return }
        requested.append(lease)
        log("\(by) asks for lease \(lease)")
        actions.append(.tell(status))
    }

    private mutating func onGranted(_ message: GuardMessage, _ now: Instant) {
        guard let until = Self.deadline(in: message) else { return refuse("lease.io", "a grant without a deadline") }
        let leases = message.all("lease").compactMap(GuardLease.init)
        guard leases.sorted(by: { $0.name < $1.name }).map(\.request) == plan.leases.map(\.request) else { return refuse("lease.io", "the grant names other leases than were asked for") }
        guard now < until else { return refuse("lease.io", "the grant's deadline had passed when it came") }
        granted = leases
        deadline = until
        pause.ioTimeout = message["iotimeout"].flatMap { Int64($0) }.map { .seconds($0) }
        log("granted \(granted.map(\.grant).joined(separator: " "))")
        startPayload()
    }

    static func deadline(in message: GuardMessage) -> Instant? { message["deadline"].flatMap { Int64($0) }.map { Instant(nanoseconds: $0) } }

    private var acquire: GuardMessage { request("acquire", leases: plan.leases.map(\.request)) }

    private var adopt: GuardMessage { request("adopt", leases: granted.map(\.grant), also: [("deadline", String(deadline?.nanoseconds ?? 0))]) }

    var release: GuardMessage { GuardMessage("release", [("holder", plan.holder.description)]) }

    private func request(_ verb: String, leases: [String], also: [(String, String)] = []) -> GuardMessage {
        var fields = [("holder", plan.holder.description), ("lock", plan.vmLock)]
        fields += leases.map { ("lease", $0) }
        fields += plan.diskLocks.map { ("disklock", $0) }
        fields += plan.generations.map { ("generation", $0) }
        if let proofs = plan.proofs { fields.append(("proofs", proofs)) }
        return GuardMessage(verb, fields + also)
    }
}
