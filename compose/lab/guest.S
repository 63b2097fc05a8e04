# The lab's guest: a 512-byte boot sector that proves whether its disk ever had two writers at once.
#
# It lives on its boot disk and keeps three records there, one sector each:
#   LBA 1  "TICK" counter:4 ticks:4 id:8                      the last write: by which boot, and its how-manieth
#   LBA 2  "DUAL" counter:4 id:8 and the other's LBA 1        two writers were seen: by this boot, and what the other one wrote. Never erased
#   LBA 3  count:4 0:4 id:8 x 63                              every boot that ever began to write here (the last 63, a ring)
# Nine times a second it reads LBA 1, and only then writes it. A foreign boot id there *after its own first write* is another writer:
# that goes to LBA 2 for good and to the serial port. Before its own first write it is merely the guest that ran here last.
# The boot id is the time stamp counter mixed with the BIOS tick count: no two boots share it.

.code16
.globl _start
.set dual, 0x8000               # LBA 2 is built here,
.set seen, dual+16              # around the LBA 1 that was read
.set boots, 0x8400

_start:
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $0x7c00, %sp
  sti
  cld
  mov %dl, drive

  rdtsc
  mov %eax, id
  mov %edx, id+4
  mov $0, %ah
  int $0x1a                     # cx:dx = ticks since midnight
  xor %dx, id+6
  mov $up, %si
  mov $id, %di
  call tell

  mov $0x4203, %ax              # join the list of boots
  mov $boots, %bx
  call disk
  mov boots, %eax
  incl boots
  xor %edx, %edx
  mov $63, %ecx
  div %ecx
  mov %dx, %di
  shl $3, %di
  add $boots+8, %di
  mov $id, %si
  movsl
  movsl
  mov $0x4303, %ax
  call disk

main:
  mov $0x4201, %ax
  mov $seen, %bx
  call disk
  cmpl $0, counter
  je write                      # not written yet: whoever is there ran before us
  mov $seen+12, %si
  mov $id, %di
  cmpsl
  jne foreign
  cmpsl
  je write
foreign:
  xor %ax, %ax                  # the first sighting is the record
  xchg %al, alone
  test %al, %al
  jz write
  mov $dual, %di
  mov $0x4c415544, %eax
  stosl
  mov counter, %eax
  stosl
  mov $id, %si
  movsl
  movsl
  mov $0x4302, %ax
  mov $dual, %bx
  call disk
  mov $two, %si
  mov $seen+12, %di
  call tell
write:
  incl counter
  mov $0, %ah
  int $0x1a
  mov %dx, ticks
  mov %cx, ticks+2
  mov $0x4301, %ax
  mov $tick, %bx
  call disk
  mov $0, %ah
  int $0x1a
  mov %dx, last
1:hlt
  mov $0, %ah
  int $0x1a
  sub last, %dx
  cmp $2, %dx
  jb 1b
  jmp main

# ax: 0x42 (read) or 0x43 (write) and the sector; bx: the buffer. After an error the BIOS would report success and transfer nothing, and what was not written is not
# to be missed later: an E on the serial port, and 20 s later the machine is reset. Sooner the BIOS might find no disk, and it looks only once; by then the disk is well
# or the guard has ended this guest.
disk:
  mov %bx, buffer
  movzbw %al, %cx
  mov %cx, sector
  mov $0, %al
  mov drive, %dl
  mov $dap, %si
  int $0x13
  jnc 1f
  mov $'E', %al
  call serial
  mov $364, %cx                 # timer interrupts
2:hlt
  loop 2b
  mov $0xfe, %al
  out %al, $0x64
3:hlt
  jmp 3b
1:ret

# si: a text; di: an id. Writes both and a new line to the serial port.
tell:
  lodsb
  test %al, %al
  jz 1f
  call serial
  jmp tell
1:mov $8, %cx
2:dec %cx
  mov %cx, %bx                  # highest byte first
  mov (%bx,%di), %ah
  call digit
  call digit
  test %cx, %cx
  jnz 2b
  mov $'\n', %al
  jmp serial
digit:
  rol $4, %ah
  mov %ah, %al
  and $15, %al
  cmp $10, %al
  sbb $0x69, %al                # the classic: 0...15 to its hexadecimal digit
  das
serial:
  mov $0x3f8, %dx
  out %al, %dx
  ret

up:     .asciz "GUEST-UP "
two:    .asciz "FOREIGN "
alone:  .byte 1
drive:  .byte 0
last:   .word 0
.balign 4
dap:    .byte 16, 0
        .word 1
buffer: .word 0, 0
sector: .word 0, 0, 0, 0
tick:   .ascii "TICK"
counter:.long 0
ticks:  .long 0
id:     .long 0, 0
.org 510
.word 0xaa55
