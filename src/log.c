/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The log: to stderr, to syslog, or, from a child, to the master, who writes
 * it where it goes.  Nothing here ever waits: a line that can't be written now
 * is counted and lost, since a stuck log must not stop an answer.
 *
 * A line is made whole, then every byte that isn't printable ASCII becomes
 * \DDD: nothing that came by the network can forge a line or drive a
 * terminal.  A child's line travels as one datagram, its level first.
 * Of debug lines a process writes 100 a second at the most.
 */

#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "mono.h"

#define RATE_LINES	100	/* of debug, a second */

enum target {
	TARGET_STDERR,
	TARGET_SYSLOG,
	TARGET_RELAY
};

/* In one page, since every child sets both and keeps that page for itself. */
static struct {
	enum target	 target;
	int		 fd;
} sink = { TARGET_STDERR, -1 };
static enum log_level	 threshold = LOG_LEVEL_INFO;
static unsigned		 lost;
static const char	*last_words = "";

static const struct {
	const char	*name;
	int		 syslog;
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", LOG_ERR },
	[LOG_LEVEL_WARN] = { "warning", LOG_WARNING },
	[LOG_LEVEL_INFO] = { "info", LOG_INFO },
	[LOG_LEVEL_DEBUG] = { "debug", LOG_DEBUG },
};

static void	line(enum log_level, const char *, va_list)
		    __attribute__((__format__(__printf__, 2, 0)));
static void	escape(char *, size_t, const char *);
static bool	within_rate(void);
static void	deliver(enum log_level, const char *);
static bool	write_stderr(enum log_level, const char *);
static bool	write_syslog(enum log_level, const char *);
static bool	write_relay(enum log_level, const char *);
static void	syslog_connect(void);

void
log_open_stderr(void)
{
	sink.target = TARGET_STDERR;
}

void
log_open_syslog(void)
{
	sink.target = TARGET_SYSLOG;
	syslog_connect();
}

void
log_open_relay(int fd)
{
	sink.target = TARGET_RELAY;
	sink.fd = fd;
}

void
log_relay(int fd)
{
	char buf[1 + LOG_LINE_MAX], text[LOG_LINE_MAX];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT)) > 0) {
		buf[n] = '\0';
		if ((unsigned char)buf[0] > LOG_LEVEL_DEBUG)
			continue;
		escape(text, sizeof(text), buf + 1);	/* trust no child */
		deliver(buf[0], text);
	}
}

void
log_set_level(enum log_level level)
{
	threshold = level;
}

bool
log_is_on(enum log_level level)
{
	return (level <= threshold);
}

void
log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_LEVEL_ERROR, fmt, ap);
	va_end(ap);
}

void
log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_LEVEL_WARN, fmt, ap);
	va_end(ap);
}

void
log_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_LEVEL_INFO, fmt, ap);
	va_end(ap);
}

void
log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(LOG_LEVEL_DEBUG, fmt, ap);
	va_end(ap);
}

void
fatal(const char *fmt, ...)
{
	char text[LOG_LINE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error("%s%s", text, last_words);
	exit(1);
}

void
log_set_last_words(const char *text)
{
	last_words = text;
}

static void
line(enum log_level level, const char *fmt, va_list ap)
{
	char raw[LOG_LINE_MAX], text[LOG_LINE_MAX];
	int saved_errno = errno;

	if (!log_is_on(level))
		return;
	if (level == LOG_LEVEL_DEBUG && !within_rate()) {
		lost++;
		return;
	}
	vsnprintf(raw, sizeof(raw), fmt, ap);
	escape(text, sizeof(text), raw);
	deliver(level, text);
	errno = saved_errno;
}

static void
escape(char *dst, size_t size, const char *src)
{
	size_t out = 0;
	unsigned char byte;

	for (; (byte = *src) != '\0' && out + 5 <= size; src++) {
		if (byte >= 0x20 && byte <= 0x7e)
			dst[out++] = byte;
		else
			out += snprintf(dst + out, 5, "\\%03u", byte);
	}
	dst[out] = '\0';
}

static bool
within_rate(void)
{
	static uint64_t second;
	static unsigned lines;
	uint64_t now = mono_ms() / 1000;

	if (now != second) {
		second = now;
		lines = 0;
	}
	return (lines++ < RATE_LINES);
}

/* Write a line, and before it that others were lost. */
static void
deliver(enum log_level level, const char *text)
{
	static bool (*const writers[])(enum log_level, const char *) = {
		[TARGET_STDERR] = write_stderr,
		[TARGET_SYSLOG] = write_syslog,
		[TARGET_RELAY] = write_relay,
	};
	char note[64];

	if (lost > 0) {
		snprintf(note, sizeof(note), "%u lines of the log are lost",
		    lost);
		if (writers[sink.target](LOG_LEVEL_WARN, note))
			lost = 0;
	}
	if (!writers[sink.target](level, text))
		lost++;
}

static bool
write_stderr(enum log_level level, const char *text)
{
	char buf[LOG_LINE_MAX + 64], stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	int len;

	localtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
	len = snprintf(buf, sizeof(buf), "%s dnsd: %s: %s\n", stamp,
	    levels[level].name, text);
	return (write(STDERR_FILENO, buf, len) == len);
}

/* As RFC 3164 and every local syslogd have it. */
static bool
write_syslog(enum log_level level, const char *text)
{
	char buf[LOG_LINE_MAX + 64], stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	int len;

	localtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &tm);
	len = snprintf(buf, sizeof(buf), "<%d>%s dnsd[%ld]: %s",
	    LOG_DAEMON | levels[level].syslog, stamp, (long)getpid(), text);
	if (send(sink.fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) == len)
		return (true);
	if (errno == EAGAIN || errno == ENOBUFS)
		return (false);
	syslog_connect();	/* the daemon behind it was restarted */
	return (send(sink.fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) == len);
}

static bool
write_relay(enum log_level level, const char *text)
{
	char buf[1 + LOG_LINE_MAX];
	size_t len = strlen(text);

	buf[0] = level;
	memcpy(buf + 1, text, len);
	return (send(sink.fd, buf, 1 + len, MSG_DONTWAIT | MSG_NOSIGNAL) !=
	    -1);
}

static void
syslog_connect(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (sink.fd != -1)
		close(sink.fd);
	strlcpy(sun.sun_path, _PATH_LOG, sizeof(sun.sun_path));
	sink.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sink.fd != -1 && connect(sink.fd, (struct sockaddr *)&sun,
	    sizeof(sun)) == -1) {
		close(sink.fd);
		sink.fd = -1;
	}
}
