import Messages

/// Who asks over a socket that the file system guards: what it calls itself is believed.
enum LocalCaller {
    static func named(_ from: String?) -> Caller {
        guard let from else { return Caller(role: .operator_) }
        if from.hasSuffix("-service") || from == "spm-coordinator" || from == "domain-monitor" { return Caller(role: .service) }
        let path = from.split(separator: "/")
        guard path.last == "host-agent" else { return Caller(role: .operator_) }
        return Caller(role: .agent, host: path.count == 2 ? String(path[0]) : nil)
    }
}
