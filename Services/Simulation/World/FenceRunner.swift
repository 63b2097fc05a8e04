import FencingEngine
import Messages

/// Runs fence agents as a process does: a run that lingers keeps the next one for its host waiting (S18). All of it ends with the process.
final class FenceRunner {
    private unowned(unsafe) let process: Process
    /// flock of each host's runs.
    private var lingering: [String: Int] = [:]

    init(in process: Process) { self.process = process }

    func started() { lingering = [:] }

    /// - Parameter begun: called when the command is on its way to the devices.
    func run(
        _ action: FenceAction, on devices: [FenceDevice], of host: HostMachine, deadline: Duration, begun: () -> Void = {}, then: @escaping ([FencePart]) -> Void
    ) {
        guard lingering[host.name] ?? 0 == 0 else {
            return process.after(deadline) { then(devices.map { _ in FencePart(outcome: .timedOut("an earlier run of the agent still lingers"), took: deadline) }) }
        }
        begun()
        let began = process.clock
        var parts: [FencePart?] = devices.map { _ in nil }
        for (index, device) in devices.enumerated() {
            lingering[host.name, default: 0] += 1
            func end(_ outcome: FenceOutcome) {
                guard parts[index] == nil else { return }
                parts[index] = FencePart(outcome: outcome, took: process.clock - began)
                lingering[host.name, default: 1] -= 1
                let ended = parts.compactMap { $0 }
                if ended.count == parts.count { then(ended) }
            }
            // The command reaches its device by a network of its own.
            let life = process.life
            host.device(at: device.address).run(action) { [self] outcome in process.run(life) { end(outcome) } }
            process.after(deadline) { end(.timedOut("killed after \(Int(deadline.seconds)) s")) }
        }
    }
}
