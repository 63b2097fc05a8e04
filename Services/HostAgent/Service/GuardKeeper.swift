import Bus
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
    /// What the watchdog must know of guards with leases; `nil`: there is none.
    var tellWatchdog: (@ReactorActor (Watchdog.Input) -> Void)?
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
        let starter = GuardStarter(spec: spec, places: places)
        spawning.append(spec.holder.name)
        if !spec.leases.isEmpty { tellWatchdog?(.watching(spec.holder, isNew: true)) }
        Blocking.run("spawn") {
            starter.run()
        } then: { [self] launch in
            if let index = spawning.firstIndex(of: spec.holder.name) { spawning.remove(at: index) }
            switch launch {
            case .refused(let refusal): report(spec.holder, refusal)
            case .start: watch(spec, patience: GuardLaunch.patience)
            case .wasThere: watch(spec)
            }
        }
    }

    /// - Parameter patience: how long a guard that was just started may take to hold its lock.
    func watch(_ spec: GuardSpec, patience: Duration = .zero) {
        guard watches[spec.holder] == nil else { return }
        if !spec.leases.isEmpty { tellWatchdog?(.watching(spec.holder, isNew: patience > .zero)) }
        let watch = GuardWatch(
            GuardExaminer(spec: spec, places: places), patience: patience, heard: { [self] in tellWatchdog?(.said(spec.holder, $0)) },
            resumed: { [self] in tell?(.resumed(spec.holder, $0)) },
            monitor: { [self] in tell?(.monitor(spec.holder, answers: $0)) }, report: { [self] in report(spec.holder, $0) })
        watches[spec.holder] = watch
        watch.begin()
    }

    func stop(_ holder: Holder, _ why: String) { watches[holder]?.stop(why) }

    func resume(_ holder: Holder, asked: Bool) { watches[holder]?.resume(asked: asked) }

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
            let guests = scan.guests.filter(\.isOwn).map { ScannedGuest(vm: $0.name, pid: $0.pid) }
            let others = scan.guests.filter { !$0.isOwn }.map { "process \($0.pid) (\($0.program))" }
            tell?(.scanned(search(guests), others: others.isEmpty ? nil : others))
        }
    }

    private func search(_ guests: [ScannedGuest]) -> [ScannedGuest] {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: "\(places.run)/locks")) ?? []
        let search = GuestSearch(guests: guests, lockFiles: files, known: Set(watches.keys.map(\.name) + spawning))
        return search.found(held: search.suspects.filter { LockFile.holding("\(places.run)/locks/vm-\($0).lock") { true } == nil })
    }

    private func report(_ holder: Holder, _ sighting: GuardSighting) {
        if sighting.isFinal {
            watches.removeValue(forKey: holder)?.close()
            tellWatchdog?(.over(holder))
        }
        tell?(.sighted(holder, sighting))
    }
}
