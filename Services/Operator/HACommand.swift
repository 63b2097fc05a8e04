import ArgumentParser
import Bus
import Messages

/// `bulwark ha`: whether anything happens by itself.
struct HACommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ha", abstract: "Automatic fencing and recovery: status, enable, disable.", subcommands: [Status.self, Enable.self, Disable.self])

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Whether automatic recovery is on, and what holds it.")
        @OptionGroup var options: GlobalOptions

        func run() throws { try HACommand.show(try options.connect().snapshot(.fencing, as: FencingSnapshot.self).ha, options) }
    }

    struct Enable: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Switch automatic fencing and recovery on.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            try HACommand.show(try options.connect().command(.fencing, "ha.enable", Nothing()).decoded(as: HAState.self), options)
        }
    }

    struct Disable: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Switch automatic fencing and recovery off.")
        @OptionGroup var options: GlobalOptions

        func run() throws {
            try HACommand.show(try options.connect().command(.fencing, "ha.disable", Nothing()).decoded(as: HAState.self), options)
        }
    }

    static func show(_ state: HAState, _ options: GlobalOptions) throws {
        try options.show(try JSONValue(encoding: state)) { words(state) }
    }

    static func words(_ state: HAState) -> String {
        var parts = [state.enabled ? "automatic recovery is enabled" : "automatic recovery is DISABLED: nothing is fenced or restarted"]
        if let hold = state.hold { parts.append("HELD by an operator: \(hold)") }
        parts += (state.alarms ?? []).map { "ALARM: \($0); when it is resolved, `bulwark ha enable` lets recovery go on" }
        if state.enabled, state.hold == nil, state.alarms?.isEmpty != false, !state.recoveryAllowed { parts.append("recovery is NOT allowed now") }
        return parts.joined(separator: "; ")
    }
}

/// `bulwark hold`: for a time, nothing automatic happens to power or placement.
struct HoldCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "hold", abstract: "Hold all automatic power and placement actions, or release them.")
    @Option(name: .customLong("for"), help: "How long, such as 30m or 2h; until released if left out.") var duration: String?
    @Option(help: "Why; everybody sees it.") var why: String?
    @Flag(help: "End the hold.") var release = false
    @OptionGroup var options: GlobalOptions

    func validate() throws {
        guard release || why?.isEmpty == false else { throw ValidationError("say --why, or --release to end a hold") }
        guard !release || (duration == nil) else { throw ValidationError("--release ends the hold now; --for does not go with it") }
        if let duration, Self.parse(duration) == nil { throw ValidationError("--for \(duration): expected a time such as 90s, 30m or 2h") }
    }

    func run() throws {
        let request = HoldRequest(why: why ?? "", duration: duration.flatMap(Self.parse), release: release)
        try HACommand.show(try options.connect().command(.fencing, "ha.hold", request).decoded(as: HAState.self), options)
    }

    /// `90s`, `30m`, `2h`.
    static func parse(_ text: String) -> Duration? {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
        guard let unit = text.last.flatMap({ units[$0] }), let number = Int64(text.dropLast()), (1...100_000).contains(number) else { return nil }
        return .seconds(number * unit)
    }
}
