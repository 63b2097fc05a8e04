import ArgumentParser
import Foundation
import Messages

/// The gate before everything that can destroy data: says what was checked and what could not be, then needs `--yes` or the typed name.
struct Confirmation: ParsableArguments {
    @Flag(name: .long, help: "Do it without asking.")
    var yes = false

    /// - Parameters:
    ///   - action: what will be done, as in "power off host2".
    ///   - meaning: what follows from it.
    ///   - name: what a person types to confirm.
    /// - Throws: `RequestError` `command.not-confirmed`.
    func require(_ action: String, meaning: String? = nil, name: String, checked: [String], notChecked: [String]) throws {
        var lines = ["about to \(action)\(meaning.map { ": \($0)" } ?? "")"]
        lines += checked.map { "  checked: \($0)" }
        lines += notChecked.map { "  NOT checked: \($0)" }
        FileHandle.standardError.write(Data((lines.joined(separator: "\n") + "\n").utf8))
        if yes { return }
        guard isatty(STDIN_FILENO) == 1 else {
            throw OperatorError.notConfirmed.error("to \(action) needs a confirmation; nothing was changed")
        }
        FileHandle.standardError.write(Data("type \(name) to confirm: ".utf8))
        guard readLine(strippingNewline: true) == name else {
            throw OperatorError.notConfirmed.error("not confirmed; nothing was changed")
        }
    }
}
