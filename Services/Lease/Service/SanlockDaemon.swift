import Bus
import CSanlock
import Foundation
import LeaseEngine
import LeaseVolume
import Messages
import ServiceKit

/// The sanlock daemon of this machine, asked through its client library on threads of its own: every question blocks until it is answered.
struct SanlockDaemon: Sendable {
    static let engine = "sanlock"

    static let notGuaranteed = [
        "engine is sanlock: a proof that a host is off opens its leases to this service's rules, but the daemon still waits until 8 x io_timeout + its own watchdog_fire_timeout (60 s unless it was built or configured otherwise) have passed since that host's last renewal: takeover takes up to 160 s with an io_timeout of 10 s",
        "engine is sanlock: renewals, ballots and the watchdog are the daemon's. Started with -w 0 it has no watchdog: if the whole machine freezes and thaws later, nothing has reset it meanwhile (but lease.watchdog, which cannot be used beside sanlock's own: there is one device), and other sanlock daemons take its leases by time alone",
        "engine is sanlock: a guest's deadline counts from the last read of this host's sector that did not show the daemon's latest renewal; it holds when the daemon dies or hangs, and comes up to half an io_timeout earlier than the daemon's own",
        "engine is sanlock: the daemon frees what a killed guard held as soon as its last process is gone; lease.settle is kept only for leases that a living guard gives back",
        "engine is sanlock: whoever asks for a lease gracefully (sanlock client request -f 2) ends its guest with SIGTERM; with the native engine the guest goes on and only hears of it",
        "engine is sanlock: lease.remove, converting a lease and its value are refused with engine.not-supported",
    ]

    /// The library is loaded once and never unloaded; its functions only open connections.
    private struct Library: @unchecked Sendable {
        // Unchecked: nothing behind the pointer changes after it was made.
        let handle: OpaquePointer
    }

    private let library: Library
    private let lanes: LaneThreads<Int32>
    private let answers = Answers()

    /// - Throws: `RequestError` if there is no client library.
    init(_ settings: SanlockSettings) throws {
        var why = [CChar](repeating: 0, count: Int(CS_WHY))
        guard let handle = cs_open(settings.library, settings.run, &why) else {
            let why = String(decoding: why.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            throw RequestError(
                code: "config.invalid", message: "engine is sanlock, but its client library cannot be used: \(why). Install libsanlock-client1, name it with sanlock.library, or choose engine: native")
        }
        library = Library(handle: handle)
        let answers = answers
        lanes = LaneThreads { report in
            Reactor.shared.post { answers.deliver(report) }
        }
    }

    @ReactorActor func submit(_ request: SanlockRequest, _ shell: EngineShell<LeaseEngine>) {
        answers.shell = shell
        lanes.submit(lane: request.lane, token: request.token, timeout: request.timeout) { [library] _ in Self.ask(library.handle, request.call) }
    }

    private static func ask(_ library: OpaquePointer, _ call: SanlockCall) -> Int32 {
        switch call {
        case .add(let place, let ioTimeout): cs_add_lockspace(library, place.name, UInt64(place.hostID), place.ids, UInt32(ioTimeout))
        case .remove(let place): cs_remove_lockspace(library, place.name, UInt64(place.hostID), place.ids)
        case .has(let place): cs_has_lockspace(library, place.name, UInt64(place.hostID), place.ids)
        case .request(let lease, let path, let offset, let lver, let mode): cs_request(library, lease.lockspace, lease.resource, path, offset, lver, mode == .force ? 1 : 2)
        case .sendEvent(let notice): cs_set_event(library, notice.lockspace, UInt64(notice.hostID), notice.generation, notice.event, notice.data)
        }
    }

    /// Where answers go: known once the shell performs its first action.
    @ReactorActor private final class Answers {
        var shell: EngineShell<LeaseEngine>?
        nonisolated init() {}

        func deliver(_ report: LaneThreads<Int32>.Report) {
            switch report {
            case .completed(let token, let result): shell?.submit(.daemonAnswered(token, result))
            case .timedOut(let token): shell?.submit(.daemonAnswered(token, SanlockSettings.noAnswer))
            case .landed: break
            }
        }
    }
}
