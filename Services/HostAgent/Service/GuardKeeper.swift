import Bus
import CLinux
import Foundation
import HostAgentEngine
import HostAgentHypervisor
import Logging
import Messages
import ServiceKit

/// Starts guards and watches them: one connection to each, by which it hears every change at once.
@ReactorActor
final class GuardKeeper {
    var tell: (@ReactorActor (AgentInput) -> Void)?
    private let places: HostPlaces
    private let logger: Logger
    private var watches: [Holder: GuardWatch] = [:]
    private var isScanning = false
    /// VMs and pools whose guards are being started.
    private var spawning: [String] = []

    init(_ places: HostPlaces, _ logger: Logger) {
        self.places = places
        self.logger = logger
    }

    /// A guard is started detached: it is adopted by init and outlives this process.
    func spawn(_ spec: GuardSpec) {
        let launch = GuardLaunch(spec: spec, places: places)
        spawning.append(spec.holder.name)
        Blocking.run("spawn") {
            launch.run()
        } then: { [self] outcome in
            if let index = spawning.firstIndex(of: spec.holder.name) { spawning.remove(at: index) }
            switch outcome {
            case .refused(let refusal): report(spec.holder, refusal)
            case .started: watch(spec, patience: .seconds(5))
            case .wasThere: watch(spec)
            }
        }
    }

    /// - Parameter patience: how long a guard that was just started may take to hold its lock.
    func watch(_ spec: GuardSpec, patience: Duration = .zero) {
        guard watches[spec.holder] == nil else { return }
        let watch = GuardWatch(GuardExamination(spec: spec, places: places), patienceUntil: Clock.boottime() + patience) { [self] in report(spec.holder, $0) }
        watches[spec.holder] = watch
        watch.connect()
    }

    func stop(_ holder: Holder, _ why: String) { watches[holder]?.stop(why) }

    /// Looks at every process, again each second until nothing was left out.
    func scan() {
        guard !isScanning else { return }
        isScanning = true
        look()
    }

    private func look() {
        Blocking.run("scan") {
            ProcessScan.run()
        } then: { [self] scan in
            if let gap = scan.gap {
                logger.warning("the scan for guests is incomplete: \(gap)")
                Reactor.shared.after(.seconds(1)) { [self] in look() }
                return
            }
            isScanning = false
            let guests = scan.guests.filter { GuestUUID.of(vm: $0.name) == $0.uuid }.map { ScannedGuest(vm: $0.name, pid: $0.pid) }
            tell?(.scanned(guests + lockedVMs(besides: guests)))
        }
    }

    /// VMs whose lock is held although no guard of theirs is known. A process that is ending shows no command line any more, but keeps its locks until its last thread is gone.
    private func lockedVMs(besides guests: [ScannedGuest]) -> [ScannedGuest] {
        let known = Set(guests.map(\.vm) + watches.keys.map(\.name) + spawning)
        let files = (try? FileManager.default.contentsOfDirectory(atPath: "\(places.run)/locks")) ?? []
        let names = files.filter { $0.hasPrefix("vm-") && $0.hasSuffix(".lock") }.map { String($0.dropFirst(3).dropLast(5)) }
        return names.filter { !known.contains($0) && LockFile.holding("\(places.run)/locks/vm-\($0).lock") { true } == nil }.map { ScannedGuest(vm: $0, pid: nil) }
    }

    private func report(_ holder: Holder, _ sighting: GuardSighting) {
        switch sighting {
        case .ended, .refused, .gone: watches.removeValue(forKey: holder)?.close()
        case .acquiring, .running, .ending, .unclear: break
        }
        tell?(.sighted(holder, sighting))
    }
}

/// Writes what a guard needs and starts it. Blocking.
struct GuardLaunch: Sendable {
    let spec: GuardSpec
    let places: HostPlaces

    enum Outcome: Sendable {
        /// It is on its way.
        case started
        /// A guard of this very attempt was started before, which this agent has forgotten: it is only watched.
        case wasThere
        /// Nothing was started.
        case refused(GuardSighting)
    }

    func run() -> Outcome {
        let files = places.files(of: spec.holder)
        if ["spec", "result"].contains(where: { access("\(files).\($0)", F_OK) == 0 }) { return .wasThere }
        if case .guest(let vm, _) = spec.payload {
            let scan = ProcessScan.run()
            if let guest = scan.guest(uuid: GuestUUID.of(vm: vm.name)) {
                return refused(.stillHere, "process \(guest.pid) of \(vm.name) runs on this host")
            }
        }
        removeOldFiles()
        do {
            try JSON.encode(spec.proofs).write(to: URL(fileURLWithPath: "\(files).proofs"))
            try JSON.encode(spec).write(to: URL(fileURLWithPath: "\(files).spec"))
        } catch {
            return refused(.startFailed, "\(files).spec cannot be written: \(error)")
        }
        return start(files)
    }

    /// What earlier attempts left, the last one's apart: people may want to read that.
    private func removeOldFiles() {
        let directory = "\(places.run)/guards"
        for name in (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [] {
            guard let end = name.lastIndex(of: "."), let holder = Holder(String(name[..<end])), holder.subject == spec.holder.subject else { continue }
            if holder.attempt < spec.holder.attempt - 1 { unlink("\(directory)/\(name)") }
        }
    }

    private func refused(_ code: AgentErrorCode, _ message: String) -> Outcome { .refused(.refused(code: code.rawValue, message: message)) }

    private func start(_ files: String) -> Outcome {
        let null = cl_open("/dev/null", O_RDWR | O_CLOEXEC, 0)
        defer { close(null) }
        let environment = ["PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"]
        let pid = Spawn.spawn(places.guardExecutable, arguments(files), environment, input: null, output: null, error: null)
        guard pid > 0 else {
            let why = String(cString: strerror(errno))
            unlink("\(files).spec")
            return refused(.startFailed, "\(places.guardExecutable): \(why)")
        }
        // Only the first half of the guard's double fork is ours to reap.
        while waitpid(pid, nil, 0) < 0 && errno == EINTR {}
        return .started
    }

    private func arguments(_ files: String) -> [String] {
        var arguments = [
            "run", "--daemonize", "--holder", spec.holder.description, "--run", places.run, "--boot-id", places.bootID, "--vm-lock", places.lock(of: spec.holder),
            "--spec", "\(files).spec", "--log", "\(files).log", "--proofs", "\(files).proofs",
        ]
        for lease in spec.leases { arguments += ["--lease", GuardLease(name: lease).request] }
        for image in spec.diskLocks { arguments += ["--disk-lock", places.diskLock(image)] }
        for lockspace in spec.generations.keys.sorted() { arguments += ["--generation", "\(lockspace)|\(spec.generations[lockspace] ?? 0)"] }
        return arguments + ["--"] + payload(files)
    }

    private func payload(_ files: String) -> [String] {
        switch spec.payload {
        case .guest(let vm, let volumes):
            places.qemu.line(for: vm, volumes: volumes, files: files)
        case .worker(let pool, let master):
            [places.ownExecutable, "spm-worker", "--run", places.run, "--pool", pool, "--master", master.domain]
        }
    }
}
