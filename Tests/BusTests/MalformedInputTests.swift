import Bus
import CZeroMQ
import Foundation
import Messages
import Testing

struct BadInput: Sendable, CustomTestStringConvertible {
    var name: String
    var frames: [Data]
    var code = RequestErrorCode.malformed
    var field: String
    var id: String?
    var testDescription: String { name }

    init(_ name: String, _ texts: [String], _ code: RequestErrorCode = .malformed, field: String, id: String? = nil) {
        self.init(name, data: texts.map { Data($0.utf8) }, code, field: field, id: id)
    }

    init(_ name: String, data: [Data], _ code: RequestErrorCode = .malformed, field: String, id: String? = nil) {
        self.name = name
        frames = data
        self.code = code
        self.field = field
        self.id = id
    }

    static let all: [BadInput] = [
        BadInput("an empty frame", [""], field: "frame"),
        BadInput("no JSON", ["hello"], field: "frame"),
        BadInput("half an object", [#"{"v":1,"id":"a""#], field: "frame"),
        BadInput("an array", ["[1]"], field: "frame"),
        BadInput("something behind the object", [#"{"v":1,"id":"a","type":"ping","body":{}} x"#], field: "frame"),
        BadInput("a body that is not JSON", [#"{"v":1,"id":"a","type":"ping","body":{nonsense}}"#], field: "frame"),
        BadInput("bytes that are not UTF-8", data: [Data([0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D])], field: "frame"),
        BadInput("nested without end", [String(repeating: #"{"a":"#, count: 100_000)], field: "frame"),
        BadInput("no v", [#"{"id":"a","type":"ping","body":{}}"#], field: "v", id: "a"),
        BadInput("unknown v", [#"{"v":2,"id":"a","type":"ping","body":{}}"#], .unknownVersion, field: "v", id: "a"),
        BadInput("ill-typed v", [#"{"v":"1","id":"a","type":"ping","body":{}}"#], field: "v", id: "a"),
        BadInput("no id", [#"{"v":1,"type":"ping","body":{}}"#], field: "id"),
        BadInput("ill-typed id", [#"{"v":1,"id":7,"type":"ping","body":{}}"#], field: "id"),
        BadInput("empty id", [#"{"v":1,"id":"","type":"ping","body":{}}"#], field: "id"),
        BadInput("two ids", [#"{"v":1,"id":"a","id":"b","type":"ping","body":{}}"#], field: "id"),
        BadInput("no type", [#"{"v":1,"id":"a","body":{}}"#], field: "type", id: "a"),
        BadInput("ill-typed type", [#"{"v":1,"id":"a","type":{},"body":{}}"#], field: "type", id: "a"),
        BadInput("no body", [#"{"v":1,"id":"a","type":"ping"}"#], field: "body", id: "a"),
        BadInput("null body", [#"{"v":1,"id":"a","type":"ping","body":null}"#], field: "body", id: "a"),
        BadInput("ill-typed body", [#"{"v":1,"id":"a","type":"ping","body":[]}"#], field: "body", id: "a"),
        BadInput("ill-typed timeout", [#"{"v":1,"id":"a","type":"ping","timeout":1.5,"body":{}}"#], field: "timeout", id: "a"),
        BadInput("negative timeout", [#"{"v":1,"id":"a","type":"ping","timeout":-1,"body":{}}"#], field: "timeout", id: "a"),
        BadInput("endless timeout", [#"{"v":1,"id":"a","type":"ping","timeout":9223372036854775807,"body":{}}"#], field: "timeout", id: "a"),
        BadInput("ill-typed term", [#"{"v":1,"id":"a","type":"ping","term":-7,"body":{}}"#], field: "term", id: "a"),
        BadInput("ill-typed target", [#"{"v":1,"id":"a","type":"ping","target":7,"body":{}}"#], field: "target", id: "a"),
        BadInput("two frames", [#"{"v":1,"id":"a","type":"ping","body":{}}"#, "{}"], field: "frames"),
        BadInput("nine frames", Array(repeating: "{}", count: 9), field: "frames"),
        BadInput("above 1 MiB", [#"{"v":1,"id":"a","type":"ping","body":{"x":""# + String(repeating: "x", count: 1 << 20) + #""}}"#], .tooLarge, field: "frame"),
        BadInput("above 1 MiB of nothing", data: [Data(count: 3 << 20)], .tooLarge, field: "frame"),
    ]
}

@Suite(.timeLimit(.minutes(1))) struct MalformedInputTests {
    let bus: BusFixture
    init() throws { bus = try BusFixture() }

    static let good = Data(#"{"v":1,"id":"good","type":"greet","body":{"text":"x","count":1},"unknown":[1,{"a":null}]}"#.utf8)

    /// Over REQ, over DEALER with REQ's delimiter and over DEALER without: answered with the field named, counted, and the next request is served.
    @Test(arguments: BadInput.all) func isAnsweredAndSurvived(_ input: BadInput) async throws {
        let endpoint = bus.ipc("requests")
        let server = try await echoServer([endpoint])
        let sockets = [(ZMQ_REQ, false), (ZMQ_DEALER, true), (ZMQ_DEALER, false)]
        for (type, hasDelimiter) in sockets {
            // A DEALER's single empty frame, or one in front, is the delimiter.
            if type == ZMQ_DEALER, !hasDelimiter, input.frames.first?.isEmpty == true { continue }
            let delimiter = hasDelimiter ? [Data()] : []
            let (bad, good) = try await onThread {
                let socket = RawSocket(type, endpoint)
                socket.send(delimiter + input.frames)
                let bad = socket.receive()
                socket.send(delimiter + [Self.good])
                return (bad, socket.receive())
            }
            #expect(bad.count == delimiter.count + 1 && bad.dropLast() == delimiter[...])
            let refusal = try ReplyFrame.decodeHeader(#require(bad.last))
            #expect(refusal.v == 1 && !refusal.ok && refusal.id == input.id)
            #expect(refusal.error?.code == input.code.rawValue)
            #expect(refusal.error?.details?["field"] == input.field)
            #expect(refusal.error?.message.contains(input.field) == true)
            let reply = try ReplyFrame.decodeHeader(#require(good.last))
            #expect(reply.ok && reply.id == "good")
        }
        #expect(await server.malformedCount >= 2)
        await server.close()
    }

    @Test func aMessageOfNothingIsSurvived() async throws {
        let endpoint = bus.ipc("requests")
        let server = try await echoServer([endpoint])
        let replies = try await onThread {
            let socket = RawSocket(ZMQ_DEALER, endpoint)
            socket.send([Data()])
            let first = socket.receive()
            socket.send([Self.good])
            return [first.last, socket.receive().last]
        }
        #expect(try ReplyFrame.decodeHeader(#require(replies[0])).error?.details?["field"] == "frames")
        #expect(try ReplyFrame.decodeHeader(#require(replies[1])).ok)
        await server.close()
    }

    /// Above 16 MiB libzmq drops the peer; everybody else is served on.
    @Test func aGiantCutsOnlyItselfOff() async throws {
        let endpoint = bus.ipc("requests")
        let server = try await echoServer([endpoint])
        let reply = try await onThread {
            let giant = RawSocket(ZMQ_DEALER, endpoint)
            giant.send([Data(count: 17 << 20)])
            let socket = RawSocket(ZMQ_REQ, endpoint)
            socket.send([Self.good])
            return socket.receive()
        }
        #expect(try ReplyFrame.decodeHeader(#require(reply.last)).ok)
        await server.close()
    }

    /// Replies to senders that do not read are dropped, not waited for.
    @Test func aPeerThatNeverReadsBlocksNobody() async throws {
        let endpoint = bus.ipc("requests")
        let server = try await echoServer([endpoint])
        let reply = try await onThread {
            let deaf = RawSocket(ZMQ_DEALER, endpoint)
            for _ in 0..<5000 { deaf.send([Self.good]) }
            let socket = RawSocket(ZMQ_REQ, endpoint)
            socket.send([Self.good])
            return socket.receive()
        }
        #expect(try ReplyFrame.decodeHeader(#require(reply.last)).ok)
        await server.close()
    }

    /// Any bytes at all: refused or accepted, never a trap.
    @Test(arguments: 0..<50) func randomChangesOfAGoodFrameNeverTrap(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for _ in 0..<200 {
            var frame = Self.good
            for _ in 0..<(1 + random.next() % 4) {
                let at = Int(random.next() % UInt64(frame.count))
                switch random.next() % 3 {
                case 0: frame[at] = UInt8(truncatingIfNeeded: random.next())
                case 1: frame.remove(at: at)
                default: frame.insert(UInt8(truncatingIfNeeded: random.next()), at: at)
                }
            }
            _ = try? ReplyFrame.decodeHeader(frame)
            _ = try? EventFrame.decodeHeader(frame)
            let isJSON = (try? JSONSerialization.jsonObject(with: frame)) is [String: Any]
            let isAccepted = (try? ReplyFrame.bodyBytes(frame)) != nil
            // What the scanner accepts is JSON to Foundation, too.
            if isAccepted { #expect(isJSON, "\(String(decoding: frame, as: UTF8.self))") }
        }
    }
}

struct SplitMix64 {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
