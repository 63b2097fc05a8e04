@testable import FencingEngine
import Messages
import Testing

@Suite struct AnswerTests {
    private let refused = RequestError(RequestErrorCode.forbidden, "not by you")
    private let silence = RequestError(RequestErrorCode.unknownOutcome, "no reply")

    @Test func aVoteIsYesNoOrUnknown() {
        let question = AcceptanceQuestion(caseID: "c", host: "host1", voter: "host2")
        func answer(_ result: Result<Int, RequestError>) -> AcceptanceAnswer { AcceptanceAnswer(question, result) }
        func expected(_ accepted: Bool?, _ detail: String) -> AcceptanceAnswer {
            AcceptanceAnswer(caseID: "c", host: "host1", voter: "host2", accepted: accepted, detail: detail)
        }
        #expect(answer(.success(1)) == expected(true, ""))
        #expect(answer(.failure(refused)) == expected(false, refused.description))
        #expect(answer(.failure(silence)) == expected(nil, silence.description))
    }

    @Test func sectorsAreTheSuspectsOfAllLockspaces() {
        let question = SectorQuestion(serial: 4, host: "host1", hostID: 1, reader: "host2")
        func slot(_ id: Int, _ state: LockspaceHostState, _ lastChange: Duration?) -> LockspaceHost {
            LockspaceHost(hostID: id, name: "host\(id)", generation: UInt64(id) * 10, timestamp: 5, ioTimeout: 2, state: state, lastChange: lastChange)
        }
        func space(_ name: String, _ hosts: [LockspaceHost]) -> LockspaceView {
            LockspaceView(lockspace: name, path: "/x", state: .joined, hostID: 2, generation: 1, hosts: hosts)
        }
        let list = LockspaceList(lockspaces: [
            space("a", [slot(1, .live, .seconds(3)), slot(2, .live, .zero)]), space("b", [slot(2, .live, .zero)]), space("c", [slot(1, .free, nil)]),
        ])
        func sector(_ space: String, held: Bool, _ lastChange: Duration?) -> Sector {
            Sector(lockspace: space, generation: 10, held: held, lastChange: lastChange, ioTimeout: 2)
        }
        func expected(_ sectors: [Sector]?) -> SectorAnswer { SectorAnswer(serial: 4, host: "host1", reader: "host2", sectors: sectors) }
        #expect(SectorAnswer(question, .success(list)) == expected([sector("a", held: true, .seconds(3)), sector("c", held: false, nil)]))
        #expect(SectorAnswer(question, .success(LockspaceList(lockspaces: []))) == expected([]))
        #expect(SectorAnswer(question, .failure(refused)) == expected(nil))
    }
}

/// Whose word counts, and how long the silence of a host is borne.
@Suite struct LivenessMonitorTests {
    private func at(_ seconds: Int64) -> Instant { Instant(nanoseconds: seconds * 1_000_000_000) }

    private func beat(_ host: String, _ sequence: UInt64 = 1) -> AgentHeartbeat {
        AgentHeartbeat(
            host: host, hostID: 1, bootID: "a", hardwareID: "x", sequence: sequence, initializing: false, watchdogArmed: false, lockspaces: [], unreapedGuards: [],
            memoryFreeMiB: 100)
    }

    private func monitor() -> LivenessMonitor {
        var monitor = LivenessMonitor(policy: FencingPolicy(grace: .seconds(10), graceSPM: .seconds(20), gracePerVM: .milliseconds(500)))
        for host in ["host1", "host2"] { _ = monitor.watch(HostWatch(host: host, events: "e", key: nil, deadBoots: [], connection: 1), at: at(0)) }
        return monitor
    }

    private func vms(_ host: String, running: Int, stopped: Int) -> AgentVMs {
        let states = Array(repeating: RunState.running, count: running) + Array(repeating: .stopped, count: stopped)
        return AgentVMs(
            host: host, bootID: "a", complete: true,
            vms: states.enumerated().map { VMObservation(vm: "vm\($0.offset)", attempt: 1, state: $0.element, evidence: "") })
    }

    /// Seconds until each host is told to be silent, after a heartbeat at 0.
    private func silences(_ monitor: inout LivenessMonitor) -> [String: Int64] {
        for host in ["host1", "host2"] { _ = monitor.onHeartbeat(beat(host), of: host, at: at(0)) }
        var told: [String: Int64] = [:]
        while let wake = monitor.nextWake, wake < at(100) {
            for case .silent(let silence) in monitor.onWake(at: wake) { told[silence.host] = wake.nanoseconds / 1_000_000_000 }
        }
        return told
    }

    @Test func aHeartbeatCountsForItsOwnHostOnly() {
        var monitor = monitor()
        #expect(monitor.onHeartbeat(beat("host10"), of: "host1", at: at(1)).isEmpty)
        #expect(monitor.onHeartbeat(beat("host3"), of: "host3", at: at(1)).isEmpty)
        #expect(monitor.onHeartbeat(beat("host1"), of: "host1", at: at(1)).count == 1)
    }

    @Test func guestsAndTheSPMRoleAreGivenTime() {
        var monitor = monitor()
        monitor.onVMs(vms("host1", running: 4, stopped: 5), of: "host1")
        monitor.onVMs(vms("host20", running: 40, stopped: 0), of: "host2")
        #expect(silences(&monitor) == ["host1": 12, "host2": 10])
    }

    @Test func theSPMRoleMoves() {
        func pool(_ spm: String?) -> PoolView {
            PoolView(pool: "p", master: "m", status: .up, spm: spm, incarnation: nil, term: 1, lver: 1, reason: "")
        }
        var monitor = monitor()
        monitor.onVMs(vms("host2", running: 2, stopped: 0), of: "host2")
        monitor.onPool(pool("host1"))
        monitor.onPool(pool("host2"))
        #expect(silences(&monitor) == ["host1": 10, "host2": 31])
        var unreadable = self.monitor()
        unreadable.onPool(pool("host1"))
        unreadable.onPool(nil)
        #expect(silences(&unreadable) == ["host1": 10, "host2": 10])
    }
}
