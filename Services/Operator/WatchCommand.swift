import ArgumentParser
import Bus
import Foundation
import Invariants
import Messages
import ServiceKit

/// `bulwark watch`: the promise, checked while the cluster runs.
struct WatchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch", abstract: "Check the invariants I1-I7 on the live event stream; an alarm for each that is broken.",
        discussion: """
            Quiet unless something is wrong. Exit status: 0 nothing was broken, 1 an invariant was, 3 fencing-service was never heard.
            What it can and cannot see stands in README.md, section Watch.
            """)
    @Flag(help: "On the first alarm, hold all automatic power and placement actions.") var hold = false
    @Option(name: .customLong("for"), help: "End after this time, such as 30s or 10m.") var duration: String?
    @Flag(help: "Look for as long as it takes to see what runs now (15 s), and end.") var once = false
    @Flag(help: "A line for each fact.") var facts = false
    @Flag(help: "A summary every 10 s.") var status = false
    @OptionGroup var options: GlobalOptions

    static let glance = Messages.Duration.seconds(15)

    func validate() throws {
        guard !once || duration == nil else { throw ValidationError("--once ends by itself; --for does not go with it") }
        if let duration, HoldCommand.parse(duration) == nil { throw ValidationError("--for \(duration): expected a time such as 30s, 10m or 2h") }
    }

    func run() async throws {
        let cluster = try options.connect()
        let policy = try cluster.ask(.fencing, "policy.get").decoded(as: FencingPolicy.self)
        let end = once ? Self.glance : duration.flatMap(HoldCommand.parse)
        let watch = await Watch(cluster, grace: policy.grace, hold: hold, tellsFacts: facts, tellsStatus: status, json: options.json)
        let outcome: Watch.Outcome = try await withCheckedThrowingContinuation { continuation in
            Reactor.shared.post {
                do {
                    try watch.start(for: end) { continuation.resume(returning: $0) }
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
        switch outcome {
        case .kept: break
        case .broken: throw ExitCode(CommandOutcome.refused.rawValue)
        case .blind: throw RequestError(RequestErrorCode.unknownOutcome, "fencing-service was never heard: nothing can be said")
        }
    }
}

/// Feeds the checker and says what it finds.
@ReactorActor
final class Watch {
    enum Outcome: Sendable { case kept, broken, blind }

    private struct Line: Encodable {
        var fact: Fact?
        var violation: Violation?
        var summary: Summary?
        var note: String?
    }

    private struct Summary: Encodable {
        var facts: Int
        var runs: Int
        var violations: Int
        /// Processes whose state was never read.
        var unheard: [String]
        var problems: [String]
    }

    /// After standing still for longer, this process reads news that may be old, and accuses nobody by them.
    private static let longestPause = Messages.Duration.seconds(3)
    /// How late the beginning of a service's new life may be noticed.
    private static let reconnection = Messages.Duration.seconds(2)

    private let cluster: Cluster
    private let hold: Bool
    private let tellsFacts: Bool
    private let tellsStatus: Bool
    private let json: Bool
    private var checker: InvariantChecker
    private var live = LiveFacts()
    private var follower: ClusterFollower?
    private var holder: RequestClient?
    private var holdRequest: (id: RequestID, why: String)?
    private var lastTick = Clock.boottime()
    private var ticks = 0
    private var ends: Instant?
    private var onEnd: (Outcome) -> Void = { _ in }

    init(_ cluster: Cluster, grace: Messages.Duration, hold: Bool, tellsFacts: Bool, tellsStatus: Bool, json: Bool) {
        self.cluster = cluster
        self.hold = hold
        self.tellsFacts = tellsFacts
        self.tellsStatus = tellsStatus
        self.json = json
        checker = InvariantChecker(.init(grace: max(grace - Self.reconnection, .zero)))
    }

    /// - Parameter onEnd: called once, if it ends by itself.
    func start(for duration: Messages.Duration?, onEnd: @escaping (Outcome) -> Void) throws {
        self.onEnd = onEnd
        ends = duration.map { Clock.boottime() + $0 }
        let follower = ClusterFollower(cluster) { [weak self] in self?.take($0) }
        try follower.start()
        self.follower = follower
        tell(Line(note: "watching \(cluster.file.cluster)"), "watching \(cluster.file.cluster): an alarm follows if an invariant is broken")
        tick()
    }

    private func take(_ heard: ClusterFollower.Heard) {
        let now = Clock.boottime()
        noticePause(now)
        switch heard {
        case .fencing(let report, let epoch): judge(live.takeFencing(report, epoch: epoch, at: now), now)
        case .other(let report): judge(live.take(report, at: now), now)
        }
    }

    /// A process that stood still reads old news first: its timer may run after them.
    private func noticePause(_ now: Instant) {
        if now - lastTick > Self.longestPause { live.resume(at: now) }
    }

    private func tick() {
        let now = Clock.boottime()
        noticePause(now)
        lastTick = now
        ticks += 1
        judge(live.tick(at: now), now)
        if tellsStatus, ticks % 10 == 0 { tellSummary() }
        if let ends, now >= ends { return finish() }
        Reactor.shared.after(.seconds(1)) { [self] in tick() }
    }

    private func judge(_ facts: [Fact], _ now: Instant) {
        for fact in facts {
            if tellsFacts { tell(Line(fact: fact), "\(fact)") }
            for violation in checker.note(fact, at: now) { alarm(violation) }
        }
    }

    // MARK: Alarms

    private func alarm(_ violation: Violation) {
        let evidence = violation.facts.map { "\n  \($0)" }.joined()
        warn(Line(violation: violation), "ALARM: \(violation)\(evidence)")
        guard hold, holdRequest == nil else { return }
        holdRequest = ("watch-\(UUID().uuidString.lowercased())", "bulwark watch: \(violation)")
        sendHold()
    }

    /// Until it is answered: the same id has one effect.
    private func sendHold() {
        guard let (id, why) = holdRequest else { return }
        do {
            let client =
                try holder
                ?? RequestClient(endpoint: try cluster.endpoints(of: .fencing).requests, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
            holder = client
            client.request("ha.hold", HoldRequest(why: why), id: id, timeout: .seconds(10)) { [self] result in
                switch result {
                case .success: warn(Line(note: "ha.hold"), "HELD: nothing automatic happens to power or placement; `bulwark hold --release` ends it")
                case .failure(let error) where error.code == RequestErrorCode.unknownOutcome.rawValue: sendHold()
                case .failure(let error): warn(Line(note: "\(error)"), "NOT HELD: \(error)")
                }
            }
        } catch {
            warn(Line(note: "\(error)"), "NOT HELD: \(error)")
        }
    }

    // MARK: The end

    private func finish() {
        tellSummary()
        let isBlind = follower?.unheard.contains(ManagerService.fencing.rawValue) != false
        onEnd(checker.violationCount > 0 ? .broken : isBlind ? .blind : .kept)
    }

    private func tellSummary() {
        let summary = Summary(
            facts: checker.factCount, runs: checker.liveRunCount, violations: checker.violationCount, unheard: follower?.unheard.sorted() ?? [],
            problems: follower?.problems.sorted() ?? [])
        var words = "\(summary.facts) facts, \(summary.runs) runs alive, \(summary.violations) alarms"
        if !summary.unheard.isEmpty { words += "; never heard: \(summary.unheard.joined(separator: ", "))" }
        tell(Line(summary: summary), summary.problems.reduce(words) { $0 + "\n  \($1)" })
    }

    private func tell(_ line: Line, _ words: String) { write(line, words, to: .standardOutput) }
    private func warn(_ line: Line, _ words: String) { write(line, words, to: .standardError) }

    private func write(_ line: Line, _ words: String, to output: FileHandle) {
        let text = json ? (try? JSON.encode(line)).map { String(decoding: $0, as: UTF8.self) } ?? words : words
        try? output.write(contentsOf: Data((text + "\n").utf8))
    }
}
