import CLinux
import Foundation
import LeaseEngine
import LeaseFormat
import LeaseVolume
import Messages
import TestLab

/// What it costs to stay a member of lockspaces with few and many hosts: sanlock and lease-service at the same time, one process for each size.
struct LeaseRenewals {
    let place: LeasePlace

    private static let sizes = [1, 64, 250, 2000]
    /// Each process is a member of so many, so that the figures rest on some tens of renewals.
    private static let lockspaces = 4
    private static let seconds = 16.0
    /// The shortest: a renewal every 2 s.
    private static let ioTimeout = 1

    private struct Member {
        var name: String
        var pid: pid_t
        /// The lockspaces' files.
        var ids: [String]
        var end: () -> Void
    }

    func run() throws -> [Figure] {
        var members: [Member] = []
        defer { for member in members { member.end() } }
        // What a process does anyway.
        for size in [0] + Self.sizes {
            members.append(try sanlock(size))
            members.append(try ours(size))
        }
        sleep(3)
        let before = members.map { ProcessUse.of($0.pid) }
        let renewals = watch(members)
        let use = Dictionary(uniqueKeysWithValues: zip(members, before).map { ($0.name, ProcessUse.of($0.pid) - $1) })
        let idle = ["sanlock", "lease"].reduce(into: [:]) { $0[$1] = use["\($1)0"] }
        func each(_ who: String, _ size: Int, _ value: KeyPath<ProcessUse, Double>) -> Double {
            guard let use = use["\(who)\(size)"], let idle = idle[who] else { return .nan }
            return (use[keyPath: value] - idle[keyPath: value]) / (renewals["\(who)\(size)"] ?? .nan)
        }
        func processor(_ who: String, _ size: Int) -> Double { each(who, size, \.processor) * 1e6 }
        return Self.sizes.flatMap { size in
            let hosts = size == 1 ? "one host" : "\(size) hosts"
            return [("sanlock", "sanlock"), ("lease", "lease-service")].flatMap { name, who in
                [
                    Figure("\(name).renewal.\(size).processor", "\(who), a renewal among \(hosts): processor time beyond that of idling", .microseconds, processor(name, size)),
                    Figure("\(name).renewal.\(size).read", "read for it", .kilobytes, each(name, size, \.read) / 1024),
                ]
            } + [Figure("lease.renewal.\(size)", "sanlock's processor time for a renewal against ours, \(hosts)", .ratio, processor("sanlock", size) / processor("lease", size))]
        }
    }

    /// Counts each member's renewals for a while.
    private func watch(_ members: [Member]) -> [String: Double] {
        var seen: [String: UInt64] = [:]
        var renewals: [String: Double] = [:]
        let end = cl_boottime() + Int64(Self.seconds * 1e9)
        while cl_boottime() < end {
            for member in members {
                for path in member.ids {
                    guard case .data(let bytes) = DirectFile.read(path: path, offset: 0, length: 512), let record = try? LeaderRecord(bytes[...]) else { continue }
                    if seen[path] != nil, seen[path] != record.timestamp { renewals[member.name, default: 0] += 1 }
                    seen[path] = record.timestamp
                }
            }
            usleep(200_000)
        }
        return renewals
    }

    private func names(_ size: Int) -> [String] { size == 0 ? [] : (0..<Self.lockspaces).map { "r\(size)-\($0)" } }

    private func sanlock(_ size: Int) throws -> Member {
        let daemon = try SanlockDaemon(name: "s-\(size)", in: place.memory, logs: false)
        for lockspace in names(size) {
            _ = try place.makeSanlockVolumes(lockspace, resources: 0, ioTimeout: Self.ioTimeout)
            let ids = place.ids(ofSanlock: lockspace)
            if size > 1 { try LeasePlace.enter(2...size, in: ids, lockspace: lockspace, ioTimeout: UInt16(Self.ioTimeout)) }
            try daemon.join(lockspace, hostID: 1, at: ids, ioTimeout: Self.ioTimeout)
        }
        return Member(name: "sanlock\(size)", pid: daemon.pid, ids: names(size).map(place.ids(ofSanlock:)), end: daemon.kill)
    }

    private func ours(_ size: Int) throws -> Member {
        let node = try LeaseNode(name: "n-\(size)", hostID: 1, in: place.directory, memory: place.memory)
        for lockspace in names(size) {
            let domain = try place.path(lockspace)
            try node.initialize(lockspace, at: domain, ioTimeout: Self.ioTimeout)
            if size > 1 { try LeasePlace.enter(2...size, in: DomainLayout(root: domain).ids, lockspace: lockspace, ioTimeout: UInt16(Self.ioTimeout)) }
            try node.join(lockspace, at: domain)
        }
        return Member(name: "lease\(size)", pid: node.pid, ids: try names(size).map { try DomainLayout(root: place.path($0)).ids }, end: node.kill)
    }
}
