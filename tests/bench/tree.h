/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef TREE_H
#define TREE_H

#include <sys/types.h>

#include <stdint.h>

#define TREE_ROOTS	8

/* What processes and all their descendants have taken and hold. */
struct tree {
	unsigned	 processes;
	unsigned	 threads;
	uint64_t	 cpu_ns;	/* since they began; not of dead ones */
	uint64_t	 pss_kb;	/* of tree_memory() alone */
	uint64_t	 pte_kb;	/* page tables, not in pss_kb */
};

/* Parse "123,456" to at most TREE_ROOTS pids.  Returns how many; 0: wrong. */
unsigned tree_parse(pid_t roots[TREE_ROOTS], const char *text);

void	 tree_cpu(struct tree *tree, const pid_t *roots, unsigned n);

/* The same with memory, which takes the kernel long to count. */
void	 tree_memory(struct tree *tree, const pid_t *roots, unsigned n);

#endif
