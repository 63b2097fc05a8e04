@testable import Bus
import CLinux
import Foundation
import Messages
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct ReactorTests {
    @Test func workRunsInTheOrderOfPostingOnOneThread() async {
        let order = Box<[Int]>([])
        for number in 0..<1000 { Reactor.shared.post { order.change { $0.append(number) } } }
        await eventually { order.now.count == 1000 }
        #expect(order.now == Array(0..<1000))
        let name = await ReactorActor.run {
            var name = [CChar](repeating: 0, count: 16)
            pthread_getname_np(pthread_self(), &name, 16)
            return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
        #expect(name == "reactor")
    }

    @Test func timersFireInOrderNeverEarlyAndNotWhenCancelled() async {
        let fired = Box<[Int]>([])
        let early = Box(false)
        await ReactorActor.run {
            let start = Clock.boottime()
            for (index, milliseconds) in [30, 10, 20].enumerated() {
                Reactor.shared.after(.milliseconds(Int64(milliseconds))) {
                    if Clock.boottime() - start < .milliseconds(Int64(milliseconds)) { early.change { $0 = true } }
                    fired.change { $0.append(index) }
                }
            }
            let cancelled = Reactor.shared.after(.milliseconds(15)) { fired.change { $0.append(99) } }
            Reactor.shared.cancel(cancelled)
            Reactor.shared.cancel(cancelled)
        }
        await eventually { fired.now.count == 3 }
        #expect(fired.now == [1, 2, 0])
        #expect(!early.now)
    }

    @Test @ReactorActor func theHeapKeepsOrderWhileTimersComeAndGo() {
        var random = SplitMix64(seed: 7)
        var heap = TimerHeap()
        var living: [TimerID: Int64] = [:]
        for _ in 0..<5000 {
            if random.next() % 3 == 0, let victim = living.keys.min(by: { $0.number < $1.number }) {
                heap.cancel(victim)
                living[victim] = nil
            } else {
                let deadline = Int64(random.next() % 1000)
                living[heap.set(Instant(nanoseconds: deadline)) {}] = deadline
            }
            #expect(heap.earliest()?.nanoseconds == living.values.min())
        }
        var left = living.count
        while heap.take(dueAt: Instant(nanoseconds: 1000)) != nil { left -= 1 }
        #expect(left == 0)
    }

    @Test func aWatchedDescriptorIsLevelTriggeredAndSaysWhenItHangsUp() async {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        let (reading, writing) = (ends[0], ends[1])
        let turns = Box(0)
        let text = Box("")
        let hungUp = Box(false)
        let watch = Box<WatchID?>(nil)
        await ReactorActor.run {
            let made = Reactor.shared.watch(fileDescriptor: reading, events: Int16(POLLIN)) { ready in
                turns.change { $0 += 1 }
                if ready & Int16(POLLIN) != 0 {
                    // One byte each turn: the rest is announced again.
                    var byte: UInt8 = 0
                    if read(reading, &byte, 1) == 1 {
                        let letter = String(UnicodeScalar(byte))
                        text.change { $0 += letter }
                    }
                } else if ready & Int16(POLLERR) != 0 {
                    hungUp.change { $0 = true }
                    watch.now.map { Reactor.shared.unwatch($0) }
                }
            }
            watch.change { $0 = made }
        }
        #expect(write(writing, "abc", 3) == 3)
        await eventually { text.now == "abc" }
        close(writing)
        await eventually { hungUp.now }
        let after = turns.now
        await ReactorActor.run {}
        #expect(turns.now == after)
        close(reading)
    }

    /// In a process of its own: stopping is for good.
    @Test func whatWasSentBeforeStoppingStillArrives() async {
        await #expect(processExitsWith: .success) {
            let bus = try BusFixture()
            let endpoint = bus.ipc("events")
            let publisher = try await EventPublisher(endpoints: [endpoint], security: nil, source: "s", epoch: "j.1")
            let heard = Box(0)
            let listening = Task {
                try await onThread {
                    let subscriber = try BlockingSubscriber(endpoint: endpoint, topics: [""])
                    while let event = subscriber.next(timeout: .seconds(10)) {
                        heard.change { $0 += event.topic == "t" ? 1 : 0 }
                        if event.topic == "last" { return }
                    }
                }
            }
            await eventually {
                await publisher.publish(Event("t", body: Nothing()))
                return heard.now > 0
            }
            let before = await publisher.seq
            await ReactorActor.run {
                for _ in 0..<1000 { publisher.publish(Event("t", body: Nothing())) }
                publisher.publish(Event("last", body: Nothing()))
            }
            Reactor.shared.stop()
            try await listening.value
            try? FileManager.default.removeItem(atPath: bus.directory)
            exit(heard.now >= 1000 && before > 0 ? EXIT_SUCCESS : EXIT_FAILURE)
        }
    }

    /// More threads than cores post at odd moments, each waiting for its own work before the next, so that one's post keeps meeting the end of a poll that another's
    /// began: none is lost, and none waits for the longest sleep.
    @Test func everyPostWakesTheReactor() async throws {
        let finished = Box(0)
        let slowest = Box(Duration.zero)
        for seed in 1...8 as ClosedRange<UInt64> {
            Thread {
                var random = seed
                for _ in 1...4_000 {
                    let done = Atomic(false)
                    random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    for _ in 0..<(random >> 56) { _ = done.load(ordering: .relaxed) }
                    let asked = Clock.boottime()
                    Reactor.shared.post { done.store(true, ordering: .releasing) }
                    while !done.load(ordering: .acquiring), Clock.boottime() - asked < .seconds(2) {}
                    let took = Clock.boottime() - asked
                    if took > .milliseconds(100) { slowest.change { $0 = max($0, took) } }
                    if took > .milliseconds(800) { break }
                }
                finished.change { $0 += 1 }
            }.start()
        }
        await eventually(within: 40) { finished.now == 8 }
        #expect(slowest.now < .milliseconds(800))
    }

    @Test func tasksOfTheActorShareTheThread() async {
        let counter = await ReactorActor.run { Counter() }
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<100 { group.addTask { for _ in 0..<100 { await counter.add() } } }
        }
        #expect(await counter.value == 10_000)
    }

    @Test func wallClockTimeIsWrittenForPeople() {
        #expect(Clock.rfc3339(nanoseconds: 0) == "1970-01-01T00:00:00.000Z")
        #expect(Clock.rfc3339(nanoseconds: 1_769_847_300_125_999_999) == "2026-01-31T08:15:00.125Z")
    }
}

@ReactorActor final class Counter {
    private(set) var value = 0
    func add() { value += 1 }
}
