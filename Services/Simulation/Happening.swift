public import FencingEngine
public import Messages

/// What can happen in a ``Scenario``. For people each is a short sentence; see ``Happening/sentence``.
///
/// `host` may be `all` where storage and start failures are meant, `domain` may be `all` too. Commands are sent as requests to the services, as `bulwark` does.
public enum Happening: Codable, Hashable, Sendable {
    // MARK: Machines

    /// It loses its power and stays off, unless its BMC switches it on.
    case crash(host: String)
    /// All of it stops, also the guards; its power stays on. The network and storage lose what it does not answer.
    case hang(host: String)
    /// A hanging host goes on where it stopped; its clock has run on.
    case thaw(host: String)
    /// Its kernel stands still for good, with its power on.
    case halt(host: String)
    /// As `hang`, and its clocks stand still until `resume`.
    case suspend(host: String)
    case resume(host: String)
    /// Its kernel starts anew, guests end without a goodbye.
    case reboot(host: String)
    /// Its kernel crashes. If it has kdump, another one writes a dump for so many seconds, says so all the while, and boots anew; else it boots at once.
    case panic(host: String, seconds: Int)
    /// Somebody sends in its name what its crash kernel would.
    case dumpMessages(host: String, seconds: Int)
    /// Somebody presses the button at the machine.
    case switchOn(host: String)
    case switchOff(host: String)
    /// All hosts and the manager lose their power.
    case loseAllPower
    case returnAllPower
    /// Somebody restores an old backup of the managers' journals on another machine, `manager2`, and starts them there for the same hosts and BMCs.
    case restoreManagers
    /// Somebody installs managers on `manager2` and tells them of the same hosts, BMCs, domains and VMs.
    case installManagers
    /// The second managers are switched off for good.
    case endSecondManagers
    /// A copy of its disk, keys and journals too, starts in another machine beside it.
    case clone(host: String)
    /// As `clone`, of the disk as it was installed, in a machine that reads the same hardware id.
    case twin(host: String)
    /// The clone or twin beside it is switched off for good.
    case endClone(host: String)
    /// Another machine is installed in its place: same name, host id and address, new keys. The old one stays as it is, and is the `old` host.
    case replace(host: String)
    case switchOnOld(host: String)
    case switchOffOld(host: String)

    // MARK: Processes

    /// Its supervisor starts it again; guards and workers have none, what they guard ends with them.
    case kill(ProcessName)
    /// Ends and stays ended.
    case stop(ProcessName)
    case start(ProcessName)
    case freeze(ProcessName)
    case unfreeze(ProcessName)

    // MARK: Network; ends are hosts, `manager` and `manager2`

    /// Messages of `from` do not reach `to` any more; the other way they do.
    case cut(from: String, to: String)
    case cutBoth(String, String)
    /// From everybody.
    case isolate(String)
    /// Both directions between two.
    case heal(String, String)
    case healNetwork

    // MARK: Storage

    /// Operations do not come back until it heals.
    case storageHangs(domain: String, host: String)
    /// Operations come back with an error.
    case storageFails(domain: String, host: String)
    /// Operations take half of io_timeout.
    case storageSlow(domain: String, host: String)
    case storageHeals(domain: String, host: String)

    // MARK: BMC

    case bmc(host: String, BMCFault)
    /// The device of its second power supply.
    case supply(host: String, BMCFault)
    /// The device of its outlet.
    case outlet(host: String, BMCFault)

    // MARK: Hypervisor

    /// The next `count` starts there end as if the hypervisor refused them.
    case startsFail(host: String, count: Int)
    /// Starts there take longer than anybody waits for them.
    case startsSlow(host: String)
    case startsWork(host: String)
    /// Another process opens its hardware watchdog as soon as that is closed.
    case watchdogBusy(host: String)
    case watchdogFree(host: String)
    /// What controls its hypervisor; guests run on without it.
    case toolstack(host: String, ToolstackFault)
    /// The guest ends by itself.
    case guestCrash(vm: String)
    /// It cannot be killed: it waits for its storage without interruption.
    case guestStuck(vm: String)
    case guestUnstuck(vm: String)

    // MARK: Commands of the operator

