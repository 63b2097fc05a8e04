import CLinux
import Glibc
import GuardEngine
import Messages

/// One guarded run: does what its engine wants, and tells it what happens.
struct GuardRun: ~Copyable {
    private let options: RunOptions
    private var engine: GuardEngine
    private var inputs: [GuardInput] = []
    private var locks: [(path: String, file: Int32)] = []
    private var payload: Payload?
    private var lease = LeaseLink()
    private var sanlock = SanlockLink()
    private var control = ControlSocket()
    private let timer: Int32
    private var result: GuardMessage?

    init(_ options: RunOptions) {
        self.options = options
        engine = GuardEngine(options.plan)
        timer = timerfd_create(CLOCK_BOOTTIME, Int32(TFD_CLOEXEC) | Int32(TFD_NONBLOCK))
    }

    /// Runs to the end and leaves the result; whether the run was ended properly (not refused).
    mutating func untilOver() -> Bool {
        feed(.begin(unlocked: mlockall(MCL_CURRENT | MCL_FUTURE) == 0 ? nil : Log.error(errno)))
        while result == nil { turn() }
        return result?.verb == "ended"
    }

    private static var now: Instant { Instant(nanoseconds: cl_boottime()) }

    // MARK: What happens

    private mutating func turn() {
        var watched = [pollfd(fd: timer, events: Int16(POLLIN), revents: 0)]
        if let payload {
            watched.append(pollfd(fd: payload.pidfd, events: Int16(POLLIN), revents: 0))
            if payload.ready >= 0 { watched.append(pollfd(fd: payload.ready, events: Int16(POLLIN), revents: 0)) }
        }
        for descriptor in [sanlock.answer, sanlock.connection] where descriptor >= 0 { watched.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)) }
        if lease.descriptor >= 0 { watched.append(pollfd(fd: lease.descriptor, events: Int16(POLLIN), revents: 0)) }
        for descriptor in control.descriptors { watched.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)) }
        // Without a timer the engine hears so each time, and still tries again what it must.
        poll(&watched, nfds_t(watched.count), arm() ? -1 : 50)
        feed(.tick)
        lookAtPayload()
        if let taken = sanlock.taken() { feed(.sanlockAnswered(taken)) }
        if sanlock.isGone() { feed(.sanlockGone) }
        hearLeaseService()
        for (client, message) in control.received() where result == nil { feed(.agentMessage(client: client, message)) }
    }

    private mutating func hearLeaseService() {
        while lease.descriptor >= 0 {
            switch lease.receive() {
            case .none: return
            case .broken(let reason): feed(.leaseBroken(why: reason))
            case .message(let message): feed(.leaseMessage(message))
            }
        }
    }

    private mutating func lookAtPayload() {
        switch payload?.begun() {
        case .yes: feed(.payloadBegan)
        case .failed(let why): feed(.payloadNotBegun(why: why))
        case .notYet, nil: break
        }
        guard let exit = payload?.reap() else { return }
        payload = nil
        feed(.payloadExited(exit))
    }

    /// The kernel's timer stands between the deadline and everything else: it counts suspend, and no timeout of this process does.
    private mutating func arm() -> Bool {
        var time = itimerspec()
        // Zero would disarm it.
        if let at = engine.nextWake.map({ max(1, $0.nanoseconds) }) { time.it_value = timespec(tv_sec: Int(at / 1_000_000_000), tv_nsec: Int(at % 1_000_000_000)) }
        guard timerfd_settime(timer, Int32(TFD_TIMER_ABSTIME), &time, nil) != 0 else { return true }
        feed(.timerFailed(why: Log.error(errno)))
        return false
    }

    // MARK: What is done

    /// What an action brings about is told when all actions are done.
    private mutating func feed(_ input: GuardInput) {
        inputs.append(input)
        while !inputs.isEmpty {
            let next = inputs.removeFirst()
            for action in engine.handle(next, at: Self.now) { perform(action) }
        }
    }

    private mutating func perform(_ action: GuardAction) {
        switch action {
        case .takeLock(let path):
            let lock = FileLock.take(path)
            if let lock { locks.append((path, lock)) }
            inputs.append(lock == nil ? .lockHeld(path) : .lockTaken(path))
        case .lookForSpec:
            inputs.append(.specSeen(isThere: access(options.spec ?? "", F_OK) == 0))
        case .listen:
            inputs.append(.listening(failure: control.listen(at: options.controlSocket) ? nil : "\(options.controlSocket): \(Log.error(errno))"))
        case .connectToLeaseService:
            inputs.append(lease.connect(to: options.leaseService) ? .leaseConnected : .leaseBroken(why: "not there"))
        case .send(let message):
            if lease.descriptor >= 0, !lease.send(message) { inputs.append(.leaseBroken(why: "cannot be told anything")) }
        case .takeFromSanlock(let order):
            if let why = sanlock.take(order) { inputs.append(.sanlockAnswered(SanlockAnswer(result: -EINVAL, why: why))) }
        case .dropSanlock:
            sanlock.drop()
        case .startPayload(let deadline, let environment):
            start(deadline, environment)
        case .killGroup:
            payload?.end()
        case .pauseGroup:
            payload?.pause()
        case .resumeGroup(let deadline):
            if Self.now < deadline { payload?.resume() }
        case .closeDiskLocks:
            for lock in locks where lock.path != options.plan.vmLock { close(lock.file) }
            locks.removeAll { $0.path != options.plan.vmLock }
        case .tell(let message):
            control.tell(message)
        case .answer(let client, let message):
            control.answer(client, message)
        case .finish(let result, let isOurs):
            finish(result, isOurs)
        case .log(let line):
            Log.line(line)
        }
    }

    private mutating func start(_ deadline: Instant?, _ environment: [String: String]) {
        switch Payload.start(options.payload, deadline: deadline, environment: environment) {
        case .success(let started):
            payload = started
            inputs.append(.payloadStarted(pid: started.pid))
        case .failure(let failure):
            inputs.append(.payloadNotStarted(why: failure.why))
        }
    }

    private mutating func finish(_ result: GuardMessage, _ isOurs: Bool) {
        self.result = result
        Log.line("over: \(result.text.split(separator: "\n").joined(separator: ", "))")
        if !isOurs, let other = Packet.connect(to: options.controlSocket) {
            close(other)
            return
        }
        ResultFile.write(result.text, to: options.result)
        unlink(options.controlSocket)
    }
}
