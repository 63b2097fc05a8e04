import Bus
import CLinux
import Foundation
import HostAgentEngine
import HostAgentHypervisor
import Messages
import ServiceKit

/// Writes what a guard needs and starts it. Blocking.
struct GuardStarter: Sendable {
    let spec: GuardSpec
    let places: HostPlaces

    /// - Returns: ``GuardLaunch/start`` if it is on its way.
    func run() -> GuardLaunch {
        let files = places.files(of: spec.holder)
        let launch = decision(files)
        guard launch == .start else { return launch }
        removeOldFiles()
        do {
            try JSON.encode(spec.proofs).write(to: URL(fileURLWithPath: "\(files).proofs"))
            try JSON.encode(spec).write(to: URL(fileURLWithPath: "\(files).spec"))
        } catch {
            return GuardLaunch.failed(.startFailed, "\(files).spec cannot be written: \(error)")
        }
        return start(files)
    }

    private func decision(_ files: String) -> GuardLaunch {
        let filesAreThere = ["spec", "result"].contains { access("\(files).\($0)", F_OK) == 0 }
        var guest: Int32?
        if !filesAreThere, case .guest(let vm, _) = spec.payload { guest = ProcessScan.run().guest(uuid: GuestUUID.of(vm: vm.name))?.pid }
        return GuardLaunch.decision(vm: spec.holder.name, filesAreThere: filesAreThere, guest: guest)
    }

    private func removeOldFiles() {
        let directory = "\(places.run)/guards"
        for name in (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [] {
            guard let end = name.lastIndex(of: "."), let holder = Holder(String(name[..<end])) else { continue }
            if GuardLaunch.removesFiles(of: holder, before: spec.holder) { unlink("\(directory)/\(name)") }
        }
    }

    private func start(_ files: String) -> GuardLaunch {
        let null = cl_open("/dev/null", O_RDWR | O_CLOEXEC, 0)
        defer { close(null) }
        let environment = ["PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"]
        let pid = Spawn.spawn(places.guardExecutable, arguments(files), environment, input: null, output: null, error: null)
        guard pid > 0 else {
            let why = String(cString: strerror(errno))
            unlink("\(files).spec")
            return GuardLaunch.failed(.startFailed, "\(places.guardExecutable): \(why)")
        }
        // Only the first half of the guard's double fork is ours to reap.
        while waitpid(pid, nil, 0) < 0 && errno == EINTR {}
        return .start
    }

    private func arguments(_ files: String) -> [String] {
        var arguments = [
            "run", "--daemonize", "--holder", spec.holder.description, "--run", places.run, "--boot-id", places.bootID, "--vm-lock", places.lock(of: spec.holder),
            "--spec", "\(files).spec", "--log", "\(files).log", "--proofs", "\(files).proofs",
        ]
        for lease in spec.requests { arguments += ["--lease", lease.request] }
        for image in spec.diskLocks { arguments += ["--disk-lock", places.diskLock(image)] }
        for lockspace in spec.generations.keys.sorted() { arguments += ["--generation", "\(lockspace)|\(spec.generations[lockspace] ?? 0)"] }
        if case .guest(let vm, _) = spec.payload {
            if let action = vm.onLeaseLoss { arguments += ["--on-lease-loss", action.rawValue] }
            if let before = vm.pauseBefore { arguments += ["--pause-before", String(before.milliseconds)] }
        }
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
