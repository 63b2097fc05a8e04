import HostAgentEngine
import Messages

extension Scenario {
    /// In some clusters hosts check their toolstacks, which die, hang and break, often while a guest there is being stopped or started; in a few of them hosts are fenced for that.
    mutating func addToolstackTroubles() {
        var choice = Random(seed: ~seed &+ 7)
        guard choice.chance(0.25) else { return }
        policy.toolstack.every = .seconds(choice.pick([2, 10, 30]) ?? 10)
        policy.toolstack.restarts = choice.below(4)
        if choice.chance(0.3) { policy.fencing.toolstackLost = .milliseconds(choice.between(20_000, 300_000)) }
        var at = choice.between(10_000, 300_000)
        while at < end.milliseconds {
            let host = choice.chance(0.1) ? "all" : choice.pick(hosts)?.name ?? "host1"
            add(at, .toolstack(host: host, choice.pick([.dies, .dies, .hangs, .breaks]) ?? .dies))
            if choice.chance(0.5), let vm = choice.pick(vms)?.name {
                add(at + choice.between(-2_000, 3_000), .vmStop(vm: vm))
                add(at + choice.between(3_000, 60_000), .vmStart(vm: vm, host: nil))
            }
            if choice.chance(0.2), let name = choice.pick(hosts)?.name { add(at + choice.between(0, 30_000), .kill(.hostAgent(host: name))) }
            add(at + choice.between(5_000, 600_000), .toolstack(host: host, .works))
            at += choice.between(30_000, 900_000)
        }
        timeline = timeline.enumerated().sorted { ($0.element.at, $0.offset) < ($1.element.at, $1.offset) }.map(\.element)
    }

    private mutating func add(_ at: Int64, _ what: Happening) {
        guard at > 0, at < end.milliseconds else { return }
        timeline.append(Moment(at: .milliseconds(at), what))
    }
}