    case vmStart(vm: String, host: String?)
    case vmStop(vm: String)
    case vmResume(vm: String)
    case vmRemove(vm: String)
    /// As it was at first, with new disks if it was removed since.
    case vmDefine(vm: String)
    case vmResetPowerState(vm: String)
    case hostMaintenance(host: String)
    case hostActivate(host: String)
    /// Vouches for the case and incarnation that are shown; the operator errs if the machine is not off.
    case hostConfirmOff(host: String)
    case hostForget(host: String)
    /// Its own clean shutdown: guests are ended, it says goodbye, and then it switches itself off.
    case hostShutdown(host: String)
    /// The operator calls that off.
    case hostStay(host: String)
    /// Enrols the machine that has this name now.
    case hostAdd(host: String)
    /// Its operator takes the BMC of this host for its fence device.
    case hostUpdate(host: String, bmcOf: String)
    case fenceNow(host: String)
    /// Refused if no level of its devices answers.
    case fenceRehearse(host: String)
    case power(host: String, PowerVerb)
    case haHold
    case haRelease
    case haEnable
    case haDisable
    case spmSelect(host: String)
    case spmMove
    case domainMaintenance(domain: String)
    case domainActivate(domain: String)

    // MARK: Leases

    /// A program starts there that uses it, alone or with others.
    case leaseTake(resource: String, host: String, LeaseMode)
    case leaseConvert(resource: String, host: String, LeaseMode)
    /// The program there ends.
    case leaseDrop(resource: String, host: String)
    /// Whoever holds it is asked to give it up, through the lease-service of a host.
    case leaseRequest(resource: String, host: String, LeaseDemand.Mode)
    /// The host id of a host is freed by another one, at the word of an operator.
    case leaseVoid(host: String, domain: String, by: String)
    case leaseCreate(resource: String)
    case leaseRemove(resource: String)
    case indexRebuild(domain: String)
    case lockspaceNotify(host: String, domain: String, by: String)
    /// Guests and programs are ended and every host leaves.
    case lockspaceDrain(domain: String)
    case lockspaceOpen(domain: String)
    case lockspaceBackup(domain: String, host: String)
    /// Drained, written anew by that host, opened again; by force although not every host answers.
    case lockspaceReinitialize(domain: String, host: String, sectorSize: Int? = nil, ioTimeout: Int? = nil, byForce: Bool = false)
    /// As `lockspaceReinitialize`, from the backup that was made there.
    case lockspaceRestore(domain: String, host: String)
}

public enum BMCFault: String, Codable, Hashable, Sendable, CaseIterable {
    case works
    /// Refuses connections.
    case isDead = "is dead"
    /// Accepts and does not answer.
    case hangs
    /// Reads on, whatever the machine does, and takes commands without doing anything.
    case saysOn = "says on"
    /// Reads off, whatever the machine does.
    case saysOff = "says off"
    /// Acknowledges at once and acts a minute later.
    case actsLate = "acts late"
    /// Reads the truth and refuses every command.
    case refuses
    /// Does as it is told, and takes its time to say whose it is.
    case tellsLate = "tells late whose it is"
}

/// One process of a simulated cluster.
public enum ProcessName: Codable, Hashable, Sendable, CustomStringConvertible {
    case fencingService, placementService, spmCoordinator, domainMonitor
    case leaseService(host: String)
    case hostAgent(host: String)
    /// The guard of a VM's current run.
    case vmGuard(vm: String)
    /// The guarded worker of the SPM role.
    case worker(host: String)

    public var description: String {
        switch self {
        case .fencingService: "fencing-service"
        case .placementService: "placement-service"
        case .spmCoordinator: "spm-coordinator"
        case .domainMonitor: "domain-monitor"
        case .leaseService(let host): "lease-service@\(host)"
        case .hostAgent(let host): "host-agent@\(host)"
        case .vmGuard(let vm): "guard@\(vm)"
        case .worker(let host): "worker@\(host)"
        }
    }
}

