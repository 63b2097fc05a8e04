import FencingEngine
import Messages
import Testing

private func beat(_ boot: String, _ sequence: UInt64, of life: Double? = nil, free: Int = 100, hardware: String = "x", leaving: AgentHeartbeat.Leaving? = nil) -> AgentHeartbeat {
    AgentHeartbeat(
        host: "h", hostID: 1, bootID: boot, hardwareID: hardware, sequence: sequence, startedAt: life.map(at), initializing: false, watchdogArmed: false, lockspaces: [],
        unreapedGuards: [], memoryFreeMiB: free, leaving: leaving)
}

private func at(_ seconds: Double) -> Instant { Instant(nanoseconds: Int64(seconds * 1e9)) }

@Suite struct HostLivenessTests {
    /// Wakes it as it asks; what it told, with the second.
    private func silentFor(_ liveness: inout HostLiveness, from: Double, to: Double) -> [(Double, FencingInput)] {
        var told: [(Double, FencingInput)] = []
        while let wake = liveness.nextWake, wake <= at(to) {
            for input in liveness.onWake(at: wake) { told.append((Double(wake.nanoseconds) / 1e9, input)) }
        }
        return told
    }

    /// A goodbye is not taken back by what was said before it, and comes late; a new life of the agent begins to count anew.
    @Test func whatWasSentBeforeIsOnlyASignOfLife() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(30)), deadBoots: [], startedAt: at(0))
        #expect(liveness.onHeartbeat(beat("a", 7, of: 1), at: at(1)).count == 1)
        #expect(liveness.onHeartbeat(beat("a", 9, of: 1, leaving: .over), at: at(3)).count == 1)
        #expect(liveness.onHeartbeat(beat("a", 8, of: 1, leaving: .ending), at: at(20)).isEmpty)
        #expect(silentFor(&liveness, from: 20, to: 100).map(\.0) == [22, 50], "it is a sign of life")
        let again = liveness.onHeartbeat(beat("a", 8, of: 1, leaving: .ending), at: at(60))
        #expect(again.count == 1 && again.allSatisfy { if case .heard(let told) = $0 { told.leaving == .over } else { false } })
        #expect(liveness.onHeartbeat(beat("a", 1, of: 90), at: at(91)).count == 1)
        #expect(liveness.onHeartbeat(beat("a", 10, of: 1), at: at(92)).isEmpty)
        #expect(liveness.onHeartbeat(beat("b", 1, of: 5), at: at(93)).count == 1, "another boot has another clock")
    }

    @Test func missingThenSilentAtTheGrace() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(30)), deadBoots: [], startedAt: at(0))
        #expect(liveness.onHeartbeat(beat("a", 1), at: at(1)).count == 1)
        #expect(liveness.onHeartbeat(beat("a", 2), at: at(2)).isEmpty)
        let told = silentFor(&liveness, from: 2, to: 100)
        #expect(told.map(\.0) == [4, 32])
        #expect(liveness.state == .nonResponsive)
        #expect(liveness.onHeartbeat(beat("a", 3), at: at(50)).count == 1)
    }

    @Test func aRestartedListenerForgivesAFullGrace() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(30)), deadBoots: [], startedAt: at(100))
        #expect(silentFor(&liveness, from: 100, to: 200).map(\.0) == [102, 130])
    }

    @Test func aStoppedListenerDoesNotCountItsOwnPause() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(5)), deadBoots: [], startedAt: at(0))
        _ = liveness.onHeartbeat(beat("a", 1), at: at(1))
        #expect(liveness.onWake(at: at(60)).allSatisfy { if case .silent = $0 { false } else { true } })
        #expect(liveness.onHeartbeat(beat("a", 2), at: at(60.1)).count <= 1)
        #expect(liveness.state == .up)
    }

    /// However much it moves; what is told is the newest.
    @Test func freeMemoryAloneIsToldOncePerTenIntervals() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(), deadBoots: [], startedAt: at(0))
        var told: [UInt64] = []
        for n: UInt64 in 1...40 where !liveness.onHeartbeat(beat("a", n, free: n % 2 == 0 ? Int.max : Int.min), at: at(Double(n))).isEmpty { told.append(n) }
        #expect(told == [1, 12, 23, 34])
        #expect(liveness.onHeartbeat(beat("a", 41, free: Int.max - 60), at: at(50)).isEmpty)
    }

    /// S14: told at once and once per grace, and no sign of the host's life; the host's own heartbeat is told again when the other has been gone for a grace.
    @Test func anotherMachineOfThatNameKeepsNobodyAlive() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(5)), deadBoots: [], startedAt: at(0))
        liveness.distrust([], otherThan: "x")
        var told: [Int] = []
        for second in 1...14 {
            if second <= 9, !liveness.onHeartbeat(beat("b", UInt64(second), hardware: "y"), at: at(Double(second))).isEmpty { told.append(-second) }
            if !liveness.onHeartbeat(beat("a", UInt64(second)), at: at(Double(second) + 0.1)).isEmpty { told.append(second) }
        }
        #expect(told == [-1, 1, -6, 14])
        for second in 15...18 { _ = liveness.onHeartbeat(beat("b", UInt64(second), hardware: "y"), at: at(Double(second))) }
        #expect(silentFor(&liveness, from: 18, to: 30).map { Int($0.0) } == [16, 19])
    }

    @Test func theSameBootIsTheSameMachineWhateverItCallsItsHardware() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(5)), deadBoots: [], startedAt: at(0))
        liveness.distrust([], otherThan: "x", bootID: "a")
        for second in 1...8 { #expect(liveness.onHeartbeat(beat("a", UInt64(second), hardware: "y"), at: at(Double(second))).count == (second == 1 ? 1 : 0)) }
        #expect(liveness.state == .up)
        for second in 9...20 { _ = liveness.onHeartbeat(beat("b", UInt64(second), hardware: "y"), at: at(Double(second))) }
        #expect(silentFor(&liveness, from: 8, to: 30).map { Int($0.0) } == [10, 13])
    }

    @Test func surchargesPutTheSilenceOff() {
        var liveness = HostLiveness(
            host: "h", policy: FencingPolicy(grace: .seconds(10), graceSPM: .seconds(20), gracePerVM: .milliseconds(500)), deadBoots: [], startedAt: at(0))
        _ = liveness.onHeartbeat(beat("a", 1), at: at(0))
        liveness.onLoad(vms: 10, isSPM: true)
        #expect(silentFor(&liveness, from: 0, to: 100).map(\.0) == [2, 35])
    }

    @Test func aDeadLifeIsToldOnlyAtALivingPace() {
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(5)), deadBoots: ["a"], startedAt: at(0))
        for n: UInt64 in 1...20 { #expect(liveness.onHeartbeat(beat("a", n), at: at(1 + Double(n) / 1000)).isEmpty) }
        #expect(liveness.state == .observing)
        #expect(liveness.onHeartbeat(beat("a", 21), at: at(2)).count == 1)
        #expect(liveness.onHeartbeat(beat("a", 22), at: at(3)).isEmpty)
    }

    /// Random walks against the promise itself: silence is told only after a grace without heartbeats, and once.
    @Test(arguments: 0..<100) func silenceIsToldOnceAndOnlyAfterTheGrace(seed: UInt64) {
        var random = SplitMix64(state: seed)
        var liveness = HostLiveness(host: "h", policy: FencingPolicy(grace: .seconds(5)), deadBoots: [], startedAt: at(0))
        var now = at(0), quietSince = at(0), told = false, sequence: UInt64 = 0
        for _ in 0..<400 {
            now = now + .milliseconds(Int64(random.next() % 1000))
            if random.next() % 6 == 0 {
                sequence += 1
                _ = liveness.onHeartbeat(beat("a", sequence), at: now)
                quietSince = now
                told = false
            } else {
                for case .silent(let silence) in liveness.onWake(at: now) {
                    #expect(!told && now - quietSince >= .seconds(5) && silence.quiet >= .seconds(5))
                    told = true
                }
            }
        }
    }
}

struct SplitMix64 {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
    mutating func below(_ n: UInt64) -> Int { Int(next() % n) }
}
