import CLinux
import Foundation
import Synchronization

/// ^C is taken at the next wait, so that the cluster is not left behind.
enum Interruption {
    struct Interrupted: Error {}

    private static let isSet = Atomic<Bool>(false)

    static func catchSignals() {
        // The handler must not be the first to touch it.
        isSet.store(false, ordering: .relaxed)
        for number in [SIGINT, SIGTERM] { signal(number) { _ in Interruption.isSet.store(true, ordering: .relaxed) } }
    }

    static func check() throws { if isSet.load(ordering: .relaxed) { throw Interrupted() } }

    static func sleep(until end: Int64) throws {
        while true {
            try check()
            let left = end - cl_boottime()
            if left <= 0 { return }
            usleep(UInt32(min(left / 1000 + 1, 50_000)))
        }
    }
}
