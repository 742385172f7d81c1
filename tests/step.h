/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef STEP_H
#define STEP_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

/* Where a child is after so many instructions of its act. */
struct step_place {
	uintptr_t	 pc;
	int		 via;	/* a place to stop at before it; -1: none */
	int		 stops;	/* on the way, and here */
	int		 chain;	/* the last of its bucket before it */
};

/* An act that was recorded. */
struct step {
	void		(*act)(void);
	struct step_place *at;		/* [total + 1] */
	int		 total;		/* instructions of the act */
	int		 astray;	/* children that took another way */
};

/*
 * Make an act once, instruction by instruction, in a child that is killed at
 * its end.  It must do the same whenever it is made from the same state.
 * False: no process can be stepped here, and standard error says that `what'
 * is skipped.
 */
bool	 step_record(struct step *step, void (*act)(void), const char *what);
void	 step_forget(struct step *step);

/*
 * Fork a child that makes a recorded act from the same state, and stop it
 * after so many instructions, 0 to step->total.  Let it make so many more, if
 * it has not done with the act.  End it by SIGKILL.
 */
pid_t	 step_stop(struct step *step, int after);
void	 step_on(pid_t pid, int instructions);
void	 step_kill(pid_t pid);

/* What the deaths of an act leave behind. */
struct step_deaths {
	const char	*what;
	void		(*stage)(void);	/* map a state and make it */
	void		(*save)(void);
	void		(*restore)(void);	/* the state as it was saved */
	void		(*act)(void);
	/* Go on after a death.  Had the state to be rebuilt? */
	bool		(*settle)(int after, unsigned arg);
	unsigned	 arg;
	int		 stride;	/* from one death to the next; 0: 1 */

	/* What came of it. */
	int		 whole;		/* deaths after which it needn't be */
	int		 rebuilt;
};

/*
 * Let a child die after every instruction of an act, or at a stride, and
 * settle each death.  Standard error is told how many there were.  Returns as
 * step_record(), which it calls.
 */
bool	 step_each(struct step_deaths *deaths);

#endif
