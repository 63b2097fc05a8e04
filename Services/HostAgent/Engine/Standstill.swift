import Messages

/// Which of its guard's answers lets a guest go on that stands still.
///
/// A guest may go on and be paused anew while an answer is under way, and leases that were read before a pause say nothing after it. So only the answer to a question counts that was
/// asked after QEMU had said that the guest stands still, and for each such word QEMU is told once to go on.
struct Standstill: Hashable, Sendable {
    /// QEMU, asked since it was last told to go on, has said that the guest stands still.
    private(set) var isKnown = false
    /// QEMU was told to go on, and has not answered.
    private var isResuming = false
    /// What the look says that is under way may be older than that.
    private var isLookVoid = false
    private var lastNumber: UInt64 = 0
    /// Questions up to this one were asked before.
    private var stale: UInt64 = 0

    /// - Returns: the number of a new question, above those of an agent that was here before.
    mutating func ask(_ now: Instant) -> UInt64 {
        lastNumber = max(lastNumber + 1, UInt64(clamping: now.nanoseconds))
        return lastNumber
    }

    /// QEMU is asked.
    mutating func lookBegins() { isLookVoid = isResuming }

    mutating func looked(_ status: GuardWatcher.GuestStatus) {
        guard !isLookVoid else { return }
        if status == .running {
            isKnown = false
        } else if !isKnown {
            isKnown = true
            stale = lastNumber
        }
    }

    /// Whether the answer to this question lets it go on.
    func allows(_ number: UInt64) -> Bool { isKnown && number > stale }

    /// QEMU is told to go on.
    mutating func goesOn() {
        isKnown = false
        isResuming = true
        isLookVoid = true
    }

    /// QEMU has answered, or is not waited for any more.
    mutating func wasTold() { isResuming = false }
}
