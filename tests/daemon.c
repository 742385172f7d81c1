/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Starts dnsd for a test, asks it, reads its log, and ends it.  Whatever
 * happens to the test, the daemon dies with it.  Nothing here waits for a
 * time: it waits for something to be so, up to a time.  Replies are parsed
 * here once more, so that the daemon is not measured by its own parser.
 */

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "dns.h"
#include "stub.h"

#define ARGUMENTS	64
#define PORT_FIRST	20000
#define PORTS		12000	/* below those that kernels hand out */

struct process {
	pid_t		 pid;
	pid_t		 parent;
	char		 state;
	char		 title[256];
};

static char	 directory[128];

static pid_t	 spawn(char *, int);
static int	 open_output(void);
static int	 wait_for_end(pid_t, unsigned);
static bool	 wait_for_answer(struct daemon *);
static char	*read_file(int, off_t);
static uint64_t	 find_stat(const char *, const char *, const char *);
static bool	 port_is_free(const char *, uint16_t);
static void	 end_owner(const char *);
static bool	 next_process(DIR *, FILE *, struct process *);
static bool	 read_process(const char *, struct process *);
static bool	 skip_name(const struct reply *, size_t *);

void
daemon_dir_make(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(directory, sizeof(directory), "%s/dnsd-test.XXXXXX",
	    tmp == NULL ? "/tmp" : tmp);
	if (mkdtemp(directory) == NULL) {
		perror(directory);
		exit(1);
	}
	/* The daemon's children may be another user's. */
	chmod(directory, 0755);
}

void
daemon_dir_remove(void)
{
	char path[512];
	struct dirent *entry;
	DIR *dir;

	if ((dir = opendir(directory)) == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory,
		    entry->d_name);
		if (strstr(entry->d_name, ".pid") != NULL)
			end_owner(path);
		if (unlink(path) == -1)
			rmdir(path);
	}
	closedir(dir);
	rmdir(directory);
}

const char *
daemon_dir(void)
{
	return (directory);
}

uint16_t
daemon_free_port(void)
{
	uint16_t port;

	do {
		port = PORT_FIRST + arc4random_uniform(PORTS);
	} while (!port_is_free("0.0.0.0", port) || !port_is_free("::", port));
	return (port);
}

bool
daemon_start(struct daemon *daemon, const char *options, ...)
{
	static unsigned started;
	char line[4096];
	size_t len;
	bool quiet;
	va_list ap;

	len = snprintf(line, sizeof(line), "-foreground -config /dev/null "
	    "-pidfile %s/%ld-%u.pid -chroot %s/empty ", directory,
	    (long)getpid(), started++, directory);
	if (daemon->port == 0) {
		daemon->port = daemon_free_port();
		len += snprintf(line + len, sizeof(line) - len,
		    "-listen 127.0.0.1:%u ", daemon->port);
	}
	va_start(ap, options);
	vsnprintf(line + len, sizeof(line) - len, options, ap);
	va_end(ap);
	quiet = strstr(line, "log-level") != NULL ||
	    getenv("DNSD_FAULT") != NULL;
	daemon->log = open_output();
	daemon->mark = 0;
	daemon->pid = spawn(line, daemon->log);
	/* All its processes run when it says so, if it may. */
	if (wait_for_answer(daemon) && (quiet ||
	    daemon_logged(daemon, "serves", DAEMON_PATIENCE_MS)))
		return (true);
	daemon_print_log(daemon);
	daemon_stop(daemon, SIGKILL, DAEMON_PATIENCE_MS);
	return (false);
}

int
daemon_run(char *out, size_t size, const char *options, ...)
{
	char line[4096], *text;
	int fd, status;
	va_list ap;

	va_start(ap, options);
	vsnprintf(line, sizeof(line), options, ap);
	va_end(ap);
	fd = open_output();
	status = wait_for_end(spawn(line, fd), DAEMON_PATIENCE_MS);
	text = read_file(fd, 0);
	snprintf(out, size, "%s", text);
	free(text);
	close(fd);
	return (status);
}

