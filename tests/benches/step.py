#!/usr/bin/env python3
"""Counts the instructions that a function of a program executes, by stepping through them: for instructions that valgrind does not know.

    step.py FUNCTION PROGRAM ARGUMENT…

FUNCTION is part of a symbol's name; its first call is counted, on the thread that makes it, with what it calls. The program's output goes to standard output,
the number to standard error. Linux on x86-64; a few ten thousand instructions a second.
"""

import ctypes
import os
import signal
import subprocess
import sys

TRACEME, PEEK, POKE, CONT, STEP, GETREGS, SETREGS = 0, 1, 4, 7, 9, 12, 13
# Of the 27 registers of user_regs_struct.
RIP, RSP, REGISTERS = 16, 19, 27

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, pid, address=None, data=None):
    ctypes.set_errno(0)
    result = libc.ptrace(request, pid, address, data)
    if result == -1 and ctypes.get_errno():
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
    return result


def wait(pid):
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status) or os.WSTOPSIG(status) != signal.SIGTRAP:
        sys.exit(f"the program ended before it was counted (status {status})")


def offset(program, function):
    """Where the function lies in the program's file, as loaded from address 0."""
    lines = subprocess.run(["nm", "--defined-only", program], check=True, capture_output=True, text=True).stdout.splitlines()
    found = [line.split()[0] for line in lines if line.split()[1] in "tT" and function in line.split()[2]]
    if len(found) != 1:
        sys.exit(f"{program}: {len(found)} functions are named like {function}, not one")
    return int(found[0], 16)


def base(pid, program):
    """The address that a program which may lie anywhere was loaded at."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        return next(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(os.path.realpath(program)))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    function, program, arguments = sys.argv[1], sys.argv[2], sys.argv[2:]
    entry = offset(program, function)
    pid = os.fork()
    if pid == 0:
        ptrace(TRACEME, 0)
        os.execv(program, arguments)
    wait(pid)
    entry += base(pid, program)
    registers = (ctypes.c_ulonglong * REGISTERS)()
    word = ptrace(PEEK, pid, entry)
    ptrace(POKE, pid, entry, ((word & ~0xFF) | 0xCC) & (2**64 - 1))
    ptrace(CONT, pid)
    wait(pid)
    ptrace(POKE, pid, entry, word & (2**64 - 1))
    ptrace(GETREGS, pid, None, registers)
    registers[RIP] = entry
    ptrace(SETREGS, pid, None, registers)
    caller, stack, count = ptrace(PEEK, pid, registers[RSP]) & (2**64 - 1), registers[RSP], 0
    while True:
        ptrace(STEP, pid)
        wait(pid)
        count += 1
        ptrace(GETREGS, pid, None, registers)
        if registers[RIP] == caller and registers[RSP] > stack:
            break
    ptrace(CONT, pid)
    _, status = os.waitpid(pid, 0)
    print(count, file=sys.stderr)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
