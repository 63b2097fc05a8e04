import Foundation
import LeaseFormat
import Messages
import Testing

@testable import LeaseEngine

@Suite("Three hosts, one disk, every fault")
struct RandomWalkTests {
    static var seeds: [UInt64] {
        let count = ProcessInfo.processInfo.environment["LEASE_SEEDS"].flatMap(UInt64.init) ?? 16
        let first = ProcessInfo.processInfo.environment["LEASE_FIRST_SEED"].flatMap(UInt64.init) ?? 1
        return Array(first..<(first + count))
    }

    /// I1 under crashes, freezes, killed lease-services and guards, stalled storage, and writes that land late; and in the end everything can be had again.
    @Test(arguments: seeds) func neverTwoHolders(seed: UInt64) {
        let world = World(seed: seed)
        for host in world.hosts { host.powerOn() }
        world.run(for: .seconds(6))
        var attempt: UInt64 = 0
        for _ in 0..<150 {
            let host = world.pick(world.hosts)
            switch world.random.next() % 100 {
            case 0..<45:
                attempt += 1
                let count = Int(world.random.next() % 3) + 1
                let images = Array(World.images.shuffled(by: &world.random).prefix(count)).sorted()
                let isShared = world.chance(40)
                host.startGuard(
                    isShared ? "reader-\(attempt)" : "vm-\(images.joined())", attempt: attempt, images: images, mode: isShared ? .shared : .exclusive,
                    wait: world.chance(20) ? .seconds(10) : nil, generation: world.chance(50) ? host.generation : nil)
            case 45..<57: world.pick(host.guards.filter { $0.state == .running }.map(Optional.some) + [nil])?.end("asked to")
            case 57..<63: world.pick(host.guards.filter { !$0.isGone && !$0.isStuck }.map(Optional.some) + [nil])?.vanish()
            case 63..<69:
                host.killService()
                host.onHost(after: world.between(.milliseconds(100), .seconds(25))) { host.startService() }
            case 69..<75:
                guard host.isOn else { break }
                host.powerOff()
                if world.chance(70) { world.after(world.between(.milliseconds(500), .seconds(8))) { if !host.isOn { world.proveOff(host) } } }
                world.after(world.between(.seconds(1), .seconds(90))) { host.powerOn() }
            case 75..<82:
                host.freeze()
                world.after(world.between(.milliseconds(500), .seconds(120))) { host.thaw() }
            case 82..<88:
                // Everybody at once: ballots meet.
                let image = world.pick(World.images)
                for host in world.hosts {
                    attempt += 1
                    host.startGuard("vm-\(image)", attempt: attempt, images: [image], generation: nil)
                }
            case 88..<92: world.pick(host.guards.filter { $0.state == .running }.map(Optional.some) + [nil]).map { $0.convert(world.pick($0.leases)) }
            case 92..<97: host.stalledUntil = world.now + world.between(.milliseconds(500), .seconds(20))
            default: break
            }
            world.run(for: world.between(.milliseconds(5), .seconds(world.chance(20) ? 20 : 3)))
            world.checkHolders()
            if !world.violations.isEmpty { break }
        }
        #expect(world.violations == [], "seed \(seed)\n\(world.story.suffix(80).joined(separator: "\n"))")
        guard world.violations.isEmpty else { return }

        // Calm weather: whatever happened, every lease can be had again on every host.
        world.isStormy = false
        for host in world.hosts {
            host.thaw()
            host.powerOn()
            host.startService()
            for guest in host.guards where !guest.isGone { guest.end("the walk is over") }
        }
        world.run(for: .seconds(200))
        for host in world.hosts {
            attempt += 1
            host.startGuard("last", attempt: attempt, images: World.images, generation: nil)
            world.run(for: .seconds(8))
            let guest = host.guards.last
            #expect(guest?.isRunning == true, "seed \(seed), host \(host.id): \(guest?.refusal ?? "no answer")\n\(world.story.suffix(60).joined(separator: "\n"))")
            guest?.end("done")
            world.run(for: .seconds(5))
        }
        #expect(world.violations == [])
    }
}

extension Array {
    func shuffled(by random: inout SplitMix64) -> Array {
        var result = self
        for index in indices.dropFirst().reversed() { result.swapAt(index, Int(random.next() % UInt64(index + 1))) }
        return result
    }
}