int
daemon_stop(struct daemon *daemon, int signo, unsigned within_ms)
{
	pid_t pid = daemon->pid;

	if (pid == 0)
		return (-1);
	if (signo != 0)
		kill(pid, signo);
	daemon->pid = 0;
	return (wait_for_end(pid, within_ms));
}

void
daemon_mark(struct daemon *daemon)
{
	struct stat st;

	if (fstat(daemon->log, &st) == 0)
		daemon->mark = st.st_size;
}

bool
daemon_logged(const struct daemon *daemon, const char *text,
    unsigned within_ms)
{
	uint64_t end = stub_now_us() + within_ms * (uint64_t)1000;
	char *log;
	bool found;

	for (;;) {
		log = read_file(daemon->log, daemon->mark);
		found = strstr(log, text) != NULL;
		free(log);
		if (found || stub_now_us() >= end)
			return (found);
		poll(NULL, 0, 5);
	}
}

void
daemon_print_log(const struct daemon *daemon)
{
	char *log = read_file(daemon->log, 0);

	fprintf(stderr, "--- what dnsd logged:\n%s---\n", log);
	free(log);
}

uint64_t
daemon_stat(struct daemon *daemon, const char *upstream, const char *name)
{
	uint64_t end, value;
	char *log;

	daemon_mark(daemon);
	kill(daemon->pid, SIGUSR1);
	end = stub_now_us() + 2000000;
	do {
		log = read_file(daemon->log, daemon->mark);
		value = find_stat(log, upstream, name);
		free(log);
		if (value == DAEMON_STAT_NONE)
			poll(NULL, 0, 2);
	} while (value == DAEMON_STAT_NONE && stub_now_us() < end);
	return (value);
}

bool
daemon_stat_is(struct daemon *daemon, const char *upstream, const char *name,
    uint64_t value)
{
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000, now;

	while ((now = daemon_stat(daemon, upstream, name)) != value) {
		if (stub_now_us() >= end) {
			fprintf(stderr, "%s is %llu, not %llu\n", name,
			    (unsigned long long)now,
			    (unsigned long long)value);
			return (false);
		}
		poll(NULL, 0, 20);
	}
	return (true);
}

size_t
daemon_children(pid_t parent, const char *title, pid_t pids[DAEMON_PROCESSES])
{
	struct process process;
	FILE *ps = NULL;
	DIR *proc = NULL;
	size_t n = 0;

	if (access("/proc/self/stat", R_OK) == 0)
		proc = opendir("/proc");
	else
		ps = popen("ps -A -o pid= -o ppid= -o state= -o args=", "r");
	while (n < DAEMON_PROCESSES && next_process(proc, ps, &process))
		if (process.parent == parent && process.state != 'Z' &&
		    (title == NULL || strstr(process.title, title) != NULL))
			pids[n++] = process.pid;
	if (proc != NULL)
		closedir(proc);
	if (ps != NULL)
		pclose(ps);
	return (n);
}

bool
daemon_gone(pid_t pid)
{
	struct process process;
	char number[16];

	if (kill(pid, 0) == -1 && errno == ESRCH)
		return (true);
	snprintf(number, sizeof(number), "%ld", (long)pid);
	return (read_process(number, &process) &&
	    (process.state == 'Z' || process.state == 'X'));
}

void
daemon_freeze(pid_t pid)
{
	struct process process;
	char number[16];

	snprintf(number, sizeof(number), "%ld", (long)pid);
	kill(pid, SIGSTOP);
	do {
		poll(NULL, 0, 1);
	} while (read_process(number, &process) && process.state != 'T');
}

