/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The system calls that children may make, as a filter of Linux's seccomp:
 * sockets of the Internet, waiting, clocks, memory without code, and the end.
 * Nothing opens a file, starts a program or speaks to another process; what
 * they use of that kind they have inherited.
 *
 * The filter is a program in the kernel's packet-filter language, made here
 * from the list: check the architecture, then compare call by call.
 */

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "seccomp.h"

#if defined(__x86_64__)
#define ARCHITECTURE	AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE	AUDIT_ARCH_AARCH64
#endif

#ifdef ARCHITECTURE

#define FIELD(member)	offsetof(struct seccomp_data, member)
#define ARGUMENT(n)	(FIELD(args) + (n) * sizeof(uint64_t))	/* low half */
#define LOAD(at)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (at))
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, (what))
#define SKIP_UNLESS(value, n) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n))
#define REFUSE		RETURN(SECCOMP_RET_ERRNO | EPERM)

static const int allowed[] = {
	/* The way of a query. */
	SYS_recvmmsg, SYS_sendmmsg, SYS_recvfrom, SYS_sendto, SYS_recvmsg,
	SYS_sendmsg, SYS_bind, SYS_connect, SYS_close, SYS_accept4,
	SYS_setsockopt, SYS_getsockopt, SYS_shutdown, SYS_read, SYS_write,
#ifdef SYS_poll
	SYS_poll,
#endif
#ifdef SYS_epoll_wait
	SYS_epoll_wait,
#endif
	SYS_ppoll, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
	SYS_futex, SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep,
	SYS_gettimeofday, SYS_getrandom,
	/* Memory; mmap is below. */
	SYS_brk, SYS_munmap, SYS_madvise,
	/* Signals and the end. */
	SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
	SYS_sigaltstack, SYS_restart_syscall, SYS_getpid, SYS_gettid,
	SYS_getppid, SYS_exit, SYS_exit_group,
};

#define ALLOWED		(sizeof(allowed) / sizeof(allowed[0]))

int
seccomp_confine(void)
{
	static const struct sock_filter first[] = {
		LOAD(FIELD(arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(FIELD(nr)),
	};
	const struct sock_filter last[] = {
		/* To itself alone: abort() and raise() do that. */
		SKIP_UNLESS(SYS_tgkill, 4),
		LOAD(ARGUMENT(0)),
		SKIP_UNLESS((uint32_t)getpid(), 1),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		/* A library may ask for an interface's name: it gets none. */
		SKIP_UNLESS(SYS_ioctl, 1),
		REFUSE,
		SKIP_UNLESS(SYS_socket, 5),
		LOAD(ARGUMENT(0)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0),
		REFUSE,
		RETURN(SECCOMP_RET_ALLOW),
		SKIP_UNLESS(SYS_mmap, 4),
		LOAD(ARGUMENT(2)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		REFUSE,
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_filter filter[sizeof(first) / sizeof(first[0]) +
	    2 * ALLOWED + sizeof(last) / sizeof(last[0])];
	struct sock_fprog program = { .filter = filter };
	size_t i;

	for (i = 0; i < sizeof(first) / sizeof(first[0]); i++)
		filter[program.len++] = first[i];
	for (i = 0; i < ALLOWED; i++) {
		filter[program.len++] = (struct sock_filter)
		    SKIP_UNLESS(allowed[i], 1);
		filter[program.len++] = (struct sock_filter)
		    RETURN(SECCOMP_RET_ALLOW);
	}
	for (i = 0; i < sizeof(last) / sizeof(last[0]); i++)
		filter[program.len++] = last[i];
	return (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}

#else

int
seccomp_confine(void)
{
	return (0);
}

#endif
