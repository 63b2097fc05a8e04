import ArgumentParser
import ServiceKit

/// The operator's command.
@main
struct Bulwark: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bulwark",
        abstract: "Keeps virtual machines running once, and only once.",
        discussion: "Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 outcome unknown.",
        version: Version.text,
        subcommands: [UpCommand.self, DownCommand.self] + verbs + [KeysCommand.self, LabCommand.self, SuperviseCommand.self, ContainerCommand.self])

    @OptionGroup var options: GlobalOptions
}
