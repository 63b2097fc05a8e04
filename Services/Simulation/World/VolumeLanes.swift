import LeaseEngine
import LeaseFormat
import Messages

/// The I/O threads of one lease-service: the real ``LaneOrder`` says who does what next, what is late is abandoned to the device.
final class VolumeLanes {
    private var order = LaneOrder()
    private var requests: [IOToken: VolumeRequest] = [:]
    private unowned(unsafe) let service: LeaseProcess
    private let life: Int
    private var timer = 0

    init(of service: LeaseProcess) {
        self.service = service
        life = service.life
    }

    func submit(_ request: VolumeRequest) {
        requests[request.token] = request
        carryOut(order.submit(lane: request.lane.name, token: request.token, timeout: request.timeout, at: service.clock))
    }

    private func carryOut(_ steps: [LaneOrder.Step], _ result: IOResult? = nil) {
        for step in steps where service.isAlive && service.life == life {
            switch step {
            case .start: break
            case .call(let seat): service.after(.zero) { [self] in begin(seat) }
            case .completed(let token): if let result { service.submit(.completed(token, result)) }
            case .timedOut(let token): service.submit(.completed(token, .timedOut))
            case .landed(let token): service.submit(.landed(token))
            }
        }
        arm()
    }

    private func arm() {
        guard let wake = order.nextWake else { return }
        timer += 1
        let armed = timer
        service.after(max(.zero, wake - service.clock)) { [self] in if timer == armed { carryOut(order.wake(at: service.clock)) } }
    }

    private func begin(_ seat: LaneOrder.Seat) {
        guard let token = order.take(seat, at: service.clock), let request = requests.removeValue(forKey: token) else { return }
        arm()
        switch request.work {
        case .one(let operation):
            perform(operation) { [self] result in service.run(life) { [self] in carryOut(order.finish(seat), result) } }
        case .sequence(let sequence):
            go(seat, sequence, sequence.begin)
        }
    }

    /// One I/O of a sequence after the other, as long as its lane is its own.
    private func go(_ seat: LaneOrder.Seat, _ sequence: VolumeSequence, _ operation: VolumeOperation?) {
        guard let operation, order.goOn(seat, at: service.clock) else { return carryOut(order.finish(seat), .sequence(sequence)) }
        perform(operation) { [self] result in
            service.run(life) { [self] in
                var sequence = sequence
                let next = sequence.next(result, at: service.clock)
                go(seat, sequence, next)
            }
        }
    }

    private func perform(_ operation: VolumeOperation, _ done: @escaping (IOResult) -> Void) {
        guard operation.mayBegin(at: service.clock) else { return done(.expired) }
        let storage = service.world.storage
        switch operation {
        case .read(let path, let offset, let length):
            storage.read(of: service.machine, domain: service.world.domain(ofPath: path), path, offset, length) { [self] in done(IOResult(configured($0, path, offset))) }
        case .write(let path, let offset, let bytes, _, let create):
            // Killed before any write of several.
            guard !service.world.diesHere(service) else { return }
            storage.write(of: service.machine, domain: service.world.domain(ofPath: path), path, offset, bytes, create: create) { done(IOResult($0)) }
        }
    }

    /// A daemon that is configured with an io_timeout of its own reads it in place of the lockspace's: how often it renews, and what its sector says.
    private func configured(_ result: SharedStorage.Result, _ path: String, _ offset: UInt64) -> SharedStorage.Result {
        guard let own = service.host.definition.ioTimeout, path.hasSuffix("/ids"), case .data(var bytes) = result else { return result }
        let size = Geometry.standard.sectorSize
        for start in [0, (service.host.id - 1) * size] where UInt64(start) >= offset && start + size <= Int(offset) + bytes.count {
            let range = (start - Int(offset))..<(start - Int(offset) + size)
            guard var sector = try? LeaderRecord(bytes[range]), sector.kind == .delta else { continue }
            sector.ioTimeout = UInt16(own)
            let bitmap = HostBitmap(sector: bytes[range])
            bytes.replaceSubrange(range, with: sector.sector(bitmap: bitmap))
        }
        return .data(bytes)
    }
}

extension IOResult {
    init(_ result: SharedStorage.Result) {
        self =
            switch result {
            case .data(let bytes): .data(bytes)
            case .written: .written
            case .missing: .missing("no such file")
            case .failed: .failed("an input/output error")
            }
    }
}
