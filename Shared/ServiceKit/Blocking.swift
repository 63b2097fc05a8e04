import Bus
import Foundation

/// Work that may block (disk, children, hypervisors) runs here: on a thread of its own, never on the reactor or the cooperative pool.
public enum Blocking {
    /// Runs `work` on a new thread named `label`, then hands its result to `then` on the reactor.
    public static func run<T: Sendable>(
        _ label: String, _ work: @escaping @Sendable () -> T, then: @escaping @Sendable @ReactorActor (T) -> Void
    ) {
        let thread = Thread {
            let result = work()
            Reactor.shared.post { then(result) }
        }
        thread.name = label
        thread.stackSize = 1 << 20
        thread.start()
    }
}
