public import Messages

/// How a guest becomes a QEMU command line. QEMU stays a child of its guard: never daemonized, its files in the host's run directory.
public struct QEMUCommand: Sendable {
    /// Executable, looked up in PATH.
    public var program: String
    /// `tcg` or `kvm`.
    public var accelerator: String
    /// QEMU's own image locks; off in a lab, where they could hide a double start.
    public var imageLocking: Bool

    public init(program: String = "qemu-system-x86_64", accelerator: String = "tcg", imageLocking: Bool = true) {
        self.program = program
        self.accelerator = accelerator
        self.imageLocking = imageLocking
    }

    /// The program and its arguments.
    ///
    /// - Parameters:
    ///   - volumes: paths, in the order of the VM's disks; the guest boots from the first.
    ///   - files: prefix of serial output (`.serial`) and QMP socket (`.qmp`).
    public func line(for vm: VMDefinition, volumes: [String], files: String) -> [String] {
        var line = [
            program, "-name", "guest=\(escaped(vm.name))", "-uuid", GuestUUID.of(vm: vm.name), "-no-user-config", "-nodefaults", "-display", "none",
            "-machine", "pc", "-accel", accelerator, "-m", String(vm.memoryMiB), "-smp", String(max(1, vm.cpus)),
            "-chardev", "file,id=serial0,append=on,path=\(escaped(files)).serial", "-device", "isa-serial,chardev=serial0",
            "-chardev", "socket,id=qmp0,server=on,wait=off,path=\(escaped(files)).qmp", "-mon", "chardev=qmp0,mode=control",
        ]
        for (index, disk) in zip(vm.disks, volumes).enumerated() { line += drive(index, disk.0, disk.1) }
        return line
    }

    /// Direct I/O: what the guest was told is written is on the storage (S4).
    private func drive(_ index: Int, _ disk: DiskDefinition, _ volume: String) -> [String] {
        var block = "driver=raw,node-name=disk\(index),read-only=\(disk.readOnly ? "on" : "off"),cache.direct=on,"
        block += "file.driver=file,file.filename=\(escaped(volume)),file.aio=threads"
        if !imageLocking { block += ",file.locking=off" }
        // A PC has four IDE places; IDE disks cannot be read-only.
        let device = index < 4 && !disk.readOnly ? "ide-hd,bus=ide.\(index / 2),unit=\(index % 2)" : "virtio-blk-pci"
        // An error that the guest is told is one that it may never try again after: it is paused instead, and goes on with the same I/O.
        let errors = disk.readOnly ? "rerror=stop" : "werror=stop,rerror=stop"
        return ["-blockdev", block, "-device", "\(device),drive=disk\(index),bootindex=\(index),\(errors)\(disk.isShareable ? ",share-rw=on" : "")"]
    }

    /// QEMU's option syntax: a comma is doubled.
    private func escaped(_ text: String) -> String { text.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,") }
}
