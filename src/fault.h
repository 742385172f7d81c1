/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef FAULT_H
#define FAULT_H

/*
 * Points at which a test can make a process die or stop.  They are compiled in
 * with --enable-faults alone.  The environment says which one does what:
 * DNSD_FAULT=label:kill, :stop, :segv or :loop, with :n behind it to let n
 * passages go by first.  A fault strikes once in the life of the daemon, in
 * whatever process comes there first, unless ":always" ends the text.
 */
#ifdef FAULTS
#define FAULT(label)	fault_point(label)
void	 fault_point(const char *label);

/* In the master, before the forks: read the environment. */
void	 fault_init(void);
#else
#define FAULT(label)	((void)0)
#define fault_init()	((void)0)
#endif

#endif
