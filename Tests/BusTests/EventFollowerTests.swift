@testable import Bus
import Foundation
import Messages
import ServiceCore
import Testing

@Suite struct EventFollowerTests {
    private func event(_ seq: UInt64, _ type: String = "host.status", typeSeq: UInt64? = nil, epoch: String = "j.1") -> EventFollower<Int>.Received {
        let header = EventHeader(source: "s", epoch: epoch, seq: seq, typeSeq: typeSeq ?? seq, time: "", type: type)
        return .init(header: header, payload: 0)
    }

    /// `7` for the event of that number, `ask` for a question.
    private func words(_ steps: [EventFollower<Int>.Step]) -> [String] {
        steps.map { step in
            switch step {
            case .deliver(let event): "\(event.header.seq)"
            case .askSnapshot: "ask"
            }
        }
    }

    private func following(_ topics: [String], seq: UInt64 = 5, typeSeq: [String: UInt64] = ["host.status": 5]) -> EventFollower<Int> {
        var follower = EventFollower<Int>(topics: topics)
        #expect(follower.onSnapshot(.init(epoch: "j.1", seq: seq, typeSeq: typeSeq)).isEmpty)
        return follower
    }

    @Test func keepsWhatComesWhileJoiningAndDropsWhatTheSnapshotCovers() {
        var follower = EventFollower<Int>(topics: [""])
        for seq in 3...8 { #expect(follower.onEvent(event(UInt64(seq))).isEmpty) }
        #expect(words(follower.onSnapshot(.init(epoch: "j.1", seq: 5, typeSeq: [:]))) == ["6", "7", "8"])
        #expect(words(follower.onEvent(event(8))) == [])
        #expect(words(follower.onEvent(event(9))) == ["9"])
    }

    @Test func asksAtAGapAndTakesNothingUntilTheAnswer() {
        var follower = following([""])
        #expect(words(follower.onEvent(event(7))) == ["ask"])
        #expect(words(follower.onEvent(event(8))) == [])
        #expect(words(follower.onSnapshot(.init(epoch: "j.1", seq: 7, typeSeq: [:]))) == ["8"])
    }

    @Test func aGapIsSeenByTypeWhereTheTypeIsSubscribedWhole() {
        var whole = following(["host."])
        #expect(words(whole.onEvent(event(9, typeSeq: 6))) == ["9"])
        #expect(words(whole.onEvent(event(12, "host.proof", typeSeq: 1))) == ["12"])
        #expect(words(whole.onEvent(event(15, typeSeq: 8))) == ["ask"])
        var single = following(["host.status.h2"])
        #expect(words(single.onEvent(event(15, typeSeq: 9))) == ["15"])
        #expect(words(single.onEvent(event(14, typeSeq: 8))) == [])
    }

    @Test func lossAtTheTailIsSeenByTheAliveMessage() {
        var all = following([""])
        #expect(words(all.onAlive(ServiceAlive(seq: 5, typeSeq: ["host.status": 5]), epoch: "j.1")) == [])
        #expect(words(all.onAlive(ServiceAlive(seq: 6, typeSeq: ["vm.status": 1]), epoch: "j.1")) == ["ask"])
        #expect(words(all.onAlive(ServiceAlive(seq: 7, typeSeq: [:]), epoch: "j.1")) == [])
        var hosts = following(["host.status"])
        #expect(words(hosts.onAlive(ServiceAlive(seq: 99, typeSeq: ["host.status": 5, "vm.status": 94]), epoch: "j.1")) == [])
        #expect(words(hosts.onAlive(ServiceAlive(seq: 100, typeSeq: ["host.status": 6]), epoch: "j.1")) == ["ask"])
    }

    @Test func aNewEpochIsTakenAnewAndAnOldOneIgnored() {
        var follower = following([""])
        #expect(words(follower.onEvent(event(6, epoch: "j.0"))) == [])
        #expect(words(follower.onAlive(ServiceAlive(seq: 99, typeSeq: [:]), epoch: "j.0")) == [])
        #expect(words(follower.onEvent(event(1, epoch: "j.2"))) == ["ask"])
        #expect(words(follower.onEvent(event(2, epoch: "j.2"))) == [])
        #expect(words(follower.onSnapshot(.init(epoch: "j.2", seq: 1, typeSeq: [:]))) == ["2"])
        #expect(words(follower.onEvent(event(9, epoch: "j.1"))) == [])
        #expect(words(follower.onAlive(ServiceAlive(seq: 0, typeSeq: [:]), epoch: "other.1")) == ["ask"])
        #expect(EventPosition.isOlder("j.9", than: "j.10") && !EventPosition.isOlder("j.10", than: "j.9") && !EventPosition.isOlder("i.1", than: "j.2"))
    }

    @Test func aSnapshotOfALifeThatEndedMeanwhileIsTakenAgain() {
        var follower = EventFollower<Int>(topics: [""])
        _ = follower.onEvent(event(1, epoch: "j.2"))
        #expect(words(follower.onSnapshot(.init(epoch: "j.1", seq: 5, typeSeq: [:]))) == ["ask"])
        #expect(words(follower.onSnapshot(.init(epoch: "j.2", seq: 1, typeSeq: [:]))) == [])
        #expect(words(follower.onEvent(event(2, epoch: "j.2"))) == ["2"])
    }

    /// Against the promise itself: whatever is lost, doubled or restarted, what the subscriber holds (the snapshot plus what was delivered) is the publisher's
    /// state of the newest event it was shown, and it never misses more than a lost tail that no alive message has revealed yet.
    @Test(arguments: 0..<200) func theCopyIsAlwaysAStateThatThePublisherHad(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var follower = EventFollower<Int>(topics: [""])
        var life = 1
        var seq: UInt64 = 0
        var copy: (epoch: String, seq: UInt64)?
        var asked = true
        func take(_ steps: [EventFollower<Int>.Step]) {
            for step in steps {
                switch step {
                case .askSnapshot: asked = true
                case .deliver(let event):
                    #expect(copy?.epoch == event.header.epoch)
                    #expect(copy.map { $0.seq + 1 } == event.header.seq)
                    copy?.seq = event.header.seq
                }
            }
        }
        for _ in 0..<400 {
            switch random.next() % 10 {
            case 0 where random.next() % 5 == 0:
                life += 1
                seq = 0
            case 0...6:
                seq += 1
                let sent = event(seq, epoch: "j.\(life)")
                if random.next() % 8 != 0 { take(follower.onEvent(sent)) }
                if random.next() % 20 == 0 { take(follower.onEvent(sent)) }
            case 7...8 where asked:
                asked = false
                copy = ("j.\(life)", seq)
                take(follower.onSnapshot(.init(epoch: "j.\(life)", seq: seq, typeSeq: [:])))
            default: take(follower.onAlive(ServiceAlive(seq: seq, typeSeq: [:]), epoch: "j.\(life)"))
            }
        }
        // Quiet at last: one alive message and the snapshots it asks for bring the copy up to date.
        take(follower.onAlive(ServiceAlive(seq: seq, typeSeq: [:]), epoch: "j.\(life)"))
        while asked {
            asked = false
            copy = ("j.\(life)", seq)
            take(follower.onSnapshot(.init(epoch: "j.\(life)", seq: seq, typeSeq: [:])))
        }
        #expect(copy?.epoch == "j.\(life)" && copy?.seq == seq)
    }
}

@Test func requestIDsAreRandomUUIDs() {
    let ids = (0..<100).map { _ in RandomID.make() }
    #expect(Set(ids).count == 100)
    for id in ids {
        #expect(UUID(uuidString: id)?.uuidString.lowercased() == id)
        #expect(Array(id)[14] == "4" && "89ab".contains(Array(id)[19]))
    }
}
