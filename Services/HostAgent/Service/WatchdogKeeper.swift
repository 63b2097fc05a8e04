import Bus
import HostAgentEngine
import Messages
import ServiceKit

/// Opens, feeds and disarms this host's watchdog as ``Watchdog`` says. It decides on the engine's own loop: whatever stops that stops the feeding.
@ReactorActor
final class WatchdogKeeper {
    /// Whether the leases of this host are covered.
    var tell: (@ReactorActor (AgentInput) -> Void)?
    var setProblem: (@ReactorActor (String?) -> Void)?
    /// Whether the agent still finds out what runs here.
    var isInitializing: (@ReactorActor () -> Bool)?
    private let leases: RequestClient
    private let thread: WatchdogThread
    private let results = Results()
    private var watchdog: Watchdog
    private var hasLooked = false
    private var whenEnded: (@ReactorActor () -> Void)?
    private let alarm = Alarm()

    init(_ places: HostPlaces) throws {
        watchdog = Watchdog(timeout: places.watchdogTimeout)
        leases = try RequestClient(endpoint: places.leaseService, serverKey: nil, security: nil, from: nil, lineage: nil, term: nil)
        let results = results
        thread = WatchdogThread(device: places.watchdogDevice, run: places.run) { input in
            Reactor.shared.post { results.keeper?.handle(input) }
        }
        results.keeper = self
    }

    func start() { handle(.begin(isCounting: thread.isCounting)) }

    func handle(_ input: Watchdog.Input) {
        if !hasLooked, isInitializing?() == false {
            hasLooked = true
            handle(.looked)
        }
        for step in watchdog.handle(input, at: Clock.boottime()) { carryOut(step) }
        alarm.set(watchdog.nextWake) { [self] in handle(.wake) }
        if watchdog.mayEnd { end() }
    }

    /// Calls `done` once it is disarmed, or needed, or a second has passed.
    func drain(_ done: @escaping @ReactorActor () -> Void) {
        whenEnded = done
        Reactor.shared.after(.seconds(1)) { [self] in end() }
        handle(.ending)
    }

    private func end() {
        let done = whenEnded
        whenEnded = nil
        done?()
    }

    private func carryOut(_ step: Watchdog.Step) {
        switch step {
        case .open(let timeout, let notAfter): thread.submit(.open(timeout: timeout, notAfter: notAfter))
        case .feed(let notAfter): thread.submit(.feed(notAfter: notAfter))
        case .shorten: thread.submit(.shorten)
        case .close: thread.submit(.close)
        case .report(let report):
            leases.request("watchdog.report", report, timeout: .seconds(2)) { [self] in handle(.answered(armed: report.armed, $0.error)) }
        case .covers(let covers, let why): tell?(.watchdog(covers: covers, why: why))
        case .problem(let problem): setProblem?(problem)
        }
    }

    /// Where the thread's results go, once there is a keeper.
    @ReactorActor private final class Results {
        weak var keeper: WatchdogKeeper?
        nonisolated init() {}
    }
}
