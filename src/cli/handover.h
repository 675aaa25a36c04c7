/* A server replaced by a new process of itself, without a request lost: the new one inherits the listening socket,
 * loads everything anew, and takes over when it is ready; until then, and when it cannot, the old one goes on. */
#ifndef CLI_HANDOVER_H
#define CLI_HANDOVER_H

#include <stdbool.h>

/* In a new process that takes over: the socket it inherits; else 0. */
int handover_inherited(void);
/* Tells the old process that this one takes requests. */
void handover_ready(void);
/* SIGUSR2 asks for a reload from now on. */
void handover_watch(void);
bool handover_asked(void);

typedef enum handover_state { HANDOVER_NONE, HANDOVER_STARTING, HANDOVER_DONE } handover_state;
/* Starts the new process with the arguments of this one. False (said on standard error) when it cannot. */
bool handover_begin(int listen_fd);
/* How it stands with it: NONE when there is none, or no longer. */
handover_state handover_poll(void);
/* The new process is no longer wanted. */
void handover_cancel(void);
/* After HANDOVER_DONE, when this process has nothing left to do. The first process keeps its number: it waits for those
 * that follow, hands them the signals it gets, and returns the last one's exit status. The others return at once. */
int handover_wait(void);

#endif
