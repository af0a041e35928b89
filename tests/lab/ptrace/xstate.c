/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright: netops.underlay contributors
 *
 * Preloaded into User-Mode Linux: lets it write an extended register state that is shorter than the processor's.
 *
 * The host kernel takes NT_X86_XSTATE by PTRACE_SETREGSET only in full. A User-Mode kernel without seccomp writes the
 * part it knows, which lacks the tiles of AMX: EFAULT, and the guest dies at its first program. So a short set is laid
 * over the one that the process has, and the whole is written. All other requests go to the kernel as they are.
 *
 * Built without the C library's headers, so only the compiler is needed.
 */
#include <stdarg.h>
#include <stddef.h>

#define SYS_PTRACE 101
#define PTRACE_PEEKTEXT 1
#define PTRACE_PEEKUSER 3
#define PTRACE_GETREGSET 0x4204
#define PTRACE_SETREGSET 0x4205
#define NT_X86_XSTATE 0x202
#define LARGEST (64 * 1024) /* bytes; the state with AMX has 11 KiB */
#define CALLERS 8           /* that can be in here at once, each on a processor of its own */

struct iovec {
    void *base;
    size_t length;
};

long syscall(long number, ...);
int *__errno_location(void);

static unsigned char states[CALLERS][LARGEST] __attribute__((aligned(64)));
static char taken[CALLERS];

static long kernel(long request, long process, void *address, void *data)
{
    return syscall(SYS_PTRACE, request, process, address, data);
}

static int take(void)
{
    for (int number = 0;; number = (number + 1) % CALLERS)
        if (!__atomic_test_and_set(&taken[number], __ATOMIC_ACQUIRE))
            return number;
}

static long set_xstate(long process, void *kind, struct iovec *given)
{
    int number = take();
    struct iovec whole = {states[number], LARGEST};
    long result = kernel(PTRACE_GETREGSET, process, kind, &whole);

    if (result == 0 && given->length < whole.length) {
        for (size_t at = 0; at < given->length; at++)
            states[number][at] = ((unsigned char *)given->base)[at];
        result = kernel(PTRACE_SETREGSET, process, kind, &whole);
    } else {
        result = kernel(PTRACE_SETREGSET, process, kind, given);
    }
    __atomic_clear(&taken[number], __ATOMIC_RELEASE);
    return result;
}

long ptrace(int request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    int process = va_arg(arguments, int);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    if (request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER) { /* the C library returns the word */
        long word;
        if (kernel(request, process, address, &word) < 0)
            return -1;
        *__errno_location() = 0;
        return word;
    }
    if (request == PTRACE_SETREGSET && (size_t)address == NT_X86_XSTATE && data)
        return set_xstate(process, address, data);
    return kernel(request, process, address, data);
}
