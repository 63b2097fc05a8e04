import LeaseEngine
import Messages
import Testing

@Suite("Order of lease I/O")
struct LaneOrderTests {
    private var order = LaneOrder()
    private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

    private mutating func submit(_ token: IOToken, lane: String = "a", timeout: Int64 = 100, at time: Int64 = 0) -> [LaneOrder.Step] {
        order.submit(lane: lane, token: token, timeout: .milliseconds(timeout), at: at(time))
    }

    @Test mutating func firstComeFirstServed() {
        #expect(submit(1) == [.start(1, lane: "a"), .call(1)])
        #expect(submit(2) == [])
        #expect(submit(3, lane: "b") == [.start(2, lane: "b"), .call(2)])
        #expect(order.nextWake == nil, "the timeout counts from the beginning")
        #expect(order.take(1, at: at(5)) == 1)
        #expect(order.take(1, at: at(5)) == nil)
        #expect(order.nextWake == at(105))
        #expect(order.finish(1) == [.completed(1), .call(1)])
        #expect(order.take(1, at: at(6)) == 2)
        #expect(order.finish(1) == [.completed(2)])
        #expect(submit(4) == [.call(1)])
        #expect(order.take(2, at: at(7)) == 3)
    }

    @Test mutating func lateWorkIsAbandonedWithItsThread() {
        _ = submit(1)
        _ = submit(2)
        _ = order.take(1, at: at(0))
        #expect(order.wake(at: at(99)) == [])
        #expect(order.wake(at: at(100)) == [.timedOut(1), .start(2, lane: "a"), .call(2)])
        #expect(!order.owns(1) && order.owns(2))
        #expect(order.take(1, at: at(100)) == nil)
        #expect(order.take(2, at: at(101)) == 2)
        #expect(order.finish(1) == [.landed(1)])
        #expect(order.finish(2) == [.completed(2)])
    }

    @Test mutating func workOfSeveralIOsIsTimedAnewAtEach() {
        _ = submit(1)
        _ = order.take(1, at: at(0))
        let mayGoOn = order.goOn(1, at: at(90))
        #expect(mayGoOn)
        #expect(order.wake(at: at(150)) == [] && order.nextWake == at(190))
        #expect(order.wake(at: at(190)) == [.timedOut(1), .start(2, lane: "a")])
        let mayStillGoOn = order.goOn(1, at: at(191))
        #expect(!mayStillGoOn, "what was reported as timed out does not go on")
        #expect(order.finish(1) == [.landed(1)])
    }

    @Test mutating func aLaneLosesAFewThreadsOnly() {
        for token in 1...6 as ClosedRange<IOToken> { _ = submit(token) }
        for seat in 1...4 as ClosedRange<LaneOrder.Seat> {
            #expect(order.take(seat, at: at(0)) == seat)
            #expect(order.wake(at: at(100)).first == .timedOut(seat))
        }
        #expect(submit(7, timeout: 300, at: 100) == [], "it waits for a thread")
        #expect(order.nextWake == at(200))
        #expect(order.wake(at: at(200)) == [.timedOut(5), .landed(5), .timedOut(6), .landed(6)])
        #expect(order.finish(3) == [.landed(3), .start(5, lane: "a"), .call(5)])
        #expect(order.nextWake == nil)
        #expect(order.take(5, at: at(900)) == 7)
        #expect(order.finish(1) == [.landed(1)])
        #expect(order.finish(5) == [.completed(7)])
    }

    @Test func aWriteIsNotBegunOnceItsTimeHasPassed() {
        let write = VolumeOperation.write(path: "ids", offset: 0, bytes: [], notAfter: at(10), create: false)
        #expect(write.mayBegin(at: at(9)) && !write.mayBegin(at: at(10)))
        #expect(VolumeOperation.read(path: "ids", offset: 0, length: 512).mayBegin(at: at(10)))
    }

    /// Every work completes, or times out and then lands, once each; work of a lane begins in order, one at a time but for what was abandoned; no lane has more threads than it may.
    @Test(arguments: 0..<200 as Range<UInt64>) mutating func everyWorkEndsOnce(seed: UInt64) {
        var random = SplitMix64(state: seed)
        var time: Int64 = 0
        var called: Set<LaneOrder.Seat> = []
        var working: [LaneOrder.Seat: IOToken] = [:]
        var laneOf: [LaneOrder.Seat: String] = [:]
        var lane: [IOToken: String] = [:]
        var fates: [IOToken: [String]] = [:]
        var lastBegun: [String: IOToken] = [:]

        func follow(_ steps: [LaneOrder.Step]) {
            for step in steps {
                switch step {
                case .start(let seat, let name):
                    #expect(laneOf.updateValue(name, forKey: seat) == nil)
                    #expect(laneOf.values.count { $0 == name } <= LaneOrder.limit + 1)
                case .call(let seat):
                    #expect(working[seat] == nil && called.insert(seat).inserted)
                case .completed(let token): fates[token, default: []].append("completed")
                case .timedOut(let token): fates[token, default: []].append("timed out")
                case .landed(let token): fates[token, default: []].append("landed")
                }
            }
        }
        func take(_ seat: LaneOrder.Seat) {
            called.remove(seat)
            guard let token = order.take(seat, at: at(time)), let name = laneOf[seat] else { return #expect(Bool(false), "called for nothing") }
            #expect(lane[token] == name && lastBegun[name] ?? 0 < token)
            #expect(!working.contains { laneOf[$0.key] == name && order.owns($0.key) }, "two at a time in \(name)")
            lastBegun[name] = token
            working[seat] = token
        }
        func finish(_ seat: LaneOrder.Seat) {
            working[seat] = nil
            let owned = order.owns(seat)
            follow(order.finish(seat))
            #expect(order.owns(seat) == owned)
            if !owned { laneOf[seat] = nil }
        }
        for token in 1...150 as ClosedRange<IOToken> {
            let name = ["a", "b"][Int(random.next() % 2)]
            lane[token] = name
            follow(order.submit(lane: name, token: token, timeout: .milliseconds(Int64(random.next() % 100)), at: at(time)))
            for _ in 0..<random.next() % 4 {
                switch random.next() % 4 {
                case 0: if let seat = called.min() { take(seat) }
                case 1: if let seat = working.keys.sorted().last { finish(seat) }
                case 2: time += Int64(random.next() % 60)
                default: follow(order.wake(at: at(time)))
                }
            }
        }
        while let seat = called.min() ?? working.keys.min() {
            if called.contains(seat) { take(seat) } else { finish(seat) }
        }
        #expect(fates.count == 150)
        for (token, fate) in fates { #expect(fate == ["completed"] || fate == ["timed out", "landed"], "\(token): \(fate)") }
    }
}
