public import Messages

/// How often this host's lease-service is asked for its memberships, and when it counts as not answering: every second, and four times as often while a membership is on its way, or grants wait for the watchdog.
public struct MembershipFollower: Sendable {
    public enum Input: Sendable {
        /// Once at the start, and whenever ``MembershipFollower/nextWake`` has come.
        case wake
        /// Its snapshot; `nil`: there was none within the time.
        case answered(LeaseSnapshot?)
    }

    public enum Step: Hashable, Sendable {
        /// Ask for `snapshot`.
        case ask(timeout: Duration)
        /// Sorted; `nil`: it does not answer.
        case tell([AgentLockspace]?)
        /// What it wants of the watchdog, at each answer.
        case watchdog(LeaseWatchdogView)
    }

    /// It has answered at least once.
    public private(set) var hasAnswered = false
    /// When ``Input/wake`` is due; `nil` while an answer is waited for.
    public private(set) var nextWake: Instant?
    private var missed = 0
    /// So many answers in a row are missing before it is said.
    private static let mayMiss = 2

    public init() {}

    public mutating func handle(_ input: Input, at now: Instant) -> [Step] {
        switch input {
        case .wake:
            nextWake = nil
            return [.ask(timeout: .seconds(1))]
        case .answered(let snapshot):
            hasAnswered = hasAnswered || snapshot != nil
            missed = snapshot == nil ? missed + 1 : 0
            let used = Set((snapshot?.leases ?? []).filter { lease in lease.holder.map { Holder($0) == nil } ?? false }.map(\.lease.lockspace))
            let seen = snapshot?.lockspaces.map {
                AgentLockspace(
                    lockspace: $0.lockspace, state: $0.state, generation: $0.generation, generationBefore: $0.generationBefore, hasOtherHolders: used.contains($0.lockspace) ? true : nil)
            }
            let waits = snapshot?.watchdog.map { $0.limit != nil && $0.needed && !$0.armed } ?? false
            let isSettled = (seen?.allSatisfy { $0.state == .joined } ?? true) && !waits
            nextWake = now + (isSettled ? .seconds(1) : .milliseconds(250))
            let told: [Step] = seen != nil || missed > Self.mayMiss ? [.tell(seen?.sorted { $0.lockspace < $1.lockspace })] : []
            return told + (snapshot?.watchdog.map { [.watchdog($0)] } ?? [])
        }
    }
}