extension Happening {
    /// As it stands in a scenario file; ``init(sentence:names:)`` reads it.
    public var sentence: String {
        switch self {
        case .crash(let host): "crash \(host)"
        case .hang(let host): "hang \(host)"
        case .thaw(let host): "thaw \(host)"
        case .halt(let host): "halt \(host)"
        case .suspend(let host): "suspend \(host)"
        case .resume(let host): "resume \(host)"
        case .reboot(let host): "reboot \(host)"
        case .panic(let host, let seconds): "panic \(host) with a dump of \(seconds) seconds"
        case .dumpMessages(let host, let seconds): "dump messages of \(host) for \(seconds) seconds"
        case .switchOn(let host): "switch on \(host)"
        case .switchOff(let host): "switch off \(host)"
        case .loseAllPower: "lose all power"
        case .returnAllPower: "return all power"
        case .restoreManagers: "second managers restored"
        case .installManagers: "second managers installed"
        case .endSecondManagers: "second managers end"
        case .clone(let host): "clone \(host)"
        case .twin(let host): "clone \(host) with its hardware id"
        case .endClone(let host): "switch off clone of \(host)"
        case .replace(let host): "replace \(host)"
        case .switchOnOld(let host): "switch on old \(host)"
        case .switchOffOld(let host): "switch off old \(host)"
        case .kill(let process): "kill \(process)"
        case .stop(let process): "stop \(process)"
        case .start(let process): "start \(process)"
        case .freeze(let process): "freeze \(process)"
        case .unfreeze(let process): "unfreeze \(process)"
        case .cut(let from, let to): "cut \(from) -> \(to)"
        case .cutBoth(let a, let b): "cut \(a) <-> \(b)"
        case .isolate(let end): "isolate \(end)"
        case .heal(let a, let b): "heal \(a) <-> \(b)"
        case .healNetwork: "heal network"
        case .storageHangs(let domain, let host): "storage \(domain) hangs on \(host)"
        case .storageFails(let domain, let host): "storage \(domain) fails on \(host)"
        case .storageSlow(let domain, let host): "storage \(domain) slow on \(host)"
        case .storageHeals(let domain, let host): "storage \(domain) heals on \(host)"
        case .bmc(let host, let fault): "bmc of \(host) \(fault.rawValue)"
        case .supply(let host, let fault): "supply of \(host) \(fault.rawValue)"
        case .outlet(let host, let fault): "outlet of \(host) \(fault.rawValue)"
        case .startsFail(let host, let count): "starts fail on \(host) \(count) times"
        case .startsSlow(let host): "starts slow on \(host)"
        case .startsWork(let host): "starts work on \(host)"
        case .watchdogBusy(let host): "watchdog busy on \(host)"
        case .watchdogFree(let host): "watchdog free on \(host)"
        case .toolstack(let host, let fault): "toolstack of \(host) \(fault.rawValue)"
        case .guestCrash(let vm): "guest \(vm) crashes"
        case .guestStuck(let vm): "guest \(vm) stuck"
        case .guestUnstuck(let vm): "guest \(vm) unstuck"
        case .vmStart(let vm, let host): "vm start \(vm)" + (host.map { " on \($0)" } ?? "")
        case .vmStop(let vm): "vm stop \(vm)"
        case .vmResume(let vm): "vm resume \(vm)"
        case .vmRemove(let vm): "vm remove \(vm)"
        case .vmDefine(let vm): "vm define \(vm)"
        case .vmResetPowerState(let vm): "vm reset-power-state \(vm)"
        case .hostMaintenance(let host): "host maintenance \(host)"
        case .hostActivate(let host): "host activate \(host)"
        case .hostConfirmOff(let host): "host confirm-off \(host)"
        case .hostForget(let host): "host forget \(host)"
        case .hostShutdown(let host): "host shutdown \(host)"
        case .hostStay(let host): "host shutdown \(host) called off"
        case .hostAdd(let host): "host add \(host)"
        case .hostUpdate(let host, let other): "host update \(host) with the bmc of \(other)"
        case .fenceNow(let host): "fence now \(host)"
        case .fenceRehearse(let host): "fence rehearse \(host)"
        case .power(let host, let verb): "power \(verb.rawValue) \(host)"
        case .haHold: "ha hold"
        case .haRelease: "ha release"
        case .haEnable: "ha enable"
        case .haDisable: "ha disable"
        case .spmSelect(let host): "spm select \(host)"
        case .spmMove: "spm move"
        case .domainMaintenance(let domain): "domain maintenance \(domain)"
        case .domainActivate(let domain): "domain activate \(domain)"
        case .leaseTake(let resource, let host, let mode): "lease \(mode == .shared ? "share" : "take") \(resource) on \(host)"
        case .leaseConvert(let resource, let host, let mode): "lease convert \(resource) on \(host) to \(mode.rawValue)"
        case .leaseDrop(let resource, let host): "lease drop \(resource) on \(host)"
        case .leaseRequest(let resource, let host, let mode): "lease request \(resource) through \(host)" + (mode == .force ? " by force" : "")
        case .leaseVoid(let host, let domain, let by): "lease void \(host) in \(domain) by \(by)"
        case .leaseCreate(let resource): "lease create \(resource)"
        case .leaseRemove(let resource): "lease remove \(resource)"
        case .indexRebuild(let domain): "index rebuild \(domain)"
        case .lockspaceNotify(let host, let domain, let by): "lockspace notify \(host) in \(domain) by \(by)"
        case .lockspaceDrain(let domain): "lockspace drain \(domain)"
        case .lockspaceOpen(let domain): "lockspace open \(domain)"
        case .lockspaceBackup(let domain, let host): "lockspace backup \(domain) on \(host)"
        case .lockspaceReinitialize(let domain, let host, let sector, let ioTimeout, let byForce):
            "lockspace reinitialize \(domain) on \(host)" + (sector.map { " with sectors of \($0)" } ?? "") + (ioTimeout.map { " with io_timeout \($0)" } ?? "") + (byForce ? " by force" : "")
        case .lockspaceRestore(let domain, let host): "lockspace restore \(domain) on \(host)"
        }
    }

