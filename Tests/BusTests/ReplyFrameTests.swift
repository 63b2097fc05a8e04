import Bus
import Foundation
import Messages
import Testing

@Suite struct ReplyFrameTests {
    private struct Amount: Codable, Equatable { var amount: Int }

    private func read(_ result: Result<Data, RequestError>) -> Result<Amount, RequestError> { ReplyFrame.body(Amount.self, result, from: "host1") }

    @Test func aReplyIsReadOrRefusesOrSaysNothing() throws {
        #expect(try read(.success(ReplyFrame.encode(id: "1", .success(Amount(amount: 3))))).get() == Amount(amount: 3))
        let refused = RequestError(RequestErrorCode.conflict, "no")
        #expect(throws: refused) { try read(.failure(refused)).get() }
        for unreadable in [ReplyFrame.encode(id: "1", .success(["amount": "three"])), ReplyFrame.encode(id: "1", .done), Data("{".utf8), Data()] {
            guard case .failure(let error) = read(.success(unreadable)) else {
                Issue.record("read \(String(decoding: unreadable, as: UTF8.self))")
                continue
            }
            #expect(error.isUnknownOutcome && error.message.contains("host1"))
        }
    }
}
