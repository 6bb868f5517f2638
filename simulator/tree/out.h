/* What `ccnode-sim ctl` prints: lines for people ("VALUE key=value …") or one JSON document (--json).
 *
 * A document is one object, or a list of objects; members are texts, numbers, true and false, and maps of those.
 * In a line the first member is printed bare. */
#ifndef CCN_SIMULATOR_TREE_OUT_H
#define CCN_SIMULATOR_TREE_OUT_H

#include <stdbool.h>
#include <stdint.h>

void out_json(bool json); /* before anything is printed */
void out_list(void);
void out_list_end(void);
void out_object(void);
void out_object_end(void);
/* out_map() - a member that is a map; texts and numbers follow until out_map_end() */
void out_map(const char *key);
void out_map_end(void);
void out_text(const char *key, const char *value);
void out_number(const char *key, int64_t value);
void out_hex(const char *key, uint32_t value, int digits); /* JSON: a number */
void out_bool(const char *key, bool value);
/* out_word() - a number when it looks like one, else a text */
void out_word(const char *key, const char *value);

#endif
