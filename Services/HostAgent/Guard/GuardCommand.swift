import CLinux
import Glibc
import GuardEngine
import Messages

/// `vm-guard`: the parent of one guest, or of the SPM role's worker.
///
/// It holds what that run holds (VM lock, disk locks, leases with their deadline), and its end is the run's end. Two modes:
///
/// * `run`: take locks and leases, start the payload in a PID namespace of its own, end it at the deadline, leave a result.
/// * `exec`: what `run` starts inside the namespace; checks once more that parent and deadline are still there, then becomes the payload.
///
/// It has no Foundation, one thread, and its memory is locked: nothing but the kernel stands between a deadline and the end of the guest (S8).
@main
enum GuardCommand {
    static func main() {
        let arguments = Array(CommandLine.arguments.dropFirst())
        switch arguments.first {
        case "run":
            guard let options = RunOptions(arguments.dropFirst()) else { usage() }
            run(options)
        case "exec":
            guard let options = ExecOptions(arguments.dropFirst()) else { usage() }
            Payload.become(options)
        case "--version":
            Log.print("vm-guard 0.1.0")
        default:
            usage()
        }
    }

    private static func run(_ options: RunOptions) {
        if options.daemonize { leaveParent() }
        Log.redirect(to: options.log)
        signal(SIGPIPE, SIG_IGN)
        signal(SIGHUP, SIG_IGN)
        umask(0o077)
        var run = GuardRun(options)
        exit(run.untilOver() ? 0 : 1)
    }

    /// The caller's own process ends at once, so that init adopts the guard: it outlives the agent that started it.
    private static func leaveParent() {
        let child = cl_fork()
        if child > 0 { _exit(0) }
        if child < 0 {
            Log.line("cannot fork: \(Log.error(errno))")
            _exit(1)
        }
        setsid()
    }

    private static func usage() -> Never {
        Log.line(
            """
            usage: vm-guard run --holder ROLE:NAME:ATTEMPT --run DIR --boot-id ID --vm-lock PATH [--spec FILE] [--lease LOCKSPACE|RESOURCE[|shared]]... \
            [--disk-lock PATH]... [--generation LOCKSPACE|G]... [--proofs FILE] [--on-lease-loss kill|pause] [--pause-before MILLISECONDS] [--log FILE] \
            [--daemonize] -- PAYLOAD [ARGUMENT]...
            """)
        exit(2)
    }
}

/// Everything `vm-guard run` is told.
struct RunOptions {
    let plan: GuardPlan
    /// The host's run directory.
    var run = ""
    var bootID = ""
    var spec: String?
    var log: String?
    var daemonize = false
    /// Executable and its arguments.
    var payload: [String] = []

    init?(_ arguments: ArraySlice<String>) {
        var rest = arguments
        var holder: Holder?
        var vmLock = ""
        var leases: [GuardLease] = []
        var diskLocks: [String] = []
        var generations: [String] = []
        var proofs: String?
        var onLeaseLoss = LeaseLossAction.kill
        var pauseBefore: Duration?
        while let option = rest.popFirst() {
            if option == "--" {
                payload = Array(rest)
                break
            }
            if option == "--daemonize" {
                daemonize = true
                continue
            }
            guard let value = rest.popFirst() else { return nil }
            switch option {
            case "--holder":
                guard let parsed = Holder(value) else { return nil }
                holder = parsed
            case "--run": run = value
            case "--boot-id": bootID = value
            case "--vm-lock": vmLock = value
            case "--spec": spec = value
            case "--lease":
                guard let lease = GuardLease(value) else { return nil }
                leases.append(lease)
            case "--disk-lock": diskLocks.append(value)
            case "--generation": generations.append(value)
            case "--proofs": proofs = value
            case "--on-lease-loss":
                guard let action = LeaseLossAction(rawValue: value) else { return nil }
                onLeaseLoss = action
            case "--pause-before":
                guard let milliseconds = Int64(value), milliseconds > 0 else { return nil }
                pauseBefore = .milliseconds(milliseconds)
            case "--log": log = value
            default: return nil
            }
        }
        guard let holder, !run.isEmpty, !vmLock.isEmpty, !payload.isEmpty else { return nil }
        plan = GuardPlan(
            holder: holder, vmLock: vmLock, diskLocks: diskLocks, leases: leases, generations: generations, proofs: proofs, onLeaseLoss: onLeaseLoss,
            pauseBefore: pauseBefore, needsSpec: spec != nil)
    }

    var controlSocket: String { "\(run)/guards/\(plan.holder).sock" }
    var result: String { "\(run)/guards/\(plan.holder).result" }
    var leaseService: String { "\(run)/lease-service.guards" }
}

/// Everything `vm-guard exec` is told: descriptors are inherited.
struct ExecOptions {
    /// Absolute CLOCK_BOOTTIME nanoseconds after which the payload must not begin; 0: none.
    var deadline: Int64 = 0
    /// Read end of a pipe whose write end only the guard has: hung up when the guard is gone.
    var parent: Int32 = -1
    /// Write end of a pipe: closed by the payload's exec, or told why that failed.
    var ready: Int32 = -1
    var payload: [String] = []

    init(deadline: Int64, parent: Int32, ready: Int32, payload: [String]) {
        self.deadline = deadline
        self.parent = parent
        self.ready = ready
        self.payload = payload
    }

    init?(_ arguments: ArraySlice<String>) {
        let words = Array(arguments)
        guard words.count >= 5, let deadline = Int64(words[0]), let parent = Int32(words[1]), let ready = Int32(words[2]), words[3] == "--" else { return nil }
        self.init(deadline: deadline, parent: parent, ready: ready, payload: Array(words[4...]))
    }

    var arguments: [String] { ["exec", String(deadline), String(parent), String(ready), "--"] + payload }
}