size_t
query_write(uint8_t buf[1500], const struct query *query)
{
	size_t at = DNS_HEADER_LEN;
	uint16_t id = query->id;

	memset(buf, 0, DNS_HEADER_LEN);
	dns_put16(buf, id != 0 ? id : 1 + arc4random_uniform(65535));
	dns_put16(buf + 2, query->flags | (query->no_rd ? 0 : DNS_FLAG_RD));
	dns_put16(buf + 4, 1);
	at += stub_name_write(buf + at, query->name);
	dns_put16(buf + at, query->type != 0 ? query->type : 1);
	dns_put16(buf + at + 2, query->class != 0 ? query->class :
	    DNS_CLASS_IN);
	at += 4;
	if (!query->edns)
		return (at);
	dns_put16(buf + 10, 1);
	buf[at] = 0;
	dns_put16(buf + at + 1, DNS_TYPE_OPT);
	dns_put16(buf + at + 3, query->edns_size != 0 ? query->edns_size :
	    DNS_UDP_MAX);
	buf[at + 5] = 0;
	buf[at + 6] = query->edns_version;
	dns_put16(buf + at + 7, query->dnssec_ok ? 0x8000 : 0);
	dns_put16(buf + at + 9, query->options_len);
	at += DNS_OPT_LEN;
	if (query->options_len != 0)
		memcpy(buf + at, query->options, query->options_len);
	return (at + query->options_len);
}

int
client_open(const char *from, const char *to, uint16_t port)
{
	struct sockaddr_storage ss;
	struct addr addr;
	socklen_t len;
	int fd;

	if (addr_parse(&addr, from, 1) != NULL ||
	    (fd = socket(addr.family, SOCK_DGRAM, 0)) == -1)
		return (-1);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (addr.port == 1)
		addr.port = 0;
	len = addr_to_sockaddr(&addr, addr.family, &ss);
	if (bind(fd, (struct sockaddr *)&ss, len) == -1)
		goto fail;
	if (addr_parse(&addr, to, 1) != NULL)
		goto fail;
	addr.port = port;
	len = addr_to_sockaddr(&addr, addr.family, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) == -1)
		goto fail;
	return (fd);

fail:
	close(fd);
	return (-1);
}

void
client_send(int fd, const struct query *query)
{
	uint8_t buf[1500];

	send(fd, buf, query_write(buf, query), 0);
}

bool
client_receive(int fd, struct reply *reply, unsigned within_ms)
{
	uint64_t end = stub_now_us() + within_ms * (uint64_t)1000, now;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t n;

	for (;;) {
		n = recv(fd, reply->buf, sizeof(reply->buf), MSG_DONTWAIT);
		if (n >= 0)
			break;
		now = stub_now_us();
		if ((errno != EAGAIN && errno != EINTR) || now >= end)
			return (false);
		poll(&pfd, 1, (end - now + 999) / 1000);
	}
	reply->len = n;
	reply_parse(reply);
	return (true);
}

bool
daemon_ask(const struct daemon *daemon, const struct query *query,
    struct reply *reply)
{
	uint8_t buf[1500], name[DNS_NAME_MAX];
	uint64_t start;
	size_t len, question_len;
	bool came;
	int fd;

	fd = client_open("127.0.0.1", "127.0.0.1", daemon->port);
	if (fd == -1)
		return (false);
	len = query_write(buf, query);
	question_len = stub_name_write(name, query->name) + 4;
	start = stub_now_us();
	send(fd, buf, len, 0);
	came = client_receive(fd, reply, DAEMON_PATIENCE_MS);
	reply->took_us = stub_now_us() - start;
	close(fd);
	if (!came) {
		fprintf(stderr, "%s: no reply\n", query->name);
		return (false);
	}
	if (reply->malformed || reply->id != dns_get16(buf) ||
	    reply->question_len != question_len ||
	    memcmp(buf + DNS_HEADER_LEN, reply->buf + DNS_HEADER_LEN,
	    question_len) != 0) {
		fprintf(stderr, "%s: not a reply to that\n", query->name);
		return (false);
	}
	return (true);
}

bool
daemon_ask_for(const struct daemon *daemon, const char *name, uint16_t type,
    struct reply *reply)
{
	struct query query = { .name = name, .type = type, .edns = true };

	return (daemon_ask(daemon, &query, reply));
}

