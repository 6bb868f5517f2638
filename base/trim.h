/* Memory that only the start of a program needed. */
#ifndef CCN_BASE_TRIM_H
#define CCN_BASE_TRIM_H

/**
 * trim_memory() - give back what is resident without being used
 * Free heap pages, and the pages of program and library code that start-up touched (relocation, initialisers, TLS tables): they are
 * clean copies of files and come back by page fault where they are needed again. To be called once, when the
 * program has settled. Costs some 10 ms. Best effort: what cannot be given back stays.
 */
void trim_memory(void);

#endif
