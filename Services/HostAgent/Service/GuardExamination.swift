import CLinux
import Foundation
import HostAgentEngine
import HostAgentHypervisor
import Messages

/// What became of a guard that cannot be asked. Blocking.
struct GuardExamination: Sendable {
    let spec: GuardSpec
    let places: HostPlaces

    var socket: String { places.files(of: spec.holder) + ".sock" }

    /// With the run's lock in hand nothing of it lives (everything it started inherits that lock), and its start is called off for ever: its guard looks for the spec under the same lock.
    func run() -> GuardSighting {
        let files = places.files(of: spec.holder)
        let seen = LockFile.holding(places.lock(of: spec.holder)) { () -> GuardSighting in
            if let result = result(files) { return result }
            unlink("\(files).spec")
            return processes()
        }
        // Held by a guard that still breathes, or by another run that turned this one away.
        if seen == nil, case .refused(let code, let message) = result(files) { return .refused(code: code, message: message) }
        return seen ?? .unclear(evidence: "its lock is held, but its guard does not answer")
    }

    private func result(_ files: String) -> GuardSighting? {
        guard let data = FileManager.default.contents(atPath: "\(files).result"), let message = GuardMessage(text: String(decoding: data, as: UTF8.self)) else { return nil }
        switch message.verb {
        case "ended":
            return .ended(exit: message["exit"] ?? "", why: message["why"] ?? "")
        case "refused":
            return .refused(code: message["code"] ?? AgentErrorCode.startFailed.rawValue, message: message["message"] ?? "no reason given")
        default:
            return nil
        }
    }

    private func processes() -> GuardSighting {
        guard case .guest(let vm, _) = spec.payload else { return .gone(evidence: "its guard left no result; its lock, which all it started would hold, is free") }
        let scan = ProcessScan.run()
        if let guest = scan.guest(uuid: GuestUUID.of(vm: vm.name)) { return .unclear(evidence: "its lock is free, but process \(guest.pid) has its uuid") }
        if let gap = scan.gap { return .unclear(evidence: "its lock is free, but not every process could be looked at: \(gap)") }
        return .gone(evidence: "its guard left no result; its lock, which all it started would hold, is free and no process has its uuid")
    }

    /// Whether a guest's QEMU says that it is paused; `nil` if it did not answer, or if there is none.
    func isPaused() -> Bool? {
        guard case .guest = spec.payload, case .success(let status) = QMPClient(path: places.files(of: spec.holder) + ".qmp").status() else { return nil }
        return status == "paused"
    }
}
