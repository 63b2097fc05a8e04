import Messages

/// A timer set with ``Reactor/after(_:_:)``.
public struct TimerID: Hashable, Sendable { let number: UInt64 }

/// Deadlines in order; timers of the same instant in the order in which they were set. Cancelled ones leave the heap when they come up, or when they are the majority.
struct TimerHeap {
    private struct Entry {
        var deadline: Instant
        var number: UInt64
        func comes(before other: Entry) -> Bool { (deadline, number) < (other.deadline, other.number) }
    }

    private var heap: [Entry] = []
    private var work: [UInt64: @ReactorActor () -> Void] = [:]
    private var last: UInt64 = 0

    mutating func set(_ deadline: Instant, _ work: @escaping @ReactorActor () -> Void) -> TimerID {
        last += 1
        self.work[last] = work
        heap.append(Entry(deadline: deadline, number: last))
        siftUp(heap.count - 1)
        return TimerID(number: last)
    }

    mutating func cancel(_ timer: TimerID) {
        guard work.removeValue(forKey: timer.number) != nil, heap.count > 64, heap.count > 2 * work.count else { return }
        heap.removeAll { work[$0.number] == nil }
        for index in heap.indices.reversed() { siftDown(index) }
    }

    /// The earliest deadline that somebody still waits for.
    mutating func earliest() -> Instant? {
        while let first = heap.first, work[first.number] == nil { removeFirst() }
        return heap.first?.deadline
    }

    /// The work of the earliest timer, if it is due.
    mutating func take(dueAt now: Instant) -> (@ReactorActor () -> Void)? {
        guard let deadline = earliest(), deadline <= now else { return nil }
        return work.removeValue(forKey: removeFirst().number)
    }

    @discardableResult
    private mutating func removeFirst() -> Entry {
        heap.swapAt(0, heap.count - 1)
        let first = heap.removeLast()
        siftDown(0)
        return first
    }

    private mutating func siftUp(_ start: Int) {
        var child = start
        while child > 0, heap[child].comes(before: heap[(child - 1) / 2]) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func siftDown(_ start: Int) {
        var parent = start
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].comes(before: heap[least]) { least = child }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
