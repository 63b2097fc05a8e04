import Messages

/// The hardware watchdog of one machine: it counts in true time, whatever becomes of the machine, and resets it.
final class WatchdogDevice {
    private unowned(unsafe) let host: HostMachine
    /// Not fed in time it fires; it counts on when the process that opened it ends.
    private(set) var isCounting = false
    /// Another process has it open.
    var isBusy = false
    /// An earlier count says nothing any more.
    private var count = 0

    init(of host: HostMachine) { self.host = host }

    func feed(_ timeout: Duration? = nil) {
        isCounting = true
        count += 1
        let begun = count
        let world = host.world
        world.after(nanoseconds: (timeout ?? world.scenario.policy.watchdog).nanoseconds) { [self] in
            guard isCounting, count == begun, host.hasPower else { return }
            host.reset("its watchdog was not fed")
        }
    }

    func disarm() {
        isCounting = false
        count += 1
    }
}
