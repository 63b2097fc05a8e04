import CLinux
import Foundation
import HostAgentEngine
import HostAgentHypervisor
import Messages

/// Looks where a guard was that cannot be asked. Blocking.
struct GuardExaminer: Sendable {
    let spec: GuardSpec
    let places: HostPlaces

    private var files: String { places.files(of: spec.holder) }
    var socket: String { files + ".sock" }
    var resultIsThere: Bool { access(files + ".result", F_OK) == 0 }
    var isGuest: Bool { if case .guest = spec.payload { true } else { false } }

    func run() -> GuardSighting {
        LockFile.holding(places.lock(of: spec.holder)) { look(lockTaken: true) } ?? look(lockTaken: false)
    }

    private func look(lockTaken: Bool) -> GuardSighting {
        let result = FileManager.default.contents(atPath: "\(files).result").flatMap { GuardMessage(text: String(decoding: $0, as: UTF8.self)) }
        switch GuardExamination.conclusion(lockTaken: lockTaken, result: result) {
        case .seen(let sighting):
            return sighting
        case .callOff:
            let specIsGone = unlink("\(files).spec") == 0 || errno == ENOENT
            return GuardExamination.afterCallingOff(specIsGone: specIsGone, processes: processes())
        }
    }

    private func processes() -> GuardExamination.Processes? {
        guard isGuest else { return nil }
        let scan = ProcessScan.run()
        if let guest = scan.guest(uuid: GuestUUID.of(vm: spec.holder.name)) { return .guest(pid: guest.pid) }
        return scan.gap.map { .gap($0) } ?? GuardExamination.Processes.none
    }

    private var qemu: QMPClient { QMPClient(path: files + ".qmp") }

    /// What a guest's QEMU says; `nil` if it did not answer, or if there is none.
    func guestStatus() -> GuardWatcher.GuestStatus? {
        guard isGuest, case .success(let status) = qemu.status() else { return nil }
        return status == "io-error" ? .ioError : status == "paused" ? .paused : .running
    }

    /// Tells it to go on; why it could not be told. Whether it does is seen when it is asked next: it may meet the same error at once.
    func resumeGuest() -> String? { qemu.resume()?.description }
}
