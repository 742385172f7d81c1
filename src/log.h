/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

#define LOG_LINE_MAX	1000	/* bytes of a line, its end cut off */

/* Lines go to stderr from now on, or to syslog. */
void	 log_open_stderr(void);
void	 log_open_syslog(void);

/*
 * Lines go as datagrams to the master through fd, never blocking; what does
 * not fit is counted, and the count is told with the next line that does.
 */
void	 log_open_relay(int fd);

/* Write the lines that wait at fd, the other end of the children's relay. */
void	 log_relay(int fd);

/* Lines above level are not written.  The default is info. */
void	 log_set_level(enum log_level level);
bool	 log_is_on(enum log_level level);

/*
 * Each writes one line.  Bytes that a terminal could act on are written as
 * \DDD, whatever came in by the arguments.
 */
void	 log_error(const char *fmt, ...)
	    __attribute__((__format__(__printf__, 1, 2)));
void	 log_warn(const char *fmt, ...)
	    __attribute__((__format__(__printf__, 1, 2)));
void	 log_info(const char *fmt, ...)
	    __attribute__((__format__(__printf__, 1, 2)));
void	 log_debug(const char *fmt, ...)
	    __attribute__((__format__(__printf__, 1, 2)));

/* Write the line as an error and exit with status 1. */
void	 fatal(const char *fmt, ...)
	    __attribute__((__noreturn__, __format__(__printf__, 1, 2)));

/* What fatal() adds to its line from now on; text must stay. */
void	 log_set_last_words(const char *text);

#endif
