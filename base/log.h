/* Log lines for people (logfmt) or machines (one JSON object a line), on standard error.
 *
 * Only programs and the agent's own files log (main, agent, act); libraries return errors.
 * A line has a level, a sentence, and key-value pairs: log_info("mode changed", "bdf", bdf, "mode", "on", NULL).
 * Values are quoted and control characters escaped, so nothing from outside can forge a line.
 * Never tokens, nonces, keys or whole reports. Thread-safe: one write(2) per line.
 */
#ifndef CCN_BASE_LOG_H
#define CCN_BASE_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* log_level_parse(), log_format_parse() - Return: 0 or -EINVAL with the allowed words. */
int log_level_parse(const char *text, enum log_level *ret, struct err *err);
int log_format_parse(const char *text, enum log_format *ret, struct err *err);

/* log_setup() - process-wide; before any thread starts, or later for level changes (atomic). */
void log_setup(enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);

/* log_line() - @sentence and then pairs of const char * key, value, ended by NULL. A NULL value is "". */
void log_line(enum log_level level, const char *sentence, ...) __attribute__((sentinel));

#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
