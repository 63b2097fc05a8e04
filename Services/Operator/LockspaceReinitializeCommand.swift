import ArgumentParser
import Bus
import Foundation
import Messages

extension LockspaceCommand {
    struct Reinitialize: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a lockspace anew: every host id and lease free, nothing else lost.",
            discussion: """
                Assesses first and says what it found. Then: every host leaves (guests with disks there are stopped), the area is backed up, written, verified and opened,
                and watched until every host has joined and the domain was Active for three renewals. Refused while anything lives, or nothing proves that it does not.
                After a crash, the same with --resume goes on; `bulwark lockspace restore` goes back.
                """)
        @Argument(help: "Domain: name or uuid.") var lockspace: String
        @Option(help: "The host that writes (default: the first that answers).") var host: String?
        @Flag(help: "Only assess; changes nothing.") var dryRun = false
        @Flag(help: "Go on with what that host began and did not finish.") var resume = false
        @Flag(help: "Go on where nothing is proven; needs a typed confirmation.") var force = false
        @Option(help: ArgumentHelp("Instead of typing the confirmation of --force.", valueName: "force NAME")) var typed: String?
        @Option(help: "The backup that is made first: a file on the host that writes.") var backup: String?
        @Option(help: "Seconds within which storage answers, from then on.") var ioTimeout: Int?
        @Option(help: "Sector size from then on: 512 or 4096.") var sector: Int?
        @Option(help: "MiB of one lease area from then on: 1, 2, 4 or 8.") var align: Int?
        @OptionGroup var reason: Reason
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func validate() throws {
            guard !(resume && dryRun) else { throw ValidationError("--resume goes on with what was assessed when it began and has nothing left to assess: leave out --dry-run or --resume") }
        }

        func run() throws {
            let keeper = try LockspaceKeeper(lockspace, reason, options)
            let repair = LockspaceRepairRun(keeper: keeper, type: "lockspace.reinitialize", host: try keeper.writer(host))
            var order = LockspaceRepair(
                lockspace: keeper.domain.domain, path: keeper.domain.path, backup: backup, ioTimeout: ioTimeout, sectorSize: sector, alignment: align.map { $0 << 20 }, resume: resume, force: force,
                who: reason.name, why: reason.why)
            try repair.run(&order, dryRun: dryRun, typed: typed, confirmation, options)
        }
    }

    struct Restore: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a lockspace back from a backup: its leases and generations as they were, or later; nothing held.",
            discussion: "The same steps and refusals as `reinitialize`; also the way back from one that did not finish.")
        @Argument(help: "Domain: name or uuid.") var lockspace: String
        @Argument(help: "The backup: a file on the host that writes.") var backup: String
        @Option(help: "The host that writes (default: the first that answers).") var host: String?
        @Flag(help: "Only assess; changes nothing.") var dryRun = false
        @Flag(help: "Go on where nothing is proven; needs a typed confirmation.") var force = false
        @Option(help: ArgumentHelp("Instead of typing the confirmation of --force.", valueName: "force NAME")) var typed: String?
        @OptionGroup var reason: Reason
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            let keeper = try LockspaceKeeper(lockspace, reason, options)
            let repair = LockspaceRepairRun(keeper: keeper, type: "lockspace.restore", host: try keeper.writer(host))
            var order = LockspaceRepair(
                lockspace: keeper.domain.domain, path: keeper.domain.path, backup: URL(fileURLWithPath: backup).path, force: force, who: reason.name, why: reason.why)
            try repair.run(&order, dryRun: dryRun, typed: typed, confirmation, options)
        }
    }
}

extension LockspaceKeeper {
    /// The host whose lease-service writes.
    func writer(_ named: String?) throws -> String {
        if let named { return named }
        guard let found = look().map(\.host).sorted(by: naturally).first else { throw OperatorError.serviceSilent.error("no lease-service answers of \(hosts.joined(separator: ", "))") }
        return found
    }
}

/// Drain, assess, back up, write, verify, open, watch: one after the other, each said.
struct LockspaceRepairRun {
    let keeper: LockspaceKeeper
    let type: String
    let host: String

    private static let patience = Duration.seconds(900)

