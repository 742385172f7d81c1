/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * How children die: whether it was a fault of their own, what the log is told
 * of it, and whether faults come too often.  It knows no slots; children.c says
 * what becomes of the place of one that died.
 */

#include <sys/wait.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "death.h"
#include "log.h"

#define OFTEN		4	/* within FAULTS_MS: start anew */
#define FAULTS_MS	60000
#define REPORT_MS	10000	/* in which faults are told of */
#define REPORTS		1	/* in full, and then their number */

static uint64_t	faults_ms[OFTEN];	/* the last ones, in a ring */
static unsigned	faults;
static unsigned	reports;		/* of faults, since reported_ms */
static uint64_t	reported_ms;

bool
death_is_fault(int status)
{
	if (WIFEXITED(status))
		return (WEXITSTATUS(status) != 0);
	switch (WTERMSIG(status)) {
	case SIGSEGV:
	case SIGBUS:
	case SIGABRT:
	case SIGFPE:
	case SIGILL:
	case SIGSYS:
		return (true);
	default:
		return (false);
	}
}

const char *
death_describe(int status)
{
	static char text[64];

	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "died of signal %d (%s)",
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(text, sizeof(text), "ended with status %d",
		    WEXITSTATUS(status));
	return (text);
}

void
death_report_fault(const char *name, int status, uint64_t pause_ms,
    uint64_t now_ms)
{
	faults_ms[faults++ % OFTEN] = now_ms;
	if (now_ms >= reported_ms + REPORT_MS) {
		if (reports > REPORTS)
			log_error("%u more processes died of faults",
			    reports - REPORTS);
		reported_ms = now_ms;
		reports = 0;
	}
	if (reports++ < REPORTS)
		log_error("%s %s and is started again in %llu ms", name,
		    death_describe(status), (unsigned long long)pause_ms);
}

bool
death_faults_often(uint64_t now_ms)
{
	return (faults >= OFTEN &&
	    now_ms < faults_ms[faults % OFTEN] + FAULTS_MS);
}
