import Foundation
import Testing

extension TestCluster {
    /// Whatever a test did to the cluster: every journal, read while its service runs, leads to the same decisions again.
    func expectSameDecisionsAgain() throws {
        let files = FileManager.default.enumerator(atPath: directory)?.compactMap { $0 as? String } ?? []
        let journals = files.filter { ["journal", "journal.sqlite"].contains(($0 as NSString).lastPathComponent) }.sorted()
        #expect(journals.count == 4 + 2 * Self.hostNames.count)
        for journal in journals {
            let replay = try bulwark("replay", "\(directory)/\(journal)", expecting: nil)
            #expect(replay.status == 0, "\(journal):\n\(replay.text)\(replay.errorText)")
        }
    }
}
