/* Processes of this machine, by signal handlers too: no allocation, no stdio. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "simulator/model/state.h"

/* Fields 3 (state), 4 (parent) and 22 (start time) of /proc/PID/stat; the name in field 2 may contain anything but ends
 * with the last ')'. Return: from that on, NULL without such a process. */
static const char *read_stat(pid_t pid, char *text, size_t room)
{
    char path[32], digits[12];
    int n = 0, len = 6;
    for (unsigned v = (unsigned)pid; v > 0 && n < (int)sizeof digits; v /= 10)
        digits[n++] = (char)('0' + v % 10);
    memcpy(path, "/proc/", 6);
    while (n > 0)
        path[len++] = digits[--n];
    memcpy(path + len, "/stat", 6);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t got = read(fd, text, room - 1);
    (void)close(fd);
    if (got <= 0)
        return NULL;
    text[got] = '\0';
    const char *p = strrchr(text, ')');
    return p && p[1] == ' ' ? p : NULL;
}

/* @p: as read_stat() returns it, field 2 */
static uint64_t field(const char *p, int wanted)
{
    int at = 2;
    for (p++; *p && at < wanted; p++)
        at += *p == ' ';
    uint64_t v = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        v = v * 10 + (uint64_t)(*p - '0');
    return v;
}

uint64_t process_started(pid_t pid)
{
    char text[512];
    const char *p = read_stat(pid, text, sizeof text);
    if (!p || p[2] == 'Z' || p[2] == 'X' || p[2] == '\0')
        return 0;
    return field(p, 22) + 1; /* 0 means dead */
}

/* --- crash points -------------------------------------------------------------------------------------------- */

const char *model_kill_name(int who)
{
    static const char *const names[] = {"none", "self", "parent", "both"};
    return who >= MODEL_KILL_SELF && who <= MODEL_KILL_BOTH ? names[who] : NULL;
}

void model_kill_at(struct model *m, uint64_t n, enum model_kill who)
{
    lock(m);
    m->s->kill_who = (int)who;
    m->s->kill_at = n;
    unlock(m);
}

uint64_t model_kill_left(struct model *m)
{
    return m->s->kill_at;
}

enum model_kill model_kill_due(struct model *m)
{
    if (m->s->kill_at == 0)
        return MODEL_KILL_NONE;
    lock(m);
    bool due = m->s->kill_at > 0 && --m->s->kill_at == 0;
    enum model_kill who = due ? (enum model_kill)m->s->kill_who : MODEL_KILL_NONE;
    unlock(m);
    return who;
}

void model_kill(pid_t pid, enum model_kill who)
{
    char text[512];
    const char *p = who == MODEL_KILL_SELF ? NULL : read_stat(pid, text, sizeof text);
    pid_t parent = p ? (pid_t)field(p, 4) : 0;
    if (parent > 1)
        (void)kill(parent, SIGKILL);
    if (who != MODEL_KILL_PARENT)
        (void)kill(pid, SIGKILL);
}
