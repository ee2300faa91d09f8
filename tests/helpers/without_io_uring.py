"""Runs a program where io_uring is forbidden as containers forbid it: a seccomp filter gives EPERM for one call of it.

    python -m tests.helpers.without_io_uring 425 -c 'import fastfeed'        425: io_uring_setup, 426: io_uring_enter
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
EPERM = 1
# Of the instructions of linux/bpf_common.h: load the number of the call; is it this one?; answer.
LOAD_CALL, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
RETURN_ERRNO, RETURN_ALLOW = 0x00050000, 0x7FFF0000


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def forbid(call: int) -> None:
    """From now on, for this process and its children."""
    instructions = b"".join(struct.pack("<HBBI", *each) for each in (
        (LOAD_CALL, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, call),
        (RETURN, 0, 0, RETURN_ERRNO | EPERM),
        (RETURN, 0, 0, RETURN_ALLOW),
    ))
    code = ctypes.create_string_buffer(instructions, len(instructions))
    program = Program(len(instructions) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
                                                                 ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
