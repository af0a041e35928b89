/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright: netops.underlay contributors
 *
 * For the lab's own tests: makes this machine look to a User-Mode Linux as one whose processor has AMX. The extended
 * register state is 8 KiB longer than it is, and is taken only in full.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>

#define SYS_PTRACE 101
#define PTRACE_GETREGSET 0x4204
#define PTRACE_SETREGSET 0x4205
#define NT_X86_XSTATE 0x202
#define TILES (8 * 1024)
#define EFAULT 14

struct iovec {
    void *base;
    size_t length;
};

int *__errno_location(void);

static unsigned char room[64 * 1024] __attribute__((aligned(64)));

static long raw(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        *__errno_location() = -result;
        return -1;
    }
    return result;
}

static long imitate(long request, long process, long kind, struct iovec *given)
{
    struct iovec real = {room, sizeof room};
    long result = raw(SYS_PTRACE, PTRACE_GETREGSET, process, kind, (long)&real, 0, 0);
    if (result < 0)
        return result;
    if (request == PTRACE_GETREGSET) {
        size_t length = given->length < real.length + TILES ? given->length : real.length + TILES;
        for (size_t at = 0; at < length; at++)
            ((unsigned char *)given->base)[at] = at < real.length ? room[at] : 0;
        given->length = length;
        return 0;
    }
    if (given->length != real.length + TILES) {
        *__errno_location() = EFAULT;
        return -1;
    }
    struct iovec cut = {given->base, real.length};
    return raw(SYS_PTRACE, PTRACE_SETREGSET, process, kind, (long)&cut, 0, 0);
}

long syscall(long number, ...)
{
    long word[6];
    va_list arguments;
    va_start(arguments, number);
    for (int at = 0; at < 6; at++)
        word[at] = va_arg(arguments, long);
    va_end(arguments);
    int request = (int)word[0];
    if (number == SYS_PTRACE && (request == PTRACE_GETREGSET || request == PTRACE_SETREGSET) && word[2] == NT_X86_XSTATE)
        return imitate(request, word[1], word[2], (struct iovec *)word[3]);
    return raw(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}

/* Where no other library is between: what the C library's does, but for PEEK requests, which User-Mode Linux needs only
 * in its look at the host. */
long ptrace(int request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    int process = va_arg(arguments, int);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request >= 1 && request <= 3) {
        long word;
        if (syscall(SYS_PTRACE, (long)request, (long)process, address, &word, 0L, 0L) < 0)
            return -1;
        *__errno_location() = 0;
        return word;
    }
    return syscall(SYS_PTRACE, (long)request, (long)process, address, data, 0L, 0L);
}
