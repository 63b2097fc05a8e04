public import Messages

/// Whether this host's hypervisor can be controlled, as a check command says that is run again and again, and how the toolstack is brought back.
///
/// A toolstack that is down is no guest that is down: nothing here ends a guest, or takes one for ended (I4).
///
/// | state      | stimulus                                            | next                                                |
/// |------------|-----------------------------------------------------|-----------------------------------------------------|
/// | working    | a check fails                                       | failing: told, checked again after the pause        |
/// | failing    | a check succeeds                                    | working: told                                       |
/// |            | two more failed; a restart is left / none           | restarting: told, then restarted / lost: told       |
/// | restarting | the command ended, however it did, or is overdue    | retesting: checked after the pause                  |
/// | retesting  | a check succeeds                                    | working: told                                       |
/// |            | three failed; a restart is left / none              | restarting / lost                                   |
/// | lost       | a check succeeds                                    | working: told                                       |
///
/// * One check at a time; one that does not end although it was killed counts as failed, again and again, until it ends.
/// * Restarts are counted until it has worked for ``memory``: what comes back for a minute each time is lost in the end, too.
/// * A restart of the agent goes on with what was told last. What it had begun to restart is checked first, not restarted again.
public struct Toolstack: Sendable {
    public struct Plan: Codable, Hashable, Sendable {
        /// Between two checks.
        public var every: Duration
        /// Of one check; then it is killed.
        public var timeout: Duration
        /// How often it is restarted before it is lost; 0: there is nothing to restart it with.
        public var restarts: Int
        /// Of one restart; then that is killed.
        public var restartTimeout: Duration
        /// After a check that failed, and after a restart.
        public var pause: Duration

        public init(every: Duration, timeout: Duration, restarts: Int, restartTimeout: Duration, pause: Duration) {
            self.every = every
            self.timeout = timeout
            self.restarts = restarts
            self.restartTimeout = restartTimeout
            self.pause = pause
        }
    }

    public enum Input: Hashable, Sendable {
        /// Once. `last`: what an earlier life of this process told in this boot.
        case begin(last: ToolstackReport?)
        /// ``Toolstack/nextWake`` has come.
        case wake
        /// The check ended; `failure`: what it said, `nil`: it succeeded.
        case checked(failure: String?)
        /// The restart ended.
        case restarted(failure: String?)
    }

    public enum Step: Hashable, Sendable {
        /// Run the check; answered by ``Input/checked(failure:)``.
        case check
        /// To the engine, which has it restarted (``AgentAction/restartToolstack``) once it is durable that it is ``ToolstackReport/State/restarting``; `nil`: it works.
        case tell(ToolstackReport?)
    }

    private enum State: Hashable, Sendable {
        case working, restarting, lost
        /// `failed`: checks in a row.
        case failing(failed: Int)
        case retesting(failed: Int)
    }

    /// What works for so long has come back for good.
    public static let memory = Duration.seconds(3600)
    /// Checks that must fail beside the first one.
    private static let retests = 2
    /// What the end of a killed program may take.
    private static let reaping = Duration.seconds(5)

    /// When ``Input/wake`` is due.
    public private(set) var nextWake: Instant?
    private let plan: Plan
    private var state = State.working
    private var restarts = 0
    private var worksSince: Instant?
    private var isChecking = false
    /// They were killed long ago, and have not ended.
    private var checkIsStuck = false
    private var restartIsStuck = false
    private var restartFailure: String?
    private var steps: [Step] = []

    public init(_ plan: Plan) { self.plan = plan }

    public mutating func handle(_ input: Input, at now: Instant) -> [Step] {
        switch input {
        case .begin(let last): begin(last, now)
        case .wake: onWake(now)
        case .checked(let failure): onChecked(failure, now)
        case .restarted(let failure): onRestarted(failure, now)
        }
        defer { steps = [] }
        return steps
    }

    private mutating func begin(_ last: ToolstackReport?, _ now: Instant) {
        restarts = last?.restarts ?? 0
        state =
            switch last?.state {
            case nil: .working
            case .failing: .failing(failed: 1)
            case .restarting: .retesting(failed: 0)
            case .lost: .lost
            }
        check(now)
    }

    private mutating func onWake(_ now: Instant) {
        guard let due = nextWake, now >= due else { return }
        if state == .restarting {
            restartIsStuck = true
            onRestartOver("it has not ended \((plan.restartTimeout + Self.reaping).milliseconds) ms after it began, although it was killed", now)
        } else if isChecking {
            isChecking = false
            checkIsStuck = true
            conclude("it has not ended \((plan.timeout + Self.reaping).milliseconds) ms after it began, although it was killed", now)
        } else {
            check(now)
        }
    }

    // MARK: Checks

    private mutating func check(_ now: Instant) {
        guard !checkIsStuck else { return conclude("the last one has still not ended, although it was killed", now) }
        isChecking = true
        nextWake = now + plan.timeout + Self.reaping
        steps.append(.check)
    }

    private mutating func onChecked(_ failure: String?, _ now: Instant) {
        checkIsStuck = false
        // One that comes so late says what was.
        guard isChecking else { return }
        isChecking = false
        conclude(failure, now)
    }

    private mutating func conclude(_ failure: String?, _ now: Instant) {
        guard let failure else { return works(now) }
        nextWake = now + plan.pause
        switch state {
        case .working:
            if let worksSince, now - worksSince >= Self.memory { restarts = 0 }
            worksSince = nil
            restartFailure = nil
            state = .failing(failed: 1)
            tell(.failing, failure)
        case .failing(let failed) where failed < Self.retests: state = .failing(failed: failed + 1)
        case .retesting(let failed) where failed < Self.retests: state = .retesting(failed: failed + 1)
        case .failing, .retesting: restart(failure, now)
        case .lost: nextWake = now + plan.every
        case .restarting: break
        }
    }

    private mutating func works(_ now: Instant) {
        nextWake = now + plan.every
        guard state != .working else { return }
        state = .working
        worksSince = now
        steps.append(.tell(nil))
    }

    // MARK: Restarts

    private mutating func restart(_ why: String, _ now: Instant) {
        guard restarts < plan.restarts, !restartIsStuck else {
            state = .lost
            nextWake = now + plan.every
            return tell(.lost, why + (restartFailure.map { "; of the last restart: \($0)" } ?? ""))
        }
        restarts += 1
        state = .restarting
        nextWake = now + plan.restartTimeout + Self.reaping
        tell(.restarting, why)
    }

    private mutating func onRestarted(_ failure: String?, _ now: Instant) {
        restartIsStuck = false
        if state == .restarting { onRestartOver(failure, now) }
    }

    /// Whatever it says of itself: only a check tells what it brought about.
    private mutating func onRestartOver(_ failure: String?, _ now: Instant) {
        restartFailure = failure
        state = .retesting(failed: 0)
        nextWake = now + plan.pause
    }

    private mutating func tell(_ state: ToolstackReport.State, _ why: String) { steps.append(.tell(ToolstackReport(state: state, why: why, restarts: restarts))) }
}
