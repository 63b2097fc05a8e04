import ArgumentParser
import Bus
import CLinux
import Foundation
import LeaseFormat
import Messages

/// The host that may change leases: the SPM.
private struct SPM {
    let host: String
    let lver: UInt64
    let process: ProcessEndpoints

    /// - Throws: `RequestError` `spm.none`.
    init(_ cluster: Cluster, pool: String?) throws {
        let view = try cluster.ask(.spm, "pool.show", PoolRequest(pool: pool)).decoded(as: PoolView.self)
        guard let host = view.spm, view.status == .up else { throw RequestError(SPMErrorCode.noSPM, "pool \(view.pool) has no SPM: \(view.reason)") }
        self.host = host
        lver = view.lver
        process = cluster.leaseService(of: host)
    }
}

/// Where a change of leases goes: to the SPM, or directly to a volume.
struct LeasePlace: ParsableArguments {
    @Option(help: "Domain of the lease: name or uuid.") var domain: String?
    @Option(help: "Pool; the only one if left out.") var pool: String?
    @Option(help: "Ask no service: change this xleases volume.") var path: String?
    @OptionGroup var use: UseCheck

    func validate() throws {
        guard (domain == nil) != (path == nil) else { throw ValidationError("say which --domain, or which volume with --path") }
    }
}

extension LeaseCommand {
    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a lease in a domain's index, by the SPM.", discussion: "Exists already: done. `bulwark vm define` makes the leases of a VM's disks by itself.")
        @Argument(help: "Resource: the disk's image uuid.") var resource: String
        @OptionGroup var place: LeasePlace
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            if let path = place.path { return try VolumeLeases(path: path).create(resource, place.use, confirmation, options) }
            let cluster = try options.connect()
            var names = DomainNames(cluster: cluster)
            let domain = place.domain ?? ""
            let lease = LeaseName(lockspace: try names.uuid(of: domain), resource: resource)
            let reply = try cluster.command(.spm, "lease.create", LeaseRequest(lease: lease), timeout: .seconds(120))
            try options.show(reply) { "domain \(domain) has the lease \(resource)" }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove a lease from a domain's index, by the SPM.",
            discussion: "The SPM takes the lease first: one that anybody holds is not removed. A VM whose disk has no lease any more does not start. Is none there: done.")
        @Argument(help: "Resource: the disk's image uuid.") var resource: String
        @OptionGroup var place: LeasePlace
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            if let path = place.path { return try VolumeLeases(path: path).remove(resource, place.use, confirmation, options) }
            let cluster = try options.connect()
            var names = DomainNames(cluster: cluster)
            let domain = place.domain ?? ""
            let lease = LeaseName(lockspace: try names.uuid(of: domain), resource: resource)
            let spm = try SPM(cluster, pool: place.pool)
            try confirmation.require(
                "remove lease \(resource) of domain \(domain)", meaning: "a VM with this disk does not start until the lease is made again", name: resource,
                checked: ["\(spm.host) is SPM, version \(spm.lver) of its lease; it removes the lease only if it can take it"], notChecked: ["whether a VM is defined with this disk"])
            let reply = try cluster.change(spm, "lease.remove", LeaseRequest(lease: lease, lver: spm.lver))
            try options.show(reply) { "domain \(domain) has no lease \(resource) any more" }
        }
    }

    struct Rebuild: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make the index of a domain's leases and the leases agree again, by the SPM.",
            discussion: """
                The way out when `bulwark lease list` shows records that are updating or corrupt. The index is the source of truth: a lease that it names is made where it is missing,
                a lease that no record names is removed, and only a damaged record is restored from its lease. What somebody may use is left as it is, and told.
                """)
        @OptionGroup var place: LeasePlace
        @OptionGroup var confirmation: Confirmation
        @OptionGroup var options: GlobalOptions

        func run() throws {
            if let path = place.path { return try DirectRebuild(path: path, use: place.use, confirmation: confirmation).run(options) }
            let cluster = try options.connect()
            var names = DomainNames(cluster: cluster)
            let domain = place.domain ?? ""
            let spm = try SPM(cluster, pool: place.pool)
            let request = IndexRebuildRequest(lockspace: try names.uuid(of: domain), lver: spm.lver)
            try confirmation.require(
                "rebuild the lease index of domain \(domain)", meaning: "leases that no record names and nobody uses are removed", name: domain,
                checked: ["\(spm.host) is SPM, version \(spm.lver) of its lease; it leaves what somebody may use"], notChecked: [])
            let reply = try cluster.change(spm, "index.rebuild", request)
            try options.show(reply.adding(["name": .string(domain), "status": .string("ok")])) {
                let report = try reply.decoded(as: IndexRebuildReport.self)
                let left = report.refused.map { "left as it is: \($0)" }
                return (["the lease index of domain \(domain) is whole: \(report.leases) leases, \(report.steps.count) changes"] + report.steps + left).joined(separator: "\n")
            }
        }
    }
}

extension Cluster {
    /// Gives the SPM's lease-service a command, once it has answered a ping.
    fileprivate func change(_ spm: SPM, _ type: String, _ body: any Encodable) throws -> JSONValue {
        _ = try ask(spm.process, "ping")
        return try call(spm.process, type, body, timeout: .seconds(120))
    }
}
