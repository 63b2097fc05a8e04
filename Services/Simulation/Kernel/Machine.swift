import Messages

/// One machine: its power, its clock and what runs on it.
///
/// | state | clock | processes |
/// |---|---|---|
/// | on | runs, with its drift | run |
/// | frozen | runs | none runs; what was due runs after the thaw, each process in an order that chance makes |
/// | suspended | stands still | as frozen; timers wait for the rest of their time afterwards |
/// | off | is gone | are gone |
///
/// One that has halted is frozen until it loses its power.
final class Machine {
    enum State { case off, on, frozen, suspended }

    let name: String
    /// Its place among the machines.
    let index: Int
    /// Unsafe, but never dangling: machines and processes act only while their world runs.
    unowned(unsafe) let world: World
    private(set) var state = State.off
    /// Counts boots; together with the name it makes the boot id.
    private(set) var boots = 0
    /// Parts per million that its clock is fast.
    let drift: Int64
    private(set) var processes: [Process] = []
    /// True time and local time when the clock last began to run.
    private var anchor: (world: Int64, local: Int64) = (0, 0)
    private var waiting: [() -> Void] = []
    /// It stands still for good: nothing but its power switch helps.
    private(set) var isHalted = false

    init(_ name: String, index: Int, drift: Int64, world: World) {
        self.name = name
        self.index = index
        self.drift = drift
        self.world = world
    }

    var bootID: String { "\(name)-boot\(boots)" }
    /// Whether that is the id of a boot of this machine.
    func hasBooted(_ bootID: String) -> Bool { bootID.hasPrefix("\(name)-boot") }
    /// Power is on, whatever runs.
    var isOn: Bool { state != .off }
    var isRunning: Bool { state == .on }

    /// CLOCK_BOOTTIME of this boot. A new boot begins at one second, not at zero.
    var clock: Instant {
        guard state != .suspended else { return Instant(nanoseconds: anchor.local) }
        let elapsed = world.now - anchor.world
        return Instant(nanoseconds: anchor.local + elapsed + elapsed / 1_000_000 * drift)
    }

    /// True nanoseconds that pass while this clock runs that far.
    private func trueTime(_ local: Int64) -> Int64 { local - local / 1_000_000 * drift }

    // MARK: Power

    func powerOn() {
        guard state == .off else { return }
        boots += 1
        state = .on
        anchor = (world.now, 1_000_000_000)
        waiting = []
        for process in processes where process.startsAtBoot { process.start() }
    }

    func powerOff() {
        guard state != .off else { return }
        state = .off
        isHalted = false
        waiting = []
        for process in processes { process.vanish() }
        processes.removeAll { !$0.startsAtBoot }
    }

    func freeze() { if state == .on { state = .frozen } }

    func halt() {
        guard state != .off else { return }
        state = .frozen
        isHalted = true
    }

    func suspend() {
        guard state == .on else { return }
        anchor = (world.now, clock.nanoseconds)
        state = .suspended
    }

    /// Runs again; what was due meanwhile happens now.
    func wake() {
        guard !isHalted, state == .frozen || state == .suspended else { return }
        if state == .suspended { anchor = (world.now, anchor.local) }
        state = .on
        var due = waiting
        waiting = []
        // Which process the kernel lets run first is chance.
        while !due.isEmpty, state == .on { due.remove(at: world.random.below(due.count))() }
        waiting += due
    }

    func dismantle() {
        waiting = []
        for process in processes { process.dismantle() }
    }

    // MARK: Work

    func add(_ process: Process) { processes.append(process) }
    func remove(_ process: Process) { processes.removeAll { $0 === process } }

    /// Runs work on this machine's processors once its clock has gone that far; never, if it is off by then.
    func after(_ delay: Duration, _ work: @escaping () -> Void) { schedule(delay) { .machine(self, $0, work) } }

    /// As ``after(_:_:)``, in a life of a process.
    func after(_ delay: Duration, in process: Process, _ work: @escaping () -> Void) {
        let life = process.life
        schedule(delay) { .process(process, life: life, $0, work) }
    }

    /// By the clock of a boot.
    struct Due {
        var local: Int64
        var boot: Int
    }

    private func schedule(_ delay: Duration, _ work: (Due) -> EventQueue.Work) {
        let delay = max(0, delay.nanoseconds)
        world.after(nanoseconds: trueTime(delay), work(Due(local: clock.nanoseconds + delay, boot: boots)))
    }

    /// What was to be done then.
    func fire(_ due: Due, _ work: EventQueue.Work) {
        guard boots == due.boot else { return }
        switch state {
        case .off: return
        case .frozen, .suspended: waiting.append { [self] in fire(due, work) }
        case .on:
            let rest = due.local - clock.nanoseconds
            // The clock stood still meanwhile; differences of rounding are none.
            guard rest <= 1000 else { return world.after(nanoseconds: trueTime(rest), work) }
            switch work {
            case .anybody(let work), .machine(_, _, let work): work()
            case .process(let process, let life, _, let work): process.run(life, work)
            }
        }
    }
}
