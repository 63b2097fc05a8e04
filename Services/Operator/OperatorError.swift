import Messages

/// Error codes that the command itself makes.
enum OperatorError: String, CaseIterable {
    /// A process did not answer a question; nothing was changed.
    case serviceSilent = "service.silent"
    /// No process of that name in this cluster.
    case serviceUnknown = "service.unknown"
    /// It answers, but says that something is wrong.
    case serviceDegraded = "service.degraded"
    /// A destructive command was not confirmed; nothing was changed.
    case notConfirmed = "command.not-confirmed"
    /// A definition or configuration file is not usable; the message names file, line and key.
    case badFile = "file.invalid"
    /// A volume cannot be read or written, or does not hold what was asked for.
    case badVolume = "volume.unreadable"
    /// A lockspace is in use, or was not given back: nothing was written.
    case volumeInUse = "lockspace.in-use"
    /// A simulated run broke an invariant, or did not go as its scenario expects.
    case simulationFailed = "simulation.failed"

    /// An index is only replaced by one of the same lockspace: leases of another one are in use by hosts that nobody looked for.
    static func otherLockspace(_ found: String, _ action: String) -> RequestError {
        badVolume.error("refused to \(action): the index that is there is of lockspace \(found); name that one with --lockspace, or another place with --path; nothing was written")
    }

    func error(_ message: String, details: [String: String]? = nil) -> RequestError {
        RequestError(code: rawValue, message: message, details: details)
    }
}
