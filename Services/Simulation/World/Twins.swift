import Messages

/// Machines that go by the name of a host: clones, and the old one of a host that was replaced.
extension World {
    /// A second machine with a host's name, host id, address and keys starts beside it; one at a time.
    func clone(_ name: String, hasItsHardwareID: Bool) {
        guard let host = host(name), host.agent.besides.isEmpty else { return }
        let number = others(of: name).count + 1
        let clone = HostMachine(
            host.definition, id: host.id, machineName: "\(name)-clone\(number)", hardwareID: hasItsHardwareID ? host.hardwareID : nil, installation: host.installation, world: self)
        clone.isClone = true
        if !hasItsHardwareID {
            clone.agent.restore(host.agent.journal)
            clone.leases.restore(host.leases.journal)
        }
        add(clone)
        host.agent.add(beside: clone.agent)
        host.leases.add(beside: clone.leases)
        clone.getPower("a clone of \(name) is switched on")
    }

    func endClones(of name: String) {
        for clone in others(of: name) where clone.isClone {
            clone.losePower("the clone is switched off")
            host(name)?.agent.remove(beside: clone.agent)
            host(name)?.leases.remove(beside: clone.leases)
        }
    }

    /// Another machine, newly installed, gets the name, the host id and the address of a host. It has the old one's chassis slot, so it has a device of its own there.
    func replace(_ name: String) {
        guard let old = host(name) else { return }
        let installation = old.installation + 1
        let new = HostMachine(old.definition, id: old.id, machineName: "\(name)-new\(installation)", installation: installation, world: self)
        replace(old, by: new)
        new.getPower("a new \(name) is installed")
    }
}
