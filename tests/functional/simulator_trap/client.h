/* A program that maps device memory and opens VFIO devices by itself, knowing nothing of a simulator. */
#ifndef CCN_TESTS_SIMULATOR_TRAP_CLIENT_H
#define CCN_TESTS_SIMULATOR_TRAP_CLIENT_H

#include <stdint.h>

#define CHECK(what) ((what) ? (void)0 : failed(__FILE__, __LINE__, #what))

/* a pointer into device memory for functions that take any pointer */
#define PLAIN(p) ((void *)(uintptr_t)(p))

void failed(const char *file, int line, const char *what) __attribute__((noreturn));
void *map_resource(const char *path, unsigned long length);

/* accesses.c: every way in which a compiler or a person reaches a register */
void every_form_of_access(volatile uint8_t *bar);
void decoded_forms_of_access(volatile uint8_t *bar);
/* vfio_steps.c */
void legacy_vfio(const char *root, const char *group, const char *bdf);
void cdev_vfio(const char *root, const char *node);
void hold_until_told(const char *root, const char *group, const char *bdf);

#endif
