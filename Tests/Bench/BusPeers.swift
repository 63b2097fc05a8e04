import ArgumentParser
import Bus
import BusBaseline
import CLinux
import Foundation
import Messages
import Synchronization
import TestLab

/// The server process: bare and ours, on core 0. Whoever is not asked sleeps.
struct BusServe: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bus-serve", shouldDisplay: false)
    @Argument var directory: String

    func run() throws {
        _ = cl_set_parent_death_signal(SIGKILL)
        guard baseline_pin(0) == 0 else { throw LabFailure("core 0 cannot be had") }
        let place = try BusPlace.load(directory)
        for transport in BusPlace.Transport.allCases {
            Thread.detachNewThread {
                let failure = place.withKeys(transport, own: place.server) { baseline_serve(place.endpoint(transport, bare: true), $0) }
                FileHandle.standardError.write(Data("bare server \(transport): errno \(failure)\n".utf8))
                Glibc.exit(1)
            }
        }
        let failed = Mutex<(any Error)?>(nil)
        let started = DispatchSemaphore(value: 0)
        Reactor.shared.post {
            do {
                for transport in BusPlace.Transport.allCases { try Self.serve(place, transport) }
            } catch {
                failed.withLock { $0 = error }
            }
            started.signal()
        }
        started.wait()
        if let error = failed.withLock({ $0 }) { throw error }
        usleep(200_000)
        _ = FileManager.default.createFile(atPath: place.readyFile, contents: nil)
        while true { sleep(3600) }
    }

    @ReactorActor private static func serve(_ place: BusPlace, _ transport: BusPlace.Transport) throws {
        let box = ServerBox()
        let security = transport == .curve ? place.security(place.server) : nil
        box.server = try RequestServer(endpoints: [place.endpoint(transport, bare: false)], security: security) { request in
            if request.header.type == "opaque" {
                box.server?.send(ReplyFrame.encode(id: request.header.id, bodyJSON: request.bodyBytes), to: request.returnPath)
            } else if let report = try? request.body(BusReport.self) {
                box.server?.send(ReplyFrame.encode(id: request.header.id, .success(report)), to: request.returnPath)
            }
        }
    }

    @ReactorActor private final class ServerBox { var server: RequestServer? }
}

/// The client process, on core 1; prints ``BusCell``s as JSON.
struct BusMeasure: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bus-measure", shouldDisplay: false)
    @Argument var directory: String
    @Option var rounds = 7
    @Option var count = 2000

    private static let warmUp = 200

    func run() throws {
        _ = cl_set_parent_death_signal(SIGKILL)
        guard baseline_pin(1) == 0 else { throw LabFailure("core 1 cannot be had") }
        let place = try BusPlace.load(directory)
        var cells: [BusCell] = []
        for transport in BusPlace.Transport.allCases {
            for (size, label) in [(200, "200B"), (2048, "2KB")] {
                var cell = BusCell(name: "\(transport).\(label)")
                let security = transport == .curve ? place.security(place.client) : nil
                let serverKey = transport == .curve ? place.server.curvePublic : nil
                let traveller = try Traveller.make(place.endpoint(transport, bare: false), serverKey, security)
                let opaque = Data(("{\"d\":\"" + String(repeating: "x", count: size - 8) + "\"}").utf8)
                for _ in 0..<rounds {
                    cell.bare.append(try bare(place, transport, size))
                    cell.bus.append(try traveller.measure(.opaque(opaque), warmUp: Self.warmUp, count: count))
                    cell.json.append(try traveller.measure(.typed(BusReport(size: size)), warmUp: Self.warmUp / 4, count: count / 4))
                }
                traveller.close()
                cells.append(cell)
            }
        }
        print(String(decoding: try JSONEncoder().encode(cells), as: UTF8.self))
    }

    private func bare(_ place: BusPlace, _ transport: BusPlace.Transport, _ size: Int) throws -> Double {
        var times = [Int64](repeating: 0, count: count)
        let failure = place.withKeys(transport, own: place.client) {
            baseline_measure(place.endpoint(transport, bare: true), $0, size, Int32(Self.warmUp), Int32(count), &times)
        }
        guard failure == 0 else { throw LabFailure("bare client: errno \(failure)") }
        return times.map { Double($0) / 1000 }.percentile(0.5)
    }
}

/// Asks again as soon as it is answered.
private final class Traveller: Sendable {
    enum Load: Sendable {
        case opaque(Data)
        case typed(BusReport)
    }

    private let client: RequestClient
    private init(_ client: RequestClient) { self.client = client }

    static func make(_ endpoint: String, _ serverKey: String?, _ security: BusSecurity?) throws -> Traveller {
        let made = Mutex<Result<Traveller, any Error>?>(nil)
        let done = DispatchSemaphore(value: 0)
        Reactor.shared.post {
            made.withLock { made in
                made = Result { Traveller(try RequestClient(endpoint: endpoint, serverKey: serverKey, security: security, from: nil, lineage: nil, term: nil)) }
            }
            done.signal()
        }
        done.wait()
        guard let result = made.withLock({ $0 }) else { throw LabFailure("no client") }
        return try result.get()
    }

    func close() { Reactor.shared.post { [self] in client.close() } }

    /// The median round trip in microseconds.
    func measure(_ load: Load, warmUp: Int, count: Int) throws -> Double {
        let result = Mutex<Result<[Double], RequestError>?>(nil)
        let done = DispatchSemaphore(value: 0)
        Reactor.shared.post { [self] in
            let journey = Journey(client, load, warmUp: warmUp, count: count) { outcome in
                result.withLock { $0 = outcome }
                done.signal()
            }
            journey.step()
        }
        done.wait()
        guard let outcome = result.withLock({ $0 }) else { throw LabFailure("no result") }
        return try outcome.get().percentile(0.5)
    }

    /// One series of round trips.
    @ReactorActor private final class Journey {
        private let client: RequestClient
        private let load: Load
        private var toSkip: Int
        private let count: Int
        private var times: [Double] = []
        private let done: @ReactorActor (Result<[Double], RequestError>) -> Void

        init(_ client: RequestClient, _ load: Load, warmUp: Int, count: Int, _ done: @escaping @ReactorActor (Result<[Double], RequestError>) -> Void) {
            self.client = client
            self.load = load
            self.count = count
            self.done = done
            toSkip = warmUp
            times.reserveCapacity(count)
        }

        func step() {
            let began = cl_boottime()
            let arrived: RequestClient.Completion = { [self] in arrive($0, began) }
            switch load {
            case .opaque(let body): client.request("opaque", bodyJSON: body, timeout: .seconds(5), completion: arrived)
            case .typed(let report): client.request("typed", report, timeout: .seconds(5), completion: arrived)
            }
        }

        private func arrive(_ reply: Result<Data, RequestError>, _ began: Int64) {
            do {
                let frame = try reply.get()
                if case .typed = load { _ = try ReplyFrame.body(BusReport.self, frame) }
            } catch {
                return done(.failure(error as? RequestError ?? RequestError(RequestErrorCode.malformed, "\(error)")))
            }
            let time = Double(cl_boottime() - began) / 1000
            if toSkip > 0 { toSkip -= 1 } else { times.append(time) }
            if times.count < count { step() } else { done(.success(times)) }
        }
    }
}
