import LeaseEngine
import Messages

/// The threads of one lease-service: each lane does one thing after the other, what is late is abandoned to the device.
struct VolumeLanes {
    private var busyUntilDone: [Lane: [VolumeRequest]] = [:]

    func submit(_ request: VolumeRequest, for service: LeaseProcess) {
        let life = service.life
        let domain = service.world.domain(ofPath: request.operation.path)
        var isLate = false
        var isDone = false
        service.after(request.timeout) {
            guard !isDone else { return }
            isLate = true
            service.submit(.completed(request.token, .timedOut))
        }
        func finish(_ result: IOResult) {
            isDone = true
            service.run(life) { service.submit(isLate ? .landed(request.token) : .completed(request.token, result)) }
        }
        switch request.operation {
        case .read(let path, let offset, let length):
            service.world.storage.read(of: service.machine, domain: domain, path, offset, length) { finish(IOResult($0)) }
        case .write(let path, let offset, let bytes, let notAfter, let create):
            guard service.clock < notAfter else { return finish(.expired) }
            service.world.storage.write(of: service.machine, domain: domain, path, offset, bytes, create: create) { finish(IOResult($0)) }
        }
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

extension VolumeOperation {
    var path: String {
        switch self {
        case .read(let path, _, _), .write(let path, _, _, _, _): path
        }
    }
}
