import HostAgentEngine
import Invariants
import Messages

/// One host of the cluster: a machine with a chassis, locks, guards and guests.
final class HostMachine {
    let definition: Scenario.Host
    /// In every lockspace.
    let id: Int
    unowned(unsafe) let world: World
    let machine: Machine
    /// What it reads of itself in-band.
    let hardwareID: String
    let installation: Int
    /// Who connects to it knows it by this key.
    let key: String
    let signingKey: String
    /// It goes by the name of a host that there is.
    var isClone = false
    private(set) var hasPower = false
    private(set) lazy var agent = AgentProcess(on: self)
    private(set) lazy var leases = LeaseProcess(on: self)
    private(set) lazy var watchdog = WatchdogDevice(of: self)
    /// Its first fence device.
    /// fencing-service has ordered that it be disarmed, and it has not been opened since.
    var watchdogIsReleased = false
    private(set) lazy var bmc = BMC(of: self, guid: hardwareID, world: world)
    private(set) lazy var secondSupply = BMC(of: self, guid: nil, .secondSupply, world: world)
    private(set) lazy var outlet = BMC(of: self, guid: nil, .outlet, world: world)
    private var suppliesOff: Set<BMC.Part> = []
    private var outletIsOff = false
    /// Guards that live, in the order of their start.
    private(set) var guards: [GuardProcess] = []
    /// The SPM's worker.
    var worker: WorkerProcess?
    /// flock: who holds each lock file of this boot.
    private var locks: [String: Int] = [:]
    /// Results that guards have left, and specifications that were not called off; gone with the boot.
    var results: [Holder: GuardMessage] = [:]
    var specifications: Set<Holder> = []
    /// The hypervisor refuses so many starts.
    var startsToFail = 0
    var startsAreSlow = false
    var toolstack = ToolstackFault.works { didSet { if (oldValue == .works) != (toolstack == .works) { world.note(.toolstack(host: name, works: toolstack == .works)) } } }
    /// Programs that use leases without being guests, and those of them whose guard is gone before them.
    var users: [LeaseUser] = []
    var dying: [LeaseUser] = []
    var lastUser: UInt64 = 0
    private var powerCycle = 0
    private(set) var lastPID: Int32 = 1000

    /// - Parameters:
    ///   - machineName: of one that goes by another's name.
    ///   - installation: rises with each installation of a host of that name: keys are made anew.
    init(_ definition: Scenario.Host, id: Int, machineName: String? = nil, hardwareID: String? = nil, installation: Int = 1, world: World) {
        self.definition = definition
        self.id = id
        self.world = world
        self.hardwareID = hardwareID ?? "hardware-of-\(machineName ?? definition.name)"
        self.installation = installation
        key = installation == 1 ? "curve-\(definition.name)" : "curve-\(definition.name)-\(installation)"
        signingKey = Keys.of(host: definition.name, installation: installation)
        machine = Machine(machineName ?? definition.name, index: id, drift: Int64(definition.drift), world: world)
        _ = (leases, agent)
    }

    /// Its fence device, or the one that somebody took for it.
    func wire(to hosts: [HostMachine], at index: Int) {
        let next = hosts[(index + 1) % hosts.count]
        let part: BMC.Part = definition.hasTwoSupplies == true ? .firstSupply : .bmc
        bmc =
            switch definition.fence {
            case .verified, .none: BMC(of: self, guid: hardwareID, part, world: world)
            case .unverified, .vouched: BMC(of: self, guid: nil, part, world: world)
            case .wrongMachine: BMC(of: next, guid: next.hardwareID, world: world)
            case .wrongMachineUnverified: BMC(of: next, guid: nil, world: world)
            }
    }

    var name: String { definition.name }

    /// fencing-service can switch it off and on, and knows that.
    var hasOwnDevice: Bool { definition.fence == .verified || definition.fence == .vouched || (definition.fence != .none && definition.hasOutlet == true) }

    /// It has lost its power by itself, and nothing but its outlet, which is on, is known to be its own: nobody but a person at its button can switch it on.
    var isOffBehindItsOutlet: Bool { definition.fence == .wrongMachine && definition.hasOutlet == true && !outletIsOff && !hasPower }

    // MARK: Fence devices

    /// As its operator defines them.
    var fenceDevices: [FenceDevice] {
        if definition.fence == .none { return [] }
        let vouched: Bool? = definition.fence == .vouched ? true : nil
        func device(_ part: BMC.Part, _ level: Int? = nil) -> FenceDevice {
            FenceDevice(agent: "fence_redfish", address: "\(part.rawValue)-of-\(name)", level: level, vouched: part == .bmc ? vouched : true, via: definition.via, delay: part == .bmc ? definition.delay : nil)
        }
        return [device(.bmc)] + (definition.hasTwoSupplies == true ? [device(.secondSupply)] : []) + (definition.hasOutlet == true ? [device(.outlet, 2)] : [])
    }

    /// Its own or another host's, whichever is there.
    func device(at address: String) -> BMC {
        if !address.hasSuffix("-of-\(name)"), let other = world.hosts.first(where: { address.hasSuffix("-of-\($0.name)") }) { return other.device(at: address) }
        if address.hasPrefix(BMC.Part.secondSupply.rawValue) { return secondSupply }
        return address.hasPrefix(BMC.Part.outlet.rawValue) ? outlet : bmc
    }