void
reply_parse(struct reply *reply)
{
	const uint8_t *buf = reply->buf;
	struct record *record, parsed;
	size_t at = DNS_HEADER_LEN, owner;
	unsigned i, section;

	reply->records = reply->question_len = 0;
	reply->edns = reply->dnssec_ok = false;
	reply->malformed = true;
	if (reply->len < DNS_HEADER_LEN)
		return;
	reply->id = dns_get16(buf);
	reply->flags = dns_get16(buf + 2);
	reply->rcode = reply->flags & DNS_FLAG_RCODE;
	for (i = 0; i < 4; i++)
		reply->count[i] = dns_get16(buf + 4 + 2 * i);
	for (i = 0; i < reply->count[0]; i++) {
		if (!skip_name(reply, &at) || at + 4 > reply->len)
			return;
		at += 4;
	}
	reply->question_len = at - DNS_HEADER_LEN;
	for (section = 0; section < 3; section++) {
		for (i = 0; i < reply->count[section + 1]; i++) {
			owner = at;
			if (!skip_name(reply, &at) || at + 10 > reply->len)
				return;
			parsed = (struct record){ .section = section,
			    .type = dns_get16(buf + at),
			    .class = dns_get16(buf + at + 2),
			    .ttl = dns_get32(buf + at + 4),
			    .rdata_len = dns_get16(buf + at + 8),
			    .rdata = buf + at + 10 };
			at += 10 + parsed.rdata_len;
			if (at > reply->len)
				return;
			if (parsed.type == DNS_TYPE_OPT) {
				/* One, of the root, in its own section. */
				if (reply->edns || section != 2 ||
				    buf[owner] != 0)
					return;
				reply->edns = true;
				reply->edns_size = parsed.class;
				reply->rcode |= parsed.ttl >> 24 << 4;
				reply->dnssec_ok = (parsed.ttl & 0x8000) != 0;
				continue;
			}
			if (reply->records == DAEMON_RECORDS)
				continue;
			record = &reply->record[reply->records++];
			*record = parsed;
		}
	}
	reply->malformed = at != reply->len;
}

static bool
skip_name(const struct reply *reply, size_t *at)
{
	while (*at < reply->len) {
		if (reply->buf[*at] >= 0xc0) {
			*at += 2;
			return (*at <= reply->len);
		}
		if (reply->buf[*at] == 0) {
			++*at;
			return (true);
		}
		*at += 1 + reply->buf[*at];
	}
	return (false);
}

/* Fork and become $DNSD.  line is cut up at its blanks. */
static pid_t
spawn(char *line, int out)
{
	char *argv[ARGUMENTS], *word, *last;
	const char *dnsd = getenv("DNSD");
	pid_t pid, parent = getpid();
	int argc = 0, null;

	argv[argc++] = strdup("dnsd");
	for (word = strtok_r(line, " ", &last); word != NULL &&
	    argc < ARGUMENTS - 1; word = strtok_r(NULL, " ", &last))
		argv[argc++] = word;
	argv[argc] = NULL;
	if ((pid = fork()) != 0) {
		free(argv[0]);
		return (pid);
	}
	stub_die_with(parent);
	if ((null = open("/dev/null", O_RDWR)) != -1)
		dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execv(dnsd == NULL ? "src/dnsd" : dnsd, argv);
	perror(dnsd == NULL ? "src/dnsd" : dnsd);
	_exit(127);
}

/* A file without a name. */
static int
open_output(void)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/out.XXXXXX", directory);
	if ((fd = mkstemp(path)) == -1) {
		perror(path);
		exit(1);
	}
	unlink(path);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, O_APPEND);
	return (fd);
}

