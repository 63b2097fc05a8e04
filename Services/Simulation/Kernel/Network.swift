import Messages

/// What carries messages between machines. On one machine they arrive soon and in order; between two they take their time, get lost, doubled, late or
/// overtaken as the chaos of the scenario wants. A cut may be one-way: what is sent into it is lost, or waits in the sender's buffer until it is healed, as with TCP.
final class Network {
    private final class Link {
        var isCut = false
        var cutAt: Int64 = 0
        var lastArrival: Int64 = 0
        var held: [() -> Void] = []
    }

    /// How long the wires themselves may keep a message.
    private static let wireTime: Int64 = 200_000_000

    /// Unsafe, but never dangling: see ``Machine/world``.
    private unowned(unsafe) let world: World
    /// From each machine to each, by their places.
    private let links: [[Link]]

    init(world: World) {
        self.world = world
        let places = world.machines.indices
        links = places.map { _ in places.map { _ in Link() } }
    }

    func dismantle() { for link in links.joined() { link.held = [] } }

    private func link(_ from: String, _ to: String) -> Link {
        // A machine that there is not has a wire of its own.
        guard let from = world.machine(from), let to = world.machine(to) else { return Link() }
        return links[from.index][to.index]
    }

    func cut(_ from: String, _ to: String) {
        let link = link(from, to)
        if !link.isCut { link.cutAt = world.now }
        link.isCut = true
    }
    func isCut(_ from: String, _ to: String) -> Bool { link(from, to).isCut }

    func isCut(_ from: String, _ to: String, for nanoseconds: Int64) -> Bool { isCut(from, to) && world.now - link(from, to).cutAt >= nanoseconds }

    func heal(_ from: String, _ to: String) {
        let link = link(from, to)
        guard link.isCut else { return }
        link.isCut = false
        let held = link.held
        link.held = []
        for message in held { world.after(nanoseconds: world.random.between(1_000_000, 200_000_000), message) }
    }

    func healAll(_ machines: [String]) { for from in machines { for to in machines { heal(from, to) } } }

    /// Whether a machine reaches no other one.
    func isIsolated(_ machine: String, among machines: [String]) -> Bool {
        machines.allSatisfy { $0 == machine || isCut(machine, $0) || isCut($0, machine) }
    }

    /// Whether nothing has reached a machine for so long.
    func isDeaf(_ machine: String, for nanoseconds: Int64, among machines: [String]) -> Bool {
        machines.allSatisfy { $0 == machine || isCut($0, machine, for: nanoseconds) }
    }

    /// Sends a message to a process; `deliver` runs in whatever life the process then has. `lost` is told when it never will.
    func send(from sender: Machine, to receiver: Process, lost: (() -> Void)? = nil, _ deliver: @escaping () -> Void) {
        guard sender.isOn else { return }
        world.countMessage()
        let target = receiver.machine
        let link = links[sender.index][target.index]
        guard sender !== target else {
            link.lastArrival = max(world.now + world.random.between(20_000, 400_000), link.lastArrival + 1)
            return world.at(link.lastArrival) { Self.arrive(at: receiver, lost, deliver) }
        }
        let chaos = world.chaos
        guard !link.isCut else {
            guard link.held.count < 64, world.random.chance(0.5) else {
                lost?()
                return
            }
            let boot = sender.boots
            link.held.append { if sender.isOn, sender.boots == boot { Self.arrive(at: receiver, lost, deliver) } else { lost?() } }
            return
        }
        if world.random.chance(chaos.loss) {
            lost?()
            return
        }
        var arrival = world.now + world.random.between(100_000, max(200_000, world.scenario.pace.message.nanoseconds))
        if world.random.chance(chaos.delayed) { arrival += world.random.between(0, chaos.delay.nanoseconds) }
        if world.random.chance(chaos.delayed * 0.3) {
            arrival += world.random.between(0, 500_000_000)
        } else {
            arrival = max(arrival, link.lastArrival + 1)
            link.lastArrival = arrival
        }
        let sent = world.now
        let boot = sender.boots
        world.at(arrival) { [world] in
            // What is late is late because its sender has to send it again: a machine that is off does not.
            guard world.now - sent < Self.wireTime || (sender.isOn && sender.boots == boot) else {
                lost?()
                return
            }
            Self.arrive(at: receiver, lost, deliver)
        }
        if world.random.chance(chaos.duplicate) {
            world.at(arrival + world.random.between(0, 1_000_000_000)) { if sender.isOn, sender.boots == boot { Self.arrive(at: receiver, nil, deliver) } }
        }
    }

    private static func arrive(at receiver: Process, _ lost: (() -> Void)?, _ deliver: @escaping () -> Void) {
        guard receiver.isAlive, receiver.machine.isOn else {
            lost?()
            return
        }
        // A frozen machine's kernel takes what comes; it is read after the thaw.
        let life = receiver.life
        if receiver.machine.isRunning { receiver.run(life, deliver) } else { receiver.machine.after(.zero) { receiver.run(life, deliver) } }
    }
}