    func mendDevices() {
        for device in [bmc, secondSupply, outlet] { device.fault = .works }
        suppliesOff = []
        outletIsOff = false
    }

    func has(_ part: BMC.Part) -> Bool {
        switch part {
        case .bmc: hasPower
        case .firstSupply, .secondSupply: hasPower && !suppliesOff.contains(part)
        case .outlet: !outletIsOff
        }
    }

    func switchOff(_ part: BMC.Part) {
        switch part {
        case .bmc: break
        case .firstSupply, .secondSupply:
            suppliesOff.insert(part)
            if suppliesOff.count < 2 { return }
        case .outlet: outletIsOff = true
        }
        losePower("its BMC switched it off")
    }

    func switchOn(_ part: BMC.Part) {
        suppliesOff.remove(part)
        if part == .outlet { outletIsOff = false }
        getPower("its BMC switched it on")
    }

    // MARK: Power

    /// A person who stands before it, and sees what else is switched off.
    func isSwitchedOnByHand(_ why: String) {
        suppliesOff = []
        outletIsOff = false
        getPower(why)
    }

    /// Without an outlet or a supply that is on there is none.
    func getPower(_ why: String) {
        guard !hasPower, !outletIsOff, suppliesOff.count < 2 else { return }
        hasPower = true
        powerCycle += 1
        let cycle = powerCycle
        world.tell(machine.name, "power on", why)
        world.after(nanoseconds: world.random.between(world.scenario.pace.boot.nanoseconds * 3 / 4, world.scenario.pace.boot.nanoseconds * 5 / 4)) { [self] in
            guard hasPower, powerCycle == cycle else { return }
            machine.powerOn()
        }
    }

    func losePower(_ why: String) {
        guard hasPower else { return }
        hasPower = false
        powerCycle += 1
        world.tell(machine.name, "power off", why)
        dieDown()
    }

    /// The kernel starts anew, without a goodbye.
    func reboot() {
        guard machine.isOn else { return }
        world.tell(name, "reboots")
        reset("reboot")
    }

    /// Its kernel crashes: what ran is gone, and its power stays on while another kernel writes a dump.
    func panic(dumpingFor time: Duration) {
        guard machine.isOn else { return }
        guard definition.kdump == true else { return reset("panic") }
        world.tell(name, "panics")
        powerCycle += 1
        let cycle = powerCycle
        dieDown()
        let boot = world.random.between(2_000_000_000, 15_000_000_000)
        world.after(nanoseconds: boot) { [self] in
            guard hasPower, powerCycle == cycle else { return }
            sendDumpMessages(for: time) { [self] in hasPower && powerCycle == cycle }
        }
        world.after(nanoseconds: boot + time.nanoseconds) { [self] in
            guard hasPower, powerCycle == cycle else { return }
            hasPower = false
            getPower("its dump is written")
        }
    }

    /// As fence_kdump_send does, with the interval that oVirt has it use.
    func sendDumpMessages(for time: Duration, while isSending: @escaping () -> Bool) {
        guard time > .zero, isSending() else { return }
        world.sendDumpMessage(of: self)
        let pause = Duration.seconds(5)
        world.after(nanoseconds: pause.nanoseconds) { [self] in sendDumpMessages(for: time - pause, while: isSending) }
    }

    var address: String { "10.0.0.\(id)" }

    /// All that runs is gone at once, whatever it did, and it boots.
    func reset(_ why: String) {
        hasPower = false
        dieDown()
        getPower(why)
    }

    private func dieDown() {
        let boot = machine.bootID
        let wasOn = machine.isOn
        watchdog.disarm()
        world.storage.powerLost(machine.name)
        machine.powerOff()
        for user in dying { user.endsWithItsMachine() }
        guards = []
        users = []
        locks = [:]
        results = [:]
        specifications = []
        toolstack = .works
        if wasOn { world.bootEnded(self, boot) }
    }

    /// Every payload that lives here, in the order of their starts.
    var guests: [Payload] = []
    var freeMemoryMiB: Int { max(0, definition.memoryMiB - guests.reduce(0) { $0 + $1.memoryMiB }) }

    func nextPID() -> Int32 {
        lastPID += 1
        return lastPID
    }

    // MARK: Locks

    func isLockFree(_ path: String) -> Bool { locks[path] ?? 0 == 0 }
    func isLockHeld(_ path: String) -> Bool { !isLockFree(path) }

    /// Takes a lock without waiting.
    func takeLock(_ path: String) -> Bool {
        guard isLockFree(path) else { return false }
        locks[path] = 1
        return true
    }

    /// A child has inherited the descriptor.
    func inheritLock(_ path: String) { locks[path, default: 0] += 1 }

    func dropLock(_ path: String) {
        guard let count = locks[path], count > 0 else { return }
        locks[path] = count - 1
    }

    /// Lock files are never unlinked while the machine runs.
    var lockFiles: [String] { locks.keys.sorted() }

    // MARK: Guards

    func add(_ guest: GuardProcess) { guards.append(guest) }
    func remove(_ guest: GuardProcess) { guards.removeAll { $0 === guest } }
    func guardProcess(of holder: Holder) -> GuardProcess? { guards.first { $0.spec.holder == holder } }
}
