/// What is to happen, in order of time; of what happens at one time, in the order in which it was asked for.
struct EventQueue {
    /// Whose work it is; values instead of closures around closures, for there are millions of them.
    enum Work {
        case anybody(() -> Void)
        case machine(Machine, Machine.Due, () -> Void)
        case process(Process, life: Int, Machine.Due, () -> Void)
    }

    private struct Entry {
        var at: Int64
        var number: UInt64
        var slot: Int
    }

    /// A binary heap of small entries; the work itself stays where it is.
    private var heap: [Entry] = []
    private var works: [Work?] = []
    private var free: [Int] = []
    private var number: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }
    /// Time of the first.
    var next: Int64? { heap.first?.at }

    mutating func add(at time: Int64, _ work: Work) {
        let slot: Int
        if let reused = free.popLast() {
            slot = reused
            works[slot] = work
        } else {
            slot = works.count
            works.append(work)
        }
        number += 1
        heap.append(Entry(at: time, number: number, slot: slot))
        rise(heap.count - 1)
    }

    mutating func removeFirst() -> (at: Int64, work: Work)? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        if !heap.isEmpty {
            heap[0] = last
            sink()
        }
        guard let work = works[first.slot] else { return nil }
        works[first.slot] = nil
        free.append(first.slot)
        return (first.at, work)
    }

    private static func precedes(_ a: Entry, _ b: Entry) -> Bool { a.at != b.at ? a.at < b.at : a.number < b.number }

    private mutating func rise(_ start: Int) {
        var index = start
        let entry = heap[index]
        while index > 0 {
            let parent = (index - 1) / 2
            guard Self.precedes(entry, heap[parent]) else { break }
            heap[index] = heap[parent]
            index = parent
        }
        heap[index] = entry
    }

    private mutating func sink() {
        var index = 0
        let entry = heap[0]
        while true {
            var child = 2 * index + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, Self.precedes(heap[child + 1], heap[child]) { child += 1 }
            guard Self.precedes(heap[child], entry) else { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = entry
    }
}
