dnl SPDX-License-Identifier: ISC
dnl PICODNS_ROBUST_MUTEX: can a process-shared mutex be taken over from a
dnl process that was killed while it held it?  The preprocessor can't tell
dnl (PTHREAD_MUTEX_ROBUST is an enumerator on glibc), so a process is killed.
AC_DEFUN([PICODNS_ROBUST_MUTEX], [
	AC_CACHE_CHECK([for robust process-shared mutexes],
	    [picodns_cv_robust_mutex], [
	AC_RUN_IFELSE([AC_LANG_PROGRAM([[
#include <sys/mman.h>
#include <sys/wait.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
]], [[
	pthread_mutexattr_t attr;
	pthread_mutex_t *mutex;
	int status;
	pid_t pid;

	alarm(10);
	mutex = mmap(0, sizeof(*mutex), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mutex == MAP_FAILED)
		return (1);
	if (pthread_mutexattr_init(&attr) != 0 ||
	    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) != 0 ||
	    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) != 0 ||
	    pthread_mutex_init(mutex, &attr) != 0)
		return (2);
	pid = fork();
	if (pid == -1)
		return (3);
	if (pid == 0) {
		pthread_mutex_lock(mutex);
		raise(SIGKILL);
	}
	waitpid(pid, &status, 0);
	if (pthread_mutex_lock(mutex) != EOWNERDEAD)
		return (4);
	if (pthread_mutex_consistent(mutex) != 0 ||
	    pthread_mutex_unlock(mutex) != 0)
		return (5);
	return (pthread_mutex_lock(mutex) == 0 ? 0 : 6);
]])], [picodns_cv_robust_mutex=yes], [picodns_cv_robust_mutex=no],
	    [picodns_cv_robust_mutex="not tried (cross compiling)"])
	])
	AS_IF([test "$picodns_cv_robust_mutex" = no], [AC_MSG_ERROR([
	this system has no mutexes that survive the death of their owner
	in another process; dnsd can't do without them])])
])