    /// Every sentence that there is; words in capitals stand for a name.
    static let forms = machineForms + processForms + networkForms + storageForms + bmcForms + hypervisorForms + commandForms + leaseForms

    private static let machineForms: [Form<Happening>] = [
        Form("crash HOST") { .crash(host: $0[0]) },
        Form("hang HOST") { .hang(host: $0[0]) },
        Form("thaw HOST") { .thaw(host: $0[0]) },
        Form("halt HOST") { .halt(host: $0[0]) },
        Form("suspend HOST") { .suspend(host: $0[0]) },
        Form("resume HOST") { .resume(host: $0[0]) },
        Form("reboot HOST") { .reboot(host: $0[0]) },
        Form("panic HOST with a dump of NUMBER seconds") { words in Int(words[1]).map { .panic(host: words[0], seconds: $0) } },
        Form("dump messages of HOST for NUMBER seconds") { words in Int(words[1]).map { .dumpMessages(host: words[0], seconds: $0) } },
        Form("switch on HOST") { .switchOn(host: $0[0]) },
        Form("switch off HOST") { .switchOff(host: $0[0]) },
        Form("lose all power") { _ in .loseAllPower },
        Form("return all power") { _ in .returnAllPower },
        Form("second managers restored") { _ in .restoreManagers },
        Form("second managers installed") { _ in .installManagers },
        Form("second managers end") { _ in .endSecondManagers },
        Form("clone HOST") { .clone(host: $0[0]) },
        Form("clone HOST with its hardware id") { .twin(host: $0[0]) },
        Form("switch off clone of HOST") { .endClone(host: $0[0]) },
        Form("replace HOST") { .replace(host: $0[0]) },
        Form("switch on old HOST") { .switchOnOld(host: $0[0]) },
        Form("switch off old HOST") { .switchOffOld(host: $0[0]) },
    ]

    private static let processForms: [Form<Happening>] = [
        Form("kill PROCESS") { ProcessName($0[0]).map { .kill($0) } },
        Form("stop PROCESS") { ProcessName($0[0]).map { .stop($0) } },
        Form("start PROCESS") { ProcessName($0[0]).map { .start($0) } },
        Form("freeze PROCESS") { ProcessName($0[0]).map { .freeze($0) } },
        Form("unfreeze PROCESS") { ProcessName($0[0]).map { .unfreeze($0) } },
    ]

