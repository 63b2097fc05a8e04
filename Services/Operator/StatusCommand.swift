import ArgumentParser
import Messages

/// `bulwark status`: the whole cluster on one page.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "status", abstract: "Hosts, pool, domains, VMs and processes at a glance.")
    @OptionGroup var options: GlobalOptions

    func run() throws {
        let survey = ClusterSurvey(of: try options.connect())
        try options.show(try survey.json()) { Self.page(survey) }
        guard survey.processes.contains(where: { $0.answer != nil }) else {
            throw OperatorError.serviceSilent.error("no process of cluster \(survey.cluster) answers")
        }
    }

    static func page(_ survey: ClusterSurvey) -> String {
        let sections = [
            "cluster \(survey.cluster)", hosts(survey), storage(survey), survey.vms.map(VMCommand.table) ?? "VMs: unknown, placement-service does not answer",
            processes(survey), notices(survey),
        ]
        return sections.joined(separator: "\n\n")
    }

    private static func hosts(_ survey: ClusterSurvey) -> String {
        guard let fencing = survey.fencing else { return "hosts: unknown, fencing-service does not answer" }
        var table = Table("HOST", "ID", "STATUS", "INCARNATION", "SPM", "VMS", "FREE MEMORY", "WHY")
        for host in fencing.hosts.sorted(by: { naturally($0.name, $1.name) }) {
            let vms = survey.vms(on: host.name)
            table.add(
                host.name, String(host.id), host.status.rawValue, host.incarnation.description, survey.isSPM(host.name) ? "SPM" : "-",
                vms.isEmpty ? "-" : vms.joined(separator: ","), host.memoryMiB.map { "\($0) MiB" } ?? "-", host.reason)
        }
        return table.text(empty: "no hosts yet")
    }

    private static func storage(_ survey: ClusterSurvey) -> String {
        let pools = survey.pools.map { $0.isEmpty ? "no pool yet" : $0.map { "pool " + PoolCommand.words($0) }.joined(separator: "\n") }
        return (pools ?? "pool: unknown, spm-coordinator does not answer") + "\n\n"
            + (survey.domains.map(DomainCommand.table) ?? "domains: unknown, domain-monitor does not answer")
    }

    private static func processes(_ survey: ClusterSurvey) -> String {
        var table = Table("PROCESS", "HEALTH", "PID", "REQUESTS")
        for process in survey.processes {
            table.add(process.endpoints.name, process.health, process.answer.map { String($0.pid) } ?? "-", process.endpoints.requests)
        }
        return table.text(empty: "no processes")
    }

    private static func notices(_ survey: ClusterSurvey) -> String {
        let notices = survey.notices
        let ha = survey.fencing.map { HACommand.words($0.ha) } ?? "automatic recovery: unknown, fencing-service does not answer"
        guard !notices.isEmpty else { return "\(ha); all is well" }
        return ([survey.troubledHA == nil ? "\(ha); look at:" : "look at:"] + notices.map { "  \($0)" }).joined(separator: "\n")
    }
}
