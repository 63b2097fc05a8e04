import Messages

/// How a group that is about to lose its leases is paused, and what must be seen before it goes on.
///
/// Pausing keeps nobody's disk from a second writer: the deadline does, for a group that is paused as for one that runs. A pause only gives the storage the rest of that time to come
/// back, without a guest that writes on meanwhile. A renewal alone resumes nothing: it says that this host is a member, not that the leases are this run's.
extension GuardEngine {
    struct Pause: Hashable, Sendable {
        /// The longest of its lockspaces, as lease-service said.
        var ioTimeout: Duration?
        var why = ""
        /// Not verified by then: it is ended, so that it can be started elsewhere.
        var patienceEnds: Instant?
        /// The last question to lease-service; answers to earlier ones are about an earlier pause.
        var question: UInt64 = 0
        var isAsked = false
        /// When lease-service is asked again.
        var nextQuestion: Instant?
        /// Connections of the agent that wait for the answer.
        var agents: [Asker] = []
        /// Those that asked while a question was out, and wait for the answer to the next one.
        var laterAgents: [Asker] = []
    }

    struct Asker: Hashable, Sendable {
        var client: Int32
        /// As it called its question; of several from one connection the last.
        var number: String?
    }

    /// Without an io_timeout from lease-service.
    private static let usualIOTimeout = Duration.seconds(10)
    private static let shortestMargin = Duration.milliseconds(250)
    private static let questionPause = Duration.seconds(1)

    /// At most 4 x io_timeout before the deadline: one renewal that is late pauses nobody. Long enough to tell the whole group to go on before it.
    private var margin: Duration {
        let ioTimeout = pause.ioTimeout ?? Self.usualIOTimeout
        return min(max(plan.pauseBefore ?? ioTimeout * 2, Self.shortestMargin), ioTimeout * 4)
    }

    /// When the group is to be paused; `nil`: never.
    var pauseAt: Instant? { plan.onLeaseLoss == .pause ? deadline.map { $0 - margin } : nil }

    mutating func checkPause(_ now: Instant) {
        guard let pauseAt else { return }
        if state == .running, begun, now >= pauseAt { return pauseGroup(now) }
        guard state == .paused else { return }
        if let patienceEnds = pause.patienceEnds, now >= patienceEnds { return end("it was paused, and its leases could not be verified since: \(pause.why)", now) }
        if let nextQuestion = pause.nextQuestion, now < nextQuestion { return }
        pause.nextQuestion = nil
        if now < pauseAt, !pause.isAsked, link == .connected { ask() }
    }

    private mutating func pauseGroup(_ now: Instant) {
        state = .paused
        pause.why = "no renewal of its leases was verified in time: it is paused and will be killed at their deadline"
        pause.patienceEnds = now + (pause.ioTimeout ?? Self.usualIOTimeout) * 8
        pause.isAsked = false
        pause.nextQuestion = nil
        tellAgents("unverified", "it is paused", all: true)
        actions.append(.pauseGroup)
        log("paused the group: \(pause.why)")
    }

    private mutating func ask() {
        pause.question += 1
        pause.isAsked = true
        pause.nextQuestion = nil
        actions.append(.send(GuardMessage("verify", [("holder", plan.holder.description), ("number", String(pause.question))])))
    }

    /// Whoever asked over the connection that broke gets no answer any more.
    mutating func onQuestionLost(_ why: String) {
        pause.isAsked = false
        pause.nextQuestion = nil
        tellAgents("unverified", "lease-service: \(why)", all: true)
    }

    mutating func onAnswer(_ message: GuardMessage, _ now: Instant) {
        guard pause.isAsked, message["number"] == String(pause.question) else { return }
        pause.isAsked = false
        let isVerified = message.verb == "verified" && message.all("lease").compactMap(GuardLease.init) == granted
        if isVerified { deadline = Self.deadline(in: message) ?? deadline }
        let why = isVerified ? "" : message["message"] ?? "other leases were verified than it holds"
        tellAgents(isVerified ? "verified" : "unverified", why)
        askForLaterAgents()
        guard state == .paused, let deadline, let pauseAt else { return }
        guard isVerified, now < pauseAt else {
            if !isVerified { pause.why = "it is paused, and its leases are not verified: \(why)" }
            pause.nextQuestion = now + Self.questionPause
            return
        }
        state = .running
        pause.patienceEnds = nil
        log("resumed the group: its leases were re-read and are its own")
        actions.append(.resumeGroup(before: deadline))
    }

    // MARK: The agent, before it lets a guest go on that its hypervisor has paused

    /// Always a question that begins after it asked: an answer that is under way may be older than the guest's pause. The one that is out is awaited first, or a slow disk would never be believed.
    mutating func onAgentAsks(_ client: Int32, number: String?) {
        let asker = Asker(client: client, number: number)
        guard state == .running, begun else { return tell(asker, "unverified", "it is \(status["state"] ?? "")") }
        guard !granted.isEmpty else { return tell(asker, "verified", "") }
        guard link == .connected else { return tell(asker, "unverified", "lease-service does not answer") }
        guard !pause.isAsked else {
            pause.laterAgents.removeAll { $0.client == client }
            return pause.laterAgents.append(asker)
        }
        pause.agents = [asker]
        ask()
    }

    /// The question of those who asked while another was out.
    private mutating func askForLaterAgents() {
        guard state == .running, link == .connected, !pause.laterAgents.isEmpty else { return }
        pause.agents = pause.laterAgents
        pause.laterAgents = []
        ask()
    }

    private mutating func tellAgents(_ verb: String, _ why: String, all: Bool = false) {
        for asker in pause.agents + (all ? pause.laterAgents : []) { tell(asker, verb, why) }
        pause.agents = []
        if all { pause.laterAgents = [] }
    }

    private mutating func tell(_ asker: Asker, _ verb: String, _ why: String) {
        actions.append(.answer(client: asker.client, GuardMessage(verb, [("message", why)] + (asker.number.map { [("number", $0)] } ?? []))))
    }
}
