import FencingEngine
import Messages

/// The power switch of one host, with its faults. It has power of its own.
final class BMC {
    unowned(unsafe) let world: World
    /// The chassis it is wired to.
    unowned(unsafe) let chassis: HostMachine
    let guid: String?
    let part: Part
    var fault = BMCFault.works
    /// Counts commands for people and expectations.
    private(set) var commands: [FenceAction] = []

    /// What of the chassis it switches.
    enum Part: String {
        case bmc
        /// One of two; either keeps the machine running.
        case firstSupply, secondSupply = "supply"
        /// Between the wall and the machine.
        case outlet
    }

    init(of chassis: HostMachine, guid: String?, _ part: Part = .bmc, world: World) {
        self.part = part
        self.chassis = chassis
        self.guid = guid
        self.world = world
    }

    /// What it tells of itself.
    var identity: FenceIdentity {
        if fault == .isDead || fault == .hangs { return FenceIdentity(guid: nil, unsupported: false, detail: "no answer") }
        return FenceIdentity(guid: guid, unsupported: guid == nil, detail: "")
    }

    /// How long that takes.
    var identityTakes: Duration { fault == .tellsLate ? .seconds(20) : .milliseconds(100) }

    private var takes: Int64 { world.random.between(world.scenario.pace.bmc.nanoseconds / 2, world.scenario.pace.bmc.nanoseconds * 2) }

    /// Does what a fence agent asks. `done` is not called if nothing ever answers.
    func run(_ action: FenceAction, _ done: @escaping (FenceOutcome) -> Void) {
        if action != .status { commands.append(action) }
        switch fault {
        case .isDead:
            world.after(nanoseconds: takes) { done(.failed("connection refused")) }
        case .hangs:
            // It may have understood all the same.
            if action != .status, world.random.chance(0.3) { act(action, after: world.random.between(0, 60_000_000_000)) }
        case .refuses where action != .status:
            world.after(nanoseconds: takes) { done(.failed("insufficient privilege level")) }
        case .saysOn:
            world.after(nanoseconds: takes) { done(.succeeded) }
        case .saysOff:
            world.after(nanoseconds: takes) { done(action == .status ? .readsOff : .succeeded) }
        case .actsLate where action != .status:
            act(action, after: world.random.between(5_000_000_000, 60_000_000_000))
            world.after(nanoseconds: takes) { done(.succeeded) }
        case .works, .refuses, .actsLate, .tellsLate:
            world.after(nanoseconds: takes) { [self] in
                if action == .status { return done(chassis.has(part) ? .succeeded : .readsOff) }
                act(action, after: 0)
                done(.succeeded)
            }
        }
    }

    /// A broken answer is a fault that goes away; what was acknowledged comes.
    private func act(_ action: FenceAction, after delay: Int64) {
        world.after(nanoseconds: delay) { [self] in
            switch action {
            case .off: chassis.switchOff(part)
            case .on: chassis.switchOn(part)
            case .status: break
            }
        }
    }
}
