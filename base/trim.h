/* Memory that only the start of a program needed. */
#ifndef CCN_BASE_TRIM_H
#define CCN_BASE_TRIM_H

/**
 * trim_memory() - give back what is resident without being used
 * Free heap pages, and the pages of program and library code that start-up touched (relocation, initialisers, TLS tables): they are
 * clean copies of files and come back by page fault where they are needed again. A file of which less than a third is mapped at
 * the moment of a call leaves the page cache too, which is charged to the container that read it (some disks read 8 MB ahead
 * around each fault): a second call, some time after the first, drops the libraries that only start-up needed. Those in use stay
 * whole, so that a rare path of theirs need not wait for the disk.
 * To be called when the program has settled. Costs some 10 ms. Best effort: what cannot be given back stays.
 */
void trim_memory(void);

#endif