    func run(_ order: inout LockspaceRepair, dryRun: Bool, typed: String?, _ confirmation: Confirmation, _ options: GlobalOptions) throws {
        let name = keeper.domain.name
        let what = type == "lockspace.restore" ? "restore" : "reinitialise"
        if !order.resume {
            keeper.progress.step("assessing \(name) on \(host)")
            let report = try assess(order)
            if dryRun { return try options.show(try JSONValue(encoding: report)) { Self.text(report) } }
            if !options.json { print(Self.text(report)) }
        }
        let known = try? keeper.guests().map(\.name)
        let guests = known ?? []
        try confirmation.require(
            "\(what) lockspace \(name)", meaning: guests.isEmpty ? "every host leaves it" : "every host leaves it, and these guests are stopped meanwhile: \(guests.joined(separator: ", "))", name: name,
            checked: ["what is listed above"], notChecked: ["programs that use \(keeper.domain.path) without leases, or hosts that are not registered and did not renew while it was read"]
                + (known == nil ? ["which guests have disks there: placement-service does not answer"] : []))
        if order.force { try confirmForce(name, typed) }
        let hosts: [LockspaceDrainView]
        var stopped: [String] = []
        do {
            hosts = try keeper.drain(stopping: &stopped, force: order.force)
        } catch let error as RequestError where error.code == LockspaceErrorCode.inUse.rawValue && order.force {
            keeper.progress.step("forced: \(error.message)")
            hosts = keeper.look()
        }
        (order.facts, order.proofs) = keeper.facts()
        keeper.progress.step("\(host) backs up, writes and verifies")
        var done: LockspaceAssessment
        do {
            done = try keeper.cluster.call(keeper.cluster.leaseService(of: host), type, order, timeout: Self.patience).decoded(as: LockspaceAssessment.self)
        } catch let error as RequestError {
            var details = error.details ?? [:]
            details["drained"] = "hosts stay out until it is done, or `bulwark lockspace drain --open \(name)`"
            throw RequestError(code: error.code, message: error.message, details: details).adding("stopped", stopped)
        }
        let missing: MissingHosts
        do {
            missing = keeper.missing(of: try keeper.open())
            try keeper.watch(hosts.map(\.host))
        } catch let error as RequestError {
            throw error.adding("written", ["\(name) is written anew, backup of what was: \(host):\(done.backup ?? "-")"]).adding("stopped", keeper.start(stopped))
        }
        let down = keeper.start(stopped)
        let again = stopped.filter { !down.contains($0) }
        done.notes += again.isEmpty ? [] : ["stopped and started again: \(again.joined(separator: ", "))"]
        done.notes += down.isEmpty ? [] : ["stopped, and not started again: \(down.joined(separator: ", "))"]
        done.notes += missing.isEmpty ? [] : ["not asked to join: \((missing.proven + missing.unknown).joined(separator: ", ")); `bulwark lockspace drain --open \(name)` when they answer"]
        try options.show(try JSONValue(encoding: done)) {
            "\(name) is written anew (\(done.then)); every host \(missing.isEmpty ? "" : "that answers ")has joined. Backup of what was: \(host):\(done.backup ?? "-")"
                + (down.isEmpty ? "" : "\nNOT started again: \(down.joined(separator: ", "))") + missing.text
        }
    }

    private func assess(_ order: LockspaceRepair) throws -> LockspaceAssessment {
        var order = order
        order.dryRun = true
        (order.facts, order.proofs) = keeper.facts()
        return try keeper.cluster.ask(keeper.cluster.leaseService(of: host), type, order, timeout: Self.patience).decoded(as: LockspaceAssessment.self)
    }

    /// `--yes` is not enough for what nothing proves.
    private func confirmForce(_ name: String, _ typed: String?) throws {
        let wanted = "force \(name)"
        if typed == wanted { return }
        guard isatty(STDIN_FILENO) == 1 else {
            throw OperatorError.notConfirmed.error("--force needs a typed confirmation, or --typed \"\(wanted)\"; nothing was changed")
        }
        FileHandle.standardError.write(Data("what nothing proves may still live, and write: type \"\(wanted)\" to go on: ".utf8))
        guard readLine(strippingNewline: true) == wanted else { throw OperatorError.notConfirmed.error("not confirmed; nothing was changed") }
    }

    static func text(_ report: LockspaceAssessment) -> String {
        var hosts = Table("HOST ID", "NAME", "GENERATION", "STATE", "AGE", "EVIDENCE")
        for slot in report.slots { hosts.add(String(slot.hostID), slot.name, String(slot.generation), slot.state, slot.age.map { "\($0.milliseconds / 1000) s" } ?? "-", slot.evidence) }
        var leases = Table("LEASE", "PLACE", "LVER", "STATE", "EVIDENCE")
        for lease in report.leases { leases.add(lease.resource, lease.place, String(lease.lver), lease.state, lease.evidence) }
        var lines = ["\(report.lockspace) at \(report.path)", "now:  \(report.now)", "then: \(report.then)", "", hosts.text(empty: "no host id was ever used"), "", leases.text(empty: "no leases"), ""]
        lines += report.notes.map { "note: \($0)" }
        lines += report.obstacles.map { "\($0.canBeForced ? "unproven" : "REFUSED"): \($0.why)" }
        lines.append(report.obstacles.isEmpty ? "nothing keeps it from being written" : "it is refused as it is now\(report.obstacles.allSatisfy(\.canBeForced) ? ", unless --force" : "")")
        lines.append("\(report.writes) writes of \(report.bytes / 1024) KiB")
        return lines.joined(separator: "\n")
    }
}
