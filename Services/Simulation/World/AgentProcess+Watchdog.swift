import HostAgentEngine
import LeaseEngine
import Messages

/// The pure ``Watchdog`` on a simulated device: what `WatchdogKeeper` does.
extension AgentProcess {
    func startWatchdog() {
        watchdog = host.definition.watchdog ? Watchdog(timeout: world.scenario.policy.watchdog) : nil
        watchdogHasLooked = false
        feedWatchdog(.begin(isCounting: host.watchdog.isCounting))
    }

    func feedWatchdog(_ input: Watchdog.Input) {
        guard watchdog != nil else { return }
        if !watchdogHasLooked, !engine.isInitializing {
            watchdogHasLooked = true
            feedWatchdog(.looked)
        }
        for step in watchdog?.handle(input, at: clock) ?? [] { carryOut(step) }
        guard let wake = watchdog?.nextWake else { return }
        watchdogTimer += 1
        let armed = watchdogTimer
        after(max(.milliseconds(1), wake - clock)) { [self] in
            guard watchdogTimer == armed else { return }
            hearGuards()
            feedWatchdog(.wake)
        }
    }

    /// Guards are asked every two seconds; here their answers come when they are looked at.
    private func hearGuards() {
        for (holder, status) in answers { feedWatchdog(.said(holder, status)) }
    }

    private func carryOut(_ step: Watchdog.Step) {
        let device = host.watchdog
        switch step {
        case .open(let timeout, let notAfter):
            after(Duration(nanoseconds: world.random.between(100_000, 5_000_000))) { [self] in
                guard !device.isBusy, clock <= notAfter else { return feedWatchdog(.openFailed("device or resource busy")) }
                world.tell(name, "opens its watchdog")
                host.watchdogIsReleased = false
                device.feed()
                feedWatchdog(.opened(Watchdog.Device(identity: "simulated", timeout: timeout, outlivesProcess: true, canDisarm: true), at: clock))
            }
        case .feed(let notAfter):
            after(Duration(nanoseconds: world.random.between(50_000, 1_000_000))) { [self] in
                let isInTime = clock <= notAfter
                if isInTime { device.feed() }
                feedWatchdog(.fed(failure: nil, at: isInTime ? clock : nil))
            }
        case .close:
            after(Duration(nanoseconds: world.random.between(50_000, 1_000_000))) { [self] in
                world.tell(name, "disarms its watchdog")
                device.disarm()
                feedWatchdog(.closed(failure: nil))
            }
        case .shorten: device.feed(.seconds(1))
        case .report(let report):
            ask(host.leases, timeout: .seconds(2), { .watchdog($0, report) }) { [self] in feedWatchdog(.answered(armed: report.armed, $0.error)) }
        case .covers(let covers, let why): submit(.watchdog(covers: covers, why: why))
        case .problem(let problem): if let problem { world.tell(name, "watchdog", problem) }
        }
    }
}