    private static let networkForms: [Form<Happening>] = [
        Form("cut PLACE -> PLACE") { .cut(from: $0[0], to: $0[1]) },
        Form("cut PLACE <-> PLACE") { .cutBoth($0[0], $0[1]) },
        Form("isolate PLACE") { .isolate($0[0]) },
        Form("heal PLACE <-> PLACE") { .heal($0[0], $0[1]) },
        Form("heal network") { _ in .healNetwork },
    ]

    private static let storageForms: [Form<Happening>] = [
        Form("storage DOMAINS hangs on HOSTS") { .storageHangs(domain: $0[0], host: $0[1]) },
        Form("storage DOMAINS fails on HOSTS") { .storageFails(domain: $0[0], host: $0[1]) },
        Form("storage DOMAINS slow on HOSTS") { .storageSlow(domain: $0[0], host: $0[1]) },
        Form("storage DOMAINS heals on HOSTS") { .storageHeals(domain: $0[0], host: $0[1]) },
    ]

    private static let bmcForms = BMCFault.allCases.flatMap { fault in
        [
            Form<Happening>("bmc of HOST \(fault.rawValue)") { .bmc(host: $0[0], fault) },
            Form<Happening>("supply of HOST \(fault.rawValue)") { .supply(host: $0[0], fault) },
            Form<Happening>("outlet of HOST \(fault.rawValue)") { .outlet(host: $0[0], fault) },
        ]
    }

    private static let hypervisorForms: [Form<Happening>] = [
        Form("starts fail on HOSTS NUMBER times") { words in Int(words[1]).map { .startsFail(host: words[0], count: $0) } },
        Form("starts slow on HOSTS") { .startsSlow(host: $0[0]) },
        Form("starts work on HOSTS") { .startsWork(host: $0[0]) },
        Form("watchdog busy on HOSTS") { .watchdogBusy(host: $0[0]) },
        Form("watchdog free on HOSTS") { .watchdogFree(host: $0[0]) },
        Form("guest VM crashes") { .guestCrash(vm: $0[0]) },
        Form("guest VM stuck") { .guestStuck(vm: $0[0]) },
        Form("guest VM unstuck") { .guestUnstuck(vm: $0[0]) },
    ] + ToolstackFault.allCases.map { fault in Form("toolstack of HOSTS \(fault.rawValue)") { .toolstack(host: $0[0], fault) } }

    private static let commandForms: [Form<Happening>] = [
        Form("vm start VM") { .vmStart(vm: $0[0], host: nil) },
        Form("vm start VM on HOST") { .vmStart(vm: $0[0], host: $0[1]) },
        Form("vm stop VM") { .vmStop(vm: $0[0]) },
        Form("vm remove VM") { .vmRemove(vm: $0[0]) },
        Form("vm define VM") { .vmDefine(vm: $0[0]) },
        Form("vm resume VM") { .vmResume(vm: $0[0]) },
        Form("vm reset-power-state VM") { .vmResetPowerState(vm: $0[0]) },
        Form("host maintenance HOST") { .hostMaintenance(host: $0[0]) },
        Form("host activate HOST") { .hostActivate(host: $0[0]) },
        Form("host confirm-off HOST") { .hostConfirmOff(host: $0[0]) },
        Form("host forget HOST") { .hostForget(host: $0[0]) },
        Form("host shutdown HOST") { .hostShutdown(host: $0[0]) },
        Form("host shutdown HOST called off") { .hostStay(host: $0[0]) },
        Form("host add HOST") { .hostAdd(host: $0[0]) },
        Form("host update HOST with the bmc of HOST") { .hostUpdate(host: $0[0], bmcOf: $0[1]) },
        Form("fence now HOST") { .fenceNow(host: $0[0]) },
        Form("fence rehearse HOST") { .fenceRehearse(host: $0[0]) },
        Form("power on HOST") { .power(host: $0[0], .on) },
        Form("power off HOST") { .power(host: $0[0], .off) },
        Form("power cycle HOST") { .power(host: $0[0], .cycle) },
        Form("ha hold") { _ in .haHold },
        Form("ha release") { _ in .haRelease },
        Form("ha enable") { _ in .haEnable },
        Form("ha disable") { _ in .haDisable },
        Form("spm select HOST") { .spmSelect(host: $0[0]) },
        Form("spm move") { _ in .spmMove },
        Form("domain maintenance DOMAIN") { .domainMaintenance(domain: $0[0]) },
        Form("domain activate DOMAIN") { .domainActivate(domain: $0[0]) },
    ]

