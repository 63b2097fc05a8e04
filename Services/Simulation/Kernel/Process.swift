import Messages

/// One process of a machine: it lives, is frozen or killed, and a supervisor starts it again.
///
/// Subclasses override ``begin()`` and ``end()``.
class Process {
    let name: String
    /// Unsafe, but never dangling: see ``Machine/world``.
    unowned(unsafe) let machine: Machine
    unowned(unsafe) let world: World
    /// Services come back with their machine; guards don't.
    let startsAtBoot: Bool
    private(set) var isAlive = false
    private(set) var isFrozen = false
    /// Somebody wants it dead: the supervisor leaves it alone.
    var isHeldDown = false
    /// A kill that is under way strikes after so many further steps: before or after a journal write, between two effects.
    var stepsToLive: Int?
    /// Counts lives: what belongs to an earlier one never happens.
    private(set) var life = 0
    private var waiting: [() -> Void] = []

    init(_ name: String, on machine: Machine, startsAtBoot: Bool = true) {
        self.name = name
        self.machine = machine
        world = machine.world
        self.startsAtBoot = startsAtBoot
        machine.add(self)
    }

    var isRunning: Bool { isAlive && !isFrozen && machine.isRunning }
    var clock: Instant { machine.clock }

    func start() {
        guard machine.isOn, !isAlive, !isHeldDown else { return }
        isAlive = true
        isFrozen = false
        life += 1
        waiting = []
        begin()
    }

    /// kill -9. The supervisor starts services again.
    func kill() {
        guard isAlive else { return }
        vanish()
        guard startsAtBoot else { return machine.remove(self) }
        let pause = world.scenario.pace.supervisor.nanoseconds
        machine.after(Duration(nanoseconds: world.random.between(pause / 4, pause * 2))) { [weak self] in self?.start() }
    }

    /// It is gone, whatever the reason.
    func vanish() {
        guard isAlive else { return }
        isAlive = false
        isFrozen = false
        life += 1
        waiting = []
        stepsToLive = nil
        end()
    }

    func freeze() { if isAlive { isFrozen = true } }

    func unfreeze() {
        guard isFrozen else { return }
        isFrozen = false
        let due = waiting
        waiting = []
        for work in due { work() }
    }

    /// Does something in this life, once its machine's clock has gone that far; while it is frozen that waits.
    func after(_ delay: Duration, _ work: @escaping () -> Void) { machine.after(delay, in: self, work) }

    /// Does something now, as one who comes from outside: never in another life, later if frozen.
    func run(_ life: Int, _ work: @escaping () -> Void) {
        guard self.life == life, isAlive else { return }
        if isFrozen { waiting.append(work) } else { work() }
    }

    /// The world is over: lets go of all that may hold this process.
    func dismantle() { waiting = [] }

    func begin() {}
    func end() {}
}
