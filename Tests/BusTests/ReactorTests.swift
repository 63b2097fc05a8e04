@testable import Bus
import CLinux
import Foundation
import Messages
import Synchronization
import Testing

@Suite(.serialized, .timeLimit(.minutes(1))) struct ReactorTests {
    @Test func workRunsInTheOrderOfPosting() async {
        let order = Box<[Int]>([])
        for number in 0..<1000 { Reactor.shared.post { order.change { $0.append(number) } } }
        await eventually { order.now.count == 1000 }
        #expect(order.now == Array(0..<1000))
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

    @Test func theHeapKeepsOrderWhileTimersComeAndGo() {
        var random = SplitMix64(seed: 7)
        var heap = TimerHeap()
        var living: [TimerID: Int64] = [:]
        for _ in 0..<1000 {
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

    /// Threads that run work themselves meet each other, those that post, and the reactor's own: never two at once, nothing is lost, and each one's work stays in order.
    @Test func whoeverRunsItsWorkItselfIsAloneThere() async throws {
        let finished = Box(0)
        let tally = await ReactorActor.run { Tally() }
        for thread in 0..<6 {
            Thread {
                for number in 1...3_000 {
                    let work: @Sendable @ReactorActor () -> Void = { tally.count(thread, number) }
                    if thread < 4 { Reactor.shared.runOrPost(work) } else { Reactor.shared.post(work) }
                    if number % 8 == 0 { usleep(50) }
                }
                finished.change { $0 += 1 }
            }.start()
        }
        await eventually(within: 40) { finished.now == 6 }
        await eventually { await tally.total == 18_000 }
        #expect(await tally.isInOrder)
        // Once nothing else is under way.
        await eventually {
            let came = await tally.total, before = await tally.elsewhere
            Thread.detachNewThread { Reactor.shared.runOrPost { tally.count(6, came - 18_000 + 1) } }
            await eventually { await tally.total > came }
            return await tally.elsewhere > before
        }
    }

    /// The reactor's own thread sleeps for up to a second: what was done without it wakes it for the timer, and for the message, that came of that.
    @Test func workThatRanElsewhereIsFollowedUpInTime() async throws {
        let bus = try BusFixture()
        let slowest = Box(Duration.zero)
        let server = try await RequestServer(endpoints: [bus.ipc("requests")], security: nil) { request in
            Reactor.shared.after(.milliseconds(5)) {
                Thread.detachNewThread { Reactor.shared.runOrPost { answers.now?.send(ReplyFrame.encode(id: request.header.id, .done), to: request.returnPath) } }
            }
        }
        answers.change { $0 = server }
        try await onThread {
            for number in 0..<40 {
                let done = DispatchSemaphore(value: 0)
                let asked = Clock.boottime()
                Reactor.shared.runOrPost { Reactor.shared.after(.milliseconds(Int64(number % 7))) { done.signal() } }
                done.wait()
                _ = try BlockingClient(endpoint: bus.ipc("requests")).call("ping", Nothing(), timeout: .seconds(5))
                let took = Clock.boottime() - asked
                slowest.change { $0 = max($0, took) }
            }
        }
        #expect(slowest.now < .milliseconds(900))
        await server.close()
    }

    /// In a process of its own: whoever stands in does so for ever.
    @Test func oneThreadStandsInUntilItHasToBlock() async {
        await #expect(processExitsWith: .success) {
            var ends: [Int32] = [0, 0]
            guard pipe(&ends) == 0 else { exit(1) }
            let (reading, writing) = (ends[0], ends[1])
            let heard = Box<[String]>([])
            let hasWork = Box(false)
            let gate = DispatchSemaphore(value: 0)
            await ReactorActor.run {
                _ = Reactor.shared.watch(fileDescriptor: reading, events: Int16(POLLIN)) { _ in
                    var byte: UInt8 = 0
                    guard read(reading, &byte, 1) == 1 else { return }
                    let line = "\(UnicodeScalar(byte)) \(threadName())"
                    heard.change { $0.append(line) }
                    if byte == UInt8(ascii: "b") { hasWork.change { $0 = true } }
                }
            }
            Thread.detachNewThread {
                pthread_setname_np(pthread_self(), "stand-in")
                Reactor.shared.standIn {
                    guard hasWork.now else { return nil }
                    return {
                        hasWork.change { $0 = false }
                        gate.wait()
                    }
                }
            }
            // From when it does.
            await eventually {
                heard.change { $0 = [] }
                _ = write(writing, "a", 1)
                await eventually { heard.now.count == 1 }
                return heard.now == ["a stand-in"]
            }
            _ = write(writing, "b", 1)
            await eventually { heard.now.count == 2 }
            _ = write(writing, "c", 1)
            await eventually { heard.now.count == 3 }
            gate.signal()
            await eventually {
                heard.change { $0 = Array($0.prefix(3)) }
                _ = write(writing, "d", 1)
                await eventually { heard.now.count == 4 }
                return heard.now == ["a stand-in", "b stand-in", "c reactor", "d stand-in"]
            }
            Reactor.shared.stop()
            exit(heard.now == ["a stand-in", "b stand-in", "c reactor", "d stand-in"] ? EXIT_SUCCESS : EXIT_FAILURE)
        }
    }

    /// In a process of its own, too.
    @Test func whoeverIsBusyHearsWhatAStandInWaitedFor() async {
        await #expect(processExitsWith: .success) {
            var ends: [Int32] = [0, 0]
            guard pipe(&ends) == 0 else { exit(1) }
            let (reading, writing) = (ends[0], ends[1])
            let heard = Box(0)
            await ReactorActor.run {
                _ = Reactor.shared.watch(fileDescriptor: reading, events: Int16(POLLIN)) { _ in
                    var byte: UInt8 = 0
                    if read(reading, &byte, 1) == 1 { heard.change { $0 += 1 } }
                }
            }
            Thread.detachNewThread { Reactor.shared.standIn { nil } }
            _ = write(writing, "a", 1)
            await eventually { heard.now == 1 }
            // There is always something to do from now on.
            @ReactorActor func goOn() { Reactor.shared.post { goOn() } }
            await ReactorActor.run { goOn() }
            for number in 2...20 {
                _ = write(writing, "a", 1)
                await eventually { heard.now == number }
            }
            exit(heard.now == 20 ? EXIT_SUCCESS : EXIT_FAILURE)
        }
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

private let answers = Box<RequestServer?>(nil)

private func threadName() -> String {
    var name = [CChar](repeating: 0, count: 16)
    pthread_getname_np(pthread_self(), &name, 16)
    return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

@ReactorActor final class Tally {
    private(set) var total = 0
    private(set) var elsewhere = 0
    private(set) var isInOrder = true
    private var last: [Int: Int] = [:]
    private var inside = false

    func count(_ thread: Int, _ number: Int) {
        if inside || last[thread, default: 0] + 1 != number { isInOrder = false }
        inside = true
        last[thread] = number
        total += 1
        if threadName() != "reactor" { elsewhere += 1 }
        inside = false
    }
}
