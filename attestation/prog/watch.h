/* A driver that does not answer must not hold an init container for ever: calls of NVML and NSCQ can't be given a time limit
 * of their own, so the process ends instead. Nothing is half done then: the ready state is set by one call, at the end. */
#ifndef CCN_ATTESTATION_PROG_WATCH_H
#define CCN_ATTESTATION_PROG_WATCH_H

/* watch_start() - from now on the process ends with @status and a sentence after @seconds; watch_stop() ends the watch */
void watch_start(unsigned seconds, int status);
void watch_stop(void);

#endif