    private static let leaseForms: [Form<Happening>] = [
        Form("lease take RESOURCE on HOST") { .leaseTake(resource: $0[0], host: $0[1], .exclusive) },
        Form("lease share RESOURCE on HOST") { .leaseTake(resource: $0[0], host: $0[1], .shared) },
        Form("lease convert RESOURCE on HOST to exclusive") { .leaseConvert(resource: $0[0], host: $0[1], .exclusive) },
        Form("lease convert RESOURCE on HOST to shared") { .leaseConvert(resource: $0[0], host: $0[1], .shared) },
        Form("lease drop RESOURCE on HOST") { .leaseDrop(resource: $0[0], host: $0[1]) },
        Form("lease request RESOURCE through HOST") { .leaseRequest(resource: $0[0], host: $0[1], .graceful) },
        Form("lease request RESOURCE through HOST by force") { .leaseRequest(resource: $0[0], host: $0[1], .force) },
        Form("lease void HOST in DOMAIN by HOST") { .leaseVoid(host: $0[0], domain: $0[1], by: $0[2]) },
        Form("lease create RESOURCE") { .leaseCreate(resource: $0[0]) },
        Form("lease remove RESOURCE") { .leaseRemove(resource: $0[0]) },
        Form("index rebuild DOMAIN") { .indexRebuild(domain: $0[0]) },
        Form("lockspace notify HOST in DOMAIN by HOST") { .lockspaceNotify(host: $0[0], domain: $0[1], by: $0[2]) },
        Form("lockspace drain DOMAIN") { .lockspaceDrain(domain: $0[0]) },
        Form("lockspace open DOMAIN") { .lockspaceOpen(domain: $0[0]) },
        Form("lockspace backup DOMAIN on HOST") { .lockspaceBackup(domain: $0[0], host: $0[1]) },
        Form("lockspace reinitialize DOMAIN on HOST") { .lockspaceReinitialize(domain: $0[0], host: $0[1]) },
        Form("lockspace reinitialize DOMAIN on HOST by force") { .lockspaceReinitialize(domain: $0[0], host: $0[1], byForce: true) },
        Form("lockspace reinitialize DOMAIN on HOST with sectors of NUMBER") { words in
            Int(words[2]).map { .lockspaceReinitialize(domain: words[0], host: words[1], sectorSize: $0) }
        },
        Form("lockspace reinitialize DOMAIN on HOST with io_timeout NUMBER") { words in
            Int(words[2]).map { .lockspaceReinitialize(domain: words[0], host: words[1], ioTimeout: $0) }
        },
        Form("lockspace restore DOMAIN on HOST") { .lockspaceRestore(domain: $0[0], host: $0[1]) },
    ]

    /// Every sentence that there is; words in capitals stand for names.
    public static var patterns: [String] { forms.map(\.pattern) }

    /// - Parameter names: the names that it may use; `nil`: any.
    /// - Throws: ``SentenceError`` with the word that is wrong and what may stand there.
    public init(sentence: String, names: Vocabulary? = nil) throws(SentenceError) {
        self = try Form.read(sentence, Self.forms, names)
    }
}

extension ProcessName {
    /// From ``description``; `nil`: there is no such process.
    public init?(_ text: String) {
        let parts = text.split(separator: "@", maxSplits: 1).map(String.init)
        switch (parts.first, parts.count == 2 ? parts[1] : nil) {
        case ("fencing-service", nil): self = .fencingService
        case ("placement-service", nil): self = .placementService
        case ("spm-coordinator", nil): self = .spmCoordinator
        case ("domain-monitor", nil): self = .domainMonitor
        case ("lease-service", let host?): self = .leaseService(host: host)
        case ("host-agent", let host?): self = .hostAgent(host: host)
        case ("guard", let vm?): self = .vmGuard(vm: vm)
        case ("worker", let host?): self = .worker(host: host)
        default: return nil
        }
    }
}
