import Foundation
public import Messages
import ServiceKit

/// Reads the identity that a fence device tells of itself, to compare it with what the host reads in-band (S10).
public enum DeviceIdentity: Hashable, Sendable {
    /// 32 lower-case hexadecimal digits: the 16 bytes of the GUID in the order in which the device sends them.
    case guid(String)
    /// This kind of device has none that could be read: asking again is useless.
    case unsupported(String)
    case unreadable(String)

    /// Agents that are all `fence_ipmilan`.
    static let ipmiAgents: Set<String> = ["fence_ipmilan", "fence_ipmilanplus", "fence_ilo3", "fence_ilo4", "fence_ilo5", "fence_imm", "fence_idrac"]

    /// Blocking: call it on a thread of its own.
    public static func read(_ device: FenceDevice, ipmitool: String = "/usr/bin/ipmitool", deadline: Duration = .seconds(15)) -> DeviceIdentity {
        guard ipmiAgents.contains(device.agent) else { return .unsupported("\(device.agent) has no identity that can be read; an operator can vouch for it") }
        let secret: String?
        do throws(FenceAgent.Unusable) { secret = try FenceAgent.secret(of: device) } catch { return .unreadable(error.text) }
        var child = ChildProcess(ipmitool, arguments(device), deadline: deadline)
        child.ownPIDNamespace = true
        let outcome = child.run()
        if outcome.end == .exited(0), let guid = guid(in: outcome.output) { return .guid(guid) }
        let said = FenceAgent.scrub(outcome.errorOutput.isEmpty ? outcome.output : outcome.errorOutput, of: secret)
        return .unreadable("ipmitool mc guid: \(said.isEmpty ? "\(outcome.end)" : said)")
    }

    /// The password goes by file (`-f`), never in the list.
    static func arguments(_ device: FenceDevice) -> [String] {
        let options = device.options ?? [:]
        func flag(_ name: String) -> Bool { ["1", "yes", "on", "true"].contains((options[name] ?? "").lowercased()) }
        let lanplus = flag("lanplus") || device.agent != "fence_ipmilan"
        var list = ["-I", lanplus ? "lanplus" : "lan", "-H", device.address]
        if let port = options["ipport"] { list += ["-p", port] }
        if let username = device.username { list += ["-U", username] }
        if let file = device.secretFile { list += ["-f", file] }
        if lanplus, let cipher = options["cipher"] { list += ["-C", cipher] }
        return list + ["mc", "guid", "dump"]
    }

    /// For whoever asked through this host.
    public var told: FenceIdentity {
        switch self {
        case .guid(let guid): FenceIdentity(guid: guid, unsupported: false, detail: "")
        case .unsupported(let why): FenceIdentity(guid: nil, unsupported: true, detail: why)
        case .unreadable(let why): FenceIdentity(guid: nil, unsupported: false, detail: why)
        }
    }

    /// From the line `System GUID : ...`, with or without dashes.
    static func guid(in output: String) -> String? {
        for line in output.split(whereSeparator: \.isNewline) where line.contains("System GUID") {
            guard let value = line.split(separator: ":", maxSplits: 1).last else { continue }
            let digits = value.lowercased().filter { $0.isHexDigit }
            if digits.count == 32 { return digits }
        }
        return nil
    }
}
