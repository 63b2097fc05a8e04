import Bus
import CLinux
import Dispatch
import Foundation
import Messages
import Synchronization

/// Commits batches on a thread of its own, all that is waiting in one commit (group commit), and tells the reactor what is durable.
///
/// Decisions that come without an entry wait for the next commit, at most ``patience``: nothing rests on them.
///
/// A full disk is waited out: the same batch is tried again each second, and nothing behind it is released. Any other failure ends the process.
final class JournalWriter: Sendable {
    enum Work {
        case append(JournalBatch, through: UInt64)
        case read(@Sendable (any Journal) -> Void)
    }

    private struct Waiting {
        var batch = JournalBatch()
        var through: UInt64 = 0
        var reads: [@Sendable (any Journal) -> Void] = []
        /// When the oldest decision came that waits for a commit.
        var decidedAt: DispatchTime?

        /// Takes what is to be committed now; decisions alone, or beside entries that need no flush, only if they have waited for long.
        mutating func take(_ patience: DispatchTimeInterval) -> Waiting {
            var work = self
            self = Waiting()
            let isDue = !work.reads.isEmpty || !work.batch.entries.isEmpty || !work.batch.replies.isEmpty || work.batch.snapshot != nil
            if !isDue, let decidedAt = work.decidedAt, .now() < decidedAt + patience {
                self.decidedAt = decidedAt
                batch.decisions = work.batch.decisions
                work.batch.decisions = []
            }
            return work
        }
    }

    private static let patience = DispatchTimeInterval.seconds(1)

    private let waiting = Mutex(Waiting())
    private let signal = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - durable: called on the reactor with the newest durable release number.
    ///   - problem: called on the reactor when the disk is full (text) and when it is not any more (`nil`).
    ///   - failed: called on the writer's thread; must end the process.
    init(
        journal: any Journal, durable: @escaping @Sendable @ReactorActor (UInt64) -> Void, problem: @escaping @Sendable @ReactorActor (String?) -> Void,
        failed: @escaping @Sendable (String) -> Never
    ) {
        let owned = Handover(journal)
        let thread = Thread { [self] in
            let journal = owned.take()
            while true {
                if let decidedAt = waiting.withLock({ $0.decidedAt }) { _ = signal.wait(timeout: decidedAt + Self.patience) } else { signal.wait() }
                let work = waiting.withLock { $0.take(Self.patience) }
                if !work.batch.isEmpty { commit(work.batch, to: journal, problem: problem, failed: failed) }
                if work.through > 0 { Reactor.shared.post { durable(work.through) } }
                for read in work.reads { read(journal) }
            }
        }
        thread.name = "journal"
        thread.stackSize = 1 << 20
        thread.start()
    }

    private func commit(
        _ batch: JournalBatch, to journal: any Journal, problem: @escaping @Sendable @ReactorActor (String?) -> Void, failed: @Sendable (String) -> Never
    ) {
        var wasFull = false
        while true {
            do throws(JournalError) {
                try journal.append(batch)
                if wasFull { Reactor.shared.post { problem(nil) } }
                return
            } catch {
                guard case .full = error else { failed("\(error)") }
                let text = "\(error); nothing is decided or accepted until there is space again"
                if !wasFull { Reactor.shared.post { problem(text) } }
                wasFull = true
                Thread.sleep(forTimeInterval: 1)
            }
        }
    }

    /// - Parameters:
    ///   - batch: of one input.
    ///   - through: release number that is durable once this batch is.
    func append(_ batch: JournalBatch, through: UInt64) {
        let batch = batch.stamped(at: cl_realtime())
        let isNews = waiting.withLock { state in
            // The thread looks by itself at decisions that wait.
            let isNews = state.decidedAt == nil || through > 0 || !batch.replies.isEmpty || batch.snapshot != nil
            state.batch.entries += batch.entries
            state.batch.bootEntries += batch.bootEntries
            if !batch.decisions.isEmpty { state.decidedAt = state.decidedAt ?? .now() }
            state.batch.replies += batch.replies
            state.batch.decisions += batch.decisions
            state.batch.snapshot = batch.snapshot ?? state.batch.snapshot
            state.through = max(state.through, through)
            return isNews
        }
        if isNews { signal.signal() }
    }

    /// Reads on the writer's thread, after everything appended before.
    func read(_ work: @escaping @Sendable (any Journal) -> Void) {
        waiting.withLock { $0.reads.append(work) }
        signal.signal()
    }
}

/// Hands a value that is not Sendable to one other thread, once.
///
/// `@unchecked Sendable` holds because ``EngineShell`` opens the journal before it makes the writer and never touches it again (but for what
/// ``Journal/immediate`` gave it, which is safe from any thread), and ``take()`` is called by the writer's thread alone.
private final class Handover<Value>: @unchecked Sendable {
    private let value: Value
    init(_ value: Value) { self.value = value }
    func take() -> Value { value }
}
