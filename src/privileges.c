/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Giving privileges up.  The master keeps root, and parses no packet; each
 * child becomes an ordinary user in an empty directory before it touches one.
 * Whoever isn't root runs as it is.  All children die with the master.
 */

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>

#ifdef HAVE_SYS_PRCTL_H
#include <sys/prctl.h>
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "privileges.h"
#include "seccomp.h"
#include "server.h"

#define OOM_SCORE	"/proc/self/oom_score_adj"
#define OOM_MASTER	-500		/* 0: as others */
#define OOM_FIRST	1000

static bool		 find_user(struct privileges *, const char *);
static const char	*directory_check(const char *);
static bool		 spare_master(void);
static bool		 set_oom_score(int);
static void		 become_user(const struct privileges *);
static void		 limit(void);
static void		 die_with(pid_t);
static void		 give_up(const char *) __attribute__((__noreturn__));

const char *
privileges_prepare(struct privileges *privileges, const char *user,
    const char *chroot, bool free)
{
	memset(privileges, 0, sizeof(*privileges));
	privileges->root = geteuid() == 0;
	privileges->free = free;
	if (!privileges->root)
		return (NULL);
	if (!find_user(privileges, user))
		return ("no such user");
	if (privileges->uid == 0)
		return ("the user must not be root");
	strlcpy(privileges->chroot, chroot, sizeof(privileges->chroot));
	privileges->spared = spare_master();
	return (directory_check(chroot));
}

/* Without the master there is no service; a child is soon replaced. */
static bool
spare_master(void)
{
	FILE *file = fopen(OOM_SCORE, "re");
	int score, n;

	if (file == NULL)
		return (false);
	n = fscanf(file, "%d", &score);
	fclose(file);
	return (n == 1 && (score == OOM_MASTER ||
	    (score == 0 && set_oom_score(OOM_MASTER))));
}

void
privileges_die_first(void)
{
	set_oom_score(OOM_FIRST);
}

static bool
set_oom_score(int score)
{
	char text[16];
	int fd, len;
	bool done;

	if ((fd = open(OOM_SCORE, O_WRONLY | O_CLOEXEC)) == -1)
		return (false);
	len = snprintf(text, sizeof(text), "%d", score);
	done = write(fd, text, len) == len;
	close(fd);
	return (done);
}

/*
 * In a process of its own: looking up a user loads libraries, which every
 * child would have in its memory.
 */
static bool
find_user(struct privileges *privileges, const char *user)
{
	const struct passwd *pw;
	uid_t id[2];
	int fd[2];
	pid_t pid;
	bool found;

	if (pipe2(fd, O_CLOEXEC) == -1 || (pid = fork()) == -1)
		return (false);
	if (pid == 0) {
		pw = getpwnam(user);
		if (pw == NULL && strcmp(user, DNSD_USER) == 0)
			pw = getpwnam("nobody");
		if (pw == NULL)
			_exit(1);
		id[0] = pw->pw_uid;
		id[1] = pw->pw_gid;
		_exit(write(fd[1], id, sizeof(id)) != sizeof(id));
	}
	close(fd[1]);
	found = read(fd[0], id, sizeof(id)) == sizeof(id);
	close(fd[0]);
	waitpid(pid, NULL, 0);
	if (found) {
		privileges->uid = id[0];
		privileges->gid = id[1];
	}
	return (found);
}

/* Make the directory if it is missing; it must be root's alone and empty. */
static const char *
directory_check(const char *path)
{
	const struct dirent *entry;
	struct stat st;
	int found = 0;
	DIR *dir;

	if (mkdir(path, 0755) == -1 && errno != EEXIST)
		return ("the chroot directory can't be made");
	if (lstat(path, &st) == -1 || !S_ISDIR(st.st_mode))
		return ("the chroot directory is not a directory");
	if (st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH))
		return ("others than root may write to the chroot directory");
	if ((dir = opendir(path)) == NULL)
		return ("the chroot directory can't be read");
	while ((entry = readdir(dir)) != NULL)
		found += strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0;
	closedir(dir);
	return (found == 0 ? NULL : "the chroot directory is not empty");
}

void
privileges_drop(const struct privileges *privileges, pid_t master)
{
	if (privileges->spared)
		set_oom_score(0);
	if (privileges->root)
		become_user(privileges);
	limit();
#ifdef PR_SET_NO_NEW_PRIVS
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		give_up("no_new_privs");
#endif
	die_with(master);	/* after setuid, which would undo it */
	if (!privileges->free && seccomp_confine() == -1)
		give_up("seccomp");
}

static void
become_user(const struct privileges *privileges)
{
	if (!privileges->free &&
	    (chroot(privileges->chroot) == -1 || chdir("/") == -1))
		give_up("chroot");
	if (setgroups(0, NULL) == -1)
		give_up("setgroups");
	if (setresgid(privileges->gid, privileges->gid, privileges->gid) ==
	    -1)
		give_up("setresgid");
	if (setresuid(privileges->uid, privileges->uid, privileges->uid) ==
	    -1)
		give_up("setresuid");
	if (setuid(0) != -1 || setgid(0) != -1 || geteuid() == 0)
		give_up("root is not gone");
}

/* No files, no programs, no picture of users' names on a disk. */
static void
limit(void)
{
	static const struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_FSIZE, &none) == -1 ||
	    setrlimit(RLIMIT_CORE, &none) == -1 ||
	    setrlimit(RLIMIT_NPROC, &none) == -1)
		give_up("setrlimit");
}

static void
die_with(pid_t master)
{
#ifdef PR_SET_PDEATHSIG
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1)
		give_up("PR_SET_PDEATHSIG");
#endif
	if (getppid() != master)
		_exit(1);	/* it died before we could ask */
}

static void
give_up(const char *what)
{
	log_error("cannot drop privileges: %s: %s", what, strerror(errno));
	_exit(SERVER_EXIT_CONFIG);
}
