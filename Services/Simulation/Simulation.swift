import DomainMonitorEngine
import FencingEngine
import Invariants
import Messages
import PlacementEngine

/// Runs scenarios.
public enum Simulation {
    /// One run, always the same for the same scenario.
    ///
    /// - Parameter verbose: whether the timeline is kept.
    public static func run(_ scenario: Scenario, verbose: Bool = false) -> Outcome { Performance(scenario, verbose).outcome() }
}

/// One run of one scenario: bring-up in peace, the scenario, and for random ones the mending and the wait for everything to be well again.
private final class Performance {
    private let scenario: Scenario
    private let world: World
    private var unmet: [String] = []

    init(_ scenario: Scenario, _ verbose: Bool) {
        self.scenario = scenario
        world = World(scenario, isVerbose: verbose)
    }

    func outcome() -> Outcome {
        let isUp = bringUp()
        world.readyAt = world.now
        world.backup = ManagerBackup(of: world.managers)
        if isUp {
            play()
        } else {
            unmet.append("the cluster did not come up")
        }
        let ready = Duration(nanoseconds: world.readyAt ?? 0)
        let timeline = world.timeline.map { TimelineLine(at: $0.at - ready, who: $0.who, what: $0.what, why: $0.why) }
        var statistics = world.statistics
        statistics.simulated = Duration(nanoseconds: world.now)
        let outcome = Outcome(
            timeline: timeline, violations: world.violations, unmet: unmet, hash: world.hash, statistics: statistics, observed: world.observer.observed)
        world.dismantle()
        return outcome
    }

    // MARK: Bring-up

    private func wait(_ limit: Duration, until isDone: () -> Bool) -> Bool {
        let end = world.now + limit.nanoseconds
        while world.now < end, !isDone() { world.run(until: min(end, world.now + 250_000_000)) }
        return isDone()
    }

    private func each<T>(_ items: [T], _ act: (T, @escaping (Bool) -> Void) -> Void) -> Bool {
        items.allSatisfy { item in
            var answer: Bool?
            for _ in 0..<20 where answer != true {
                answer = nil
                act(item) { answer = $0 }
                _ = wait(.seconds(40)) { answer != nil }
                if answer != true { _ = wait(.seconds(2)) { false } }
            }
            return answer == true
        }
    }

    private func bringUp() -> Bool {
        world.manager.powerOn()
        for host in world.hosts { host.getPower("bring-up") }
        guard each(world.hosts, { world.op.addHost($0, $1) }) else { return false }
        guard wait(.seconds(300), until: { self.allHosts(are: .up) }) else { return false }
        guard each(scenario.domains, { world.op.createDomain($0, $1) }), wait(.seconds(300), until: { self.allDomainsActive && self.allJoined }) else { return false }
        guard each([()], { world.op.createPool($1) }), wait(.seconds(120), until: { self.world.observer.observed.spm != nil }) else { return false }
        guard each(scenario.resources, { resource, done in world.op.createLease(resource) { done($0 == nil) } }) else { return false }
        guard each(scenario.vms, { vm, done in world.op.define(vm) { done($0 == nil || $0?.code == PlacementErrorCode.exists.rawValue) } }) else { return false }
        guard wait(.seconds(1200), until: { self.world.placement.engine.list.vms.allSatisfy { $0.status != .locked } }) else { return false }
        let started = scenario.vms.filter(\.started)
        guard each(started, { vm, done in world.op.start(vm.name, on: vm.host) { done($0 == nil) } }) else { return false }
        return wait(.seconds(300)) { started.allSatisfy { vm in self.world.observer.observed.vms[vm.name]?.status == .up } } && wait(.seconds(300)) { self.allHosts(are: .up) }
    }

    private func allHosts(are status: HostStatus) -> Bool {
        let views = world.fencing.engine.hostViews
        return views.count == world.hosts.count && views.allSatisfy { $0.status == status }
    }

    private var allDomainsActive: Bool { world.monitor.engine.views.count == scenario.domains.count && world.monitor.engine.views.allSatisfy { $0.status == .active } }

    private var allJoined: Bool {
        world.fencing.engine.hostViews.allSatisfy { view in scenario.domains.allSatisfy { view.generations[world.domainUUID($0)] != nil } }
    }

    // MARK: The scenario

    private func play() {
        let start = world.now
        world.chaos = scenario.chaos
        for check in scenario.expect { if let at = check.at { world.at(start + at.nanoseconds) { [self] in look(check) } } }
        for moment in scenario.timeline { world.at(start + moment.at.nanoseconds) { [world] in world.happen(moment.what) } }
        killAtRandom()
        world.run(until: start + scenario.end.nanoseconds)
        for check in scenario.expect where check.at == nil { look(check) }
        world.observer.checkPromises()
        if scenario.recovers { recover() }
    }

    /// Liveness: once nothing is broken any more, all is well again by a computed time.
    private func recover() {
        world.mendEverything()
        world.tell("scenario", "everything is mended")
        _ = wait(.seconds(30)) { false }
        world.observer.checkPromises()
        let end = world.now + world.recoveryBound.nanoseconds
        var cleaned: Int64 = 0
        while world.now < end {
            // A person looks again now and then.
            if cleaned == 0 || world.now - cleaned > 60_000_000_000 {
                cleaned = world.now
                world.operatorCleansUp()
            }
            world.run(until: world.now + 1_000_000_000)
            if world.shortcomings.isEmpty { return }
        }
        for shortcoming in world.shortcomings { world.violate(.liveness, "\(shortcoming), \(world.recoveryBound.nanoseconds / 1_000_000_000) s after everything was mended") }
    }

    private func look(_ check: Scenario.Check) {
        guard let why = check.unmet(in: world.observer.observed) else { return }
        world.tell("scenario", why)
        unmet.append(why)
    }

    /// Every process may die once in a while: at once, or at one of its next steps.
    private func killAtRandom() {
        let rate = scenario.chaos.kill
        guard rate > 0 else { return }
        world.after(nanoseconds: 60_000_000_000) { [self] in
            guard world.chaos.kill > 0 else { return }
            for process in world.hosts.flatMap(\.machine.processes) + world.manager.processes + world.secondMachine.processes where !(process is OperatorProcess) && world.random.chance(rate) {
                world.after(nanoseconds: world.random.between(0, 60_000_000_000)) { [world] in
                    guard process.isAlive else { return }
                    if world.random.chance(0.4) { process.kill() } else { process.stepsToLive = 1 + world.random.below(12) }
                }
            }
            killAtRandom()
        }
    }
}