static int
wait_for_end(pid_t pid, unsigned within_ms)
{
	uint64_t end = stub_now_us() + within_ms * (uint64_t)1000;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (stub_now_us() >= end) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			return (-1);
		}
		poll(NULL, 0, 1);
	}
	return (WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/*
 * The daemon refuses class CH by itself: a reply to that means that it
 * serves, whatever its upstreams do.
 */
static bool
wait_for_answer(struct daemon *daemon)
{
	struct query query = { .name = "ready.test", .class = 3 };
	uint64_t end = stub_now_us() + DAEMON_PATIENCE_MS * 1000;
	static struct reply reply;
	bool ready = false;
	int fd;

	fd = client_open("127.0.0.1", "127.0.0.1", daemon->port);
	while (fd != -1 && !ready && stub_now_us() < end) {
		if (daemon_gone(daemon->pid))
			break;
		client_send(fd, &query);
		ready = client_receive(fd, &reply, 1000);
		if (!ready)
			poll(NULL, 0, 2);
	}
	if (fd != -1)
		close(fd);
	return (ready);
}

/* What a file holds from there on, as a string to be freed. */
static char *
read_file(int fd, off_t from)
{
	struct stat st;
	char *text;
	ssize_t n;
	off_t size;

	size = fstat(fd, &st) == 0 && st.st_size > from ? st.st_size - from :
	    0;
	if ((text = malloc(size + 1)) == NULL)
		exit(1);
	n = pread(fd, text, size, from);
	text[n > 0 ? n : 0] = '\0';
	return (text);
}

/* Look for name=value in the whole lines that begin with `stats:'. */
static uint64_t
find_stat(const char *log, const char *upstream, const char *name)
{
	char token[128], owner[128];
	const char *at, *end, *line, *value;

	snprintf(token, sizeof(token), " %s=", name);
	snprintf(owner, sizeof(owner), "upstream %s ",
	    upstream == NULL ? "" : upstream);
	for (line = log; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		if ((at = strstr(line, "stats:")) == NULL || at > end)
			continue;
		value = strstr(at, upstream == NULL ? "upstream " : owner);
		if ((value != NULL && value < end) != (upstream != NULL))
			continue;
		value = strstr(at, token);
		if (value != NULL && value < end)
			return (strtoull(value + strlen(token), NULL, 10));
	}
	return (DAEMON_STAT_NONE);
}

static bool
port_is_free(const char *address, uint16_t port)
{
	struct sockaddr_storage ss;
	struct addr addr;
	socklen_t len;
	bool bound;
	int fd;

	if (addr_parse(&addr, address, 1) != NULL)
		return (true);
	if ((fd = socket(addr.family, SOCK_DGRAM, 0)) == -1)
		return (true);		/* a machine without IPv6 */
	addr.port = port;
	len = addr_to_sockaddr(&addr, addr.family, &ss);
	bound = bind(fd, (struct sockaddr *)&ss, len) == 0 ||
	    errno != EADDRINUSE;
	close(fd);
	return (bound);
}

/* A pidfile that is still locked names a daemon that a test has left. */
static void
end_owner(const char *path)
{
	char text[32] = "";
	long pid;
	int fd;

	if ((fd = open(path, O_RDONLY)) == -1)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == -1 &&
	    read(fd, text, sizeof(text) - 1) > 0 &&
	    (pid = strtol(text, NULL, 10)) > 1)
		kill(pid, SIGKILL);
	close(fd);
}

/* From the directory of processes, or from what ps prints. */
static bool
next_process(DIR *proc, FILE *ps, struct process *process)
{
	struct dirent *entry;
	char line[512];
	long pid, parent;

	while (proc != NULL && (entry = readdir(proc)) != NULL)
		if (read_process(entry->d_name, process))
			return (true);
	while (ps != NULL && fgets(line, sizeof(line), ps) != NULL)
		if (sscanf(line, "%ld %ld %c%*s %255[^\n]", &pid, &parent,
		    &process->state, process->title) >= 3) {
			process->pid = pid;
			process->parent = parent;
			return (true);
		}
	return (false);
}

static bool
read_process(const char *number, struct process *process)
{
	char path[64], text[512];
	const char *at;
	long parent;
	ssize_t n;
	int fd;

	process->pid = strtol(number, NULL, 10);
	snprintf(path, sizeof(path), "/proc/%.16s/stat", number);
	if (process->pid <= 0 || (fd = open(path, O_RDONLY)) == -1)
		return (false);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	at = strrchr(text, ')');
	if (at == NULL || sscanf(at + 1, " %c %ld", &process->state,
	    &parent) != 2)
		return (false);
	process->parent = parent;
	snprintf(path, sizeof(path), "/proc/%.16s/cmdline", number);
	if ((fd = open(path, O_RDONLY)) == -1)
		return (false);
	n = read(fd, process->title, sizeof(process->title) - 1);
	close(fd);
	process->title[n > 0 ? n : 0] = '\0';
	return (true);
}
